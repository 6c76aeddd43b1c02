//! What every Sluice process needs before it can work: settings, secrets, telemetry, shutdown.

pub mod config;
pub mod failpoint;
pub mod metrics;
pub mod pace;
pub mod seal;
pub mod secret;
pub mod shutdown;
pub mod telemetry;

pub use config::Settings;
pub use shutdown::Shutdown;

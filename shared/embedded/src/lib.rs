pub mod broker;
pub mod raw;

pub use broker::LocalBroker;
pub use raw::SqliteRaw;

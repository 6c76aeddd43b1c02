//! Contracts of the stores that Sluice stands on, and the conformance suites every backend
//! must pass.
//!
//! | contract | embedded | server |
//! |---|---|---|
//! | [`RawStore`] | SQLite | MongoDB |
//! | [`MasterStore`], [`TaskStore`], [`RequestStore`], [`FleetStore`], [`CredentialStore`] | SQLite | PostgreSQL |
//! | [`Broker`] | in process | RabbitMQ |
//!
//! To change a contract: change its suite in [`conformance`] first, then both backends.
//! "Not found" is `Ok(None)`; a transaction is one method, never an object passed around; lists of
//! arguments are batches, and results come back in the order of the arguments.

pub mod broker;
pub mod conformance;
pub mod credential;
pub mod dead_letter;
pub mod dependency;
pub mod fleet;
pub mod master;
pub mod outcome;
pub mod plan;
pub mod raw;
pub mod raw_codec;
pub mod replay;
pub mod request;
pub mod run;
pub mod task;
pub mod unknown;

use std::sync::Arc;

pub use broker::Broker;
pub use credential::CredentialStore;
pub use fleet::FleetStore;
pub use master::MasterStore;
pub use raw::RawStore;
pub use request::RequestStore;
pub use task::TaskStore;

/// The backends of one process, chosen by URL scheme in `sluice::backends`.
#[derive(Clone)]
pub struct Backends {
    pub raw: Arc<dyn RawStore>,
    pub master: Arc<dyn MasterStore>,
    pub tasks: Arc<dyn TaskStore>,
    pub fleet: Arc<dyn FleetStore>,
    pub credentials: Arc<dyn CredentialStore>,
    pub broker: Arc<dyn Broker>,
}

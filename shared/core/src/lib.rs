//! Types, states and pure decisions of Sluice.
//!
//! Nothing in this crate does I/O or reads the clock: every function gets time, randomness and
//! rows as arguments, so that each promise can be tested for thousands of cases in a second.
//! The other crates carry out what is decided here.

pub mod access;
pub mod catalogue;
pub mod change;
pub mod class;
pub mod connector;
pub mod entity;
pub mod error;
pub mod fingerprint;
pub mod ids;
pub mod lease;
pub mod message;
pub mod receivers;
pub mod record;
pub mod retry;
pub mod run;
pub mod secret;
pub mod task;
pub mod traffic;

pub use class::{Priority, QueueClass};
pub use entity::EntityType;
pub use error::{Error, ErrorClass, Result, Scope};
pub use fingerprint::Hash;
pub use ids::{ConnectionId, MasterId, OrganizationId, RunId, TaskId};

/// A point in time, always UTC. Stores keep microseconds.
pub type Timestamp = chrono::DateTime<chrono::Utc>;

//! Every store in one process: SQLite files and a broker in memory, with the same promises as the
//! servers. The default when nothing is configured.

pub mod broker;
mod credential;
mod dead_letter;
mod fleet;
mod master;
pub mod raw;
mod request;
mod run;
mod sql;
mod task;

pub use broker::LocalBroker;
pub use raw::SqliteRaw;
pub use sql::EmbeddedSql;

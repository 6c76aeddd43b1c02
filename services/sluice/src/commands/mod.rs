//! One command, one file.

pub mod activity;
pub mod config;
pub mod connection;
pub mod connector;
mod connector_new;
mod connector_read;
pub mod dlq;
pub mod doctor;
pub mod ingest;
pub mod migrate;
pub mod queue;
pub mod raw;
pub mod record;
pub mod run;
pub mod standin;
pub mod targets;
pub mod unknown;

/// Who acts, as kept with what was done.
fn actor() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned());
    format!("cli:{user}")
}

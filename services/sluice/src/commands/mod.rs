//! One command, one file.

pub mod config;
pub mod connector;
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

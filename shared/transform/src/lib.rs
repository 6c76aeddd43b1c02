//! Turns raw records into canonical ones, canonical ones into what a target wants, and checks
//! both. Rules are files of the connector: Vector Remap Language programs and JSON Schemas.

mod convert;
pub mod fixtures;
mod functions;
pub mod ingest;
pub mod intake;
pub mod mapper;
pub mod schema;

pub use mapper::{Mapped, Mapper, Outgoing, OutgoingInput};
pub use schema::{Schemas, Violation};

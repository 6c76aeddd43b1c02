//! Sources against small servers, in one program.

mod manifest;
mod reading;
mod refusals;
mod server;
mod yardi;

//! Stand-in servers for the systems Sluice connects: Yardi (source), ONE and Lessen360
//! (targets). They keep their own limits, answer errors in their own shapes, invent data
//! from a seed, change it over time, fail on demand and write down every call.
//!
//! This crate shares no code with the rest of Sluice, so that a mistake there cannot hide
//! here. `docs/standins.md` describes every operation, control endpoint and assumption.

pub mod compare;
mod control;
mod fault;
mod fault_effect;
mod fields;
mod front;
mod ledger;
pub mod lessen360;
mod limit;
pub mod one;
mod options;
mod percent;
mod random;
mod server;
mod words;
pub mod yardi;

use std::io;

use axum::Router;
use tokio::net::TcpListener;

pub use control::EditRequest;
pub use fault::{FaultKind, FaultRule, Faults};
pub use ledger::{Entry, Ledger, OperationStats, Stats};
pub use limit::{SlidingLimit, SlidingMeter};
pub use options::{Kind, Lessen360Credentials, OneCredentials, Options, YardiCredentials};
pub use server::{Handle, serve_router};

/// The routes of a stand-in, control endpoints included.
pub fn router(options: Options) -> Router {
    match options.kind {
        Kind::Yardi => yardi::router(yardi::YardiState::new(options)),
        Kind::One => one::router(one::OneState::new(options)),
        Kind::Lessen360 => lessen360::router(lessen360::Lessen360State::new(options)),
    }
}

/// Starts a stand-in on a listener.
///
/// # Errors
/// When the listener has no address.
pub fn serve(options: Options, listener: TcpListener) -> io::Result<Handle> {
    serve_router(router(options), listener)
}

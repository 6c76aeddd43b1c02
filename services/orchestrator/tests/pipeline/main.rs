//! The three services together over the embedded backends, between a scripted source and target.

mod connector;
mod crashes;
mod flaky;
mod house;
mod incoming;
mod keyed;
mod letters;
mod outgoing;
mod shutdown;
mod system;

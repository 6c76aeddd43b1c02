//! Talks to the systems: reads as a connector's manifest says, writes as its operations say.

pub mod credentials;
pub mod http;
pub mod library;
pub mod limiter;
pub mod opening;
pub mod source;
pub mod target;

#[cfg(test)]
mod test_server;

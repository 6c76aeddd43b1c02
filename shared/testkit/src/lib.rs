//! Helpers of tests: addresses of the servers, databases of one's own, a network that can break,
//! waiting for conditions.
//!
//! Everything here panics with a text for the person who runs the tests: a missing server is a
//! failure, never a skip.

mod database;
mod proxy;
mod wait;

pub use database::PostgresDatabase;
pub use proxy::{Proxy, Weather};
pub use wait::wait_until;

/// Address of a PostgreSQL whose user may create databases.
pub fn postgres_url() -> String {
    server("SLUICE_TEST_POSTGRES_URL")
}

/// Address of a MongoDB whose user may create databases.
pub fn mongodb_url() -> String {
    server("SLUICE_TEST_MONGODB_URL")
}

/// AMQP address of a RabbitMQ.
pub fn rabbitmq_url() -> String {
    server("SLUICE_TEST_RABBITMQ_URL")
}

/// Address of the same RabbitMQ's management API, with an account that may create virtual hosts.
pub fn rabbitmq_management_url() -> String {
    server("SLUICE_TEST_RABBITMQ_MANAGEMENT_URL")
}

/// A name that no other test uses: `prefix`, underscore, 32 hex digits.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}_{}", uuid::Uuid::new_v4().simple())
}

fn server(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("set {name} to the address of a test server, or run `cargo xtask test`")
    })
}

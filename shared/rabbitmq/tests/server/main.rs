//! Tests against a real RabbitMQ; each has a vhost of its own.

mod conformance;
mod faults;
mod vhost;

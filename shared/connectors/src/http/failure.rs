//! What a failed call means: was anything sent?
//!
//! Texts name the host, never the path, the query or a header.

use reqwest::Url;
use sluice_core::{Error, ErrorClass, Result, traffic::breaker::Cause};

use super::Response;

/// A URL's host, and its port where it is not the scheme's own.
pub(super) fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// What the breaker counts as a failure: nobody there, no answer, an answer of 5xx.
pub(super) fn cause(answer: &Result<Response>, host: &str) -> Option<Cause> {
    match answer {
        Ok(answer) if answer.status.is_server_error() => Some(Cause::new(
            ErrorClass::TargetError,
            format!("http_{}", answer.status.as_u16()),
            format!("{host} answers {}", answer.status),
        )),
        Ok(_) => None,
        Err(error) => matches!(error.class(), ErrorClass::Network | ErrorClass::Timeout)
            .then(|| Cause::from(error)),
    }
}

/// The request itself is impossible, such as a header with a line break.
pub(super) fn not_built(error: reqwest::Error) -> Error {
    Error::new(
        ErrorClass::Config,
        "request_invalid",
        "the request cannot be built",
    )
    .caused_by(error.without_url())
}

/// No answer came. Only a failure to connect proves that nothing was sent; everything else may
/// have been carried out.
pub(super) fn of_transport(error: reqwest::Error, host: &str) -> Error {
    if error.is_builder() {
        return not_built(error);
    }
    let failure = if error.is_connect() {
        Error::new(
            ErrorClass::Network,
            "connection_failed",
            format!("cannot connect to {host}"),
        )
        .hint("check the address in the connection's settings, and that this machine may reach it")
    } else if error.is_timeout() {
        Error::new(
            ErrorClass::Timeout,
            "no_answer",
            format!("{host} did not answer in time"),
        )
    } else {
        Error::new(
            ErrorClass::Timeout,
            "no_answer",
            format!("the connection to {host} broke before it answered"),
        )
    };
    failure.caused_by(error.without_url())
}

/// The answer began and did not end well.
pub(super) fn of_body(error: reqwest::Error, host: &str) -> Error {
    Error::new(
        ErrorClass::Timeout,
        "answer_broken",
        format!("the answer of {host} did not arrive in full"),
    )
    .caused_by(error.without_url())
}

pub(super) fn too_large(host: &str, limit: usize) -> Error {
    Error::new(
        ErrorClass::TargetError,
        "response_too_large",
        format!("the answer of {host} has more than {limit} bytes"),
    )
    .hint("ask for smaller pages, or raise `http.max_response_bytes` of the connection")
}

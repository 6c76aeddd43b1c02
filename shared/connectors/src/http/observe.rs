//! What operators see of a call: a span, a counter and a duration. Never a path, a query, a
//! header or a body.

use std::time::Instant;

use sluice_core::{ErrorClass, Result};
use sluice_runtime::metrics as names;
use tracing::Span;

use super::message::{Request, Response};

/// The span around one call, waiting for its slot included.
pub(super) fn span(connection: &str, request: &Request) -> Span {
    tracing::info_span!(
        "http.call",
        otel.kind = "client",
        connection,
        http.request.method = request.method.as_str(),
        server.address = request.url.host_str().unwrap_or_default(),
        http.response.status_code = tracing::field::Empty,
        error.r#type = tracing::field::Empty,
    )
}

/// Counts a call that was made and says how long it took. `connection` is the one called, be it
/// a source or a target.
pub(super) fn done(connection: &str, started: Instant, answer: &Result<Response>) {
    let span = Span::current();
    match answer {
        Ok(answer) => span.record("http.response.status_code", answer.status.as_u16()),
        Err(error) => span.record("error.type", error.code()),
    };
    metrics::histogram!(names::TARGET_CALL_DURATION, "target" => connection.to_owned())
        .record(started.elapsed().as_secs_f64());
    metrics::counter!(
        names::CALLS,
        "target" => connection.to_owned(),
        "outcome" => outcome(answer)
    )
    .increment(1);
}

fn outcome(answer: &Result<Response>) -> &'static str {
    match answer {
        Ok(answer) => match answer.status.as_u16() {
            429 => ErrorClass::RateLimit.as_str(),
            400..500 => "refused",
            500.. => "failed",
            _ => "answered",
        },
        Err(error) => error.class().as_str(),
    }
}

//! What a fault does to an answer.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use chrono::Utc;
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use serde_json::json;

use crate::fault::{FaultKind, FaultRule};
use crate::front::Manner;

/// Longest time a caller is kept waiting by a timeout fault.
const HOLD: Duration = Duration::from_secs(900);

/// Marks a response the server must not send: it resets the connection instead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HangUp;

/// Builds an answer of fixed text.
pub(crate) fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Body>,
) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Waits until the caller leaves (which drops this future) or [`HOLD`] is over.
pub(crate) async fn hold() -> Response {
    tokio::time::sleep(HOLD).await;
    hang_up()
}

fn hang_up() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(HangUp);
    response
}

fn page(status: StatusCode, title: &str) -> Response {
    let html = format!(
        "<!DOCTYPE html>\n<html><head><title>{title}</title></head>\
         <body><h1>{title}</h1><p>The site is temporarily unavailable.</p></body></html>\n"
    );
    answer(status, "text/html; charset=utf-8", html)
}

/// What the ledger notes for an answer: 0 for none.
pub(crate) fn seen_status(response: &Response) -> u16 {
    if response.extensions().get::<HangUp>().is_some() {
        0
    } else {
        response.status().as_u16()
    }
}

/// The answer of a fault that prevents the work; `None` for the others.
pub(crate) fn instead(rule: &FaultRule, manner: &dyn Manner) -> Option<Response> {
    Some(match rule.kind {
        FaultKind::Http500Fault => manner.server_error(),
        FaultKind::Http503 => page(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
        FaultKind::Http502 => page(StatusCode::BAD_GATEWAY, "Bad Gateway"),
        FaultKind::Html200 => page(StatusCode::OK, "Runtime Error"),
        FaultKind::Http422 => {
            let refusal = json!({
                "error": { "code": "validation_failed", "message": "the request is refused", "fields": [] },
            });
            answer(
                StatusCode::UNPROCESSABLE_ENTITY,
                "application/json",
                refusal.to_string(),
            )
        }
        FaultKind::Http429 => manner.too_many(rule.retry_after.unwrap_or(10)),
        FaultKind::Reset => hang_up(),
        _ => return None,
    })
}

/// Spoils a finished answer.
pub(crate) async fn afterwards(
    rule: &FaultRule,
    manner: &dyn Manner,
    response: Response,
) -> Response {
    match rule.kind {
        FaultKind::CommitThenTimeout => hold().await,
        FaultKind::CommitThenReset => hang_up(),
        FaultKind::CommitThenLate => {
            tokio::time::sleep(rule.delay()).await;
            response
        }
        FaultKind::QuotaSpent => quota_spent(rule, response),
        FaultKind::TruncatedBody => {
            let (parts, body) = whole(response).await;
            let half = body.slice(..body.len() / 2);
            let broken = stream::once(async { Ok(half) }).chain(stream::once(async {
                // A pause, so that the first half leaves before the connection breaks.
                tokio::task::yield_now().await;
                Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
            }));
            let mut response = Response::from_parts(parts, Body::from_stream(broken));
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            response
        }
        FaultKind::CutDocument => {
            let (parts, body) = whole(response).await;
            Response::from_parts(parts, Body::from(body.slice(..body.len() / 2)))
        }
        FaultKind::WrongEncoding => {
            let (parts, body) = whole(response).await;
            let (first, second) = body.split_at(text_position(&body));
            let spoiled = [first, b"Caf\xe9 \xff\xfe", second].concat();
            Response::from_parts(parts, Body::from(spoiled))
        }
        FaultKind::Doctype => {
            let (mut parts, _) = response.into_parts();
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, Body::from(manner.bomb()))
        }
        FaultKind::Oversized => {
            let (mut parts, body) = response.into_parts();
            parts.headers.remove(header::CONTENT_LENGTH);
            let bytes = rule.bytes.unwrap_or(20_000_000);
            let block = Bytes::from(vec![b' '; 65_536]);
            let padding = stream::iter((0..bytes.div_ceil(65_536)).map(move |n| {
                let left = bytes - n * 65_536;
                Ok::<_, axum::Error>(block.slice(..left.min(65_536)))
            }));
            // White space after the document is legal in both languages, white space before
            // an XML declaration is not.
            Response::from_parts(
                parts,
                Body::from_stream(body.into_data_stream().chain(padding)),
            )
        }
        _ => response,
    }
}

/// Says that no call remains, in one of the forms that systems say it in.
fn quota_spent(rule: &FaultRule, mut response: Response) -> Response {
    let seconds = rule.retry_after.unwrap_or(10);
    let fields = match rule.form.unwrap_or(1) {
        1 => vec![
            ("x-ratelimit-limit", "60".to_owned()),
            ("x-ratelimit-remaining", "0".to_owned()),
            ("x-ratelimit-reset", seconds.to_string()),
        ],
        2 => vec![
            ("ratelimit-policy", "\"minute\";q=60;w=60".to_owned()),
            ("ratelimit", format!("\"minute\";r=0;t={seconds}")),
        ],
        // As Service Fusion says it: a point in time, whole seconds.
        _ => {
            let over = Utc::now() + Duration::from_secs(seconds) + Duration::from_millis(999);
            vec![
                ("x-rate-limit-limit", "60".to_owned()),
                ("x-rate-limit-remaining", "0".to_owned()),
                ("x-rate-limit-reset", over.timestamp().to_string()),
            ]
        }
    };
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

async fn whole(response: Response) -> (axum::http::response::Parts, Bytes) {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    (parts, body)
}

/// A place inside text, not inside a tag: behind the last `>` or `"` before the middle.
fn text_position(body: &[u8]) -> usize {
    let middle = body.len() / 2;
    body.iter()
        .take(middle)
        .rposition(|byte| *byte == b'>')
        .map_or(middle, |at| at + 1)
}

//! What requests carry: bodies, queries, pages. Unknown fields are errors, not silence.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
    http::{StatusCode, request::Parts},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::problem::Problem;

/// Items of one answer unless told otherwise, and at most.
const PAGE: u32 = 50;
const MAX_PAGE: u32 = 200;

/// A JSON body; an empty one is `{}`. Mark `T` with `deny_unknown_fields`.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(unread_body)?;
        let text = if bytes.is_empty() { b"{}" } else { &bytes[..] };
        serde_json::from_slice(text)
            .map(Self)
            .map_err(|error| Problem::bad_request("body_invalid", error.to_string()))
    }
}

fn unread_body(rejection: BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "the body is larger than 1 MiB",
        );
    }
    Problem::bad_request("body_unreadable", "the body did not arrive")
}

/// The query string. Mark `T` with `deny_unknown_fields`.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|rejection| Problem::bad_request("query_invalid", rejection.body_text()))
    }
}

/// The id at the end of a path.
pub(super) struct Id(pub(super) i64);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Path::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(id)| Self(id))
            .map_err(|_| Problem::bad_request("id_invalid", "ids are whole numbers"))
    }
}

/// How many items an answer holds.
pub(super) fn page_size(limit: Option<u32>) -> Result<u32, Problem> {
    match limit.unwrap_or(PAGE) {
        size @ 1..=MAX_PAGE => Ok(size),
        _ => Err(Problem::bad_request(
            "limit_invalid",
            format!("limit is 1 to {MAX_PAGE}"),
        )),
    }
}

/// One page of a list.
#[derive(Serialize)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// Send it as `cursor` for what follows; `null` at the end.
    pub(super) next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// `next` continues after the item of this id.
    pub(super) fn new(items: Vec<T>, next: Option<i64>) -> Self {
        Self {
            items,
            next_cursor: next.map(|id| format!("{id:x}")),
        }
    }

    /// From one more item than a page holds, when there are as many.
    pub(super) fn cut(mut items: Vec<T>, limit: u32, id: impl Fn(&T) -> i64) -> Self {
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().map(id).filter(|_| more);
        Self::new(items, next)
    }
}

/// The id a cursor continues after.
pub(super) fn cursor(text: Option<&str>) -> Result<Option<i64>, Problem> {
    text.map(|text| i64::from_str_radix(text, 16))
        .transpose()
        .map_err(|_| {
            Problem::bad_request(
                "cursor_invalid",
                "send the next_cursor of the page before, unchanged",
            )
        })
}

/// A word of the query, such as a class, read by `parse`.
pub(super) fn word<T>(
    name: &'static str,
    text: Option<&str>,
    parse: fn(&str) -> Option<T>,
) -> Result<Option<T>, Problem> {
    text.map(|text| {
        parse(text)
            .ok_or_else(|| Problem::bad_request("query_invalid", format!("`{text}` is no {name}")))
    })
    .transpose()
}

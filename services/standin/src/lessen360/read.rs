//! Lists and single records.

use serde_json::{Value, json};

use super::held::{Held, Record};
use super::reply::Reply;
use super::schema::{Resource, TRADES};
use crate::percent;

/// Most records of one page.
const MAX_PAGE: usize = 100;

/// How long a cursor is good for, in seconds.
const CURSOR_SECONDS: u64 = 300;

/// `GET /v1/{resource}?externalId&updatedSince&limit&cursor`. `expired` refuses any cursor.
pub(crate) fn list(held: &Held, resource: Resource, query: &str, now: u64, expired: bool) -> Reply {
    let mut wanted: Vec<String> = Vec::new();
    let mut limit = MAX_PAGE;
    let mut since = None;
    let mut after = 0;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(value) = percent::decode(value) else {
            return Reply::error(400, "validation_failed", "the query is not percent-encoded");
        };
        match name {
            "externalId" => wanted.push(value),
            "limit" => match value.parse() {
                Ok(given) if (1..=MAX_PAGE).contains(&given) => limit = given,
                _ => return Reply::error(400, "validation_failed", "limit must be 1 to 100"),
            },
            "updatedSince" => match chrono::DateTime::parse_from_rfc3339(&value) {
                Ok(instant) => since = Some(instant),
                Err(_) => {
                    return Reply::error(400, "validation_failed", "updatedSince is not RFC 3339");
                }
            },
            "cursor" => match cursor(&value) {
                Some((number, issued)) if issued + CURSOR_SECONDS >= now && !expired => {
                    after = number
                }
                Some(_) => {
                    return Reply::error(400, "cursor_expired", "start again without a cursor");
                }
                None => return Reply::error(400, "validation_failed", "not a cursor"),
            },
            _ => return Reply::error(400, "validation_failed", "unknown query parameter"),
        }
    }
    if wanted.len() > MAX_PAGE {
        return Reply::error(400, "validation_failed", "at most 100 externalId values");
    }
    let table = held.table(resource);
    let fits = |record: &Record| {
        since.is_none_or(|since| {
            chrono::DateTime::parse_from_rfc3339(&record.updated_at).is_ok_and(|at| at >= since)
        })
    };
    let mut found: Vec<&Record> = if wanted.is_empty() {
        table
            .after(after)
            .filter(|record| fits(record))
            .take(limit + 1)
            .collect()
    } else {
        let mut found: Vec<&Record> = wanted
            .iter()
            .filter_map(|external| table.by_external(external))
            .filter(|record| record.number > after && fits(record))
            .collect();
        found.sort_by_key(|record| record.number);
        found.dedup_by_key(|record| record.number);
        found
    };
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found
        .last()
        .filter(|_| more)
        .map(|record| format!("{}-{now}", record.number));
    let data: Vec<Value> = found.iter().map(|record| record.view()).collect();
    Reply::read(200, json!({ "data": data, "nextCursor": next }))
}

/// Position and time of issue of a cursor.
fn cursor(text: &str) -> Option<(u64, u64)> {
    let (number, issued) = text.split_once('-')?;
    Some((number.parse().ok()?, issued.parse().ok()?))
}

/// `GET /v1/{resource}/{id}`.
pub(crate) fn single(held: &Held, resource: Resource, id: &str) -> Reply {
    match held.table(resource).by_id(id) {
        Some(record) => Reply::read(200, record.view()),
        None => Reply::not_found(),
    }
}

/// `GET /v1/trades`.
pub(crate) fn trades() -> Reply {
    let data: Vec<Value> = TRADES.iter().map(|trade| json!({ "id": trade })).collect();
    Reply::read(200, json!({ "data": data, "nextCursor": null }))
}

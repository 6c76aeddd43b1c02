//! The vendor that the read benchmark reads from: the same records as one list, as days and as
//! children of parents, in pages made beforehand.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Query, State},
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use chrono::{Days, NaiveDate};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Outcome, stage, workload};

/// Records of one page; the manifests say the same.
const PAGE: u64 = 100;
/// Records of one day, and of one parent.
pub const PART: u64 = 1_000;

/// The day of a part's records, the first of which is the one that the manifests start with.
pub fn day(part: u64) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(2024, 1, 1)?.checked_add_days(Days::new(part))
}

struct Vendor {
    pages: Vec<Arc<str>>,
    parents: Arc<str>,
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    offset: u64,
    from: Option<NaiveDate>,
}

/// Serves so many records until it is ended.
pub async fn serve(records: u64) -> Outcome {
    let parents: Vec<_> = (0..records.div_ceil(PART))
        .map(|part| json!({ "id": part }))
        .collect();
    let vendor = Vendor {
        pages: (0..records.div_ceil(PAGE))
            .map(|page| Arc::from(self::page(page * PAGE, records)))
            .collect(),
        parents: Arc::from(json!({ "parents": parents }).to_string()),
    };
    let router = Router::new()
        .route("/records", get(list))
        .route("/changes", get(changes))
        .route("/parents", get(parents_of))
        .route("/parents/{part}/records", get(children))
        .with_state(Arc::new(vendor));
    stage::announce_and_serve(router).await
}

fn page(offset: u64, total: u64) -> String {
    let records: Vec<Value> = (offset..(offset + PAGE).min(total))
        .map(|index| {
            let mut record = workload::record(index, 0);
            record["changed"] = json!(day(index / PART));
            record
        })
        .collect();
    json!({ "records": records }).to_string()
}

async fn list(State(vendor): State<Arc<Vendor>>, Query(asked): Query<Asked>) -> Response {
    vendor.answer(asked.offset)
}

async fn changes(State(vendor): State<Arc<Vendor>>, Query(asked): Query<Asked>) -> Response {
    let days = asked.from.zip(day(0)).map(|(from, first)| from - first);
    let part = days.and_then(|days| u64::try_from(days.num_days()).ok());
    vendor.part(part.unwrap_or(u64::MAX / PART), asked.offset)
}

async fn parents_of(State(vendor): State<Arc<Vendor>>) -> Response {
    json_body(&vendor.parents)
}

async fn children(
    State(vendor): State<Arc<Vendor>>,
    Path(part): Path<u64>,
    Query(asked): Query<Asked>,
) -> Response {
    vendor.part(part, asked.offset)
}

impl Vendor {
    fn part(&self, part: u64, offset: u64) -> Response {
        if offset >= PART {
            return json_body("{\"records\":[]}");
        }
        self.answer(part.saturating_mul(PART).saturating_add(offset))
    }

    fn answer(&self, offset: u64) -> Response {
        let page = usize::try_from(offset / PAGE).unwrap_or(usize::MAX);
        json_body(
            self.pages
                .get(page)
                .map_or("{\"records\":[]}", |page| &**page),
        )
    }
}

fn json_body(text: &str) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        text.to_owned(),
    )
        .into_response()
}

//! Sources made of a few lines of manifest.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{TimeZone as _, Utc};
use futures::StreamExt as _;
use serde_json::{Value, json};
use sluice_connectors::source::{Page, SliceRequest, Source};
use sluice_core::{Result, connector::ConnectorFiles, run::RunKind};

use crate::server::{Reply, Server, load};

pub fn files(manifest: &str) -> ConnectorFiles {
    ConnectorFiles {
        name: "test".into(),
        files: BTreeMap::from([("manifest.yaml".into(), Arc::from(manifest))]),
    }
}

/// What every manifest has, behind its streams, so that their lines stay.
pub const FRAME: &str = "\nversion: 6.0.0\ncheck: {type: CheckStream}\n";

pub fn source(manifest: &str, server: &Server) -> Source {
    load(
        &files(&format!("{manifest}{FRAME}")),
        json!({"url": server.url, "token": "planted-secret", "start": "2025-01-01"}),
    )
    .unwrap()
}

pub fn request(stream: &str) -> SliceRequest {
    SliceRequest {
        stream: stream.to_owned(),
        kind: RunKind::Full,
        states: Vec::new(),
        since: None,
        record: None,
        now: Utc.with_ymd_and_hms(2025, 1, 10, 0, 0, 0).unwrap(),
    }
}

pub async fn read(source: &Source, stream: &str) -> Vec<Result<Page>> {
    let mut all = Vec::new();
    for slice in source.slices(&request(stream)).await.unwrap() {
        all.extend(source.read(stream, &slice, None).collect::<Vec<_>>().await);
    }
    all
}

pub async fn records(source: &Source, stream: &str) -> Vec<Value> {
    read(source, stream)
        .await
        .into_iter()
        .flat_map(|page| page.unwrap().records)
        .collect()
}

pub fn ok(body: Value) -> Reply {
    (200, Vec::new(), body.to_string().into_bytes())
}

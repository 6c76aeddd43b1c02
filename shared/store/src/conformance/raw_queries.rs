//! What every [`RawStore`] finds of its raw records. Listed in [`crate::raw_conformance!`].

use std::sync::Arc;

use serde_json::json;
use sluice_core::{ConnectionId, OrganizationId};

use super::{
    raw::at,
    raw_records::{all, counts, entity, failed, query, record},
};
use crate::raw::{InboundState, MAX_SOURCE_IDS, RawRecord, RawRecordQuery, RawStore};

pub async fn queries_filter_and_page(store: Arc<dyn RawStore>) {
    let mut records = Vec::new();
    for index in 0..25 {
        let mut next = record(&format!("u{index}"), json!({"n": index}));
        if index % 5 == 0 {
            next = failed(&next, 0);
        }
        if index % 2 == 0 {
            next.stream = "residents".into();
            next.entity_type = entity("Resident");
        }
        records.push(next);
    }
    store.put_records(&records).await.unwrap();
    let other = RawRecord {
        connection_id: ConnectionId(8),
        ..record("u1", json!({"n": 1}))
    };
    store
        .put_records(std::slice::from_ref(&other))
        .await
        .unwrap();
    let expected = |keep: &dyn Fn(&RawRecord) -> bool| -> Vec<RawRecord> {
        let all = records.iter().chain([&other]);
        all.filter(|record| keep(record)).cloned().collect()
    };
    for limit in [1, 4, 1000] {
        let base = RawRecordQuery { limit, ..query() };
        assert_eq!(all(&*store, &base).await, expected(&|_| true));
        let by_connection = RawRecordQuery {
            connection_id: Some(ConnectionId(7)),
            ..base.clone()
        };
        assert_eq!(all(&*store, &by_connection).await, records);
        let by_stream = RawRecordQuery {
            stream: Some("residents".into()),
            inbound: Some(InboundState::Failed),
            ..by_connection.clone()
        };
        assert_eq!(
            all(&*store, &by_stream).await,
            expected(&|r| r.stream == "residents" && r.inbound == InboundState::Failed)
        );
        let by_entity = RawRecordQuery {
            entity_type: Some(entity("Location")),
            ..base.clone()
        };
        assert_eq!(
            all(&*store, &by_entity).await,
            expected(&|r| r.entity_type == entity("Location"))
        );
        let by_id = RawRecordQuery {
            source_ids: vec!["u1".into()],
            ..base.clone()
        };
        assert_eq!(all(&*store, &by_id).await.len(), 2);
        let by_ids = RawRecordQuery {
            source_ids: ["u3", "nobody", "u1", "u24", "u3"].map(String::from).into(),
            ..base.clone()
        };
        assert_eq!(
            all(&*store, &by_ids).await,
            expected(&|r| ["u1", "u3", "u24"].contains(&&*r.source_id))
        );
        let nothing = RawRecordQuery {
            inbound: Some(InboundState::Pending),
            ..base
        };
        assert_eq!(all(&*store, &nothing).await, vec![]);
    }
    let bad_cursor = RawRecordQuery {
        after: Some("no cursor".into()),
        ..query()
    };
    let error = store.records(&bad_cursor).await.unwrap_err();
    assert_eq!(error.code(), "cursor_invalid");
}

pub async fn newest_only_looks_past_the_filter(store: Arc<dyn RawStore>) {
    for index in 0..6 {
        let old = failed(&record(&format!("u{index}"), json!({"v": "old"})), 0);
        store.put_records(&[old]).await.unwrap();
    }
    // u0 to u3 were corrected since; their old failures are nobody's business any more.
    for index in 0..4 {
        let new = RawRecord {
            sync_date: at(10),
            ..record(&format!("u{index}"), json!({"v": "new"}))
        };
        store.put_records(&[new]).await.unwrap();
    }
    for limit in [1, 2, 100] {
        let still_failed = RawRecordQuery {
            inbound: Some(InboundState::Failed),
            newest_only: true,
            limit,
            ..query()
        };
        let ids: Vec<_> = all(&*store, &still_failed).await;
        let ids: Vec<_> = ids.iter().map(|record| record.source_id.as_str()).collect();
        assert_eq!(ids, ["u4", "u5"], "limit {limit}");
    }
}

pub async fn many_records_are_named_in_one_query(store: Arc<dyn RawStore>) {
    let named: Vec<String> = (0..MAX_SOURCE_IDS).map(|n| format!("u{n}")).collect();
    for version in ["old", "new"] {
        let records: Vec<_> = named
            .iter()
            .map(|id| RawRecord {
                sync_date: at(if version == "new" { 10 } else { 0 }),
                ..record(id, json!({"id": id, "v": version}))
            })
            .collect();
        store.put_records(&records).await.unwrap();
    }
    let others = [record("other", json!({"v": "new"}))];
    store.put_records(&others).await.unwrap();
    let newest = RawRecordQuery {
        connection_id: Some(ConnectionId(7)),
        entity_type: Some(entity("Location")),
        source_ids: named.clone(),
        newest_only: true,
        ..query()
    };
    // As many as were named are found at once.
    let page = store.records(&newest).await.unwrap();
    assert_eq!((page.records.len(), page.next), (MAX_SOURCE_IDS, None));
    assert!(page.records.iter().all(|record| record.raw["v"] == "new"));
    for limit in [1, 7] {
        let few = RawRecordQuery {
            source_ids: named[..20].to_vec(),
            limit,
            ..newest.clone()
        };
        let mut found: Vec<_> = all(&*store, &few).await;
        assert!(found.iter().all(|record| record.raw["v"] == "new"));
        found.sort_by_key(|record| record.source_id[1..].parse::<usize>().unwrap());
        let found: Vec<_> = found.into_iter().map(|record| record.source_id).collect();
        assert_eq!(found, named[..20]);
    }
    let too_many = RawRecordQuery {
        source_ids: [named, vec!["one more".into()]].concat(),
        ..newest
    };
    let error = store.records(&too_many).await.unwrap_err();
    assert_eq!(error.code(), "too_many_source_ids");
}

pub async fn records_are_isolated(store: Arc<dyn RawStore>) {
    let mine = record("u1", json!({"v": 1}));
    let theirs = RawRecord {
        organization_id: OrganizationId(2),
        ..mine.clone()
    };
    for record in [&mine, &theirs] {
        let put = store.put_records(std::slice::from_ref(record)).await;
        assert_eq!(put.unwrap(), counts(1, 0, 0));
    }
    for newest_only in [false, true] {
        let query = RawRecordQuery {
            newest_only,
            ..query()
        };
        assert_eq!(all(&*store, &query).await, std::slice::from_ref(&mine));
        let everyone = RawRecordQuery {
            organization_id: None,
            ..query
        };
        assert_eq!(all(&*store, &everyone).await.len(), 2);
    }
}

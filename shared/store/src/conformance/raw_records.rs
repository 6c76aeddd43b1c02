//! What every [`RawStore`] does with raw records. Listed in [`crate::raw_conformance!`].

use std::sync::Arc;

use serde_json::{Value, json};
use sluice_core::{ConnectionId, EntityType, ErrorClass, Hash, OrganizationId};

use super::raw::at;
use crate::raw::{
    InboundState, OutboundMark, OutboundState, PayloadId, PutRecords, RawError, RawRecord,
    RawRecordQuery, RawStore,
};

pub(super) fn entity(name: &str) -> EntityType {
    EntityType::new(name)
}

pub(super) fn record(source_id: &str, raw: Value) -> RawRecord {
    RawRecord {
        organization_id: OrganizationId(1),
        connection_id: ConnectionId(7),
        source_system: "yardi".into(),
        stream: "units".into(),
        entity_type: entity("Location"),
        source_id: source_id.into(),
        hash: Hash::of_json(&raw),
        processed: Some(json!({"name": raw["name"], "active": true})),
        raw,
        slice: json!({"property": "p1"}),
        payload_id: PayloadId("payload-1".into()),
        batch_number: 12,
        sync_date: at(0),
        version: 1,
        inbound: InboundState::Completed,
        outbound: vec![("ONE".into(), OutboundState::Pending)],
        errors: vec![],
        expires_at: Some(at(9_000_000_000)),
    }
}

pub(super) fn failed(record: &RawRecord, seconds: i64) -> RawRecord {
    RawRecord {
        processed: None,
        version: 0,
        inbound: InboundState::Failed,
        outbound: vec![],
        errors: vec![RawError {
            timestamp: at(seconds),
            class: ErrorClass::Validation,
            code: "required".into(),
            error: "/name is missing".into(),
            retry_count: 1,
        }],
        sync_date: at(seconds),
        ..record.clone()
    }
}

pub(super) fn query() -> RawRecordQuery {
    RawRecordQuery {
        organization_id: Some(OrganizationId(1)),
        limit: 1000,
        ..RawRecordQuery::default()
    }
}

pub(super) async fn all(store: &dyn RawStore, query: &RawRecordQuery) -> Vec<RawRecord> {
    let mut query = query.clone();
    let mut found = Vec::new();
    loop {
        let page = store.records(&query).await.unwrap();
        assert!(page.records.len() <= query.limit);
        found.extend(page.records);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return found,
        }
    }
}

pub(super) fn counts(new: u64, seen_again: u64, changed: u64) -> PutRecords {
    PutRecords {
        new,
        seen_again,
        changed,
    }
}

pub async fn records_are_new_then_seen_then_changed(store: Arc<dyn RawStore>) {
    assert_eq!(store.put_records(&[]).await.unwrap(), counts(0, 0, 0));
    let one = record("u1", json!({"id": "u1", "name": "One"}));
    let two = record("u2", json!({"id": "u2", "name": "Two"}));
    let put = store.put_records(&[one.clone(), two.clone()]).await;
    assert_eq!(put.unwrap(), counts(2, 0, 0));
    assert_eq!(all(&*store, &query()).await, [one.clone(), two.clone()]);

    // The same outcome an hour later: nothing but last-seen moves.
    let later = RawRecord {
        sync_date: at(3600),
        payload_id: PayloadId("payload-2".into()),
        outbound: vec![],
        ..one.clone()
    };
    let three = record("u3", json!({"id": "u3", "name": "Three"}));
    let bad = failed(&two, 3600);
    let put = store
        .put_records(&[later, bad.clone(), three.clone()])
        .await;
    assert_eq!(put.unwrap(), counts(1, 1, 1));
    let found = all(&*store, &query()).await;
    assert_eq!(found.len(), 3);
    assert_eq!(found[0], one);
    let RawRecord {
        processed,
        version,
        inbound,
        outbound,
        errors,
        raw,
        ..
    } = &found[1];
    assert_eq!((processed, *version), (&None, 0));
    assert_eq!((*inbound, outbound), (InboundState::Failed, &vec![]));
    assert_eq!((errors, raw), (&bad.errors, &two.raw));
    assert_eq!(found[2], three);

    // The same failure once more is no change, although its time is another.
    let again = store.put_records(&[failed(&two, 7200)]).await.unwrap();
    assert_eq!(again, counts(0, 1, 0));
    let healed = store.put_records(std::slice::from_ref(&two)).await.unwrap();
    assert_eq!(healed, counts(0, 0, 1));
    assert_eq!(all(&*store, &query()).await[1].errors, vec![]);
}

pub async fn odd_values_survive(store: Arc<dyn RawStore>) {
    let mut deep = json!(1);
    for level in 0..118 {
        deep = match level % 2 {
            0 => json!([deep]),
            _ => json!({ "d": deep }),
        };
    }
    let odd = [
        json!({"big": u64::MAX, "small": i64::MIN, "max": i64::MAX}),
        json!({"zero": -0.0, "one": 1.0, "tiny": 5e-324, "huge": 1.7976931348623157e308, "third": 0.1}),
        json!({"int": 1, "i32": i32::MAX, "past": i64::from(i32::MAX) + 1}),
        json!({ "deep": deep }),
        json!({"a.b": 1, "$set": {"x": 1}, "nul\0key": 2, "": 3}),
        json!({"inner": [{"$oid": "507f1f77bcf86cd799439011"}, {"$numberLong": "1"}]}),
        json!({"nul": "a\0b", "emoji": "😀", "date": "2024-01-01T00:00:00Z", "html": "<a&b>"}),
        json!({"empty": {}, "list": [], "null": null, "bools": [true, false]}),
        json!("no object"),
        json!(null),
        json!([1, "two", null]),
        json!({"z": 1, "a": 2, "m": {"y": 1, "b": 2}}),
    ];
    let records: Vec<_> = odd
        .into_iter()
        .enumerate()
        .map(|(index, raw)| RawRecord {
            processed: Some(raw.clone()),
            slice: raw.clone(),
            ..record(&format!("odd {index} / é"), raw)
        })
        .collect();
    let put = store.put_records(&records).await.unwrap();
    assert_eq!(put.new, records.len() as u64);
    let found = all(&*store, &query()).await;
    assert_eq!(found.len(), records.len());
    for (found, put) in found.iter().zip(&records) {
        assert_eq!(found, put);
        // `==` ignores the order of keys and what kind of zero it is; the text does not.
        assert_eq!(found.raw.to_string(), put.raw.to_string());
        assert_eq!(Hash::of_json(&found.raw), put.hash);
    }
    let again = store.put_records(&records).await.unwrap();
    assert_eq!(again.seen_again, records.len() as u64);
}

pub async fn a_b_a_ends_with_a_newest(store: Arc<dyn RawStore>) {
    let a = record("u1", json!({"name": "A"}));
    let b = record("u1", json!({"name": "B"}));
    let sequence = [(&a, 0, 1), (&b, 10, 2), (&a, 20, 3)];
    for (step, expected) in sequence.iter().zip([(1, 0), (1, 0), (0, 1)]) {
        let (template, seconds, version) = *step;
        let put = store
            .put_records(&[RawRecord {
                sync_date: at(seconds),
                version,
                ..template.clone()
            }])
            .await
            .unwrap();
        assert_eq!((put.new, put.changed), expected);
    }
    let newest = RawRecordQuery {
        newest_only: true,
        ..query()
    };
    let found = all(&*store, &newest).await;
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].raw, found[0].version), (&a.raw, 3));
    assert_eq!(all(&*store, &query()).await.len(), 2);

    // A late copy of B, read before the last A, does not become the newest.
    let late = RawRecord {
        sync_date: at(15),
        version: 2,
        ..b
    };
    store.put_records(&[late]).await.unwrap();
    assert_eq!(all(&*store, &newest).await[0].raw, a.raw);
}

pub async fn the_later_copy_in_a_batch_is_newest(store: Arc<dyn RawStore>) {
    let copies: Vec<_> = ["A", "B", "C"]
        .map(|name| record("u1", json!({ "name": name })))
        .into();
    store.put_records(&copies).await.unwrap();
    let newest = RawRecordQuery {
        newest_only: true,
        ..query()
    };
    assert_eq!(all(&*store, &newest).await, copies[2..]);
    let reversed: Vec<_> = copies
        .iter()
        .rev()
        .map(|copy| RawRecord {
            sync_date: at(5),
            ..copy.clone()
        })
        .collect();
    let put = store.put_records(&reversed).await.unwrap();
    assert_eq!(put, counts(0, 3, 0));
    let found = all(&*store, &newest).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].raw, copies[0].raw);
}

pub async fn marks_reach_the_newest_document(store: Arc<dyn RawStore>) {
    let old = record("u1", json!({"v": 1}));
    let new = RawRecord {
        sync_date: at(10),
        ..record("u1", json!({"v": 2}))
    };
    let other = record("u2", json!({"v": 1}));
    for record in [&old, &new, &other] {
        store
            .put_records(std::slice::from_ref(record))
            .await
            .unwrap();
    }
    let mark = |source_id: &str, target: &str, state| OutboundMark {
        organization_id: OrganizationId(1),
        connection_id: ConnectionId(7),
        entity_type: entity("Location"),
        source_id: source_id.into(),
        target: target.into(),
        state,
    };
    store.mark_outbound(&[]).await.unwrap();
    store
        .mark_outbound(&[
            mark("u1", "ONE", OutboundState::Synced),
            mark("u1", "odd.$target%", OutboundState::Failed),
            mark("u2", "ONE", OutboundState::Failed),
            mark("unknown", "ONE", OutboundState::Synced),
            OutboundMark {
                organization_id: OrganizationId(2),
                ..mark("u2", "ONE", OutboundState::Synced)
            },
        ])
        .await
        .unwrap();
    let found = all(&*store, &query()).await;
    assert_eq!(found[0].outbound, old.outbound);
    let mut marked = found[1].outbound.clone();
    marked.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("ONE".to_owned(), OutboundState::Synced),
        ("odd.$target%".to_owned(), OutboundState::Failed),
    ];
    assert_eq!(marked, expected);
    let expected = [("ONE".to_owned(), OutboundState::Failed)];
    assert_eq!(found[2].outbound, expected);
    // Seen again with the same outcome: what the targets said stays.
    store
        .put_records(std::slice::from_ref(&other))
        .await
        .unwrap();
    assert_eq!(all(&*store, &query()).await[2].outbound, expected);
}

pub async fn a_thousand_records_in_one_batch(store: Arc<dyn RawStore>) {
    let mut records: Vec<_> = (0..1000)
        .map(|n| record(&format!("u{n}"), json!({"n": n, "name": "x".repeat(200)})))
        .collect();
    let put = store.put_records(&records).await.unwrap();
    assert_eq!(put, counts(1000, 0, 0));
    let put = store.put_records(&records).await.unwrap();
    assert_eq!(put, counts(0, 1000, 0));
    for record in records.iter_mut().step_by(2) {
        record.version = 2;
    }
    let put = store.put_records(&records).await.unwrap();
    assert_eq!(put, counts(0, 500, 500));
    let versions: i64 = all(&*store, &query())
        .await
        .iter()
        .map(|record| i64::from(record.version))
        .sum();
    assert_eq!(versions, 1500);
}

pub async fn racing_batches_store_each_record_once(store: Arc<dyn RawStore>) {
    let records: Arc<Vec<_>> = Arc::new(
        (0..100)
            .map(|n| record(&format!("u{n}"), json!({ "n": n })))
            .collect(),
    );
    let racers: Vec<_> = (0..6)
        .map(|_| {
            let (store, records) = (store.clone(), records.clone());
            tokio::spawn(async move { store.put_records(&records).await.unwrap() })
        })
        .collect();
    let mut total = PutRecords::default();
    for racer in racers {
        let put = racer.await.unwrap();
        total.new += put.new;
        total.seen_again += put.seen_again;
        total.changed += put.changed;
    }
    assert_eq!(total, counts(100, 500, 0));
    assert_eq!(all(&*store, &query()).await.len(), 100);
}

pub async fn expired_records_go(store: Arc<dyn RawStore>) {
    let expiring = RawRecord {
        expires_at: Some(at(10)),
        ..record("gone", json!({"v": 1}))
    };
    // Seen again with a later expiry: it lives on.
    let renewed = RawRecord {
        expires_at: Some(at(9_000_000_000)),
        ..record("renewed", json!({"v": 2}))
    };
    let before = RawRecord {
        expires_at: Some(at(10)),
        ..renewed.clone()
    };
    let forever = RawRecord {
        expires_at: None,
        ..record("forever", json!({"v": 3}))
    };
    store
        .put_records(&[expiring, before, forever.clone()])
        .await
        .unwrap();
    store
        .put_records(std::slice::from_ref(&renewed))
        .await
        .unwrap();
    store.expire(at(100)).await.unwrap();
    assert_eq!(all(&*store, &query()).await, [renewed, forever]);
}

//! What every [`RawStore`] does with payloads (promise I1). Claims of abandoned ones are in
//! [`super::raw_claims`], records in [`super::raw_records`].

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::json;
use sluice_core::{ConnectionId, ErrorClass, OrganizationId, RunId, Timestamp};

use crate::raw::{
    ClaimPending, FailedPayload, FailedPayloadQuery, InboundState, NewPayload, PayloadId,
    PayloadKind, PutPayload, RawError, RawStore,
};

/// Runs each raw store case as a test of its own. `$fresh` is an async function that returns an
/// empty, prepared store as `Arc<dyn RawStore>` and a guard that removes it when dropped.
#[macro_export]
macro_rules! raw_conformance {
    ($fresh:path) => {
        $crate::conformance_cases!(
            $fresh,
            raw,
            [
                bytes_out_equal_bytes_in,
                a_large_body_survives,
                a_repeated_delivery_is_a_duplicate,
                the_same_payload_is_seen_again_and_pending,
                a_failed_payload_keeps_its_errors,
                failed_payloads_are_listed,
                expired_payloads_go_and_pending_ones_stay,
                payloads_are_isolated,
                preparing_twice_is_harmless,
            ]
        );
        $crate::conformance_cases!(
            $fresh,
            raw_claims,
            [
                only_abandoned_payloads_are_claimed,
                claims_are_counted_until_the_payload_comes_again,
                racing_claimers_share_nothing,
                a_short_lease_runs_out,
            ]
        );
        $crate::conformance_cases!(
            $fresh,
            raw_records,
            [
                records_are_new_then_seen_then_changed,
                odd_values_survive,
                a_b_a_ends_with_a_newest,
                the_later_copy_in_a_batch_is_newest,
                marks_reach_the_newest_document,
                a_thousand_records_in_one_batch,
                racing_batches_store_each_record_once,
                expired_records_go,
            ]
        );
        $crate::conformance_cases!(
            $fresh,
            raw_queries,
            [
                queries_filter_and_page,
                newest_only_looks_past_the_filter,
                many_records_are_named_in_one_query,
                records_are_isolated,
            ]
        );
    };
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_760_000_000 + seconds, 250_000_000).unwrap()
}

pub(super) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn payload(body: impl Into<Bytes>) -> NewPayload {
    NewPayload {
        organization_id: OrganizationId(1),
        connection_id: ConnectionId(7),
        source_system: "yardi".into(),
        kind: PayloadKind::Page,
        stream: "units".into(),
        slice: json!({"property": "p1", "from": null}),
        content_type: Some("text/xml".into()),
        body: body.into(),
        delivery_id: None,
        run_id: Some(RunId(3)),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        received_at: at(0),
        expires_at: None,
    }
}

pub(super) async fn put(store: &dyn RawStore, new: NewPayload, lease: Duration) -> PayloadId {
    match store.put_payload(new, lease).await.unwrap() {
        PutPayload::Stored(id) => id,
        other => panic!("expected a new payload, got {other:?}"),
    }
}

pub(super) async fn claim(store: &dyn RawStore, limit: usize) -> Vec<PayloadId> {
    let claim = ClaimPending {
        owner: "rescuer".into(),
        lease: HOUR,
        limit,
    };
    let claimed = store.claim_pending(&claim).await.unwrap();
    claimed.into_iter().map(|payload| payload.id).collect()
}

/// Bytes without repetition, the same on every run (xorshift64*).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub async fn bytes_out_equal_bytes_in(store: Arc<dyn RawStore>) {
    let bodies: [&[u8]; 6] = [
        b"",
        b"<a><b>broken & </a>",
        b"{\"id\": 1, \"id\": 2,",
        b"nul \0 inside \0",
        b"\xff\xfe\x00\xd8 no text at all",
        "\u{feff}é😀".as_bytes(),
    ];
    for (index, body) in bodies.into_iter().enumerate() {
        let new = NewPayload {
            content_type: (index % 2 == 0).then(|| "application/xml; charset=utf-8".into()),
            kind: PayloadKind::File,
            ..payload(Bytes::from_static(body))
        };
        let id = put(&*store, new.clone(), HOUR).await;
        assert_eq!(id, new.id());
        let found = store
            .payload(OrganizationId(1), &id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(found.new, new, "body {index}");
        assert_eq!(found.id, id);
        assert_eq!(found.inbound, InboundState::Pending);
        assert_eq!((found.first_seen, found.last_seen), (at(0), at(0)));
        assert_eq!(found.errors, vec![]);
    }
    let unknown = PayloadId("0".repeat(64));
    let none = store.payload(OrganizationId(1), &unknown).await.unwrap();
    assert_eq!(none, None);
}

pub async fn a_large_body_survives(store: Arc<dyn RawStore>) {
    let repeated = b"<Resident><Name>x</Name></Resident>".repeat(600_000);
    assert!(repeated.len() > 20_000_000);
    for body in [Bytes::from(repeated), Bytes::from(noise(20_000_000))] {
        let new = payload(body.clone());
        let id = put(&*store, new.clone(), Duration::ZERO).await;
        let found = store
            .payload(OrganizationId(1), &id)
            .await
            .unwrap()
            .unwrap();
        assert!(found.new.body == body, "the bytes differ");
        let again = store.put_payload(new, Duration::ZERO).await.unwrap();
        assert_eq!(again, PutPayload::SeenAgain(id.clone()));
        let claimed = store
            .claim_pending(&ClaimPending {
                owner: "rescuer".into(),
                lease: HOUR,
                limit: 10,
            })
            .await
            .unwrap();
        assert_eq!(claimed.len(), 1);
        assert!(claimed[0].new.body == body, "the claimed bytes differ");
    }
}

pub async fn a_repeated_delivery_is_a_duplicate(store: Arc<dyn RawStore>) {
    let hook = |delivery: &str, body: &'static str| NewPayload {
        kind: PayloadKind::Webhook,
        delivery_id: Some(delivery.into()),
        slice: json!({}),
        ..payload(body)
    };
    let id = put(&*store, hook("d-1", "{\"a\":1}"), HOUR).await;
    store.finish_payload(&id, None).await.unwrap();
    // A sender that retries may send other bytes; its delivery id decides.
    for body in ["{\"a\":1}", "{\"a\":2}"] {
        let again = store.put_payload(hook("d-1", body), HOUR).await.unwrap();
        assert_eq!(again, PutPayload::Duplicate(id.clone()));
    }
    let found = store
        .payload(OrganizationId(1), &id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.inbound, InboundState::Completed);
    assert_eq!(&found.new.body[..], b"{\"a\":1}");

    put(&*store, hook("d-2", "{\"a\":1}"), HOUR).await;
    let elsewhere = NewPayload {
        connection_id: ConnectionId(8),
        ..hook("d-1", "{\"a\":1}")
    };
    put(&*store, elsewhere, HOUR).await;
}

pub async fn the_same_payload_is_seen_again_and_pending(store: Arc<dyn RawStore>) {
    let first = payload("page A");
    let id = put(&*store, first.clone(), HOUR).await;
    store.finish_payload(&id, None).await.unwrap();
    let later = NewPayload {
        received_at: at(60),
        run_id: Some(RunId(4)),
        expires_at: Some(at(9_000_000_000)),
        ..first.clone()
    };
    let again = store.put_payload(later.clone(), HOUR).await.unwrap();
    assert_eq!(again, PutPayload::SeenAgain(id.clone()));
    let found = store
        .payload(OrganizationId(1), &id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.inbound, InboundState::Pending);
    assert_eq!((found.first_seen, found.last_seen), (at(0), at(60)));
    assert_eq!(found.new, later);
    assert_eq!(claim(&*store, 10).await, [], "leased to the second caller");

    for other in [
        payload("page B"),
        NewPayload {
            slice: json!({"property": "p2"}),
            ..first.clone()
        },
        NewPayload {
            stream: "residents".into(),
            ..first
        },
    ] {
        assert_ne!(put(&*store, other, HOUR).await, id);
    }
}

pub async fn a_failed_payload_keeps_its_errors(store: Arc<dyn RawStore>) {
    let id = put(&*store, payload("<broken"), Duration::ZERO).await;
    let error = |n: u32| RawError {
        timestamp: at(i64::from(n)),
        class: ErrorClass::Validation,
        code: "xml_unreadable".into(),
        // A text that looks like an operator of the database is only a text.
        error: "$unit ends early".into(),
        retry_count: n,
    };
    for n in [1, 1, 2] {
        store.finish_payload(&id, Some(error(n))).await.unwrap();
    }
    let found = store
        .payload(OrganizationId(1), &id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.inbound, InboundState::Failed);
    assert_eq!(found.errors, [error(1), error(2)], "a repeat adds nothing");
    assert_eq!(claim(&*store, 10).await, []);

    let again = store.put_payload(payload("<broken"), HOUR).await.unwrap();
    assert_eq!(again, PutPayload::SeenAgain(id.clone()));
    for n in 3..60 {
        store.finish_payload(&id, Some(error(n))).await.unwrap();
    }
    let found = store
        .payload(OrganizationId(1), &id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.errors.len(), 20, "the log is bounded");
    assert_eq!(found.errors.last(), Some(&error(59)));
    store.finish_payload(&id, None).await.unwrap();
    let found = store.payload(OrganizationId(1), &id).await.unwrap();
    assert_eq!(found.unwrap().inbound, InboundState::Completed);
}

/// I1: what nobody could read is found again, by its owner.
pub async fn failed_payloads_are_listed(store: Arc<dyn RawStore>) {
    let wrong = |code: &str| RawError {
        timestamp: at(1),
        class: ErrorClass::Validation,
        code: code.into(),
        error: "no JSON".into(),
        retry_count: 0,
    };
    let mut ids = Vec::new();
    for (body, organization, connection, stream) in [
        ("one", 1, 7, "units"),
        ("three", 1, 7, "residents"),
        ("four?", 1, 8, "units"),
        ("theirs", 2, 7, "units"),
    ] {
        let new = NewPayload {
            organization_id: OrganizationId(organization),
            connection_id: ConnectionId(connection),
            stream: stream.into(),
            kind: PayloadKind::Webhook,
            ..payload(body)
        };
        let id = put(&*store, new, HOUR).await;
        for code in ["first", "last"] {
            store.finish_payload(&id, Some(wrong(code))).await.unwrap();
        }
        ids.push(id);
    }
    put(&*store, payload("pending"), HOUR).await;
    let done = put(&*store, payload("done"), HOUR).await;
    store.finish_payload(&done, None).await.unwrap();

    let all = FailedPayloadQuery {
        organization_id: OrganizationId(1),
        connection_id: None,
        stream: None,
        after: None,
        limit: 10,
    };
    let listed = async |query: FailedPayloadQuery| {
        let found = store.failed_payloads(&query).await.unwrap();
        found.into_iter().map(|one| one.id).collect::<Vec<_>>()
    };
    let mut ours = ids[..3].to_vec();
    ours.sort();
    assert_eq!(listed(all.clone()).await, ours);
    let first = FailedPayloadQuery {
        limit: 2,
        ..all.clone()
    };
    assert_eq!(listed(first).await, ours[..2]);
    let rest = FailedPayloadQuery {
        after: Some(ours[1].clone()),
        ..all.clone()
    };
    assert_eq!(listed(rest).await, ours[2..]);
    let residents = FailedPayloadQuery {
        connection_id: Some(ConnectionId(7)),
        stream: Some("residents".into()),
        ..all.clone()
    };
    let found = store.failed_payloads(&residents).await.unwrap();
    let expected = FailedPayload {
        id: ids[1].clone(),
        connection_id: ConnectionId(7),
        kind: PayloadKind::Webhook,
        stream: "residents".into(),
        content_type: Some("text/xml".into()),
        bytes: 5,
        received_at: at(0),
        errors: vec![wrong("first"), wrong("last")],
    };
    assert_eq!(found, [expected]);
    store.finish_payload(&ids[1], None).await.unwrap();
    assert_eq!(listed(residents).await, []);
}

pub async fn expired_payloads_go_and_pending_ones_stay(store: Arc<dyn RawStore>) {
    let expiring = |body: Bytes, expires| NewPayload {
        expires_at: expires,
        ..payload(body)
    };
    let large = Bytes::from(noise(20_000_000));
    let gone = put(&*store, expiring("gone".into(), Some(at(10))), HOUR).await;
    let gone_too = put(&*store, expiring(large, Some(at(10))), HOUR).await;
    let pending = put(&*store, expiring("pending".into(), Some(at(10))), HOUR).await;
    let later = put(
        &*store,
        expiring("later".into(), Some(at(9_000_000_000))),
        HOUR,
    )
    .await;
    let never = put(&*store, expiring("never".into(), None), HOUR).await;
    for id in [&gone, &gone_too, &later, &never] {
        store.finish_payload(id, None).await.unwrap();
    }
    store.expire(at(100)).await.unwrap();
    for (id, stays) in [
        (gone, false),
        (gone_too, false),
        (pending, true),
        (later, true),
        (never, true),
    ] {
        let found = store.payload(OrganizationId(1), &id).await.unwrap();
        assert_eq!(found.is_some(), stays, "{found:?}");
    }
    assert_eq!(store.expire(at(100)).await.unwrap(), 0);
}

pub async fn payloads_are_isolated(store: Arc<dyn RawStore>) {
    let mine = payload("the same page");
    let theirs = NewPayload {
        organization_id: OrganizationId(2),
        ..mine.clone()
    };
    let id = put(&*store, mine, HOUR).await;
    let their_id = put(&*store, theirs, HOUR).await;
    assert_ne!(id, their_id);
    let peeked = store.payload(OrganizationId(2), &id).await.unwrap();
    assert_eq!(peeked, None);
}

pub async fn preparing_twice_is_harmless(store: Arc<dyn RawStore>) {
    let id = put(&*store, payload("page"), HOUR).await;
    let (one, two) = futures::join!(store.prepare(), store.prepare());
    one.unwrap();
    two.unwrap();
    store.ping().await.unwrap();
    let found = store.payload(OrganizationId(1), &id).await.unwrap();
    assert!(found.is_some());
}

//! From the source to master data.

use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use serde_json::{Value, json};
use sluice_core::{
    ErrorClass, Timestamp,
    retry::MAX_CRASHES,
    run::{RunKind, RunState},
};
use sluice_orchestrator::plan::RunRequest;
use sluice_store::raw::{
    ClaimPending, FailedPayloadQuery, InboundState, OutboundState, PayloadKind, RawError,
};
use sluice_sync_in::intake::{self, Incoming, Kept};
use sluice_testkit::wait_until;

use crate::{
    crashes::shaky,
    flaky::Break,
    house::{House, PATIENCE},
};

pub fn location(id: u32, name: &str) -> Value {
    json!({"id": format!("L{id}"), "name": name})
}

pub fn locations(count: u32) -> Vec<Value> {
    (0..count).map(|id| location(id, "Elm Court")).collect()
}

fn incoming(body: &Value, delivery_id: Option<&str>) -> Incoming {
    Incoming {
        kind: PayloadKind::Webhook,
        stream: "locations".into(),
        content_type: Some("application/json".into()),
        body: Bytes::from(body.to_string()),
        delivery_id: delivery_id.map(str::to_owned),
        received_at: Utc::now(),
        traceparent: None,
    }
}

/// I1, I2: everything is kept and applied; a second run makes no version and no push.
#[tokio::test(flavor = "multi_thread")]
async fn pages_are_kept_and_applied_once() {
    let house = House::open("keeper").await;
    house.system.holds("locations", &locations(25), 10);
    let run = house.full().await;
    assert_eq!(run.state, RunState::Done);
    assert_eq!((run.counts.read, run.counts.created), (25, 25));
    assert_eq!(run.counts.read, run.counts.settled());
    assert_eq!(
        run.counts.calls, 4,
        "three pages of locations and one of requests"
    );
    house.quiet().await;
    assert_eq!(house.system.names("Location").len(), 25);
    let again = house.full().await;
    house.quiet().await;
    assert_eq!((again.counts.unchanged, again.counts.stored), (25, 0));
    assert_eq!(house.system.writes("POST"), 25);
    assert_eq!(house.system.writes("PUT"), 0);
    assert_eq!(house.history("Location", "L7").await.versions.len(), 1);
}

/// Bad records are set aside with typed errors; the rest of the page goes on (I3).
#[tokio::test(flavor = "multi_thread")]
async fn faulty_records_are_kept_for_review_and_the_rest_goes_on() {
    let house = House::open("keeper").await;
    let items = [
        location(1, "first"),
        json!({"id": "L2", "name": 7}),
        json!({"name": "nobody"}),
        json!({"id": "L3", "kind": "ghost"}),
        location(1, "second"),
        location(4, "nul \u{0} inside"),
    ];
    house.system.holds("locations", &items, 10);
    let run = house.full().await;
    assert_eq!(run.state, RunState::Partial);
    let counts = run.counts;
    assert_eq!(
        (counts.read, counts.created, counts.rejected, counts.skipped),
        (6, 2, 2, 2)
    );
    assert_eq!(counts.read, counts.settled());
    house.quiet().await;
    assert_eq!(house.system.names("Location")["src:L1"], "second");
    assert_eq!(house.system.names("Location")["src:L4"], "nul  inside");
    let raw = house.raw_records().await;
    let failed: Vec<_> = raw
        .iter()
        .filter(|record| record.inbound == InboundState::Failed)
        .map(|record| (record.source_id.as_str(), record.errors[0].code.as_str()))
        .collect();
    assert_eq!(failed.len(), 2);
    assert!(failed.contains(&("L2", "schema_violation")), "{failed:?}");
    assert!(
        failed
            .iter()
            .any(|(id, code)| id.starts_with("unidentified:") && *code == "source_id_missing"),
        "{failed:?}"
    );
}

/// I6: a record that says it was changed next year can still be changed today, and an outdated copy
/// is still outdated.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_lies_ahead_does_not_hide_later_edits() {
    let house = House::open("keeper").await;
    let version = |name: &str, at: Timestamp| json!({"id": "L1", "name": name, "at": at});
    let now = Utc::now();
    let minutes = chrono::TimeDelta::minutes;
    for (name, at, expected) in [
        ("planned", now + minutes(300 * 24 * 60), "planned"),
        ("outdated", now - minutes(60), "planned"),
        ("edited", now + minutes(1), "edited"),
    ] {
        house.system.holds("locations", &[version(name, at)], 10);
        house.full().await;
        house.quiet().await;
        assert_eq!(house.system.names("Location")["src:L1"], expected);
    }
}

/// C3: a dry run decides and counts, and writes nothing anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_nothing() {
    let house = House::open("keeper").await;
    house.system.holds("locations", &locations(5), 2);
    let request = RunRequest {
        dry_run: true,
        ..house.request(RunKind::Full)
    };
    let run = house.run(&request).await;
    assert_eq!((run.state, run.counts.created), (RunState::Done, 5));
    house.quiet().await;
    assert_eq!(house.raw_records().await.len(), 0);
    assert_eq!(house.master_count().await, 0);
    assert_eq!(house.system.script().writes.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_record_run_takes_in_only_that_record() {
    let house = House::open("keeper").await;
    house.system.holds("locations", &locations(100), 10);
    let request = RunRequest {
        record: Some("L12".into()),
        streams: vec!["locations".into()],
        ..house.request(RunKind::Single)
    };
    let run = house.run(&request).await;
    assert_eq!((run.counts.read, run.counts.created), (1, 1));
    house.quiet().await;
    assert_eq!(house.system.names("Location").len(), 1);
    let calls = house.system.script().page_calls;
    assert_eq!(calls, 2, "nothing is read behind the record");
}

/// Reprocessing reads what is stored, not the source.
#[tokio::test(flavor = "multi_thread")]
async fn stored_records_are_reprocessed_without_a_call() {
    let house = House::open("keeper").await;
    house.system.holds("locations", &locations(7), 3);
    house.full().await;
    let calls = house.system.script().page_calls;
    let run = house.run(&house.request(RunKind::Reprocess)).await;
    assert_eq!((run.counts.read, run.counts.unchanged), (7, 7));
    assert_eq!(run.counts.calls, 0);
    assert_eq!(house.system.script().page_calls, calls);
}

/// A webhook that can be read now, but could not when it came.
async fn unread_until_now(house: &House, items: &Value) {
    let source = house.sources.all().next().unwrap();
    let ingester = house.sync_in().ingester();
    let kept = ingester.keep(source, incoming(items, None)).await;
    let Ok(Kept::Pending(id, _)) = kept else {
        panic!("{kept:?}")
    };
    let error = RawError {
        timestamp: Utc::now(),
        class: ErrorClass::Validation,
        code: "payload_unreadable".into(),
        error: "not known yet".into(),
        retry_count: 0,
    };
    let raw = &house.backends.raw;
    raw.finish_payload(&id, Some(error)).await.unwrap();
}

/// I1, I6: a payload that nobody could read is taken in by reprocessing once it can be, does not set
/// back what the source has told since, and is neither lost nor forgotten when it still cannot.
#[tokio::test(flavor = "multi_thread")]
async fn unreadable_payloads_are_reprocessed() {
    let house = House::open("keeper").await;
    let ingester = house.sync_in().ingester();
    let source = house.sources.all().next().unwrap().clone();
    let items = json!([location(1, "by hook"), location(2, "by hook")]);
    unread_until_now(&house, &items).await;
    let raw = &house.backends.raw;
    let broken = Incoming {
        body: Bytes::from_static(b"{\"id\": "),
        ..incoming(&Value::Null, None)
    };
    let refused = intake::ingest_payload(&ingester, &source, broken).await;
    assert_eq!(refused.unwrap_err().code(), "payload_unreadable");
    let failed = async || {
        let query = FailedPayloadQuery {
            organization_id: house.organization,
            connection_id: None,
            stream: None,
            after: None,
            limit: 10,
        };
        raw.failed_payloads(&query).await.unwrap()
    };
    assert_eq!(failed().await.len(), 2);

    house
        .system
        .holds("locations", &[location(1, "since then")], 10);
    house.full().await;
    let dry = RunRequest {
        dry_run: true,
        ..house.request(RunKind::Reprocess)
    };
    for request in [dry, house.request(RunKind::Reprocess)] {
        let counts = house.run(&request).await.counts;
        assert_eq!(
            (counts.read, counts.unchanged, counts.created),
            (4, 1, 1),
            "{counts:?}"
        );
        assert_eq!((counts.stale, counts.rejected), (1, 1), "{counts:?}");
        assert_eq!(counts.read, counts.settled());
        let left = if request.dry_run { 2 } else { 1 };
        assert_eq!(failed().await.len(), left);
    }
    house.quiet().await;
    assert_eq!(house.system.names("Location")["src:L1"], "since then");
    assert_eq!(house.system.names("Location")["src:L2"], "by hook");
    let left = failed().await;
    assert_eq!(left[0].errors.len(), 2, "each try is in its log");
    let again = house.run(&house.request(RunKind::Reprocess)).await;
    assert_eq!((again.counts.unchanged, again.counts.rejected), (2, 1));
}

/// I6: however many records such a payload has, the raw store is asked a few times which of them the
/// source has told of since.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_unread_payload_takes_few_questions() {
    let shaky = shaky("scripted").await;
    let house = &shaky.house;
    let items: Vec<_> = (0..1_200).map(|id| location(id, "by hook")).collect();
    unread_until_now(house, &Value::Array(items)).await;
    let since: Vec<_> = (0..30).map(|id| location(id * 40, "since then")).collect();
    house.system.holds("locations", &since, 10);
    house.full().await;
    shaky.breaks.plan("records", 10, Break::Before);
    let counts = house.run(&house.request(RunKind::Reprocess)).await.counts;
    assert!(!shaky.breaks.done(), "the raw store was asked ten times");
    assert_eq!((counts.read, counts.stale), (1_230, 30), "{counts:?}");
    assert_eq!((counts.unchanged, counts.created), (30, 1_170));
}

/// I1, I2: a webhook delivered twice is one version; one that was kept but not processed before
/// the process died is taken in by recovery.
#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_kept_first_and_recovered() {
    let mut house = House::build("scripted", "keeper").await;
    house.lease = Duration::from_millis(50);
    let ingester = house.sync_in().ingester();
    let source = house.sources.all().next().unwrap().clone();
    let hook = incoming(&location(1, "by hook"), Some("d-1"));
    let first = intake::ingest_payload(&ingester, &source, hook.clone())
        .await
        .unwrap();
    assert_eq!((first.duplicate, first.counts.created), (false, 1));
    let second = intake::ingest_payload(&ingester, &source, hook)
        .await
        .unwrap();
    assert!(second.duplicate);
    let kept = ingester
        .keep(&source, incoming(&location(2, "left behind"), None))
        .await
        .unwrap();
    assert!(matches!(kept, Kept::Pending(..)));
    assert_eq!(house.master_count().await, 1);
    house.start_sync_in();
    wait_until(PATIENCE, || async { house.master_count().await == 2 }).await;
}

/// O8: a payload whose workers keep dying is not taken in for ever; the one behind it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_kills_its_workers_is_kept_as_failed() {
    let mut house = House::build("scripted", "keeper").await;
    house.lease = Duration::ZERO;
    let ingester = house.sync_in().ingester();
    let source = house.sources.all().next().unwrap().clone();
    let keep = async |body: &Value| match ingester.keep(&source, incoming(body, None)).await {
        Ok(Kept::Pending(id, ..)) => id,
        other => panic!("{other:?}"),
    };
    let deadly = keep(&location(1, "deadly")).await;
    let claim = ClaimPending {
        owner: "doomed".into(),
        lease: Duration::ZERO,
        limit: 1,
    };
    for _ in 0..MAX_CRASHES {
        wait_until(PATIENCE, || async {
            let claimed = house.backends.raw.claim_pending(&claim).await.unwrap();
            claimed.len() == 1
        })
        .await;
    }
    let harmless = keep(&location(2, "harmless")).await;
    house.lease = Duration::from_secs(75);
    house.start_sync_in();
    let state = async |id| {
        let payload = house.backends.raw.payload(house.organization, id).await;
        payload.unwrap().unwrap()
    };
    wait_until(PATIENCE, || async {
        state(&harmless).await.inbound == InboundState::Completed
            && state(&deadly).await.inbound == InboundState::Failed
    })
    .await;
    assert_eq!(&*state(&deadly).await.errors[0].code, "worker_died");
    assert_eq!(house.master_count().await, 1);
}

/// The raw store shows where a record has arrived.
#[tokio::test(flavor = "multi_thread")]
async fn outbound_states_are_mirrored() {
    let house = House::open("keeper").await;
    house.system.holds("locations", &locations(3), 10);
    house.full().await;
    wait_until(PATIENCE, || async {
        let raw = house.raw_records().await;
        raw.len() == 3
            && raw
                .iter()
                .all(|record| record.outbound == [("dst".to_owned(), OutboundState::Synced)])
    })
    .await;
}

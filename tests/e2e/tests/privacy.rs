//! C4: what is secret or personal stays in the stores.

mod harness;

use std::{collections::BTreeSet, time::Duration};

use harness::{Setup, System, WEBHOOK_SECRET};
use serde_json::{Value, json};
use sluice_standin::{Kind, Options};

const PATIENCE: Duration = Duration::from_secs(120);

/// Secrets of all connections, and names, addresses and numbers of people at the source.
async fn canaries(system: &System) -> BTreeSet<String> {
    let options = Options::new(Kind::Yardi);
    let mut canaries = BTreeSet::from([
        options.yardi.password,
        options.yardi.license,
        options.one.client_secret,
        options.lessen360.secret,
        WEBHOOK_SECRET.to_owned(),
    ]);
    for resident in system.records(&system.yardi, "resident").await {
        personal(&resident, "", &mut canaries);
    }
    canaries
}

/// Texts below keys that hold personal data.
fn personal(value: &Value, key: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(key, value)| personal(value, key, found)),
        Value::Array(items) => items.iter().for_each(|item| personal(item, key, found)),
        // Short names are parts of other words.
        Value::String(text) if text.len() > 5 => {
            let key = key.to_lowercase();
            if ["name", "mail", "phone"]
                .iter()
                .any(|part| key.contains(part))
            {
                found.insert(text.clone());
            }
        }
        _ => {}
    }
}

fn assert_clean(place: &str, text: &str, canaries: &BTreeSet<String>) {
    for canary in canaries {
        let line = text.lines().find(|line| line.contains(canary.as_str()));
        assert!(
            line.is_none(),
            "{place} shows {canary:?}: {}",
            line.unwrap_or_default()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_secret_or_personal_is_shown() {
    let system = System::start(Setup {
        seed: 31,
        records: 300,
        retries: 1,
        ..Setup::default()
    })
    .await;
    let canaries = canaries(&system).await;
    assert!(canaries.len() > 100, "{canaries:?}");
    // Errors of many kinds, in and out, with records in their answers.
    for (kind, operation) in [
        ("impossible_dates", "GetServiceRequest_ByDateRange"),
        ("missing_ids", "GetResident_Search"),
    ] {
        let fault = json!({ "kind": kind, "operation": operation, "rate": 0.5 });
        system.fault(&system.yardi, fault).await;
    }
    let mut processes = vec![
        system.spawn("orchestrator").await,
        system.spawn("sync-in").await,
    ];
    let run = system.start_run(&["--full"]).await;
    system.until_over(run, PATIENCE).await;
    system
        .until(PATIENCE, || async {
            system
                .number("select count(*) from sync_queue where state = 'pending'")
                .await
                == 0
        })
        .await;

    let messages = system.rabbit.waiting_messages().await;
    assert!(messages.len() > 100, "{}", messages.len());
    for message in &messages {
        let headers = message.pointer("/properties/headers/traceparent");
        assert!(
            headers.is_some(),
            "a message outside of any trace: {message}"
        );
    }
    assert_clean("the broker", &json!(messages).to_string(), &canaries);
    for (kind, standin) in [
        ("http_500_fault", &system.one),
        ("http_500_fault", &system.lessen360),
        ("html_200", &system.lessen360),
        ("partial_errors", &system.one),
    ] {
        let fault = json!({ "kind": kind, "rate": 0.3 });
        system.fault(standin, fault).await;
    }
    processes.push(system.spawn("sync-out").await);
    processes.push(system.spawn("api").await);
    system.until_quiet(run, PATIENCE).await;
    // One trace from a run's first page to its last call, across the broker. Parents that are missing
    // are fetched by runs of their own.
    let outside = system
        .number(
            "select count(*) from sync_queue q where not exists (
                 select 1 from sync_orchestration r
                 where (q.run_id is null or r.id = q.run_id)
                   and split_part(r.traceparent, '-', 2) = split_part(q.traceparent, '-', 2))",
        )
        .await;
    assert_eq!(outside, 0, "tasks outside of their run's trace");
    let strangers = system
        .number(
            "select count(*) from task_attempts a join sync_queue q on q.id = a.task_id
             where a.trace_id is distinct from split_part(q.traceparent, '-', 2)",
        )
        .await;
    assert_eq!(strangers, 0, "attempts outside of their task's trace");
    let failures = system
        .number("select count(*) from task_attempts where error_message is not null")
        .await;
    assert!(failures > 10, "{failures}");
    for (place, sql) in [
        (
            "an attempt",
            "select coalesce(string_agg(a::text, E'\\n'), '') from task_attempts a",
        ),
        (
            "the activity log",
            "select coalesce(string_agg(a::text, E'\\n'), '') from sync_activity_log a",
        ),
        (
            "a run",
            "select coalesce(string_agg(r::text, E'\\n'), '') from sync_orchestration r",
        ),
        (
            "a task",
            "select coalesce(string_agg(q::text, E'\\n'), '') from sync_queue q where kind = 'push'",
        ),
        (
            "a dead letter",
            "select coalesce(string_agg(d::text, E'\\n'), '') from dead_letters d",
        ),
    ] {
        let text: String = sqlx::query_scalar(sql)
            .fetch_one(&system.sql)
            .await
            .unwrap();
        assert_clean(place, &text, &canaries);
    }
    let (mut told, mut lags) = (0, 0);
    for process in &processes {
        assert_clean(process.role, &process.text(), &canaries);
        let answer = system.http.get(format!("{}/metrics", process.url));
        let answer = answer.send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        let metrics = answer.text().await.unwrap();
        told += usize::from(metrics.contains("sluice_sync_in_records_total"));
        told += usize::from(metrics.contains("sluice_push_attempts_total"));
        lags += usize::from(metrics.contains("sluice_sync_lag_seconds_count{"));
        assert!(metrics.contains(r#"sluice_database_connections{state="idle"}"#));
        assert_clean("metrics", &metrics, &canaries);
    }
    assert!(told >= 2, "sync-in and sync-out have counted");
    assert!(lags > 0, "sync-out has measured the way of edits");
}

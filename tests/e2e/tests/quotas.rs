//! O3 on the real servers: a target that says in the headers of a good answer that no call remains
//! is left alone by all replicas of sync-out until its quota is new.

mod harness;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use harness::{Process, Setup, System};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(120);
/// Until the pause has reached everybody, and calls that were under way have arrived.
const FORGOTTEN: TimeDelta = TimeDelta::seconds(2);
/// Seconds until there is a new quota.
const RESET: i64 = 7;
/// In how many forms a stand-in says it.
const FORMS: u8 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_quota_stops_all_replicas_until_its_reset() {
    let system = System::start(Setup {
        seed: 47,
        records: 600,
        limits: Some([
            json!([{ "calls": 600_000, "per_seconds": 60 }]),
            json!([{ "calls": 20, "per_seconds": 1 }]),
        ]),
        ..Setup::default()
    })
    .await;
    let _others = [
        system.spawn("sync-in").await,
        system.spawn("orchestrator").await,
    ];
    let run = system.start_run(&["--full"]).await;
    system.until_over(run, PATIENCE).await;
    let replicas = [
        system.spawn("sync-out").await,
        system.spawn("sync-out").await,
    ];
    for form in 1..=FORMS {
        // Both call, so both have to stop.
        for replica in &replicas {
            let before = calls_of(&system, replica).await;
            system
                .until(PATIENCE, || async {
                    calls_of(&system, replica).await > before + 5
                })
                .await;
        }
        let spent = json!({ "kind": "quota_spent", "form": form, "retry_after": RESET });
        system.fault(&system.lessen360, spent).await;
        let told = || async { times(&system, "at", is_told).await };
        system
            .until(PATIENCE, || async {
                told().await.len() == usize::from(form)
            })
            .await;
        let told = *told().await.last().unwrap();
        let until = told + TimeDelta::seconds(RESET);
        let after = |from| move |time: &DateTime<Utc>| *time >= from;
        let arrived = || async { times(&system, "arrived", |_| true).await };
        system
            .until(PATIENCE, || async {
                arrived().await.into_iter().filter(after(until)).count() > 10
            })
            .await;
        let early: Vec<_> = arrived()
            .await
            .into_iter()
            .filter(|time| *time >= told + FORGOTTEN && *time < until)
            .collect();
        assert!(
            early.is_empty(),
            "form {form}: told at {told} to wait until {until}, but {} calls came: {early:?}",
            early.len()
        );
        assert!(system.open_pushes().await > 0, "the backlog ended too soon");
    }
    system.until_quiet(run, PATIENCE).await;
    assert_eq!(system.number("select count(*) from dead_letters").await, 0);
    system.assert_agreement().await;
    system.assert_targets_were_treated_well().await;
}

fn is_told(call: &Value) -> bool {
    call["fault"] == "quota_spent"
}

/// A time of each such call to Lessen360, ascending.
async fn times(system: &System, which: &str, wanted: fn(&Value) -> bool) -> Vec<DateTime<Utc>> {
    let ledger = system.ledger(&system.lessen360).await;
    let calls = ledger.iter().filter(|call| wanted(call));
    let mut times: Vec<_> = calls
        .map(|call| call[which].as_str().unwrap().parse().unwrap())
        .collect();
    times.sort_unstable();
    times
}

/// Calls to Lessen360 that a process has made, by its own count.
async fn calls_of(system: &System, process: &Process) -> u64 {
    let metrics = system.http.get(format!("{}/metrics", process.url));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    metrics
        .lines()
        .filter(|line| line.starts_with("sluice_calls_total{"))
        .filter(|line| line.contains(r#"target="lessen360""#))
        .map(|line| {
            let (_, count) = line.rsplit_once(' ').unwrap();
            count.parse::<u64>().unwrap()
        })
        .sum()
}

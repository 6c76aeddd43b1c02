//! O3 on the real servers: limits changed over the management API hold for all processes at once,
//! survive their end, and give way when the configuration changes.

mod harness;

use std::time::Duration;

use chrono::{DateTime, Utc};
use harness::{API_TOKEN, Process, Setup, System};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
/// What was handed out under the limits before may be used this long, and no longer.
const FORGOTTEN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_changed_live() {
    let slow = |calls: u32| json!([{ "calls": calls, "per_seconds": 1 }]);
    let mut setup = Setup {
        seed: 43,
        records: 1_000,
        limits: Some([slow(2), slow(2)]),
        ..Setup::default()
    };
    let system = System::start(Setup {
        limits: setup.limits.clone(),
        ..setup
    })
    .await;
    let mut processes = start(&system).await;
    let run = system.start_run(&["--full"]).await;
    system.until_over(run, PATIENCE).await;
    let found = state(&system, &processes).await;
    assert_eq!(
        (&found["limits"], &found["limits_by_hand"]),
        (&slow(2), &json!(false))
    );

    // Faster than the configuration allows.
    let fast = limit(&system, &processes, slow(50)).await;
    system
        .until(PATIENCE, || async { fullest(&system, fast).await > 10 })
        .await;
    // So slow that nobody calls for minutes; whoever waits for that hears of its end.
    limit(
        &system,
        &processes,
        json!([{ "calls": 1, "per_seconds": 600 }]),
    )
    .await;
    let silence = chrono::TimeDelta::seconds(5);
    system
        .until(PATIENCE, || async {
            fullest(&system, Utc::now() - silence).await == 0
        })
        .await;
    let fast = limit(&system, &processes, slow(50)).await;
    system
        .until(PATIENCE, || async { fullest(&system, fast).await > 10 })
        .await;
    // Slower.
    let changed = limit(&system, &processes, slow(5)).await;
    holds(&system, changed, 5).await;

    // Everything dies and comes back: nobody has to set it again.
    for process in processes {
        process.kill().await;
    }
    processes = start(&system).await;
    let found = state(&system, &processes).await;
    assert_eq!(
        (
            &found["limits"],
            &found["configured_limits"],
            &found["limits_by_hand"]
        ),
        (&slow(5), &slow(2), &json!(true))
    );
    let (_, listed) = system
        .command(&["connection", "list", "--output", "json"])
        .await;
    let listed = listed.as_array().unwrap().iter();
    let listed: Vec<_> = listed
        .filter(|one| one["connection"] == "lessen360")
        .collect();
    assert_eq!(listed, [&found], "the command line shows the same");
    holds(&system, Utc::now(), 5).await;

    // A changed configuration counts for all as soon as one process starts with it.
    setup.limits = Some([slow(2), slow(9)]);
    system.write_configuration(&setup);
    let began = Utc::now();
    processes.push(system.spawn("orchestrator").await);
    let found = state(&system, &processes).await;
    assert_eq!(
        (&found["limits"], &found["limits_by_hand"]),
        (&slow(9), &json!(false))
    );
    system
        .until(PATIENCE, || async { fullest(&system, began).await > 5 })
        .await;
    holds(&system, began, 9).await;
    let activity = system.command(&["activity", "--output", "json"]).await.1;
    let actors: Vec<_> = activity
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (
                entry["actor"].as_str().unwrap(),
                entry["event"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        actors,
        [("api:test", "connection.limited"); 4],
        "{activity}"
    );
}

async fn start(system: &System) -> Vec<Process> {
    let roles = ["api", "sync-in", "orchestrator", "sync-out", "sync-out"];
    futures::future::join_all(roles.map(|role| system.spawn(role))).await
}

/// The connection as the API shows it.
async fn state(system: &System, processes: &[Process]) -> Value {
    let url = format!("{}/api/v1/connections", processes[0].url);
    let request = system.http.get(url).bearer_auth(API_TOKEN);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let items = answer["items"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    let of_target = items.iter().find(|item| item["connection"] == "lessen360");
    of_target.unwrap().clone()
}

/// Changes the limits; returns the time after which only they count.
async fn limit(system: &System, processes: &[Process], limits: Value) -> DateTime<Utc> {
    let url = format!("{}/api/v1/connections/limit", processes[0].url);
    let order = json!({ "connection": "lessen360", "limits": limits, "reason": "tested" });
    let request = system.http.post(url).bearer_auth(API_TOKEN).json(&order);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["limits"], limits, "{answer}");
    Utc::now() + FORGOTTEN
}

/// Most calls in any second since then.
async fn fullest(system: &System, since: DateTime<Utc>) -> usize {
    let calls = calls(system, since).await;
    let second = chrono::TimeDelta::seconds(1);
    (0..calls.len())
        .map(|first| {
            calls[first..]
                .iter()
                .take_while(|at| **at - calls[first] < second)
                .count()
        })
        .max()
        .unwrap_or(0)
}

/// Waits for a few seconds' worth of calls after `since`; no second of them had more than these.
async fn holds(system: &System, since: DateTime<Utc>, most: usize) {
    system
        .until(PATIENCE, || async {
            calls(system, since).await.len() > 3 * most
        })
        .await;
    let fullest = fullest(system, since).await;
    assert!(
        fullest <= most,
        "{fullest} calls in a second, {most} are allowed"
    );
    assert!(system.open_pushes().await > 0, "the backlog ended too soon");
}

async fn calls(system: &System, since: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let mut times: Vec<DateTime<Utc>> = system
        .ledger(&system.lessen360)
        .await
        .iter()
        .map(|entry| entry["arrived"].as_str().unwrap().parse().unwrap())
        .filter(|at| *at >= since)
        .collect();
    times.sort_unstable();
    times
}

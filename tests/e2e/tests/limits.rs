//! O3 on the real servers: three replicas of sync-out share each connection's limit. Counted by the
//! stand-ins, which allow far more, so that only Sluice keeps the limit.
//!
//! `SLUICE_RATE_SECONDS` makes the measured time longer, such as 300.

mod harness;

use std::{collections::BTreeMap, path::Path, time::Duration};

use chrono::{DateTime, Utc};
use harness::{Process, Setup, System, copy_folder};
use serde_json::json;
use sluice_standin::Handle;

const PATIENCE: Duration = Duration::from_secs(240);
const REPLICAS: usize = 3;

/// One target's limit: calls in any window of so many seconds.
type Limit = (usize, i64);

/// Held by the test that measures.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// 60 a minute and 30 a minute at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_keep_limits_per_minute_and_use_them() {
    measure(100, [(60, 60), (30, 60)], 4).await;
}

/// 50 a second at both: a window in which a late wake-up or a slow way there counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_keep_limits_per_second_and_use_them() {
    measure(20, [(50, 1), (50, 1)], 120).await;
}

/// Runs under backlog for so many seconds, then looks into the stand-ins' ledgers.
async fn measure(seconds: u64, limits: [Limit; 2], records_per_second: u64) {
    let _alone = ALONE.lock().await;
    let seconds = std::env::var("SLUICE_RATE_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(seconds);
    let system =
        System::start(Setup {
            records: usize::try_from(300 + (seconds + 20) * records_per_second).unwrap(),
            limits: Some(limits.map(
                |(calls, per_seconds)| json!([{ "calls": calls, "per_seconds": per_seconds }]),
            )),
            lease: "75s",
            ..Setup::default()
        })
        .await;
    send_each_record_alone(&system.configuration(), system.folder.path());
    let mut processes = vec![
        system.spawn("sync-in").await,
        system.spawn("orchestrator").await,
    ];
    let run = system.start_run(&["--full"]).await;
    // Reading is done before anything is measured: it would only take the processors away.
    system.until_over(run, PATIENCE).await;
    for _ in 0..REPLICAS {
        processes.push(system.spawn("sync-out").await);
    }
    let targets = [(&system.one, limits[0]), (&system.lessen360, limits[1])];
    // Under way: tokens, first connections, records that turn out to wait for others.
    for (standin, limit) in targets {
        let first = if limit.1 == 1 { limit.0 * 6 } else { 10 };
        system
            .until(PATIENCE, || async {
                arrivals(&system, standin).await.len() > first
            })
            .await;
    }
    let from = Utc::now();
    let until = from + Duration::from_secs(seconds);
    system
        .until(PATIENCE + Duration::from_secs(seconds), || async {
            Utc::now() >= until
        })
        .await;
    let mut told = Vec::new();
    for (standin, limit) in targets {
        let calls = arrivals(&system, standin).await;
        told.push(check(&calls, limit, from, until));
    }
    eprintln!("{}", told.join("\n"));
    assert!(
        system.open_pushes().await > 0,
        "the backlog ended before the measurement"
    );
    for process in &mut processes {
        assert!(process.is_running(), "{}", process.text());
    }
    drop::<Vec<Process>>(processes);
}

/// Every window at any time, and the total in the measured time.
fn check(
    calls: &[DateTime<Utc>],
    limit: Limit,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> String {
    let (allowed, per_seconds) = limit;
    let window = chrono::TimeDelta::seconds(per_seconds);
    let mut first = 0;
    let mut fullest = 0;
    for (last, at) in calls.iter().enumerate() {
        while *at - calls[first] >= window {
            first += 1;
        }
        fullest = fullest.max(last - first + 1);
    }
    let made = calls
        .iter()
        .filter(|at| (from..until).contains(*at))
        .count();
    let seconds = (until - from).num_milliseconds() as f64 / 1000.0;
    let possible = allowed as f64 * seconds / per_seconds as f64;
    let text = format!(
        "{allowed} in {per_seconds} s: fullest window {fullest}, {made} of {possible:.0} calls in {seconds:.0} s, {:.1} %",
        made as f64 / possible * 100.0
    );
    assert!(fullest <= allowed, "{text}");
    // One call may fall to either side of an end.
    assert!(made as f64 + 1.0 >= possible * 0.95, "{text}");
    text
}

/// When each call came, by the stand-in's ledger.
async fn arrivals(system: &System, standin: &Handle) -> Vec<DateTime<Utc>> {
    let calls = system.ledger(standin).await;
    let mut times: Vec<_> = calls
        .iter()
        .map(|call| call["arrived"].as_str().unwrap().parse().unwrap())
        .collect();
    times.sort_unstable();
    times
}

/// Calls are measured, not records: connectors as shipped, but with one record per call.
fn send_each_record_alone(configuration: &Path, folder: &Path) {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/connectors/systems");
    let connectors = folder.join("connectors");
    copy_folder(&shipped, &connectors);
    let operations = connectors.join("one/operations.yaml");
    let text = std::fs::read_to_string(&operations).unwrap();
    assert!(text.contains("batch_size: 25"));
    std::fs::write(&operations, text.replace("batch_size: 25", "batch_size: 1")).unwrap();
    let text = std::fs::read_to_string(configuration).unwrap();
    let mut settings: BTreeMap<String, toml::Value> = toml::from_str(&text).unwrap();
    let section = settings
        .get_mut("connectors")
        .unwrap()
        .as_table_mut()
        .unwrap();
    section.insert("dir".to_owned(), connectors.display().to_string().into());
    std::fs::write(configuration, toml::to_string(&settings).unwrap()).unwrap();
}

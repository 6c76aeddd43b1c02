//! O3, O4, O7 on the real servers: breakers that close by themselves, limits of single paths, the reserve
//! for urgent pushes, parents that nobody has read.

mod harness;

use std::time::Duration;

use chrono::{DateTime, Utc};
use harness::{Process, ROLES, Setup, System};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(120);

/// O4: an outage opens the breaker for all processes. However many probes it takes, it makes no dead
/// letter, and when the target is back, the breaker closes and everything arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breaker_closes_by_itself_and_nothing_died() {
    let system = System::start(Setup {
        seed: 44,
        records: 200,
        // Fewer than the probes below.
        retries: 3,
        outage: "1d",
        ..Setup::default()
    })
    .await;
    let _processes = system.start_roles().await;
    let run = system.start_run(&["--full"]).await;
    assert_eq!(system.until_quiet(run, PATIENCE).await, "done");

    let outage = json!({ "kind": "http_503", "rate": 1.0 });
    system.fault(&system.lessen360, outage).await;
    // Enough to open it, and few enough that each has to make several probes.
    let only = ["resident.create"];
    system.edit(json!({ "count": 6, "only": only })).await;
    let run = system.start_run(&[]).await;
    system.until_over(run, PATIENCE).await;
    system
        .until(PATIENCE, || async { breaker(&system).await != "closed" })
        .await;
    let before = failed(&system).await;
    system
        .until(PATIENCE, || async { failed(&system).await >= before + 5 })
        .await;
    assert_eq!(system.number("select count(*) from dead_letters").await, 0);

    system.clear_faults(&system.lessen360).await;
    system
        .until(PATIENCE, || async { breaker(&system).await == "closed" })
        .await;
    system.until_quiet(run, PATIENCE).await;
    assert_eq!(system.number("select count(*) from dead_letters").await, 0);
    system.assert_agreement().await;
}

/// State of the breaker of Lessen360.
async fn breaker(system: &System) -> String {
    let list = ["connection", "list", "--output", "json"];
    let (_, listed) = system.command(&list).await;
    let listed = listed.as_array().unwrap_or_else(|| panic!("{listed}"));
    let found = listed.iter().find(|one| one["connection"] == "lessen360");
    found.unwrap()["breaker"].as_str().unwrap().to_owned()
}

/// Calls that Lessen360 answered with 503.
async fn failed(system: &System) -> usize {
    let ledger = system.ledger(&system.lessen360).await;
    ledger.iter().filter(|call| call["status"] == 503).count()
}

/// O7: records whose parents nobody has read wait for them, and the parents are fetched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parents_that_nobody_has_read_are_fetched() {
    let system = System::start(Setup {
        seed: 45,
        records: 150,
        ..Setup::default()
    })
    .await;
    let _processes = system.start_roles().await;
    let run = system
        .start_run(&["--full", "--stream", "service_requests"])
        .await;
    assert_eq!(system.until_over(run, PATIENCE).await, "done");
    let fetched = "select count(*) from sync_orchestration where requested_by = 'dependency'";
    system
        .until(PATIENCE, || async { system.number(fetched).await > 0 })
        .await;
    let arrived = "select count(*) from sync_queue q
                   join sync_master_data m on m.id = q.master_data_id
                   where m.entity_type = 'ServiceRequest' and q.state = 'completed'";
    let all = "select 2 * count(*) from sync_master_data where entity_type = 'ServiceRequest'";
    system
        .until(PATIENCE, || async {
            system.number(all).await > 0 && system.number(arrived).await == system.number(all).await
        })
        .await;
    // Only what was asked for was read besides.
    let strangers = "select count(*) from sync_master_data
                     where entity_type not in ('ServiceRequest', 'Location')";
    assert_eq!(system.number(strangers).await, 0);
}

/// O3, O8: a limit of some paths holds for them and leaves the others alone; ordinary pushes leave the
/// reserve to urgent ones, which overtake them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_have_limits_of_their_own_and_urgent_pushes_a_reserve() {
    let limits = json!([
        { "calls": 20, "per_seconds": 1, "reserve": 50 },
        { "calls": 3, "per_seconds": 1, "paths": ["/v1/work-orders"] },
    ]);
    let system = System::start(Setup {
        seed: 46,
        records: 1_500,
        limits: Some([json!([{ "calls": 600_000, "per_seconds": 60 }]), limits]),
        ..Setup::default()
    })
    .await;
    let mut processes = system.start_roles().await;
    let run = system.start_run(&["--full"]).await;
    system.until_over(run, PATIENCE).await;
    system
        .until(PATIENCE, || async {
            calls(&system, "/v1/work-orders", None).await.len() > 30
        })
        .await;
    let orders = calls(&system, "/v1/work-orders", None).await;
    let ordinary = calls(&system, "/v1/properties", None).await;
    let (orders, ordinary) = (fullest(&orders), fullest(&ordinary));
    assert!(orders <= 3, "{orders} work orders in a second");
    // Some work orders are urgent at their source; no property is.
    assert!(
        (7..=10).contains(&ordinary),
        "{ordinary} ordinary calls in a second"
    );

    for process in &mut processes {
        process.terminate(PATIENCE).await;
    }
    set_priority(&system, 1);
    processes = start(&system).await;
    let backlog = system.open_pushes().await;
    assert!(backlog > 100, "{backlog} pushes are left");
    let since = Utc::now();
    system
        .edit(json!({ "count": 40, "only": ["resident.create"] }))
        .await;
    let run = system.start_run(&[]).await;
    system.until_over(run, PATIENCE).await;
    let urgent = "select count(*) from sync_queue q
                  join sync_master_data m on m.id = q.master_data_id
                  where q.target_system = 'lessen360' and q.priority = 1
                    and m.entity_type = 'Resident' and q.state <> 'completed'";
    system
        .until(PATIENCE, || async { system.number(urgent).await == 0 })
        .await;
    let fullest = fullest(&calls(&system, "", Some(since)).await);
    // More than ordinary calls and work orders together could be.
    assert!((14..=20).contains(&fullest), "{fullest} calls in a second");
    let left = system.open_pushes().await;
    assert!(left > 50, "{left} of {backlog} ordinary pushes are left");
    drop(processes);
}

/// O3, O8: what waits for a limit of some paths lets calls to others by, and uses that limit up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_path_lets_others_by() {
    let limits = json!([
        { "calls": 6_000, "per_seconds": 60 },
        { "calls": 60, "per_seconds": 60, "paths": ["/v1/work-orders"] },
    ]);
    let system = System::start(Setup {
        seed: 47,
        records: 1_500,
        limits: Some([json!([{ "calls": 600_000, "per_seconds": 60 }]), limits]),
        ..Setup::default()
    })
    .await;
    let processes = system.start_roles().await;
    let run = system.start_run(&["--full"]).await;
    system.until_over(run, PATIENCE).await;
    let others = "select count(*) from sync_queue q
                  join sync_master_data m on m.id = q.master_data_id
                  where q.target_system = 'lessen360' and m.entity_type in ('Location', 'Resident')
                    and q.state <> 'completed'";
    system
        .until(PATIENCE, || async { system.number(others).await == 0 })
        .await;
    let backlog = system.open_pushes().await;
    assert!(backlog > 100, "{backlog} work orders are left");
    let since = Utc::now();
    system
        .edit(json!({ "count": 40, "only": ["resident.create"] }))
        .await;
    let run = system.start_run(&[]).await;
    system.until_over(run, PATIENCE).await;
    system
        .until(PATIENCE, || async { system.number(others).await == 0 })
        .await;
    let orders = calls(&system, "/v1/work-orders", Some(since)).await;
    assert!(orders.len() < 20, "{} work orders went first", orders.len());
    system
        .until(PATIENCE, || async {
            calls(&system, "/v1/work-orders", Some(since)).await.len() >= 60
        })
        .await;
    let orders = calls(&system, "/v1/work-orders", Some(since)).await;
    let took = (orders[59] - orders[0]).as_seconds_f64();
    assert!(took < 59.0 / 0.95, "59 work orders took {took} s");
    drop(processes);
}

async fn start(system: &System) -> Vec<Process> {
    futures::future::join_all(ROLES.map(|role| system.spawn(role))).await
}

/// What the flow sends to Lessen360 from now on has this priority.
fn set_priority(system: &System, priority: i64) {
    let file = system.configuration();
    let text = std::fs::read_to_string(&file).unwrap();
    let mut settings: toml::Table = toml::from_str(&text).unwrap();
    let targets = settings["flows"][0]["targets"].as_array_mut().unwrap();
    for target in targets {
        let target = target.as_table_mut().unwrap();
        target.insert("priority".to_owned(), priority.into());
    }
    std::fs::write(&file, toml::to_string(&settings).unwrap()).unwrap();
}

/// When calls to Lessen360 came whose operation names this path.
async fn calls(system: &System, path: &str, since: Option<DateTime<Utc>>) -> Vec<DateTime<Utc>> {
    let ledger = system.ledger(&system.lessen360).await;
    let of_path = |call: &&Value| call["operation"].as_str().unwrap().contains(path);
    let times = ledger.iter().filter(of_path);
    let times = times.map(|call| call["arrived"].as_str().unwrap().parse().unwrap());
    let mut times: Vec<DateTime<Utc>> = times
        .filter(|at| since.is_none_or(|since| *at >= since))
        .collect();
    times.sort_unstable();
    times
}

/// Most calls in any second.
fn fullest(calls: &[DateTime<Utc>]) -> usize {
    let second = chrono::TimeDelta::seconds(1);
    (0..calls.len())
        .map(|first| calls[first..].partition_point(|at| *at - calls[first] < second))
        .max()
        .unwrap_or(0)
}

//! The main job on the real servers, as separate processes, with processes killed in the middle.

mod harness;

use std::time::Duration;

use harness::{Process, Setup, System};
use serde_json::json;
use sluice_standin::compare;
use sluice_testkit::wait_until;

const PATIENCE: Duration = Duration::from_secs(240);
const ROLES: [&str; 6] = [
    "sync-in",
    "sync-in",
    "sync-out",
    "sync-out",
    "orchestrator",
    "api",
];

async fn start_all(system: &System) -> Vec<Process> {
    let mut processes = Vec::new();
    for role in ROLES {
        processes.push(system.spawn(role).await);
    }
    processes
}

/// Source, master data and both targets, record by record, from what each holds now.
async fn assert_agreement(system: &System) {
    let comparison = compare::compare(&compare::Places {
        source: "yardi",
        yardi: &system.truth(&system.yardi, compare::YARDI_KINDS).await,
        one: &system.truth(&system.one, compare::ONE_KINDS).await,
        lessen360: &system
            .truth(&system.lessen360, compare::LESSEN360_KINDS)
            .await,
        master: &system.master().await,
    });
    assert!(comparison.compared > 0);
    assert!(
        comparison.mismatches.is_empty(),
        "{} of {} differ, such as {:#?}",
        comparison.mismatches.len(),
        comparison.compared,
        &comparison.mismatches[..comparison.mismatches.len().min(5)]
    );
}

/// No limit broken, nothing created twice, no two calls for one record at once (O1, O2, O3).
async fn assert_targets_were_treated_well(system: &System) {
    for standin in [&system.one, &system.lessen360] {
        let stats = system.stats(standin).await;
        assert_eq!(stats["duplicates_created"], 0, "{stats}");
        assert_eq!(stats["limit_violations"], 0, "{stats}");
        assert_eq!(stats["overlapping_writes"], 0, "{stats}");
    }
}

/// M2, O1, C2: kill -9 of every role in the middle of a full and an incremental sync; in the end
/// both targets hold exactly what they should.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_services_still_bring_all_systems_into_agreement() {
    let system = System::start(Setup::default()).await;
    let mut processes = start_all(&system).await;
    let full = system.start_run(&["--full"]).await;
    for (victim, at_least) in [(0, 50), (2, 150), (4, 300), (1, 400), (3, 500)] {
        wait_until(PATIENCE, || async {
            system.run(full).await["counts"]["read"].as_u64() >= Some(at_least)
                || system.run(full).await["state"] == "done"
        })
        .await;
        let process = processes.remove(victim);
        let role = process.role;
        process.kill().await;
        processes.insert(victim, system.spawn(role).await);
    }
    system.until_quiet(full, PATIENCE).await;
    assert_agreement(&system).await;

    system
        .edit(json!({ "count": 60, "only": compare::EDITS_WITHOUT_DELETION }))
        .await;
    let incremental = system.start_run(&[]).await;
    let process = processes.remove(3);
    process.kill().await;
    processes.push(system.spawn("sync-out").await);
    system.until_quiet(incremental, PATIENCE).await;
    assert_agreement(&system).await;
    assert_targets_were_treated_well(&system).await;
    for process in &mut processes {
        assert!(
            process.is_running(),
            "{} died:\n{}",
            process.role,
            process.text()
        );
    }
}

/// SIGTERM under load: each process ends with status 0 within its grace period; others take over;
/// nothing is lost or repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_and_repeats_nothing() {
    let system = System::start(Setup {
        seed: 12,
        ..Setup::default()
    })
    .await;
    let mut processes = start_all(&system).await;
    let run = system.start_run(&["--full"]).await;
    wait_until(PATIENCE, || async {
        system.stats(&system.one).await["created"].as_u64() >= Some(20)
    })
    .await;
    for index in 0..ROLES.len() {
        let mut process = processes.remove(index);
        assert_eq!(
            process.terminate(Duration::from_secs(40)).await,
            Some(0),
            "{}",
            process.text()
        );
        processes.insert(index, system.spawn(ROLES[index]).await);
    }
    system.until_quiet(run, PATIENCE).await;
    assert_agreement(&system).await;
    assert_targets_were_treated_well(&system).await;
}

/// M2: the broker cuts every connection while work is under way; the services heal unaided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_broker_connections_heal_without_an_operator() {
    let system = System::start(Setup {
        seed: 13,
        ..Setup::default()
    })
    .await;
    let _processes = start_all(&system).await;
    let run = system.start_run(&["--full"]).await;
    for at_least in [10, 60, 150] {
        wait_until(PATIENCE, || async {
            system.stats(&system.one).await["created"].as_u64() >= Some(at_least)
        })
        .await;
        wait_until(PATIENCE, || async {
            system.rabbit.close_connections().await > 0
        })
        .await;
    }
    system.until_quiet(run, PATIENCE).await;
    assert_agreement(&system).await;
    assert_targets_were_treated_well(&system).await;
}

/// O1: targets that do the work and then break the connection get no second record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_lost_after_the_work_was_done_make_no_second_record() {
    let system = System::start(Setup {
        seed: 14,
        records: 400,
        ..Setup::default()
    })
    .await;
    for standin in [&system.one, &system.lessen360] {
        system
            .fault(
                standin,
                json!({ "kind": "commit_then_reset", "rate": 0.2, "count": 25 }),
            )
            .await;
    }
    let _processes = start_all(&system).await;
    let run = system.start_run(&["--full"]).await;
    system.until_quiet(run, PATIENCE).await;
    assert_agreement(&system).await;
    assert_targets_were_treated_well(&system).await;
}

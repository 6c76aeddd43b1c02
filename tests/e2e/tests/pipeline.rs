//! The main job on the real servers, as separate processes, with processes killed in the middle.

mod harness;

use std::time::Duration;

use harness::{ROLES, Setup, System};
use serde_json::json;
use sluice_standin::compare;

const PATIENCE: Duration = Duration::from_secs(240);
/// M2, O1, C2: kill -9 of every role in the middle of a full and an incremental sync; in the end
/// both targets hold exactly what they should.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_services_still_bring_all_systems_into_agreement() {
    let system = System::start(Setup::default()).await;
    let mut processes = system.start_roles().await;
    let full = system.start_run(&["--full"]).await;
    for (victim, at_least) in [(0, 50), (2, 150), (4, 300), (1, 400), (3, 500)] {
        system
            .until(PATIENCE, || async {
                system.progress(full).await.1 >= at_least
            })
            .await;
        assert!(system.is_busy(full).await, "killed after the work was done");
        let process = processes.remove(victim);
        let role = process.role;
        process.kill().await;
        processes.insert(victim, system.spawn(role).await);
    }
    system.until_quiet(full, PATIENCE).await;
    system.assert_agreement().await;

    system
        .edit(json!({ "count": 60, "only": compare::EDITS_WITHOUT_DELETION }))
        .await;
    let incremental = system.start_run(&[]).await;
    let process = processes.remove(3);
    process.kill().await;
    processes.push(system.spawn("sync-out").await);
    system.until_quiet(incremental, PATIENCE).await;
    system.assert_agreement().await;
    system.assert_targets_were_treated_well().await;
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
    let mut processes = system.start_roles().await;
    let run = system.start_run(&["--full"]).await;
    system
        .until(PATIENCE, || async {
            system.stats(&system.one).await["created"].as_u64() >= Some(20)
        })
        .await;
    for (index, role) in ROLES.into_iter().enumerate() {
        assert!(system.is_busy(run).await, "stopped after the work was done");
        let mut process = processes.remove(index);
        assert_eq!(
            process.terminate(Duration::from_secs(40)).await,
            Some(0),
            "{}",
            process.text()
        );
        processes.insert(index, system.spawn(role).await);
    }
    system.until_quiet(run, PATIENCE).await;
    system.assert_agreement().await;
    system.assert_targets_were_treated_well().await;
}

/// M2: the broker cuts every connection while work is under way; the services heal unaided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_broker_connections_heal_without_an_operator() {
    let system = System::start(Setup {
        seed: 13,
        ..Setup::default()
    })
    .await;
    let _processes = system.start_roles().await;
    let run = system.start_run(&["--full"]).await;
    for at_least in [10, 60, 150] {
        system
            .until(PATIENCE, || async {
                system.stats(&system.one).await["created"].as_u64() >= Some(at_least)
            })
            .await;
        system
            .until(PATIENCE, || async {
                system.rabbit.close_connections().await > 0
            })
            .await;
    }
    system.until_quiet(run, PATIENCE).await;
    system.assert_agreement().await;
    system.assert_targets_were_treated_well().await;
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
    let _processes = system.start_roles().await;
    let run = system.start_run(&["--full"]).await;
    system.until_quiet(run, PATIENCE).await;
    system.assert_agreement().await;
    system.assert_targets_were_treated_well().await;
}

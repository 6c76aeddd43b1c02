//! Stopping and losing things in the middle.

use sluice_core::task::TaskKind;
use sluice_store::broker::Broker;
use sluice_testkit::wait_until;

use crate::{
    house::{House, PATIENCE},
    incoming::locations,
    system::Fault,
};

/// SIGTERM under load loses and repeats nothing: the rest is done after the next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_soft_stop_in_the_middle_loses_and_repeats_nothing() {
    let mut house = House::open("keeper").await;
    house.system.holds("locations", &locations(600), 50);
    let id = house
        .start_run(&house.request(sluice_core::run::RunKind::Full))
        .await;
    wait_until(PATIENCE, || async { house.system.writes("POST") > 20 }).await;
    house.stop().await;
    let before = house.system.writes("POST");
    house.start_orchestrator();
    house.start_sync_in();
    house.start_sync_out();
    let run = house.ended(id).await;
    house.quiet().await;
    assert!(before >= 20);
    assert_eq!(run.counts.created, 600);
    assert_eq!(house.system.names("Location").len(), 600);
    assert_eq!(house.system.writes("POST"), 600, "no create was repeated");
    assert_eq!(house.system.script().lookups, 0, "every intent was settled");
}

/// O1, C2: everything dies in the middle, twice; leases heal it, and what was created without our
/// knowing is found, not created again.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_loses_and_doubles_nothing() {
    let mut house = House::build("scripted", "keeper").await;
    house.lease = std::time::Duration::from_secs(1);
    house.start_orchestrator();
    house.start_sync_in();
    house.start_sync_out();
    house.system.holds("locations", &locations(400), 50);
    let id = house
        .start_run(&house.request(sluice_core::run::RunKind::Full))
        .await;
    for progress in [30, 150] {
        wait_until(PATIENCE, || async {
            house.system.writes("POST") >= progress
        })
        .await;
        house.crash().await;
        house.start_orchestrator();
        house.start_sync_in();
        house.start_sync_out();
    }
    let run = house.ended(id).await;
    house.quiet().await;
    assert!(run.state.is_final());
    assert_eq!(house.system.names("Location").len(), 400);
    assert_eq!(house.system.writes("POST"), 400, "no create was repeated");
    for id in ["L0", "L199", "L399"] {
        assert_eq!(house.history("Location", id).await.versions.len(), 1);
    }
}

/// O8, O1: what was in the hands of a dead worker is worked on one by one, so that one of them
/// which kills its worker drags no other along; and what it had sent is found, not sent again.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_its_pushes_go_alone() {
    let mut house = House::build("scripted", "keeper").await;
    house.lease = std::time::Duration::from_secs(1);
    house.start_orchestrator();
    house.start_sync_in();
    house.system.script().faults.extend([Fault::AnswerLost; 4]);
    house.system.holds("locations", &locations(4), 10);
    house.full().await;
    house.start_sync_out();
    wait_until(PATIENCE, || async { house.system.writes("POST") == 4 }).await;
    house.crash().await;
    house.start_orchestrator();
    house.start_sync_out();
    house.quiet().await;
    assert_eq!(house.system.names("Location").len(), 4);
    assert_eq!(house.system.writes("POST"), 4, "no create was repeated");
    // A batch would have asked for all of them in one call.
    assert_eq!(house.system.script().lookups, 4);
    // Success clears them: the next change is a batch again.
    for n in 0..4 {
        assert_eq!(
            house.history("Location", &format!("L{n}")).await.pushes[0]
                .attempts
                .len(),
            1
        );
    }
}

/// M2: messages that got lost are published again from what SQL says is owed.
#[tokio::test(flavor = "multi_thread")]
async fn lost_messages_lose_nothing() {
    let mut house = House::build("scripted", "keeper").await;
    house.start_orchestrator();
    house.start_sync_in();
    house.system.holds("locations", &locations(40), 50);
    house.full().await;
    wait_until(PATIENCE, || async {
        house
            .backends
            .tasks
            .backlog()
            .await
            .unwrap()
            .iter()
            .any(|backlog| {
                backlog.kind == TaskKind::Push
                    && backlog.state == sluice_core::task::TaskState::Staged
                    && backlog.count == 40
            })
    })
    .await;
    let queues = sluice_orchestrator::quota::queues(&house.catalogue);
    let mut purged = 0;
    for queue in &queues {
        purged += purge(&*house.backends.broker, queue).await;
    }
    assert_eq!(purged, 40);
    house.start_sync_out();
    house
        .backends
        .tasks
        .rescue(&sluice_store::task::RescueSettings {
            staged_for: std::time::Duration::ZERO,
            limit: 1_000,
        })
        .await
        .unwrap();
    house.quiet().await;
    assert_eq!(house.system.writes("POST"), 40);
}

async fn purge(broker: &dyn Broker, queue: &sluice_core::message::QueueName) -> u64 {
    broker.purge(queue).await.unwrap()
}

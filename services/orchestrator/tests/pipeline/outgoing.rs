//! From tasks to the target.

use serde_json::{Value, json};
use sluice_core::{
    run::RunKind,
    task::{AttemptOutcome, PushAction, TaskState},
};
use sluice_orchestrator::plan::RunRequest;
use sluice_store::{
    dead_letter::DeadLetterFilter,
    dependency::{BlockReason, BlockerQuery},
    run::RunQuery,
};
use sluice_testkit::wait_until;

use crate::{
    house::{House, PATIENCE},
    incoming::{location, locations},
    system::Fault,
};

fn request(id: u32, location: &str) -> Value {
    json!({"id": format!("R{id}"), "name": "leak", "location": location})
}

async fn push_state(house: &House, entity: &str, id: &str) -> TaskState {
    house.history(entity, id).await.pushes[0].state
}

/// O2: updates reach the target in place; what is there already costs no call.
#[tokio::test(flavor = "multi_thread")]
async fn changes_are_updates_and_deletions_are_deletes() {
    let house = House::open("keeper").await;
    house
        .system
        .holds("locations", &[location(1, "old"), location(2, "stays")], 10);
    house.full().await;
    house.quiet().await;
    house
        .system
        .holds("locations", &[location(1, "new"), location(2, "stays")], 10);
    house.full().await;
    house.quiet().await;
    assert_eq!(house.system.names("Location")["src:L1"], "new");
    assert_eq!(
        (house.system.writes("POST"), house.system.writes("PUT")),
        (2, 1)
    );
    let mut gone = location(1, "new");
    gone["gone"] = true.into();
    house.system.holds("locations", &[gone], 10);
    house.full().await;
    house.quiet().await;
    assert_eq!(house.system.writes("DELETE"), 1);
    assert_eq!(house.system.names("Location").len(), 1);
}

/// O1: a create whose answer was lost is looked up before anything is created again.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_makes_no_second_record() {
    let house = House::open("keeper").await;
    house.system.script().faults.push_back(Fault::AnswerLost);
    house.system.holds("locations", &locations(3), 10);
    house.full().await;
    house.quiet().await;
    assert_eq!(house.system.names("Location").len(), 3);
    assert_eq!(house.system.writes("POST"), 3);
    assert!(house.system.script().lookups >= 1);
}

/// O1: where nobody can tell what became of a create, it is parked, not repeated.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_of_a_forgetful_target_is_parked() {
    let house = House::open("forgetful").await;
    house.system.script().faults.push_back(Fault::AnswerLost);
    house.system.holds("locations", &[location(1, "once")], 10);
    house.full().await;
    wait_until(PATIENCE, || async {
        push_state(&house, "Location", "L1").await == TaskState::Unknown
    })
    .await;
    assert_eq!(house.system.writes("POST"), 1);
}

/// O1: a success without an id is no success: the target is asked, and where it cannot be asked
/// the create is parked; whether it was carried out or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_success_without_an_id_is_found_out() {
    for lie in [Fault::IdMissing, Fault::Status(200)] {
        let house = House::open("keeper").await;
        house.system.script().faults.push_back(lie);
        house.system.holds("locations", &[location(1, "once")], 10);
        house.full().await;
        house.quiet().await;
        assert_eq!(house.system.names("Location").len(), 1, "{lie:?}");
        assert_eq!(house.system.writes("POST"), 1, "{lie:?}");
        assert_eq!(house.system.script().lookups, 1, "{lie:?}");
        let house = House::open("forgetful").await;
        house.system.script().faults.push_back(lie);
        house.system.holds("locations", &[location(1, "once")], 10);
        house.full().await;
        wait_until(PATIENCE, || async {
            push_state(&house, "Location", "L1").await == TaskState::Unknown
        })
        .await;
        let carried_out = usize::from(matches!(lie, Fault::IdMissing));
        assert_eq!(house.system.writes("POST"), carried_out, "{lie:?}");
    }
}

/// O5, O6: transient failures are retried within their bound; then there is one dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn failures_are_retried_then_dead() {
    let house = House::open("keeper").await;
    house.system.script().faults.extend([Fault::Status(503); 3]);
    house.system.holds("locations", &[location(1, "tired")], 10);
    house.full().await;
    wait_until(PATIENCE, || async {
        push_state(&house, "Location", "L1").await == TaskState::Dead
    })
    .await;
    let history = house.history("Location", "L1").await;
    let outcomes: Vec<_> = history.pushes[0]
        .attempts
        .iter()
        .map(|attempt| attempt.outcome)
        .collect();
    assert_eq!(
        outcomes,
        [
            AttemptOutcome::RetryAt,
            AttemptOutcome::RetryAt,
            AttemptOutcome::Dead
        ]
    );
    let filter = DeadLetterFilter::all(house.organization);
    let letters = house.backends.tasks.dead_letters(&filter).await.unwrap();
    assert_eq!(letters.items.len(), 1);
    let replayed = house.replay(&filter, None).await;
    assert_eq!(replayed.replay.replayed, 1);
    house.quiet().await;
    assert_eq!(house.system.names("Location").len(), 1);
}

/// O5: a retry comes when its backoff is over, however rarely anybody looks for what was lost.
#[tokio::test(flavor = "multi_thread")]
async fn retries_come_in_their_own_time() {
    let mut house = House::build("scripted", "keeper").await;
    house.rescue_interval = PATIENCE * 10;
    house.start();
    house.system.script().faults.extend([Fault::Status(503); 2]);
    house.system.holds("locations", &[location(1, "again")], 10);
    house.full().await;
    house.quiet().await;
    assert_eq!(house.system.names("Location").len(), 1);
    let history = house.history("Location", "L1").await;
    assert_eq!(history.pushes[0].attempts.len(), 3);
}

/// O5: refused data is not tried again, and a poison record blocks only itself (O8).
#[tokio::test(flavor = "multi_thread")]
async fn refused_data_goes_to_review_at_once() {
    let house = House::open("keeper").await;
    house.system.script().faults.push_back(Fault::Status(422));
    house.system.holds("locations", &locations(4), 10);
    house.full().await;
    house.quiet().await;
    assert_eq!(house.system.names("Location").len(), 3);
    let filter = DeadLetterFilter::all(house.organization);
    let letters = house.backends.tasks.dead_letters(&filter).await.unwrap();
    assert_eq!(letters.items.len(), 1);
    assert_eq!(letters.items[0].attempts, 1);
}

/// O7: a child that came first waits for its parent, costs no attempt, and is released once.
#[tokio::test(flavor = "multi_thread")]
async fn children_wait_for_their_parents() {
    let house = House::open("keeper").await;
    house
        .system
        .holds("requests", &[request(1, "L1"), request(2, "L9")], 10);
    house.full().await;
    wait_until(PATIENCE, || async {
        house.history("ServiceRequest", "R1").await.pushes[0]
            .blocked_on
            .is_some()
    })
    .await;
    house
        .system
        .holds("locations", &[location(1, "parent")], 10);
    house.full().await;
    wait_until(PATIENCE, || async {
        push_state(&house, "ServiceRequest", "R1").await == TaskState::Completed
    })
    .await;
    let sent = house.history("ServiceRequest", "R1").await;
    assert_eq!(sent.pushes[0].attempts.len(), 1);
    assert_eq!(sent.pushes[0].attempts[0].action, Some(PushAction::Created));
    let orphan = house.history("ServiceRequest", "R2").await;
    assert_eq!(orphan.pushes[0].state, TaskState::Waiting);
    assert_eq!(orphan.pushes[0].attempts.len(), 0);
    let location = house.history("Location", "L1").await;
    let external = location
        .links
        .into_iter()
        .find(|link| link.connection == "dst")
        .and_then(|link| link.external_id);
    let script = house.system.script();
    let stored = script
        .records
        .values()
        .find(|body| body["ref"] == "src:R1")
        .unwrap();
    assert_eq!(stored["location"].as_str(), external.as_deref());
}

/// O7: a parent that was never read is fetched, alone and once, and releases its children; one that
/// the source does not have either leaves them waiting, for a reason that is shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_parent_is_fetched_from_its_source() {
    let house = House::open("keeper").await;
    house.system.holds("locations", &locations(3), 10);
    let requests = [request(1, "L2"), request(2, "L2"), request(3, "L9")];
    house.system.holds("requests", &requests, 10);
    let only_requests = RunRequest {
        streams: vec!["requests".into()],
        ..house.request(RunKind::Full)
    };
    house.run(&only_requests).await;
    for id in ["R1", "R2"] {
        wait_until(PATIENCE, || async {
            push_state(&house, "ServiceRequest", id).await == TaskState::Completed
        })
        .await;
    }
    assert_eq!(house.system.names("Location").len(), 1);
    let fetches = async || {
        let query = RunQuery {
            organization_id: house.organization,
            flow: None,
            state: None,
            after: None,
            limit: 10,
        };
        let runs = house.backends.tasks.runs(&query).await.unwrap();
        let fetches = runs
            .into_iter()
            .filter(|run| run.requested_by == "dependency");
        fetches.collect::<Vec<_>>()
    };
    wait_until(PATIENCE, || async {
        let runs = fetches().await;
        runs.len() == 2 && runs.iter().all(|run| run.state.is_final())
    })
    .await;
    let query = BlockerQuery {
        organization_id: house.organization,
        connection_id: None,
        limit: 10,
    };
    let blockers = house.backends.tasks.blockers(&query).await.unwrap();
    assert_eq!(blockers.len(), 1);
    assert_eq!(&*blockers[0].record, "src/Location/L9");
    assert_eq!(blockers[0].reason, BlockReason::Unseen);
}

/// A link that points nowhere is looked up by our reference, then the record is made anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_deleted_at_the_target_is_made_anew() {
    let house = House::open("keeper").await;
    house.system.holds("locations", &[location(1, "old")], 10);
    house.full().await;
    house.quiet().await;
    house.system.script().records.clear();
    house.system.holds("locations", &[location(1, "new")], 10);
    house.full().await;
    house.quiet().await;
    assert_eq!(house.system.names("Location")["src:L1"], "new");
    assert_eq!(house.system.writes("POST"), 2);
}

//! Dead letters between people, SQL and the broker (promise O6).

use std::time::Duration;

use serde_json::json;
use sluice_core::{
    QueueClass, Timestamp,
    message::{QueueKind, QueueName, TaskRef},
    task::TaskState,
};
use sluice_store::{
    broker::{Outgoing, Published},
    dead_letter::{DeadLetterFilter, DeadLetterState},
};
use sluice_testkit::wait_until;

use crate::{
    house::{House, PATIENCE},
    incoming::locations,
    system::Fault,
};

fn queue(kind: QueueKind) -> QueueName {
    QueueName {
        kind,
        organization: "acme".into(),
        connection: "dst".into(),
    }
}

const DEAD: QueueKind = QueueKind::Dead;

/// A house in which as many locations were refused for good, and their references are at the broker.
async fn refused(count: u32) -> House {
    let house = House::open("keeper").await;
    let faults = (0..count).map(|_| Fault::Status(422));
    house.system.script().faults.extend(faults);
    house.system.holds("locations", &locations(count), 10);
    house.full().await;
    house.quiet().await;
    shown(&house, count.into()).await;
    house
}

/// Waits until the dead-letter queue holds so many.
async fn shown(house: &House, count: u64) {
    wait_until(PATIENCE, || async {
        let depth = house.backends.broker.depth(&queue(DEAD)).await.unwrap();
        depth.ready == count
    })
    .await;
}

async fn open(house: &House) -> Vec<i64> {
    let filter = DeadLetterFilter {
        state: Some(DeadLetterState::Open),
        ..DeadLetterFilter::all(house.organization)
    };
    let page = house.backends.tasks.dead_letters(&filter).await.unwrap();
    page.items.iter().map(|letter| letter.id).collect()
}

/// Takes so many messages out of a queue for good, as a person with the management screens does.
async fn take(house: &House, from: QueueKind, count: usize) -> Vec<Vec<u8>> {
    let mut consumer = house
        .backends
        .broker
        .consume(&queue(from), 10)
        .await
        .unwrap();
    let mut bodies = Vec::new();
    while bodies.len() < count {
        let next = tokio::time::timeout(PATIENCE, consumer.next(count - bodies.len()));
        let deliveries = next.await.expect("messages are there").unwrap();
        let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.tag).collect();
        consumer.ack(&tags).await;
        bodies.extend(deliveries.into_iter().map(|delivery| delivery.body));
    }
    bodies
}

fn died_at(body: &[u8]) -> Timestamp {
    let reference = TaskRef::from_json(body).unwrap();
    reference.dead_letter.unwrap().died_at
}

async fn put(house: &House, into: QueueKind, body: &[u8]) {
    let message = Outgoing {
        queue: queue(into),
        message_id: "by-hand".into(),
        body: body.to_vec(),
        traceparent: None,
    };
    let published = house.backends.broker.publish(&[message]).await.unwrap();
    assert_eq!(published, [Published::Confirmed]);
}

/// Rows and messages: what is closed leaves the queue, what was purged comes back.
#[tokio::test(flavor = "multi_thread")]
async fn the_dead_letter_queue_shows_what_is_open() {
    let house = refused(3).await;
    let broker = &house.backends.broker;
    let one = DeadLetterFilter {
        ids: vec![open(&house).await[0]],
        ..DeadLetterFilter::all(house.organization)
    };
    let tasks = &house.backends.tasks;
    let discarded = tasks.discard_dead_letters(&one, "ann", "a test").await;
    assert_eq!(discarded.unwrap(), 1);
    shown(&house, 2).await;
    assert_eq!(broker.purge(&queue(DEAD)).await.unwrap(), 2);
    shown(&house, 2).await;
    // Replayed and delivered: nothing is left of it.
    let all = DeadLetterFilter::all(house.organization);
    let replayed = house.replay(&all, None).await;
    assert_eq!(replayed.replay.replayed, 2);
    house.quiet().await;
    shown(&house, 0).await;
    assert_eq!(house.system.names("Location").len(), 2);
    // A stranger's message does not stay either.
    put(&house, DEAD, b"{}").await;
    shown(&house, 0).await;
}

/// A reference moved to a work queue asks for a replay of its letter, of that alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_moved_reference_is_a_replay() {
    let house = refused(3).await;
    let moved = take(&house, DEAD, 1).await.remove(0);
    for class in [QueueClass::High, QueueClass::Low] {
        // Twice, and into whichever queue: it is still one replay.
        put(&house, QueueKind::Push(class), &moved).await;
    }
    wait_until(PATIENCE, || async { open(&house).await.len() == 2 }).await;
    house.quiet().await;
    shown(&house, 2).await;
    wait_until(PATIENCE, || async {
        house.system.names("Location").len() == 1
    })
    .await;
    assert_eq!(house.system.writes("POST"), 1);
    let changes = house.backends.tasks.changes(house.organization, None, 10);
    let changes = changes.await.unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(
        (&*changes[0].actor, &*changes[0].event),
        ("broker", "dead_letters.replayed")
    );
}

/// A worker's own reference, published before its task died, revives nothing however late it comes;
/// nor does a dead letter's reference from before its last death.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_reference_revives_nothing() {
    let mut house = House::build("scripted", "keeper").await;
    house.start_orchestrator();
    house.start_sync_in();
    house.system.holds("locations", &locations(1), 10);
    house.full().await;
    let work = QueueKind::Push(QueueClass::Normal);
    let early = take(&house, work, 1).await.remove(0);
    put(&house, work, &early).await;
    house.system.script().faults.push_back(Fault::Status(422));
    house.system.script().faults.push_back(Fault::Status(422));
    house.start_sync_out();
    shown(&house, 1).await;
    let first_death = take(&house, DEAD, 1).await.remove(0);
    // Filled anew, since somebody took the message away; then replayed, and dead once more.
    shown(&house, 1).await;
    let all = DeadLetterFilter::all(house.organization);
    let id = house.replay(&all, None).await.replay.id;
    let tasks = &house.backends.tasks;
    wait_until(PATIENCE, || async {
        let detail = tasks.replay(house.organization, id).await.unwrap().unwrap();
        detail.dead_again == 1
    })
    .await;
    for late in [&early, &first_death] {
        put(&house, work, late).await;
    }
    wait_until(PATIENCE, || async {
        let depth = house.backends.broker.depth(&queue(work)).await.unwrap();
        depth.ready == 0
    })
    .await;
    // What the worker makes of them shows before a third message that it does act on.
    // The reference of the first death may still be there.
    let mut second_death = first_death.clone();
    while died_at(&second_death) == died_at(&first_death) {
        second_death = take(&house, DEAD, 1).await.remove(0);
    }
    put(&house, work, &second_death).await;
    wait_until(PATIENCE, || async {
        house.history("Location", "L0").await.pushes[0].state == TaskState::Completed
    })
    .await;
    assert_eq!(house.system.writes("POST"), 1);
    let changes = tasks.changes(house.organization, None, 10).await.unwrap();
    let moved = changes.iter().filter(|change| change.actor == "broker");
    assert_eq!(moved.count(), 1, "the late ones asked for nothing");
}

/// Edited data goes to the target and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn edited_data_reaches_the_target_only() {
    let house = refused(1).await;
    let record = house.history("Location", "L0").await.record;
    let letter = DeadLetterFilter {
        ids: open(&house).await,
        ..DeadLetterFilter::all(house.organization)
    };
    let edit = json!({
        "kind": "property", "number": "L0", "name": "by hand", "property_code": "L0",
        "address": {}, "active": true
    });
    let replayed = house.replay(&letter, Some(edit)).await;
    assert!(replayed.replay.edited);
    house.quiet().await;
    assert_eq!(house.system.names("Location")["src:L0"], "by hand");
    let after = house.history("Location", "L0").await;
    assert_eq!(after.record.version, record.version);
    assert_eq!(after.record.data, record.data);
    assert_eq!(after.pushes[0].state, TaskState::Completed);
}

/// A replay that was stopped in the middle goes on when the services are back.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_survives_a_crash() {
    let mut house = refused(8).await;
    house.crash().await;
    let all = DeadLetterFilter::all(house.organization);
    let order = sluice_store::replay::NewReplay {
        filter: all.clone(),
        rate: None,
        edit: None,
        actor: "tester".into(),
        note: String::new(),
        idempotency_key: None,
    };
    let tasks = house.backends.tasks.clone();
    let id = tasks.start_replay(&order).await.unwrap().id;
    assert_eq!(tasks.work_replay(3).await.unwrap(), Some(3));
    house.start_orchestrator();
    house.start_sync_out();
    wait_until(PATIENCE, || async {
        let detail = tasks.replay(house.organization, id).await.unwrap().unwrap();
        detail.resolved == 8
    })
    .await;
    assert_eq!(house.system.names("Location").len(), 8);
    assert_eq!(house.system.writes("POST"), 8);
    wait_until(Duration::from_secs(10), || async {
        open(&house).await.is_empty()
    })
    .await;
}

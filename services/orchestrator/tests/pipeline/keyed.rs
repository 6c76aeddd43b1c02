//! A target that knows nothing but idempotency keys, and refuses a key with another body (O1).

use std::time::Duration;

use serde_json::Value;
use sluice_testkit::wait_until;

use crate::{
    house::{House, PATIENCE},
    incoming::{location, locations},
    system::Fault,
};

/// Creates `L1`, whose answer is lost together with the worker; then the mapping changes.
async fn doubt() -> House {
    let mut house = House::build("scripted", "keyed").await;
    house.lease = Duration::from_secs(4);
    house.start();
    house.system.script().faults.push_back(Fault::AnswerLost);
    house.system.holds("locations", &[location(1, "old")], 10);
    house.full().await;
    wait_until(PATIENCE, || async { house.system.writes("POST") == 1 }).await;
    house.crash().await;
    house.change_mapping();
    house
}

fn keyed(house: &House) -> Vec<(String, Value)> {
    house.system.script().keyed.clone()
}

/// The very same request goes out before the newer version, whatever the mapping makes of it by now.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_create_is_repeated_as_it_was_before_anything_newer() {
    let mut house = doubt().await;
    house.system.holds("locations", &[location(1, "new")], 10);
    house.start();
    house.full().await;
    house.quiet().await;
    let keyed = keyed(&house);
    assert_eq!(keyed.len(), 2, "{keyed:?}");
    assert_eq!(keyed[0], keyed[1]);
    assert_eq!(
        (house.system.writes("POST"), house.system.writes("PUT")),
        (1, 1)
    );
    assert_eq!(house.system.names("Location")["src:L1"], "new");
    let script = house.system.script();
    assert!(
        script
            .records
            .values()
            .all(|body| body["edition"] == "second")
    );
}

/// A record that is gone meanwhile is found out about, then deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_create_is_repeated_before_a_deletion() {
    let mut house = doubt().await;
    let mut gone = location(1, "old");
    gone["gone"] = true.into();
    house.system.holds("locations", &[gone], 10);
    house.start();
    house.full().await;
    house.quiet().await;
    let keyed = keyed(&house);
    assert_eq!(keyed.len(), 2, "{keyed:?}");
    assert_eq!(keyed[0], keyed[1]);
    assert_eq!(
        (house.system.writes("POST"), house.system.writes("DELETE")),
        (1, 1)
    );
    assert!(house.system.names("Location").is_empty());
}

/// An answer that is lost again and again changes nothing about what is sent; a refusal of what was
/// not carried out ends the doubt, and the newest version goes out under another key.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_may_be_lost_too_or_refused() {
    let mut house = doubt().await;
    // The system has not carried out the first one after all.
    {
        let mut script = house.system.script();
        script.forget_all();
        script
            .faults
            .extend([Fault::Status(503), Fault::Status(422)]);
    }
    house.system.holds("locations", &[location(1, "new")], 10);
    house.start();
    house.full().await;
    house.quiet().await;
    let keyed = keyed(&house);
    assert_eq!(keyed.len(), 4, "{keyed:?}");
    assert_eq!((&keyed[0], &keyed[1]), (&keyed[1], &keyed[2]));
    assert_ne!(keyed[2].0, keyed[3].0, "another key");
    assert_eq!(keyed[3].1["name"], "new");
    assert_eq!(house.system.names("Location")["src:L1"], "new");
}

/// Where nothing goes wrong each record is created once, and nothing stays behind.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_forgotten_when_their_outcome_is_known() {
    let house = House::open("keyed").await;
    house.system.holds("locations", &locations(30), 10);
    house.full().await;
    house.quiet().await;
    assert_eq!(house.system.names("Location").len(), 30);
    let tasks = &house.backends.tasks;
    let ids: Vec<_> = (1..200).map(sluice_core::TaskId).collect();
    assert_eq!(tasks.kept_requests(&ids).await.unwrap(), []);
}

//! Cases of [`crate::FleetStore`].

use std::sync::Arc;

use serde_json::json;
use sluice_core::Error;

use super::sql::{SqlFixture, World};
use crate::{FleetStore, fleet::By};

/// The cases of this file.
#[macro_export]
macro_rules! fleet_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            fleet,
            [
                no_change_is_lost_between_many_writers,
                a_refused_change_leaves_the_document,
                a_persons_change_is_noted_with_it,
                documents_are_apart_by_connection_and_name,
                the_clock_is_read_during_the_call,
            ]
        );
    };
}

const NAME: &str = "traffic";

/// O3: two processes never decide from the same state.
pub async fn no_change_is_lost_between_many_writers(fixture: Arc<dyn SqlFixture>) {
    let world = World::new(Arc::clone(&fixture)).await;
    let writers = (0..4).map(|_| {
        let fixture = Arc::clone(&fixture);
        tokio::spawn(async move {
            let fleet = fixture.open_fleet().await;
            for _ in 0..50 {
                fleet
                    .change(world.one, NAME, &mut |document, _| {
                        let count =
                            document.map_or(0, |document| document["count"].as_i64().unwrap());
                        Ok(Some(json!({ "count": count + 1 })))
                    })
                    .await
                    .unwrap();
            }
        })
    });
    futures::future::try_join_all(writers).await.unwrap();
    let (documents, _) = fixture.open_fleet().await.documents(NAME).await.unwrap();
    assert_eq!(documents, [(world.one, json!({ "count": 200 }))]);
}

pub async fn a_refused_change_leaves_the_document(fixture: Arc<dyn SqlFixture>) {
    let world = World::new(Arc::clone(&fixture)).await;
    let fleet = fixture.open_fleet().await;
    write(&*fleet, &world, NAME, 1).await;
    fleet
        .change(world.one, NAME, &mut |_, _| Ok(None))
        .await
        .unwrap();
    let refused = fleet
        .change(world.one, NAME, &mut |_, _| {
            Err(Error::validation("test_refused", "refused"))
        })
        .await;
    assert_eq!(refused.unwrap_err().code(), "test_refused");
    assert_eq!(
        fleet.documents(NAME).await.unwrap().0,
        [(world.one, json!({ "value": 1 }))]
    );
}

/// Nobody can change something without a trace, and no trace tells of what was refused.
pub async fn a_persons_change_is_noted_with_it(fixture: Arc<dyn SqlFixture>) {
    let world = World::new(Arc::clone(&fixture)).await;
    let fleet = fixture.open_fleet().await;
    let by = By {
        actor: "cli:ann",
        event: "connection.limited",
    };
    for value in [1, 2] {
        fleet
            .change_by(world.one, NAME, by, &mut |document, clock| {
                assert_eq!(document.is_some(), value == 2);
                assert!(clock.now > 0);
                let detail = format!("now {value}");
                Ok((json!({ "value": value }), detail))
            })
            .await
            .unwrap();
    }
    let refused = fleet
        .change_by(world.one, NAME, by, &mut |_, _| {
            Err(Error::validation("test_refused", "refused"))
        })
        .await;
    assert_eq!(refused.unwrap_err().code(), "test_refused");
    assert_eq!(
        fleet.documents(NAME).await.unwrap().0,
        [(world.one, json!({ "value": 2 }))]
    );
    let changes = world.tasks.changes(world.organization, None, 10).await;
    let changes: Vec<_> = changes
        .unwrap()
        .into_iter()
        .map(|change| (change.actor, change.event, change.detail))
        .collect();
    let entry = |detail: &str| (by.actor.to_owned(), by.event.to_owned(), detail.to_owned());
    assert_eq!(changes, [entry("now 2"), entry("now 1")]);
    let others = world.tasks.changes(world.other, None, 10).await.unwrap();
    assert_eq!(others, []);
}

async fn write(fleet: &dyn FleetStore, world: &World, name: &str, value: i64) {
    fleet
        .change(world.one, name, &mut |_, _| {
            Ok(Some(json!({ "value": value })))
        })
        .await
        .unwrap();
}

pub async fn documents_are_apart_by_connection_and_name(fixture: Arc<dyn SqlFixture>) {
    let world = World::new(Arc::clone(&fixture)).await;
    let fleet = fixture.open_fleet().await;
    write(&*fleet, &world, NAME, 1).await;
    write(&*fleet, &world, "lease", 2).await;
    fleet
        .change(world.lessen, NAME, &mut |document, _| {
            assert_eq!(document, None);
            Ok(Some(json!({ "value": 3 })))
        })
        .await
        .unwrap();
    let (mut documents, _) = fleet.documents(NAME).await.unwrap();
    documents.sort_by_key(|(connection, _)| *connection);
    let mut expected = [
        (world.one, json!({ "value": 1 })),
        (world.lessen, json!({ "value": 3 })),
    ];
    expected.sort_by_key(|(connection, _)| *connection);
    assert_eq!(documents, expected);
}

/// The clock moves on from call to call, and names the same server until that is another one.
pub async fn the_clock_is_read_during_the_call(fixture: Arc<dyn SqlFixture>) {
    let world = World::new(Arc::clone(&fixture)).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let fleet = fixture.open_fleet().await;
        fleet
            .change(world.one, NAME, &mut |_, clock| {
                seen.push(clock);
                Ok(Some(json!({})))
            })
            .await
            .unwrap();
        seen.push(fleet.documents(NAME).await.unwrap().1);
    }
    assert!(seen.is_sorted_by(|a, b| a.now < b.now), "{seen:?}");
    assert!(
        seen.iter().all(|clock| clock.server == seen[0].server),
        "{seen:?}"
    );
    // Nanoseconds of this century.
    assert!(
        (946_684_800_000_000_000..4_102_444_800_000_000_000).contains(&seen[0].now),
        "{seen:?}"
    );
}

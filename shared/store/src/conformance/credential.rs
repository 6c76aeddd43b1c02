//! Cases of [`crate::CredentialStore`].

use std::sync::Arc;

use super::{
    eventually,
    sql::{LONG, SHORT, SqlFixture, World},
};
use crate::{
    CredentialStore,
    credential::{CredentialName, Kept, Turn},
};

/// The cases of this file.
#[macro_export]
macro_rules! credential_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            credential,
            [
                one_renews_at_a_time_and_the_others_see_the_result,
                a_turn_comes_back_when_its_owner_is_gone,
                a_late_result_counts_unless_there_is_another,
                credentials_are_apart_by_connection_and_name,
            ]
        );
    };
}

const MINE: Turn = Turn::Mine { abandoned: false };

fn is_mine(turn: &Turn) -> bool {
    matches!(turn, Turn::Mine { .. })
}

async fn start(fixture: Arc<dyn SqlFixture>) -> (Arc<dyn CredentialStore>, CredentialName, World) {
    let world = World::new(Arc::clone(&fixture)).await;
    let name = CredentialName {
        connection: world.one,
        name: "oauth".into(),
    };
    (fixture.open_credentials().await, name, world)
}

async fn turn(store: &dyn CredentialStore, name: &CredentialName, owner: &str) -> (Kept, Turn) {
    store.begin(name, owner, LONG).await.unwrap()
}

pub async fn one_renews_at_a_time_and_the_others_see_the_result(fixture: Arc<dyn SqlFixture>) {
    let (store, name, _world) = start(Arc::clone(&fixture)).await;
    let other = fixture.open_credentials().await;
    assert_eq!(turn(&*store, &name, "a").await, (Kept::default(), MINE));
    let (kept, taken) = turn(&*other, &name, "b").await;
    assert_eq!(kept, Kept::default());
    let Turn::Taken(wait) = taken else {
        panic!("two renew at once");
    };
    assert!(wait > LONG / 2 && wait <= LONG, "{wait:?}");
    assert_eq!(turn(&*store, &name, "a").await.1, MINE, "once more");
    assert!(store.keep(&name, 0, b"sealed").await.unwrap());
    let (kept, mine) = turn(&*other, &name, "b").await;
    assert_eq!(mine, MINE, "the turn ended with the result");
    assert_eq!(kept.generation, 1);
    assert_eq!(kept.sealed.as_deref(), Some(&b"sealed"[..]));
    other.give_up(&name, "a").await.unwrap();
    assert!(!is_mine(&turn(&*store, &name, "a").await.1), "not a's");
    other.give_up(&name, "b").await.unwrap();
    assert_eq!(turn(&*store, &name, "a").await, (kept, MINE));
}

pub async fn a_turn_comes_back_when_its_owner_is_gone(fixture: Arc<dyn SqlFixture>) {
    let (store, name, _world) = start(fixture).await;
    store.begin(&name, "gone", SHORT).await.unwrap();
    let taken = async || Some(turn(&*store, &name, "b").await.1).filter(is_mine);
    let taken = eventually(taken).await;
    assert_eq!(taken, Turn::Mine { abandoned: true });
    store.give_up(&name, "b").await.unwrap();
    assert_eq!(
        turn(&*store, &name, "c").await.1,
        MINE,
        "b has ended its turn"
    );
}

pub async fn a_late_result_counts_unless_there_is_another(fixture: Arc<dyn SqlFixture>) {
    let (store, name, _world) = start(fixture).await;
    store.begin(&name, "slow", SHORT).await.unwrap();
    eventually(async || is_mine(&turn(&*store, &name, "b").await.1).then_some(())).await;
    assert!(store.keep(&name, 0, b"slow").await.unwrap());
    assert!(!store.keep(&name, 0, b"b").await.unwrap());
    let (kept, _) = turn(&*store, &name, "c").await;
    assert_eq!(
        (kept.generation, kept.sealed.as_deref()),
        (1, Some(&b"slow"[..]))
    );
}

pub async fn credentials_are_apart_by_connection_and_name(fixture: Arc<dyn SqlFixture>) {
    let (store, name, world) = start(fixture).await;
    turn(&*store, &name, "a").await;
    let others = [
        CredentialName {
            connection: world.lessen,
            ..name.clone()
        },
        CredentialName {
            name: "other".into(),
            ..name.clone()
        },
    ];
    for other in others {
        assert_eq!(turn(&*store, &other, "b").await.1, MINE);
        assert!(store.keep(&other, 0, b"other").await.unwrap());
    }
    assert!(store.keep(&name, 0, b"own").await.unwrap());
    let (kept, _) = turn(&*store, &name, "a").await;
    assert_eq!(kept.sealed.as_deref(), Some(&b"own"[..]));
}

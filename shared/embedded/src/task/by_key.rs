//! Waiting pushes are looked at by key: what that costs depends on how many wait, not on how many
//! records there are. SQLite counts the steps of its virtual machine, so no clock is needed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use sluice_store::{
    conformance::sql::{Alone, LONG, World, children_wait, others_are_due},
    dependency::BlockedLook,
    task::RescueSettings,
};

use crate::EmbeddedSql;

/// Steps between two ticks of the counter.
const TICK: i32 = 100;
const WAITING: usize = 20;

/// Steps of a rescue and of a look for missing parents and cycles, with some records that wait for
/// their parents among others that do not.
async fn steps(others: usize) -> [u64; 2] {
    // In memory there is one connection, which can be watched.
    let sql = EmbeddedSql::open("sqlite::memory:").await.unwrap();
    let w = World::new(Arc::new(Alone(sql.clone()))).await;
    children_wait(&w, WAITING).await;
    others_are_due(&w, others).await;
    let ticks = Arc::new(AtomicU64::new(0));
    let count = ticks.clone();
    let mut writer = sql.read().acquire().await.unwrap();
    writer
        .lock_handle()
        .await
        .unwrap()
        .set_progress_handler(TICK, move || {
            count.fetch_add(1, Ordering::Relaxed);
            true
        });
    drop(writer);
    let rescue = RescueSettings {
        staged_for: LONG,
        limit: 500,
    };
    assert_eq!(w.tasks.rescue(&rescue).await.unwrap().unblocked, 0);
    let rescued = ticks.swap(0, Ordering::Relaxed);
    let look = BlockedLook {
        after: None,
        limit: 500,
        again_after: LONG,
        fetches: 10,
    };
    w.tasks.look_at_blocked(&look).await.unwrap();
    [rescued, ticks.swap(0, Ordering::Relaxed)]
}

#[tokio::test]
async fn looks_at_what_waits_do_not_read_what_does_not() {
    let few = steps(50).await;
    let many = steps(1_000).await;
    for (few, many) in few.into_iter().zip(many) {
        assert!(few > 0 && many < few * 2, "{few} and {many} ticks");
    }
}

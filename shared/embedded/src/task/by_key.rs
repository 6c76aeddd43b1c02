//! Waiting pushes are looked at by key: what that costs depends on how many wait, not on how many
//! records there are. SQLite counts the steps of its virtual machine, so no clock is needed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use sluice_store::{
    CredentialStore, FleetStore, MasterStore, TaskStore,
    conformance::sql::{LONG, SqlFixture, World, location, location_ref, request},
    dependency::BlockedLook,
    task::{PushNext, RescueSettings},
};

use crate::EmbeddedSql;

/// Steps between two ticks of the counter.
const TICK: i32 = 100;
const WAITING: usize = 20;

/// One store in memory for all: its one connection can be watched.
struct One(EmbeddedSql);

#[async_trait]
impl SqlFixture for One {
    async fn open(&self) -> (Arc<dyn MasterStore>, Arc<dyn TaskStore>) {
        (Arc::new(self.0.clone()), Arc::new(self.0.clone()))
    }

    async fn open_fleet(&self) -> Arc<dyn FleetStore> {
        Arc::new(self.0.clone())
    }

    async fn open_credentials(&self) -> Arc<dyn CredentialStore> {
        Arc::new(self.0.clone())
    }

    async fn execute(&self, sql: &'static str) -> u64 {
        let done = sqlx::query(sql).execute(self.0.read()).await.unwrap();
        done.rows_affected()
    }

    async fn number(&self, sql: &'static str) -> i64 {
        let query = sqlx::query_scalar(sql);
        query.fetch_one(self.0.read()).await.unwrap()
    }

    async fn remove(&self) {}
}

/// Steps of a rescue and of a look for missing parents and cycles, with some records that wait for
/// their parents among others that do not.
async fn steps(others: usize) -> [u64; 2] {
    let sql = EmbeddedSql::open("sqlite::memory:").await.unwrap();
    let w = World::new(Arc::new(One(sql.clone()))).await;
    let parent = |n: usize| format!("p{n}");
    let family = (0..WAITING).flat_map(|n| {
        let child = request(&format!("child{n}"), 1, &parent(n));
        [location(&parent(n), 1, 100), child]
    });
    w.apply(family.collect()).await;
    for task in w.claim_all().await {
        if let Some(link) = task.parents.first() {
            let on = location_ref(&link.parent.source_id);
            assert!(w.settle(&task, PushNext::Blocked { on }).await);
        }
    }
    let others = (0..others).map(|n| location(&format!("other{n}"), 1, 100));
    w.apply(others.collect()).await;
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

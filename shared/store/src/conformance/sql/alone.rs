//! For tests inside a backend, which watch what a store reads.

use std::sync::Arc;

use async_trait::async_trait;

use super::{SqlFixture, World, location, location_ref, request};
use crate::{CredentialStore, FleetStore, MasterStore, TaskStore, task::PushNext};

/// One store that stands for every process's. Statements of a test's own are not for it.
pub struct Alone<S>(pub S);

#[async_trait]
impl<S> SqlFixture for Alone<S>
where
    S: MasterStore + TaskStore + FleetStore + CredentialStore + Clone + 'static,
{
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
        panic!("no statements of a test's own: {sql}")
    }

    async fn number(&self, sql: &'static str) -> i64 {
        panic!("no statements of a test's own: {sql}")
    }

    async fn remove(&self) {}
}

/// Children that wait for parents on their way, each for one of its own.
pub async fn children_wait(w: &World, children: usize) {
    let family = (0..children).flat_map(|n| {
        let parent = format!("parent{n}");
        let child = request(&format!("child{n}"), 1, &parent);
        [location(&parent, 1, 100), child]
    });
    w.apply(family.collect()).await;
    for task in w.claim_all().await {
        if let Some(link) = task.parents.first() {
            let on = location_ref(&link.parent.source_id);
            assert!(w.settle(&task, PushNext::Blocked { on }).await);
        }
    }
}

/// Records without parents, whose pushes are due.
pub async fn others_are_due(w: &World, others: usize) {
    let others = (0..others).map(|n| location(&format!("other{n}"), 1, 100));
    w.apply(others.collect()).await;
}

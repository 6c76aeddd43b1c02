//! Cases of [`crate::MasterStore`]: which pushes a change makes necessary, what is shown, and to
//! whom.

use std::{sync::Arc, time::Duration};

use sluice_core::{
    ErrorClass, Priority,
    change::Change,
    task::{PushAction, TaskState},
};

use super::sql::{
    LOCATION, REQUEST, SqlFixture, World, delivered, location, location_ref, request, routes,
};
use crate::{
    master::{MasterQuery, SyncStatus},
    task::PushNext,
};

/// The cases of this file.
#[macro_export]
macro_rules! master_wants_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            master_wants,
            [
                a_target_added_later_gets_what_exists,
                only_routed_entity_types_are_pushed,
                the_more_urgent_priority_wins_while_a_push_is_open,
                the_status_follows_the_pushes,
                a_record_without_targets_is_in_step,
                records_are_listed_in_pages,
                nothing_of_another_organization_is_seen,
            ]
        );
    };
}

/// An unchanged record is wanted where it has never been, once.
pub async fn a_target_added_later_gets_what_exists(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply(vec![location("p1", 1, 100), location("p2", 1, 100)])
        .await;
    w.apply_one(location("p1", 2, 200)).await;
    let mut batch = w.batch(vec![location("p1", 2, 200), location("p2", 1, 100)]);
    batch.routes.extend(routes(w.lessen, "lessen"));
    batch.dry_run = true;
    let dry = w.master.apply(&batch).await.unwrap();
    batch.dry_run = false;
    let applied = w.master.apply(&batch).await.unwrap();
    assert_eq!(dry, applied);
    for applied in &applied {
        assert_eq!((applied.change, applied.pushes), (Change::Unchanged, 1));
    }
    let mut tasks = w.claim_for(w.lessen, super::sql::LONG).await;
    tasks.sort_by_key(|task| task.master_id);
    let versions: Vec<_> = tasks.iter().map(|task| task.version).collect();
    assert_eq!(versions, [2, 1]);
    let again = w.master.apply(&batch).await.unwrap();
    assert!(again.iter().all(|applied| applied.pushes == 0));
    // A change reaches both targets.
    batch.records = w.batch(vec![location("p1", 3, 300)]).records;
    assert_eq!(w.master.apply(&batch).await.unwrap()[0].pushes, 2);
}

pub async fn only_routed_entity_types_are_pushed(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let mut batch = w.batch(vec![location("p1", 1, 100), request("r1", 1, "p1")]);
    batch
        .routes
        .retain(|route| route.entity_type.as_str() == REQUEST);
    let applied = w.master.apply(&batch).await.unwrap();
    assert_eq!((applied[0].pushes, applied[1].pushes), (0, 1));
    assert_eq!(w.claim_single().await.entity_type.as_str(), REQUEST);
}

/// The record's own priority beats the route's; a closed push takes the new one.
pub async fn the_more_urgent_priority_wins_while_a_push_is_open(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let with = |content: i64, priority: u8| {
        let mut record = location("p1", content, 100 * content);
        record.priority = Some(Priority::try_from(priority).unwrap());
        record
    };
    w.apply_one(with(1, 7)).await;
    w.apply_one(with(2, 2)).await;
    w.apply_one(with(3, 9)).await;
    let task = w.claim_single().await;
    assert_eq!(task.priority.get(), 2);
    w.deliver(&task).await;
    w.apply_one(with(4, 9)).await;
    assert_eq!(w.claim_single().await.priority.get(), 9);
}

/// `sync_status` and the message beside it tell the worst of the record's pushes.
pub async fn the_status_follows_the_pushes(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let mut batch = w.batch(vec![location("p1", 1, 100)]);
    batch.routes.extend(routes(w.lessen, "lessen"));
    w.master.apply(&batch).await.unwrap();
    let status = async || {
        let record = w.history(LOCATION, "p1").await.record;
        (record.sync_status, record.error_message.is_some())
    };
    assert_eq!(status().await, (SyncStatus::Pending, false));
    let one = w.claim_single().await;
    let lessen = w.claim_for(w.lessen, super::sql::LONG).await.remove(0);
    let now = Duration::ZERO;
    w.fail(
        &one,
        ErrorClass::TargetError,
        PushNext::Retry { after: now },
    )
    .await;
    assert_eq!(status().await, (SyncStatus::Retry, true));
    w.fail(&lessen, ErrorClass::Validation, PushNext::Dead)
        .await;
    assert_eq!(status().await, (SyncStatus::Failed, true));
    w.rescue().await;
    let one = w.claim_single().await;
    w.deliver(&one).await;
    assert_eq!(status().await, (SyncStatus::Failed, true));
    // A newer version gives the dead push another chance.
    batch.records = w.batch(vec![location("p1", 2, 200)]).records;
    w.master.apply(&batch).await.unwrap();
    assert_eq!(status().await, (SyncStatus::Pending, false));
    let one = w.claim_single().await;
    let lessen = w.claim_for(w.lessen, super::sql::LONG).await.remove(0);
    w.settle(&one, delivered(&one, PushAction::Updated)).await;
    assert_eq!(status().await, (SyncStatus::Pending, false));
    w.settle(&lessen, delivered(&lessen, PushAction::Created))
        .await;
    assert_eq!(status().await, (SyncStatus::Synced, false));
}

pub async fn a_record_without_targets_is_in_step(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let mut batch = w.batch(vec![location("p1", 1, 100)]);
    batch.routes.clear();
    assert_eq!(w.master.apply(&batch).await.unwrap()[0].pushes, 0);
    let record = w.history(LOCATION, "p1").await.record;
    assert_eq!(record.sync_status, SyncStatus::Synced);
}

/// By id, after the last one of the page before, with every condition.
pub async fn records_are_listed_in_pages(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let mut records: Vec<_> = (0..5).map(|n| location(&format!("p{n}"), n, 100)).collect();
    records.push(request("r1", 1, "p1"));
    w.apply(records).await;
    let list = async |query: MasterQuery| w.master.records(&query).await.unwrap();
    let locations = MasterQuery {
        entity_type: Some(LOCATION.into()),
        limit: 2,
        ..w.query()
    };
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = list(MasterQuery {
            after,
            ..locations.clone()
        })
        .await;
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        seen.extend(page.iter().map(|record| record.id));
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.is_sorted());
    let one = list(MasterQuery {
        source_id: Some("r1".into()),
        source_connection_id: Some(w.source),
        ..w.query()
    })
    .await;
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].entity_id, "yardi:r1");
    assert_eq!(one[0].parents, [location_ref("p1")]);
    assert_eq!(one[0].version, 1);
}

/// C4: two organizations with the same names and ids share nothing.
pub async fn nothing_of_another_organization_is_seen(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let others = w.other_batch(vec![location("p1", 2, 50), location("p2", 2, 50)]);
    for applied in w.master.apply(&others).await.unwrap() {
        assert_eq!((applied.change, applied.version), (Change::Create, 1));
    }
    let mine = w.master.records(&w.query()).await.unwrap();
    assert_eq!(mine.len(), 1);
    assert_eq!(mine[0].organization_id, w.organization);
    assert_eq!(mine[0].data["content"], serde_json::json!(1));
    let theirs = MasterQuery {
        organization_id: Some(w.other),
        ..w.query()
    };
    assert_eq!(w.master.records(&theirs).await.unwrap().len(), 2);
    let history = w
        .master
        .history(w.organization, &LOCATION.into(), "yardi:p2")
        .await
        .unwrap();
    assert!(history.is_none());
    let mine = w.claim_all().await;
    assert_eq!(mine.len(), 1);
    assert_eq!(mine[0].organization_id, w.organization);
    w.deliver(&mine[0]).await;
    let summary = w.tasks.target_summary(w.other).await.unwrap();
    assert_eq!(summary.len(), 1);
    assert_eq!((summary[0].created, summary[0].open), (0, 2));
    let theirs = w
        .master
        .history(w.other, &LOCATION.into(), "yardi:p1")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(theirs.pushes[0].state, TaskState::Pending);
}

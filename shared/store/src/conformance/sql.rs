//! What the cases of the SQL contracts ([`crate::MasterStore`], [`crate::TaskStore`],
//! [`crate::FleetStore`], [`crate::CredentialStore`]) share.

mod alone;
mod make;

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::FutureExt;
use sluice_core::{
    ConnectionId, EntityType, ErrorClass, OrganizationId, QueueClass, RunId, TaskId,
    message::TaskRef,
    record::CanonicalRecord,
    run::RunKind,
    task::{PushAction, TaskKind},
};

use crate::{
    CredentialStore, FleetStore, MasterStore, TaskStore,
    master::{Applied, ApplyBatch, ApplyRecord, MasterQuery, RecordHistory},
    run::NewRun,
    task::{
        PullNext, PullSettlement, PullTask, PushNext, PushTask, RescueSettings, Rescued, StageQuota,
    },
};

pub use alone::*;
pub use make::*;

/// One database of one backend. Fresh: no migration has run.
#[async_trait]
pub trait SqlFixture: Send + Sync + 'static {
    /// Opens the database as one more process would, with connections of its own.
    async fn open(&self) -> (Arc<dyn MasterStore>, Arc<dyn TaskStore>);

    /// The same for what the fleet agrees on.
    async fn open_fleet(&self) -> Arc<dyn FleetStore>;

    /// The same for credentials.
    async fn open_credentials(&self) -> Arc<dyn CredentialStore>;

    /// Runs a statement whose text both dialects understand; returns the rows it changed.
    async fn execute(&self, sql: &'static str) -> u64;

    /// The single number that a query answers, such as a count.
    async fn number(&self, sql: &'static str) -> i64;

    /// Removes the database.
    async fn remove(&self);
}

/// Runs one case and removes the database, whatever became of the case.
pub async fn run<F, C>(fixture: impl SqlFixture, case: C)
where
    C: FnOnce(Arc<dyn SqlFixture>) -> F,
    F: Future<Output = ()>,
{
    let fixture: Arc<dyn SqlFixture> = Arc::new(fixture);
    let outcome = AssertUnwindSafe(case(Arc::clone(&fixture)))
        .catch_unwind()
        .await;
    fixture.remove().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Makes a module of tests: each case runs against a fresh fixture, which is removed afterwards.
#[macro_export]
macro_rules! sql_cases {
    ($fixture:path, $module:ident, [$($case:ident),* $(,)?]) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    $crate::conformance::sql::run(
                        $fixture().await,
                        $crate::conformance::$module::$case,
                    )
                    .await;
                }
            )*
        }
    };
}

/// Every case of the two SQL contracts. `$fixture` is an async function without arguments that
/// returns an [`SqlFixture`](crate::conformance::sql::SqlFixture).
#[macro_export]
macro_rules! sql_suite {
    ($fixture:path) => {
        $crate::master_suite!($fixture);
        $crate::master_wants_suite!($fixture);
        $crate::task_suite!($fixture);
        $crate::task_settle_suite!($fixture);
        $crate::task_parents_suite!($fixture);
        $crate::task_order_suite!($fixture);
        $crate::task_crash_suite!($fixture);
        $crate::task_unknown_suite!($fixture);
        $crate::task_request_suite!($fixture);
        $crate::task_unsent_suite!($fixture);
        $crate::task_blocked_suite!($fixture);
        $crate::task_day_suite!($fixture);
        $crate::task_keyed_day_suite!($fixture);
        $crate::run_suite!($fixture);
        $crate::run_pull_suite!($fixture);
        $crate::dead_letter_suite!($fixture);
        $crate::dead_letter_shown_suite!($fixture);
        $crate::replay_suite!($fixture);
        $crate::fleet_suite!($fixture);
        $crate::credential_suite!($fixture);
    };
}

/// A migrated database with two organizations. `acme` has the source `yardi` and the targets
/// `one` and `lessen`; `other` has `yardi` and `one` too, which are other connections.
pub struct World {
    pub fixture: Arc<dyn SqlFixture>,
    pub master: Arc<dyn MasterStore>,
    pub tasks: Arc<dyn TaskStore>,
    pub organization: OrganizationId,
    pub source: ConnectionId,
    pub one: ConnectionId,
    pub lessen: ConnectionId,
    pub other: OrganizationId,
    pub other_source: ConnectionId,
    pub other_one: ConnectionId,
}

/// Long enough that no test sees it end.
pub const LONG: Duration = Duration::from_secs(60);
/// A lease that ends while a test waits for it.
pub const SHORT: Duration = Duration::from_millis(150);

pub const LOCATION: &str = EntityType::LOCATION;
pub const REQUEST: &str = EntityType::SERVICE_REQUEST;

impl World {
    pub async fn new(fixture: Arc<dyn SqlFixture>) -> Self {
        let (master, tasks) = fixture.open().await;
        master.migrate().await.unwrap();
        let catalogue = master.register(&catalogue_spec()).await.unwrap();
        let organization = catalogue.organization("acme").unwrap();
        let other = catalogue.organization("other").unwrap();
        Self {
            organization,
            source: connection(&catalogue, organization, "yardi"),
            one: connection(&catalogue, organization, "one"),
            lessen: connection(&catalogue, organization, "lessen"),
            other,
            other_source: connection(&catalogue, other, "yardi"),
            other_one: connection(&catalogue, other, "one"),
            fixture,
            master,
            tasks,
        }
    }

    /// A batch of `acme`, routed to `one`.
    pub fn batch(&self, records: Vec<CanonicalRecord>) -> ApplyBatch {
        ApplyBatch {
            organization_id: self.organization,
            connection_id: self.source,
            connection: "yardi".into(),
            source_system: "yardi".into(),
            run_id: None,
            traceparent: None,
            records: records
                .into_iter()
                .map(|record| ApplyRecord {
                    hash: record.hash(),
                    record,
                })
                .collect(),
            routes: routes(self.one, "one"),
            dry_run: false,
        }
    }

    /// The same records as [`Self::batch`], but of the organization `other`.
    pub fn other_batch(&self, records: Vec<CanonicalRecord>) -> ApplyBatch {
        ApplyBatch {
            organization_id: self.other,
            connection_id: self.other_source,
            routes: routes(self.other_one, "one"),
            ..self.batch(records)
        }
    }

    pub async fn apply(&self, records: Vec<CanonicalRecord>) -> Vec<Applied> {
        self.master.apply(&self.batch(records)).await.unwrap()
    }

    pub async fn apply_one(&self, record: CanonicalRecord) -> Applied {
        self.apply(vec![record]).await.remove(0)
    }

    /// What is known about a record of `acme`.
    pub async fn history(&self, entity_type: &str, source_id: &str) -> RecordHistory {
        self.master
            .history(
                self.organization,
                &entity_type.into(),
                &format!("yardi:{source_id}"),
            )
            .await
            .unwrap()
            .unwrap_or_else(|| panic!("{entity_type} {source_id} is unknown"))
    }

    /// Everything selected for `acme`.
    pub fn query(&self) -> MasterQuery {
        MasterQuery {
            organization_id: Some(self.organization),
            limit: 1_000,
            ..MasterQuery::default()
        }
    }

    /// Stages at most `limit` pushes of each class to a connection.
    pub async fn stage_pushes(&self, connection: ConnectionId, limit: u32) -> Vec<TaskRef> {
        self.stage(connection, TaskKind::Push, limit).await
    }

    pub async fn stage_pulls(&self) -> Vec<TaskRef> {
        self.stage(self.source, TaskKind::Pull, 1_000).await
    }

    async fn stage(&self, connection: ConnectionId, kind: TaskKind, limit: u32) -> Vec<TaskRef> {
        let quotas: Vec<_> = QueueClass::ALL
            .into_iter()
            .map(|class| StageQuota {
                connection_id: connection,
                kind,
                priorities: class.priorities(),
                limit,
            })
            .collect();
        self.tasks.stage(&quotas).await.unwrap()
    }

    pub async fn claim_ids(&self, ids: &[TaskId], lease: Duration) -> Vec<PushTask> {
        self.tasks
            .claim_pushes(&claim(ids, lease))
            .await
            .unwrap()
            .tasks
    }

    /// Stages and claims everything that is pending for `one`, under a long lease.
    pub async fn claim_all(&self) -> Vec<PushTask> {
        self.claim_for(self.one, LONG).await
    }

    pub async fn claim_for(&self, connection: ConnectionId, lease: Duration) -> Vec<PushTask> {
        let staged = self.stage_pushes(connection, 1_000).await;
        self.claim_ids(&ids(&staged), lease).await
    }

    /// Stages and claims the one push that is pending for `one`.
    pub async fn claim_single(&self) -> PushTask {
        let mut tasks = self.claim_all().await;
        assert_eq!(tasks.len(), 1, "one push is pending: {tasks:?}");
        tasks.remove(0)
    }

    pub async fn settle(&self, task: &PushTask, next: PushNext) -> bool {
        self.tasks
            .settle_pushes(&[settlement(task.lease, next)])
            .await
            .unwrap()
            .remove(0)
    }

    /// Settles as failed with an error of this class.
    pub async fn fail(&self, task: &PushTask, class: ErrorClass, next: PushNext) -> bool {
        self.tasks
            .settle_pushes(&[failed(task.lease, class, next)])
            .await
            .unwrap()
            .remove(0)
    }

    pub async fn deliver(&self, task: &PushTask) -> bool {
        self.settle(task, delivered(task, PushAction::Created))
            .await
    }

    /// Wakes what is due now.
    pub async fn wake(&self) -> u64 {
        self.tasks.wake(1_000).await.unwrap()
    }

    /// Wakes what is due now, and rescues; staged tasks only after a long time.
    pub async fn rescue(&self) -> Rescued {
        self.wake().await;
        self.tasks
            .rescue(&RescueSettings {
                staged_for: LONG,
                limit: 1_000,
            })
            .await
            .unwrap()
    }

    pub fn new_run(&self, streams: &[&str]) -> NewRun {
        NewRun {
            organization_id: self.organization,
            flow: "yardi-to-one".into(),
            connection_id: self.source,
            kind: RunKind::Full,
            streams: streams.iter().map(|stream| (*stream).into()).collect(),
            since: None,
            record: None,
            dry_run: false,
            idempotency_key: None,
            requested_by: "test".into(),
            max_retries: 3,
            traceparent: None,
            background: false,
        }
    }

    /// A run that is running.
    pub async fn running(&self, streams: &[&str]) -> RunId {
        let id = self
            .tasks
            .start_run(&self.new_run(streams))
            .await
            .unwrap()
            .id;
        self.tasks.advance_runs().await.unwrap();
        id
    }

    /// Stages and claims every pull that is pending.
    pub async fn claim_pulls(&self, lease: Duration) -> Vec<PullTask> {
        let staged = self.stage_pulls().await;
        self.tasks
            .claim_pulls(&claim(&ids(&staged), lease))
            .await
            .unwrap()
            .tasks
    }

    pub async fn settle_pull(&self, task: &PullTask, next: PullNext) -> bool {
        self.tasks
            .settle_pull(&PullSettlement {
                lease: task.lease,
                attempt: attempt(None),
                next,
            })
            .await
            .unwrap()
    }

    /// A count of rows by a query.
    pub async fn number(&self, sql: &'static str) -> i64 {
        self.fixture.number(sql).await
    }
}

//! The two contracts, method by method.

use std::time::Duration;

use async_trait::async_trait;
use sluice_core::{
    ConnectionId, EntityType, OrganizationId, Result, RunId, TaskId,
    catalogue::{Catalogue, CatalogueSpec},
    message::TaskRef,
    run::RunState,
};
use sluice_store::{
    MasterStore, TaskStore,
    dependency::{BlockedFound, BlockedLook, BlockedTotal, Blocker, BlockerQuery},
    master::{
        Applied, ApplyBatch, Connections, MasterQuery, MasterRecord, MigrationStatus, RecordHistory,
    },
    run::{NewRun, Run, RunDetail, RunQuery, StartedRun},
    task::{
        Backlog, Checkpoint, Claim, Claimed, Lease, OutboundChange, PullSettlement, PullTask,
        PushSettlement, PushTask, RescueSettings, Rescued, StageQuota, StreamState, TargetSummary,
    },
    unknown::{UnknownPush, UnknownQuery, Verdict},
};

use crate::{
    PostgresSql, error, look,
    master::{apply, catalogue, migrate, query},
    pool::Pool,
    run,
    task::{claim, dependency, lease, pull, rescue, settle, stage, unknown},
};

#[async_trait]
impl MasterStore for PostgresSql {
    async fn migrate(&self) -> Result<usize> {
        migrate::migrate(&self.pool).await
    }

    async fn migrations(&self) -> Result<Vec<MigrationStatus>> {
        migrate::status(&self.pool).await
    }

    async fn ping(&self) -> Result<()> {
        sqlx::query("select 1")
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(error::failed)
    }

    fn connections(&self) -> Connections {
        [&self.pool, &self.fleet]
            .map(Pool::connections)
            .into_iter()
            .sum()
    }

    async fn register(&self, spec: &CatalogueSpec) -> Result<Catalogue> {
        catalogue::register(&self.pool, spec).await
    }

    async fn catalogue(&self) -> Result<Catalogue> {
        catalogue::load(&self.pool).await
    }

    async fn apply(&self, batch: &ApplyBatch) -> Result<Vec<Applied>> {
        apply::apply(&self.pool, batch).await
    }

    async fn records(&self, query: &MasterQuery) -> Result<Vec<MasterRecord>> {
        query::records(&self.pool, query).await
    }

    async fn history(
        &self,
        organization: OrganizationId,
        entity_type: &EntityType,
        entity_id: &str,
    ) -> Result<Option<RecordHistory>> {
        query::history(&self.pool, organization, entity_type, entity_id).await
    }
}

#[async_trait]
impl TaskStore for PostgresSql {
    async fn start_run(&self, new: &NewRun) -> Result<StartedRun> {
        run::start::start(&self.pool, new).await
    }

    async fn run(&self, organization: OrganizationId, id: RunId) -> Result<Option<RunDetail>> {
        run::read::detail(&self.pool, organization, id).await
    }

    async fn runs(&self, query: &RunQuery) -> Result<Vec<Run>> {
        run::read::list(&self.pool, query).await
    }

    async fn change_run(
        &self,
        organization: OrganizationId,
        id: RunId,
        to: RunState,
        note: &str,
    ) -> Result<Run> {
        run::change::change(&self.pool, organization, id, to, note).await
    }

    async fn advance_runs(&self) -> Result<Vec<Run>> {
        run::advance::advance(&self.pool).await
    }

    async fn backlog(&self) -> Result<Vec<Backlog>> {
        stage::backlog(&self.pool).await
    }

    async fn stage(&self, quotas: &[StageQuota]) -> Result<Vec<TaskRef>> {
        stage::stage(&self.pool, quotas).await
    }

    async fn unstage(&self, ids: &[TaskId]) -> Result<u64> {
        stage::unstage(&self.pool, ids).await
    }

    async fn wake(&self, limit: u32) -> Result<u64> {
        rescue::wake(&self.pool, limit).await
    }

    async fn rescue(&self, settings: &RescueSettings) -> Result<Rescued> {
        rescue::rescue(&self.pool, settings).await
    }

    async fn claim_pulls(&self, claim: &Claim) -> Result<Claimed<PullTask>> {
        pull::claim(&self.pool, claim).await
    }

    async fn claim_pushes(&self, claim: &Claim) -> Result<Claimed<PushTask>> {
        claim::claim(&self.pool, claim).await
    }

    async fn renew(&self, leases: &[Lease], by: Duration) -> Result<Vec<bool>> {
        lease::renew(&self.pool, leases, by).await
    }

    async fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<bool> {
        pull::checkpoint(&self.pool, checkpoint).await
    }

    async fn settle_pull(&self, settlement: &PullSettlement) -> Result<bool> {
        pull::settle(&self.pool, settlement).await
    }

    async fn settle_pushes(&self, settlements: &[PushSettlement]) -> Result<Vec<bool>> {
        settle::settle(&self.pool, settlements).await
    }

    async fn stream_states(
        &self,
        connection: ConnectionId,
        stream: &str,
    ) -> Result<Vec<StreamState>> {
        look::stream_states(&self.pool, connection, stream).await
    }

    async fn unknown_pushes(&self, query: &UnknownQuery) -> Result<Vec<UnknownPush>> {
        unknown::list(&self.pool, query).await
    }

    async fn settle_unknown(
        &self,
        organization: OrganizationId,
        id: TaskId,
        verdict: &Verdict,
        actor: &str,
        reason: &str,
    ) -> Result<()> {
        unknown::settle(&self.pool, organization, id, verdict, actor, reason).await
    }

    async fn blockers(&self, query: &BlockerQuery) -> Result<Vec<Blocker>> {
        dependency::blockers(&self.pool, query).await
    }

    async fn blocked_totals(&self) -> Result<Vec<BlockedTotal>> {
        dependency::totals(&self.pool).await
    }

    async fn look_at_blocked(&self, look: &BlockedLook) -> Result<BlockedFound> {
        dependency::look(&self.pool, look).await
    }

    async fn outbound_changes(&self, after: i64, limit: u32) -> Result<Vec<OutboundChange>> {
        look::outbound_changes(&self.pool, after, limit).await
    }

    async fn reader_cursor(&self, reader: &str) -> Result<i64> {
        look::reader_cursor(&self.pool, reader).await
    }

    async fn save_reader_cursor(&self, reader: &str, cursor: i64) -> Result<()> {
        look::save_reader_cursor(&self.pool, reader, cursor).await
    }

    async fn target_summary(&self, organization: OrganizationId) -> Result<Vec<TargetSummary>> {
        look::target_summary(&self.pool, organization).await
    }

    async fn prune(&self, keep: Duration) -> Result<u64> {
        rescue::prune(&self.pool, keep).await
    }
}

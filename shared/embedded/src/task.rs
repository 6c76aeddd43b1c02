//! [`TaskStore`] on SQLite.

pub(crate) mod attempts;
#[cfg(test)]
mod by_key;
mod claim;
mod crash;
mod dependency;
mod look;
mod pull;
mod rescue;
pub(crate) mod settle;
mod settle_write;
mod stage;
mod unknown;

use std::time::Duration;

use async_trait::async_trait;
use sluice_core::{
    ConnectionId, OrganizationId, Result, RunId, TaskId, message::TaskRef, run::RunState,
};
use sluice_store::{
    TaskStore,
    dependency::{BlockedFound, BlockedLook, BlockedTotal, Blocker, BlockerQuery},
    run::{NewRun, Run, RunDetail, RunQuery, StartedRun},
    task::{
        Backlog, Checkpoint, Claim, Claimed, Lease, OutboundChange, PullSettlement, PullTask,
        PushSettlement, PushTask, RescueSettings, Rescued, StageQuota, StreamState, TargetSummary,
    },
    unknown::{UnknownPush, UnknownQuery, Verdict},
};

use crate::{EmbeddedSql, run};

#[async_trait]
impl TaskStore for EmbeddedSql {
    async fn start_run(&self, new: &NewRun) -> Result<StartedRun> {
        run::start::start(self, new).await
    }

    async fn run(&self, organization: OrganizationId, id: RunId) -> Result<Option<RunDetail>> {
        run::read::detail(self, organization, id).await
    }

    async fn runs(&self, query: &RunQuery) -> Result<Vec<Run>> {
        run::read::list(self, query).await
    }

    async fn change_run(
        &self,
        organization: OrganizationId,
        id: RunId,
        to: RunState,
        note: &str,
    ) -> Result<Run> {
        run::change::change(self, organization, id, to, note).await
    }

    async fn advance_runs(&self) -> Result<Vec<Run>> {
        run::advance::advance(self).await
    }

    async fn backlog(&self) -> Result<Vec<Backlog>> {
        look::backlog(self).await
    }

    async fn stage(&self, quotas: &[StageQuota]) -> Result<Vec<TaskRef>> {
        stage::stage(self, quotas).await
    }

    async fn unstage(&self, ids: &[TaskId]) -> Result<u64> {
        stage::unstage(self, ids).await
    }

    async fn wake(&self, limit: u32) -> Result<u64> {
        rescue::wake(self, limit).await
    }

    async fn rescue(&self, settings: &RescueSettings) -> Result<Rescued> {
        rescue::rescue(self, settings).await
    }

    async fn claim_pulls(&self, claim: &Claim) -> Result<Claimed<PullTask>> {
        pull::claim(self, claim).await
    }

    async fn claim_pushes(&self, claim: &Claim) -> Result<Claimed<PushTask>> {
        claim::claim(self, claim).await
    }

    async fn renew(&self, leases: &[Lease], by: Duration) -> Result<Vec<bool>> {
        claim::renew(self, leases, by).await
    }

    async fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<bool> {
        pull::checkpoint(self, checkpoint).await
    }

    async fn settle_pull(&self, settlement: &PullSettlement) -> Result<bool> {
        pull::settle(self, settlement).await
    }

    async fn settle_pushes(&self, settlements: &[PushSettlement]) -> Result<Vec<bool>> {
        settle::settle(self, settlements).await
    }

    async fn stream_states(
        &self,
        connection: ConnectionId,
        stream: &str,
    ) -> Result<Vec<StreamState>> {
        look::stream_states(self, connection, stream).await
    }

    async fn unknown_pushes(&self, query: &UnknownQuery) -> Result<Vec<UnknownPush>> {
        unknown::list(self, query).await
    }

    async fn settle_unknown(
        &self,
        organization: OrganizationId,
        id: TaskId,
        verdict: &Verdict,
        actor: &str,
        reason: &str,
    ) -> Result<()> {
        unknown::settle(self, organization, id, verdict, actor, reason).await
    }

    async fn blockers(&self, query: &BlockerQuery) -> Result<Vec<Blocker>> {
        dependency::blockers(self, query).await
    }

    async fn blocked_totals(&self) -> Result<Vec<BlockedTotal>> {
        dependency::totals(self).await
    }

    async fn look_at_blocked(&self, look: &BlockedLook) -> Result<BlockedFound> {
        dependency::look(self, look).await
    }

    async fn outbound_changes(&self, after: i64, limit: u32) -> Result<Vec<OutboundChange>> {
        look::outbound_changes(self, after, limit).await
    }

    async fn reader_cursor(&self, reader: &str) -> Result<i64> {
        look::reader_cursor(self, reader).await
    }

    async fn save_reader_cursor(&self, reader: &str, cursor: i64) -> Result<()> {
        look::save_reader_cursor(self, reader, cursor).await
    }

    async fn target_summary(&self, organization: OrganizationId) -> Result<Vec<TargetSummary>> {
        look::target_summary(self, organization).await
    }

    async fn prune(&self, keep: Duration) -> Result<u64> {
        rescue::prune(self, keep).await
    }
}

//! [`DeadLetterStore`] on SQLite, method by method.

use async_trait::async_trait;
use sluice_core::{ConnectionId, OrganizationId, Result, message::DeadLetterRef};
use sluice_store::{
    dead_letter::{
        Change, DeadLetterDetail, DeadLetterFilter, DeadLetterGroup, DeadLetterPage,
        DeadLetterStore, Mirrored, OpenDeadLetters, UnmirroredDeadLetter,
    },
    replay::{
        NewReplay, Replay, ReplayDetail, ReplayPreview, ReplayQuery, ReplayState, StartedReplay,
    },
};

use super::{count, handle, log, mirror, replay};
use crate::EmbeddedSql;

#[async_trait]
impl DeadLetterStore for EmbeddedSql {
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        super::list(self, filter).await
    }

    async fn dead_letter(
        &self,
        organization: OrganizationId,
        id: i64,
    ) -> Result<Option<DeadLetterDetail>> {
        super::detail(self, organization, id).await
    }

    async fn dead_letter_groups(&self, filter: &DeadLetterFilter) -> Result<Vec<DeadLetterGroup>> {
        count::groups(self, filter).await
    }

    async fn open_dead_letters(&self) -> Result<Vec<OpenDeadLetters>> {
        count::open(self).await
    }

    async fn discard_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        actor: &str,
        reason: &str,
    ) -> Result<u64> {
        handle::discard(self, filter, actor, reason).await
    }

    async fn start_replay(&self, new: &NewReplay) -> Result<StartedReplay> {
        replay::start(self, new).await
    }

    async fn preview_replay(&self, filter: &DeadLetterFilter) -> Result<ReplayPreview> {
        replay::preview(self, filter).await
    }

    async fn work_replay(&self, most: u32) -> Result<Option<u64>> {
        replay::work(self, most).await
    }

    async fn replays(&self, query: &ReplayQuery) -> Result<Vec<Replay>> {
        replay::list(self, query).await
    }

    async fn replay(&self, organization: OrganizationId, id: i64) -> Result<Option<ReplayDetail>> {
        replay::detail(self, organization, id).await
    }

    async fn change_replay(
        &self,
        organization: OrganizationId,
        id: i64,
        to: ReplayState,
        actor: &str,
        note: &str,
    ) -> Result<Replay> {
        replay::change(self, organization, id, to, actor, note).await
    }

    async fn replay_moved(
        &self,
        connection: ConnectionId,
        moved: &[DeadLetterRef],
        actor: &str,
    ) -> Result<u64> {
        handle::replay_moved(self, connection, moved, actor).await
    }

    async fn unmirrored_dead_letters(&self, limit: u32) -> Result<Vec<UnmirroredDeadLetter>> {
        mirror::unmirrored(self, limit).await
    }

    async fn mark_dead_letters_mirrored(&self, ids: &[i64]) -> Result<()> {
        mirror::mark(self, ids).await
    }

    async fn mirrored_dead_letters(&self) -> Result<Vec<Mirrored>> {
        mirror::mirrored(self).await
    }

    async fn forget_mirrored(&self, connection: ConnectionId) -> Result<()> {
        mirror::forget(self, connection).await
    }

    async fn changes(
        &self,
        organization: OrganizationId,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Change>> {
        log::read(self, organization, after, limit).await
    }
}

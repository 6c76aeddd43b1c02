//! [`MasterStore`] on SQLite.

mod apply;
mod history;
mod register;
pub(crate) mod status;
mod wants;

use async_trait::async_trait;
use sluice_core::{
    EntityType, OrganizationId, Result,
    catalogue::{Catalogue, CatalogueSpec},
};
use sluice_store::{
    MasterStore,
    master::{
        Applied, ApplyBatch, Connections, MasterQuery, MasterRecord, MigrationStatus, RecordHistory,
    },
};

use crate::sql::{EmbeddedSql, failed};

#[async_trait]
impl MasterStore for EmbeddedSql {
    async fn migrate(&self) -> Result<usize> {
        self.apply_migrations().await
    }

    async fn migrations(&self) -> Result<Vec<MigrationStatus>> {
        self.list_migrations().await
    }

    async fn ping(&self) -> Result<()> {
        sqlx::query("select 1")
            .execute(self.read())
            .await
            .map(|_| ())
            .map_err(failed)
    }

    fn connections(&self) -> Connections {
        let pools = self.pools();
        let counts = pools.map(|pool| Connections::of(pool.size() as usize, pool.num_idle()));
        counts.sum()
    }

    async fn register(&self, spec: &CatalogueSpec) -> Result<Catalogue> {
        register::register(self, spec).await
    }

    async fn catalogue(&self) -> Result<Catalogue> {
        register::catalogue(self).await
    }

    async fn apply(&self, batch: &ApplyBatch) -> Result<Vec<Applied>> {
        apply::apply(self, batch).await
    }

    async fn records(&self, query: &MasterQuery) -> Result<Vec<MasterRecord>> {
        history::records(self, query).await
    }

    async fn history(
        &self,
        organization: OrganizationId,
        entity_type: &EntityType,
        entity_id: &str,
    ) -> Result<Option<RecordHistory>> {
        history::history(self, organization, entity_type, entity_id).await
    }
}

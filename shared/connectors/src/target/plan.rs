//! `operations.yaml` checked and ready to be carried out.

use reqwest::Url;
use serde_json::Value;
use sluice_core::{EntityType, Result};

use super::{
    PushOperation,
    model::{ContentLimit, ResultSelector},
    requester::Requester,
    select::{ListPath, Path},
    template::{JsonTemplate, Scope},
};

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) check: Check,
    pub(super) entities: Vec<(EntityType, EntityPlan)>,
}

#[derive(Debug)]
pub(super) struct Check {
    pub(super) requester: Requester,
    pub(super) field_path: Path,
}

#[derive(Debug)]
pub(super) struct EntityPlan {
    pub(super) create: Option<Write>,
    pub(super) update: Option<Write>,
    pub(super) delete: Option<Write>,
    pub(super) lookup: Option<Lookup>,
}

#[derive(Debug)]
pub(super) enum Write {
    /// One record per call.
    Record(Box<RecordWrite>),
    /// Many records per call.
    Batch(Box<BatchWrite>),
    /// Nothing is sent.
    Nothing,
}

#[derive(Debug)]
pub(super) struct RecordWrite {
    pub(super) requester: Requester,
    pub(super) id_path: Option<Path>,
    pub(super) existing_id_path: Option<Path>,
    pub(super) content_limit: Option<ContentLimit>,
}

#[derive(Debug)]
pub(super) struct BatchWrite {
    pub(super) batch_size: usize,
    pub(super) batch_bytes: Option<usize>,
    pub(super) requester: Requester,
    pub(super) item: JsonTemplate,
    pub(super) results: Box<ResultSelector>,
    pub(super) content_limit: Option<ContentLimit>,
}

#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) batch_size: usize,
    pub(super) requester: Requester,
    pub(super) records: ListPath,
    pub(super) reference_path: Path,
    pub(super) id_path: Path,
}

impl Plan {
    /// The addresses of all requesters and token endpoints with these settings.
    ///
    /// # Errors
    /// `target_url_invalid`.
    pub(super) fn base_urls(&self, config: &Value) -> Result<Vec<Url>> {
        let mut urls = Vec::new();
        let entities = self.entities.iter().flat_map(|(_, plan)| plan.requesters());
        for requester in entities.chain([&self.check.requester]) {
            let scope = Scope::default().with("config", config);
            let found = requester.authenticator.url(&scope)?;
            for url in found.into_iter().chain([requester.base_url(&scope)?]) {
                if !urls.contains(&url) {
                    urls.push(url);
                }
            }
        }
        Ok(urls)
    }

    pub(super) fn entity(&self, entity: &EntityType) -> Option<&EntityPlan> {
        self.entities
            .iter()
            .find(|(name, _)| name == entity)
            .map(|(_, plan)| plan)
    }
}

impl EntityPlan {
    fn requesters(&self) -> impl Iterator<Item = &Requester> {
        let writes = [&self.create, &self.update, &self.delete];
        let writes = writes
            .into_iter()
            .flatten()
            .filter_map(|write| match write {
                Write::Record(write) => Some(&write.requester),
                Write::Batch(write) => Some(&write.requester),
                Write::Nothing => None,
            });
        writes.chain(self.lookup.iter().map(|lookup| &lookup.requester))
    }

    pub(super) fn write(&self, operation: PushOperation) -> Option<&Write> {
        match operation {
            PushOperation::Create => self.create.as_ref(),
            PushOperation::Update => self.update.as_ref(),
            PushOperation::Delete => self.delete.as_ref(),
        }
    }
}

//! Writing to a system, as its `operations.yaml` describes it.

mod auth;
mod call;
mod certainty;
mod content;
mod link;
mod load;
mod lookup;
mod model;
mod multipart;
mod outcome;
mod plan;
mod push;
mod requester;
mod results;
mod select;
mod template;

use serde_json::Value;
use sluice_core::{
    EntityType, Error, ErrorClass, Result, connector::ConnectorFiles, secret::SecretConfig,
    task::PushAction,
};

use self::{
    call::Session,
    plan::{Plan, Write},
};

pub use certainty::Certainty;

use crate::http::HttpClient;

/// What to do with a record at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PushOperation {
    Create,
    Update,
    Delete,
}

impl PushOperation {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// One record to write.
#[derive(Debug, Clone)]
pub struct PushItem {
    /// Our reference, planted at the target: `{source connection}:{source_id}`.
    pub entity_id: String,
    /// The record's id at the target; needed for update and delete.
    pub external_id: Option<String>,
    /// What the mapping made of the record.
    pub body: Value,
    /// Sent where the target understands one.
    pub idempotency_key: String,
    /// The master record's version that `body` shows.
    pub version: i64,
}

/// What the target made of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The record's id at the target.
    pub external_id: String,
    pub action: PushAction,
}

/// The results of one push, in the order of its items.
#[derive(Debug)]
pub struct PushBatch {
    pub results: Vec<Result<Receipt, Error>>,
    /// HTTP calls made, token refreshes and look-ups included.
    pub calls: u32,
}

/// A record found at the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub external_id: String,
}

/// One connection's target, ready to be written to. Show it to nobody: it holds secrets, which
/// its `Debug` leaves out.
pub struct Target {
    connection: String,
    config: SecretConfig,
    http: HttpClient,
    plan: Plan,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// Reads and checks `operations.yaml` with the connection's settings.
    ///
    /// # Errors
    /// `operations_missing`, `operations_invalid` (Config); the text names the file and the path
    /// inside it. `target_url_invalid` when the settings hold no usable address.
    pub fn load(
        files: &ConnectorFiles,
        connection: &str,
        config: SecretConfig,
        http: HttpClient,
    ) -> Result<Self> {
        let scoped = |error: Error| error.connection(connection);
        let plan = load::load(files, Some(config.expose())).map_err(scoped)?;
        let fixed = plan.base_urls(config.expose()).map_err(scoped)?;
        Ok(Self {
            connection: connection.to_owned(),
            http: http.allowing(&fixed),
            config,
            plan,
        })
    }

    /// Reads and checks `operations.yaml` alone, for somebody who edits it and has no connection
    /// at hand.
    ///
    /// # Errors
    /// As [`Self::load`], without what settings are needed for.
    pub fn check_files(files: &ConnectorFiles) -> Result<()> {
        load::load(files, None).map(drop)
    }

    /// The entity types that can be written, in the file's order.
    pub fn entities(&self) -> Vec<EntityType> {
        let names = self.plan.entities.iter();
        names.map(|(entity, _)| entity.clone()).collect()
    }

    /// How many items one call carries; at least 1. A longer push is cut into several calls.
    pub fn batch_size(&self, entity: &EntityType, operation: PushOperation) -> usize {
        let plan = self.plan.entity(entity);
        match plan.and_then(|plan| plan.write(operation)) {
            Some(Write::Batch(write)) => write.batch_size,
            _ => 1,
        }
    }

    /// Whether the target answers and accepts the credentials.
    ///
    /// # Errors
    /// What the call ended in, with its class.
    pub async fn check(&self) -> Result<()> {
        let session = self.session();
        let check = &self.plan.check;
        let path = &check.field_path;
        let lacks = |body: &Value| match path.first(body) {
            Some(_) => None,
            None => Some(format!("without anything at {path}")),
        };
        session
            .call(&check.requester, &session.scope(), lacks)
            .await
            .map(|_| ())
            .map_err(|refusal| match refusal.error.class() {
                // A check asks for no record: it is the address that is not there.
                ErrorClass::NotFound => self.scoped(
                    Error::config(
                        "target_address_wrong",
                        "the target knows no such address as the check asks for",
                    )
                    .hint("check the address in the connection's settings")
                    .caused_by(refusal.error),
                ),
                _ => self.scoped(refusal.error),
            })
    }

    /// Writes records. Results come in the order of the items.
    ///
    /// - A create of a record that is there already finds it, links it and updates it.
    /// - A delete of a record that the target says is gone has succeeded.
    /// - A failure of the whole call is the result of each of its records; class `Timeout` means
    ///   that the write may have been carried out.
    /// - When a call with several records is refused for its content, the records are sent in
    ///   ever smaller calls, so that only the one at fault fails.
    /// - After a rate limit, refused credentials or an unreachable target, the remaining records
    ///   fail alike without a call.
    pub async fn push(
        &self,
        entity: &EntityType,
        operation: PushOperation,
        items: Vec<PushItem>,
    ) -> PushBatch {
        let session = self.session();
        let results = match self.plan.entity(entity) {
            Some(plan) => push::push(&session, plan, operation, &items).await,
            None => push::fail_all(&items, &unknown(entity)),
        };
        let results = results.into_iter().zip(&items).map(|(result, item)| {
            result.map_err(|error| self.scoped(error).record(item.entity_id.as_str()))
        });
        PushBatch {
            results: results.collect(),
            calls: session.calls(),
        }
    }

    /// Finds records by our planted reference, in the order asked for; also returns the calls
    /// made. `Ok(None)` means that the target says there is none.
    pub async fn lookup(
        &self,
        entity: &EntityType,
        entity_ids: &[String],
    ) -> (Vec<Result<Option<Found>>>, u32) {
        let session = self.session();
        let plan = self.plan.entity(entity).ok_or_else(|| unknown(entity));
        let plan = plan.and_then(|plan| plan.lookup.as_ref().ok_or_else(|| no_lookup(entity)));
        let results = match plan {
            Ok(plan) => lookup::lookup(&session, plan, entity_ids).await,
            Err(error) => entity_ids.iter().map(|_| Err(error.clone())).collect(),
        };
        let results = results.into_iter();
        (
            results
                .map(|result| result.map_err(|error| self.scoped(error)))
                .collect(),
            session.calls(),
        )
    }

    fn session(&self) -> Session<'_> {
        Session::new(&self.http, self.config.expose())
    }

    fn scoped(&self, error: Error) -> Error {
        error.connection(self.connection.as_str())
    }
}

fn unknown(entity: &EntityType) -> Error {
    Error::config(
        "target_entity_unknown",
        format!("the connector does not write {entity}"),
    )
}

fn no_lookup(entity: &EntityType) -> Error {
    Error::config(
        "operation_missing",
        format!("the connector does not say how to look up {entity}"),
    )
}

#[cfg(test)]
mod tests;

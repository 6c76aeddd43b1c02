//! The read side: runs a connector's declarative manifest.
//!
//! `manifest.yaml` follows the low-code manifest format of public source connectors, so that
//! those run unchanged as far as their components are known here; a stream that needs more is
//! refused by name and place, the others work. What the format does not have stands below
//! `metadata.sluice` (ignored by other runtimes):
//!
//! ```yaml
//! metadata:
//!   sluice:
//!     streams:                     # the order in which they are read
//!       - name: units
//!         entity_type: Location
//!         single:                  # how to find one record by its source id
//!           slice: "{{ record_id.startswith(stream_slice.property) }}"
//!           record: "{{ record.Id == record_id }}"
//! ```
//!
//! Reading is: [`Source::slices`] finds the parts of a stream, [`Source::read`] reads one part
//! page by page, [`Source::records`] takes the records out of a stored page once more.

mod api;
mod auth;
mod budget;
mod cache;
mod concurrency;
mod cursor;
mod decode;
mod delegate;
mod edit;
mod errors;
mod exchange;
mod extract;
mod faults;
mod group;
mod headers;
mod keys;
mod load;
pub(crate) mod manifest;
mod migrate;
mod normalize;
mod paginate;
mod partition;
mod patience;
mod plan;
pub mod protocol;
mod read;
mod record;
mod request;
mod restart;
pub mod rules;
mod schema;
mod select;
mod settings;
mod slice;
mod spec;
mod stream;
mod take;
pub(crate) mod template;
mod time;
mod track;

use std::sync::Arc;

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use minijinja::value::Value as Jinja;
use serde_json::Value;
use sluice_core::{Error, Result, connector::ConnectorFiles, run::RunKind, secret::SecretConfig};

pub use api::{Page, SliceRequest, StreamInfo};
pub use load::specification;
pub use patience::Patience;

use crate::http::HttpClient;
use auth::Tokens;
use budget::Budget;
use cache::Cache;
use concurrency::Concurrency;
use record::Form;
use slice::{Progress, Slice};
use stream::Stream;
use template::{Scope, Templates};

/// One connection's source: a manifest together with the connection's settings.
pub struct Source {
    connection: String,
    /// The connector's, for schemas in files of their own.
    files: ConnectorFiles,
    settings: SecretConfig,
    migrated: Option<SecretConfig>,
    /// The settings for templates.
    config: Jinja,
    http: HttpClient,
    templates: Templates,
    infos: Vec<StreamInfo>,
    /// In the order of `infos`; a stream that cannot be built keeps its refusal.
    streams: Vec<Result<Stream>>,
    check: Vec<String>,
    concurrency: Concurrency,
    budget: Option<Budget>,
    tokens: Tokens,
    cache: Option<Cache>,
    patience: Patience,
    keeper: Option<Keeper>,
}

/// Keeps settings that the other side changed, such as a rotated refresh token. Gets all settings
/// with the change in them; must not return before they are safe.
pub type Keeper = Arc<dyn Fn(SecretConfig) -> BoxFuture<'static, Result<()>> + Send + Sync>;

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Waits as told instead of the thirty seconds that suit a worker.
    #[must_use]
    pub fn patient(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Keeps answers that several streams ask for. For a source that is opened for one sync: a
    /// later sync would see old answers.
    #[must_use]
    pub fn caching(mut self) -> Self {
        self.cache = Some(Cache::default());
        self
    }

    /// Where rotated refresh tokens are kept; without this a stream that rotates them is refused
    /// before anything is sent.
    #[must_use]
    pub fn keeping(mut self, keeper: Keeper) -> Self {
        self.keeper = Some(keeper);
        self
    }

    /// An error with the connection, and with the manifest's line if it names a place in it.
    fn told(&self, error: Error) -> Error {
        faults::placed(error, &self.files).connection(&self.connection)
    }

    fn scope(&self) -> Scope<'_> {
        Scope::new(&self.templates, &self.config)
    }

    fn settings(&self) -> &Value {
        self.settings.expose()
    }

    fn client(&self) -> &HttpClient {
        &self.http
    }

    fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    fn budget(&self) -> Option<&Budget> {
        self.budget.as_ref()
    }

    fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Hands changed settings to the keeper.
    async fn keep_settings(&self, changes: Vec<(Vec<String>, String)>) -> Result<()> {
        let keeper = self.keeper()?;
        let mut settings = self.settings().clone();
        for (path, text) in changes {
            set_at(&mut settings, &path, text);
        }
        keeper(SecretConfig::new(settings)).await
    }

    fn keeper(&self) -> Result<&Keeper> {
        self.keeper.as_ref().ok_or_else(|| {
            Error::config(
                "credentials_not_kept",
                "the system changes the refresh token with each use, and this process has no place to keep the new one",
            )
            .hint("set store.credential_keys; `sluice connector read` prints the changed settings")
        })
    }

    /// The settings that are to take the place of the given ones, if the manifest migrates them. A
    /// source with the given ones works as well: it migrates them again.
    pub fn migrated_settings(&self) -> Option<&SecretConfig> {
        self.migrated.as_ref()
    }

    /// The streams, in the order they are meant to be read.
    pub fn streams(&self) -> &[StreamInfo] {
        &self.infos
    }

    /// Whether the source answers with these settings: reads the first page of each stream the
    /// manifest names for this.
    ///
    /// # Errors
    /// Whatever reading fails with; `check_found_no_slice` when there is nothing to read at all.
    pub async fn check(&self) -> Result<()> {
        for name in &self.check {
            self.check_stream(name)
                .await
                .map_err(|error| self.told(error))?;
        }
        Ok(())
    }

    async fn check_stream(&self, name: &str) -> Result<()> {
        let stream = self.stream(name)?;
        let request = SliceRequest {
            stream: name.to_owned(),
            kind: RunKind::Full,
            states: Vec::new(),
            since: None,
            record: None,
            now: chrono::Utc::now(),
        };
        let slices = self.plan(stream, &request).await?;
        let Some(first) = slices.first() else {
            return Err(Error::new(
                sluice_core::ErrorClass::NotFound,
                "check_found_no_slice",
                format!("the stream `{name}` has nothing to read"),
            ));
        };
        let stream = stream.of_slice(first);
        let start = Progress::default();
        if let Some(taken) = self.page(stream, first, &start, Form::Rows).await? {
            taken.whole()?;
        }
        Ok(())
    }

    /// The slices to read, each self-contained JSON: `{partition, extra, page, cursor, record}`.
    /// Parents of the stream are read for this.
    ///
    /// # Errors
    /// `stream_unknown`, `component_unsupported`, and whatever reading a parent fails with.
    pub async fn slices(&self, request: &SliceRequest) -> Result<Vec<Value>> {
        let slices = async {
            let stream = self.stream(&request.stream)?;
            self.plan(stream, request)
                .await?
                .iter()
                .map(Slice::to_json)
                .collect::<Result<Vec<_>>>()
        };
        slices.await.map_err(|error: Error| self.told(error))
    }

    /// Reads a slice page by page, going on behind `progress` (as a page handed it out). An error
    /// ends the stream; a page with an error is its last item.
    pub fn read<'a>(
        &'a self,
        stream: &str,
        slice: &Value,
        progress: Option<Value>,
    ) -> BoxStream<'a, Result<Page>> {
        let start = || -> Result<(&'a Stream, Slice, Progress)> {
            let slice = Slice::from_json(slice)?;
            Ok((
                self.stream(stream)?.of_slice(&slice),
                slice,
                Progress::from_json(progress)?,
            ))
        };
        match start() {
            Err(error) => {
                let error = self.told(error);
                Box::pin(futures::stream::once(async { Err(error) }))
            }
            Ok(state) => Box::pin(futures::stream::try_unfold(
                state,
                move |(stream, slice, progress)| async move {
                    let page = self
                        .page(stream, &slice, &progress, Form::Values)
                        .await
                        .map_err(|error| self.told(error))?;
                    Ok(page.map(|taken| {
                        let (page, next) = taken.into_page();
                        (page, (stream, slice, next))
                    }))
                },
            )),
        }
    }

    /// The records in a stored body, exactly as `read` took them from it.
    ///
    /// # Errors
    /// As [`Page::error`].
    pub fn records(&self, stream: &str, slice: &Value, body: &Bytes) -> Result<Vec<Value>> {
        self.records_as(stream, slice, body, None)
    }

    /// The same for a body whose content type is known: it may name the character set.
    ///
    /// # Errors
    /// As [`Page::error`].
    pub fn records_as(
        &self,
        stream: &str,
        slice: &Value,
        body: &Bytes,
        content_type: Option<&str>,
    ) -> Result<Vec<Value>> {
        let records = || {
            let slice = Slice::from_json(slice)?;
            let stream = self.stream(stream)?.of_slice(&slice);
            self.records_in(stream, &slice, body, content_type)
        };
        records().map_err(|error: Error| self.told(error))
    }

    fn stream(&self, name: &str) -> Result<&Stream> {
        let found = self.infos.iter().zip(&self.streams);
        match found.into_iter().find(|(info, _)| info.name == name) {
            Some((_, Ok(stream))) => Ok(stream),
            Some((_, Err(refusal))) => Err(refusal.clone()),
            None => Err(read::unknown_stream(name)),
        }
    }
}

/// Sets a text at a path, making the mappings on the way.
fn set_at(value: &mut Value, path: &[String], text: String) {
    let Some((first, rest)) = path.split_first() else {
        *value = Value::String(text);
        return;
    };
    if !value.is_object() {
        *value = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(map) = value {
        set_at(map.entry(first.clone()).or_insert(Value::Null), rest, text);
    }
}

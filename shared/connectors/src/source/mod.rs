//! The read side: runs a connector's declarative manifest.

mod api;
mod manifest;
mod template;

use bytes::Bytes;
use futures::stream::BoxStream;
use serde_json::Value;
use sluice_core::{Error, Result, connector::ConnectorFiles, secret::SecretConfig};

pub use api::{Page, SliceRequest, StreamInfo};

use crate::http::HttpClient;

/// One connection's source: a manifest together with the connection's settings.
pub struct Source {
    streams: Vec<StreamInfo>,
}

impl Source {
    /// Reads `manifest.yaml` and builds every stream it can; a stream with a component this
    /// engine does not know is refused when it is used, the others work.
    ///
    /// # Errors
    /// `manifest_missing`, `manifest_yaml_invalid`, `manifest_invalid` and other Config errors.
    pub fn load(
        _files: &ConnectorFiles,
        _connection: &str,
        _config: SecretConfig,
        _http: HttpClient,
    ) -> Result<Self> {
        Err(Error::internal("source_not_ready", "being built"))
    }

    /// The streams, in the order they are meant to be read.
    pub fn streams(&self) -> &[StreamInfo] {
        &self.streams
    }

    /// Whether the source answers with these settings.
    pub async fn check(&self) -> Result<()> {
        Err(Error::internal("source_not_ready", "being built"))
    }

    /// The slices to read, each self-contained JSON.
    pub async fn slices(&self, _request: &SliceRequest) -> Result<Vec<Value>> {
        Err(Error::internal("source_not_ready", "being built"))
    }

    /// Reads a slice page by page, going on behind `progress`.
    pub fn read<'a>(
        &'a self,
        _stream: &str,
        _slice: &Value,
        _progress: Option<Value>,
    ) -> BoxStream<'a, Result<Page>> {
        Box::pin(futures::stream::empty())
    }

    /// The records in a stored body, exactly as `read` took them from it.
    pub fn records(&self, _stream: &str, _slice: &Value, _body: &Bytes) -> Result<Vec<Value>> {
        Err(Error::internal("source_not_ready", "being built"))
    }
}

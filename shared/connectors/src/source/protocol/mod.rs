//! The standard protocol of source connectors: a sync as messages, so that a manifest runs in
//! pipelines made for the reference runtime.
//!
//! Streams are read one after the other, slices of a stream side by side up to the manifest's
//! concurrency level. Records of a slice stay in order, and a state message stands behind the
//! records it covers.

mod message;

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use futures::StreamExt as _;
use serde_json::{Map, Value, json};
use sluice_core::{Error, ErrorClass, Result, Timestamp, connector::ConnectorFiles, run::RunKind};
use tokio::{
    sync::{Mutex, mpsc},
    time::Instant,
};

pub use message::Message;

use super::{
    Source,
    delegate::complete_without_cursor,
    load::manifest_of,
    partition::Router,
    plan::Wanted,
    read::{self, Taken},
    record::Form,
    slice::{Progress, Slice},
    stream::Stream,
    time,
    track::{self, Known, Tracker},
};

/// States of partitioned streams grow with their partitions and are sent this often.
const STATE_EVERY: Duration = Duration::from_secs(600);

/// What to read.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// Names of the streams, in this order; empty means all.
    pub streams: Vec<String>,
    /// State by stream, in the shapes that state messages have.
    pub states: Map<String, Value>,
    /// Windows end here unless the manifest sets another end.
    pub now: Timestamp,
}

impl ReadRequest {
    /// Reads the contents of a state file: a list of state messages, with or without their
    /// envelope, or a mapping of stream names to states.
    ///
    /// # Errors
    /// `state_file_invalid`.
    pub fn states_of(file: &Value) -> Result<Map<String, Value>> {
        let invalid = || {
            Error::config(
                "state_file_invalid",
                "a state file holds a list of state messages, or a mapping of stream names to states",
            )
        };
        match file {
            Value::Null => Ok(Map::new()),
            Value::Object(states) if states.values().all(is_state) => Ok(states.clone()),
            Value::Array(messages) => messages
                .iter()
                .map(|message| {
                    let state = message.get("state").unwrap_or(message);
                    let name = state
                        .pointer("/stream/stream_descriptor/name")
                        .and_then(Value::as_str)
                        .ok_or_else(invalid)?;
                    let value = state.pointer("/stream/stream_state");
                    let value = value.cloned().unwrap_or_default();
                    let value = is_state(&value).then_some(value).ok_or_else(invalid)?;
                    Ok((name.to_owned(), value))
                })
                .collect(),
            _ => Err(invalid()),
        }
    }
}

fn is_state(value: &Value) -> bool {
    value.is_object() || value.is_null()
}

/// Where messages go, a page's records together. Full means wait: nothing piles up in memory
/// (promise I4).
struct Out<'a>(&'a mpsc::Sender<Vec<Message>>);

impl Out<'_> {
    async fn send(&self, message: Message) -> Result<()> {
        self.send_all(vec![message]).await
    }

    async fn send_all(&self, messages: Vec<Message>) -> Result<()> {
        self.0.send(messages).await.map_err(|_| {
            Error::new(
                ErrorClass::Internal,
                "output_closed",
                "nobody takes the messages any more",
            )
        })
    }
}

impl Source {
    /// SPEC: what a connector wants to be told; needs no settings.
    ///
    /// # Errors
    /// Those of a manifest that cannot be read.
    pub fn spec_of(files: &ConnectorFiles) -> Result<Message> {
        let manifest = manifest_of(files)?;
        Ok(Message::spec(manifest.get("spec").unwrap_or(&Value::Null)))
    }

    /// CATALOG: its streams. Refused streams are left out; [`Source::refusals`] names them. The
    /// system is called only for schemas that only it knows.
    ///
    /// # Errors
    /// Those of such calls, and of schemas in files.
    pub async fn catalog_message(&self) -> Result<Message> {
        let mut streams = Vec::new();
        for stream in self.streams.iter().flatten().map(Stream::without_state) {
            let mut entry = json!({
                "name": stream.name,
                "json_schema": self.schema(&stream.schema).await?,
                "supported_sync_modes": ["full_refresh"],
                "is_resumable": stream.cursor.is_some(),
                "is_file_based": false,
            });
            if let (Some(cursor), Value::Object(entry)) = (&stream.cursor, &mut entry) {
                entry.insert(
                    "supported_sync_modes".into(),
                    json!(["full_refresh", "incremental"]),
                );
                entry.insert("source_defined_cursor".into(), true.into());
                entry.insert(
                    "default_cursor_field".into(),
                    json!([cursor.field(&self.scope())?]),
                );
            }
            if let (false, Value::Object(entry)) = (stream.primary_key.is_empty(), &mut entry) {
                let keys: Vec<_> = stream.primary_key.iter().map(|key| json!([key])).collect();
                entry.insert("source_defined_primary_key".into(), keys.into());
            }
            streams.push(entry);
        }
        Ok(Message::catalog(streams))
    }

    /// Streams this engine cannot read, each with the reason.
    pub fn refusals(&self) -> impl Iterator<Item = (&str, &Error)> {
        self.infos
            .iter()
            .zip(&self.streams)
            .filter_map(|(info, stream)| Some((info.name.as_str(), stream.as_ref().err()?)))
    }

    /// Reads streams and sends what they hold, in batches of a page at most. `false` when some stream failed; the others were
    /// read all the same, and each failure was sent as a TRACE message.
    ///
    /// # Errors
    /// `stream_unknown`; `output_closed` when the receiver is gone.
    pub async fn read_messages(
        &self,
        request: &ReadRequest,
        out: &mpsc::Sender<Vec<Message>>,
    ) -> Result<bool> {
        let out = Out(out);
        let mut names: Vec<&str> = request.streams.iter().map(String::as_str).collect();
        if names.is_empty() {
            names = self.infos.iter().map(|info| info.name.as_str()).collect();
        }
        if let Some(unknown) = names
            .iter()
            .find(|name| !self.infos.iter().any(|info| info.name == **name))
        {
            return Err(read::unknown_stream(unknown));
        }
        if let Some(settings) = self.migrated_settings() {
            out.send(Message::settings(settings.expose())).await?;
        }
        let mut complete = true;
        for name in names {
            out.send(Message::status(name, "STARTED")).await?;
            let ended = match self.stream(name) {
                Ok(stream) => self.read_stream(stream, request, &out).await?,
                Err(refusal) => {
                    out.send(Message::error(name, &refusal)).await?;
                    false
                }
            };
            complete &= ended;
            let status = if ended { "COMPLETE" } else { "INCOMPLETE" };
            out.send(Message::status(name, status)).await?;
        }
        Ok(complete)
    }

    fn known(&self, stream: &Stream, state: &Value) -> Result<Known> {
        let migrated = match (&stream.migration, &stream.cursor) {
            (Some(migration), Some(cursor)) => migration.migrated(state, cursor, &self.scope())?,
            _ => None,
        };
        let partitioned = !matches!(stream.router, Router::None);
        let state = migrated.as_ref().unwrap_or(state);
        let known = Known::of_state(state, partitioned);
        if let Some(cursor) = &stream.cursor {
            let field = cursor.field(&self.scope())?;
            let readable = |state: &Value| cursor.reads(state, &field);
            if !track::is_well_formed(state, partitioned) || !known.states().all(readable) {
                let what = format!("the state of `{}` cannot be read", stream.name);
                return Err(Error::config("state_invalid", what).hint(
                    "hand in the last state that was printed, or none to read from the start",
                ));
            }
        }
        Ok(known)
    }

    /// `false` when it failed. Errors are those of the output only.
    async fn read_stream(
        &self,
        declared: &Stream,
        request: &ReadRequest,
        out: &Out<'_>,
    ) -> Result<bool> {
        let now = time::utc(request.now);
        let given = request.states.get(&declared.name);
        let chosen = match declared.for_state(given, &self.scope(), now) {
            Ok(chosen) => chosen,
            Err(error) => {
                out.send(Message::error(&declared.name, &error)).await?;
                return Ok(false);
            }
        };
        if chosen.outlived {
            out.send(Message::state(&declared.name, json!({}))).await?;
        }
        let stream = chosen.stream;
        let scope = self.plan_scope(now);
        let begun = async {
            let known = match chosen.state {
                Some(state) => self.known(stream, state)?,
                None => Known::default(),
            };
            let wanted = Wanted {
                kind: RunKind::Incremental,
                known: &known,
                since: None,
                record: None,
                now,
                incremental_parents: true,
            };
            let tracker = Tracker::new(stream, &known, &scope)?;
            let planned = self.find(stream, &wanted).await?;
            let level = self.concurrency.level(&self.scope())?;
            Ok((tracker, planned, level))
        };
        let (mut tracker, planned, level) = match begun.await {
            Ok(begun) => begun,
            Err(error) => {
                out.send(Message::error(&stream.name, &error)).await?;
                return Ok(false);
            }
        };
        if let Some(tracker) = &mut tracker {
            for partition in &planned.partitions {
                tracker.plan(partition);
            }
        }
        let sync = Sync {
            source: self,
            stream,
            name: stream.name.as_str().into(),
            out,
            tracker: Mutex::new((tracker, Instant::now())),
        };
        let slices = &planned.slices;
        let ended: Vec<Result<bool>> = futures::stream::iter(0..slices.len())
            .map(|index| sync.slice(slices.get(index)))
            .buffer_unordered(level)
            .collect()
            .await;
        let complete = ended
            .into_iter()
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .all(|ended| ended);
        let state = match sync.tracker.into_inner() {
            (Some(mut tracker), _) => {
                tracker.finish(complete, planned.parents);
                Some(tracker.state())
            }
            // Nothing tells where a stream without a cursor stopped, so only its end is told.
            (None, _) => complete.then(complete_without_cursor),
        };
        if let Some(state) = state {
            out.send(Message::state(&stream.name, state)).await?;
        }
        Ok(complete)
    }
}

/// One stream being read.
struct Sync<'a> {
    source: &'a Source,
    stream: &'a Stream,
    /// The stream's, as records carry it.
    name: Arc<str>,
    out: &'a Out<'a>,
    /// With the time of the last state message.
    tracker: Mutex<(Option<Tracker<'a>>, Instant)>,
}

impl Sync<'_> {
    /// Reads a slice to its end; its failure is sent, and `false` returned.
    async fn slice(&self, slice: Option<&Slice>) -> Result<bool> {
        let Some(slice) = slice else {
            return Ok(true);
        };
        let mut progress = Progress::default();
        loop {
            let page = self.source.page(self.stream, slice, &progress, Form::Rows);
            let taken = page
                .await
                .and_then(|page| page.map(Taken::whole).transpose());
            let Taken { records, next, .. } = match taken {
                Ok(Some(taken)) => taken,
                Ok(None) => return Ok(true),
                Err(error) => {
                    let error = self.source.told(error);
                    self.out
                        .send(Message::error(&self.stream.name, &error))
                        .await?;
                    return Ok(false);
                }
            };
            let at = Utc::now().timestamp_millis();
            let messages: Vec<_> = records
                .into_iter()
                .map(|record| Message::record(&self.name, record, at))
                .collect();
            if !messages.is_empty() {
                self.out.send_all(messages).await?;
            }
            let window_over = next.done || next.window != progress.window && next.page.is_none();
            if window_over {
                self.close(slice, &next).await?;
            }
            progress = next;
        }
    }

    /// A window was read to its end. The lock is held while the state is sent, so that no older
    /// state follows a newer one.
    async fn close(&self, slice: &Slice, progress: &Progress) -> Result<()> {
        let mut guard = self.tracker.lock().await;
        let (Some(tracker), sent) = &mut *guard else {
            return Ok(());
        };
        tracker.close(&slice.partition_key(), progress.highest);
        if tracker.partitioned() && sent.elapsed() < STATE_EVERY {
            return Ok(());
        }
        *sent = Instant::now();
        let state = tracker.state();
        self.out
            .send(Message::state(&self.stream.name, state))
            .await
    }
}

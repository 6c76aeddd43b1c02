//! The messages, as they stand on a line each.

use std::{io, sync::Arc};

use chrono::Utc;
use serde_json::{Map, Value, json};
use sluice_core::{Error, ErrorClass};

use crate::source::record;

/// One message.
#[derive(Debug, Clone)]
pub enum Message {
    Record(Record),
    Other(Value),
}

#[derive(Debug, Clone)]
pub struct Record {
    stream: Arc<str>,
    data: record::Record,
    /// Milliseconds since 1970.
    emitted_at: i64,
}

impl Message {
    pub(super) fn record(stream: &Arc<str>, data: record::Record, emitted_at: i64) -> Self {
        Self::Record(Record {
            stream: Arc::clone(stream),
            data,
            emitted_at,
        })
    }

    fn other(kind: &str, name: &str, content: Value) -> Self {
        Self::Other(json!({ "type": kind, name: content }))
    }

    /// Writes it as JSON, the kind first.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        let record = match self {
            Self::Record(record) => record,
            Self::Other(message) => return Ok(serde_json::to_writer(out, message)?),
        };
        // The data may be JSON already, which serde_json would have to read again.
        out.write_all(br#"{"type":"RECORD","record":{"stream":"#)?;
        serde_json::to_writer(&mut *out, &record.stream)?;
        out.write_all(br#","data":"#)?;
        record.data.write(out)?;
        write!(out, r#","emitted_at":{}}}}}"#, record.emitted_at)
    }

    pub(super) fn state(stream: &str, state: Value) -> Self {
        Self::other(
            "STATE",
            "state",
            json!({
                "type": "STREAM",
                "stream": {"stream_descriptor": {"name": stream}, "stream_state": state},
            }),
        )
    }

    pub(super) fn status(stream: &str, status: &str) -> Self {
        Self::other(
            "TRACE",
            "trace",
            json!({
                "type": "STREAM_STATUS",
                "emitted_at": Utc::now().timestamp_millis(),
                "stream_status": {"stream_descriptor": {"name": stream}, "status": status},
            }),
        )
    }

    /// TRACE for a stream that failed, or for the whole sync when the name is empty.
    pub fn error(stream: &str, error: &Error) -> Self {
        let mut body = Map::new();
        body.insert("message".into(), error.message().into());
        let mut detail = format!("{}: {}", error.code(), error.chain());
        if let Some(hint) = error.advice() {
            detail.push_str(&format!(" ({hint})"));
        }
        body.insert("internal_message".into(), detail.into());
        body.insert("failure_type".into(), failure_type(error.class()).into());
        if !stream.is_empty() {
            body.insert("stream_descriptor".into(), json!({ "name": stream }));
        }
        Self::other(
            "TRACE",
            "trace",
            json!({
                "type": "ERROR",
                "emitted_at": Utc::now().timestamp_millis(),
                "error": body,
            }),
        )
    }

    /// LOG at level WARN.
    pub fn warning(text: &str) -> Self {
        Self::other("LOG", "log", json!({"level": "WARN", "message": text}))
    }

    /// CONTROL: the settings to be used from now on.
    pub fn settings(settings: &Value) -> Self {
        Self::other(
            "CONTROL",
            "control",
            json!({
                "type": "CONNECTOR_CONFIG",
                "emitted_at": Utc::now().timestamp_millis(),
                "connectorConfig": {"config": settings},
            }),
        )
    }

    pub(super) fn spec(specification: &Value) -> Self {
        let mut spec = Map::new();
        for (theirs, ours) in [
            ("connection_specification", "connectionSpecification"),
            ("documentation_url", "documentationUrl"),
            ("advanced_auth", "advanced_auth"),
        ] {
            if let Some(value) = specification.get(theirs) {
                spec.insert(ours.into(), value.clone());
            }
        }
        spec.entry("connectionSpecification")
            .or_insert_with(|| json!({"type": "object"}));
        Self::other("SPEC", "spec", Value::Object(spec))
    }

    pub(super) fn catalog(streams: Vec<Value>) -> Self {
        Self::other("CATALOG", "catalog", json!({ "streams": streams }))
    }
}

/// The protocol knows three kinds of failure.
fn failure_type(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Config | ErrorClass::Auth => "config_error",
        ErrorClass::RateLimit
        | ErrorClass::Network
        | ErrorClass::Timeout
        | ErrorClass::TargetError => "transient_error",
        ErrorClass::Validation
        | ErrorClass::NotFound
        | ErrorClass::Conflict
        | ErrorClass::Internal => "system_error",
    }
}

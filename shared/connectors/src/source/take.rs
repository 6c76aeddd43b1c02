//! The records of a page: extracted, filtered, transformed.

use bytes::Bytes;
use minijinja::value::Value as Jinja;
use serde_json::{Map, Value};
use sluice_core::{Hash, Result};

use super::{
    Source,
    decode::{Decoded, Place},
    extract,
    record::Record,
    slice::Slice,
    stream::Stream,
    template::{Scope, python},
};

/// Records of a page that are compared with those of the page before.
const SAMPLES: usize = 8;

/// The records of a body.
pub(super) struct Extracted {
    pub records: Vec<Record>,
    /// How many there were before filtering.
    pub count: usize,
    pub hash: Option<Hash>,
    /// A data feed's last record is out of range, so the rest is older still.
    pub feed_over: bool,
}

impl Source {
    pub(super) fn extract(
        &self,
        stream: &Stream,
        slice: &Slice,
        decoded: Decoded,
        scope: &Scope<'_>,
    ) -> Result<Extracted> {
        let raw = match decoded.streamed {
            Some(records) => records,
            None => {
                let path = stream.selector.extractor.segments(scope)?;
                let mut all = Vec::new();
                for body in decoded.bodies {
                    let records = extract::records(body, &path)?;
                    all.extend(records.into_iter().map(Record::Value));
                }
                all
            }
        };
        let count = raw.len();
        let hash = (stream.paginator.is_active() && !raw.is_empty()).then(|| sample_hash(&raw));
        let schema = match stream.selector.casts {
            true => Some(self.known_schema(&stream.schema)?),
            false => None,
        };
        let mut records = Vec::with_capacity(count);
        let mut feed_over = false;
        for record in raw {
            let Some(record) = stream.selector.apply(record, scope, schema)? else {
                continue;
            };
            if let (Some(cursor), Some(range)) = (&stream.cursor, &slice.cursor)
                && cursor.client_side
            {
                let inside = cursor.contains(&record, range, scope)?;
                feed_over = cursor.data_feed && !inside;
                if !inside {
                    continue;
                }
            }
            if is_wanted(stream, slice, &record, scope)? {
                records.push(record);
            }
        }
        Ok(Extracted {
            records,
            count,
            hash,
            feed_over,
        })
    }

    /// The records in a stored body.
    pub(super) fn records_in(
        &self,
        stream: &Stream,
        slice: &Slice,
        body: &Bytes,
        content_type: Option<&str>,
    ) -> Result<Vec<Value>> {
        let interval = match (&stream.cursor, slice.whole()) {
            (Some(cursor), Some(window)) => cursor.interval(&window),
            _ => Map::new(),
        };
        let scope = self
            .slice_scope(slice, &interval)
            .with("next_page_token", Jinja::from(()));
        let path = stream.selector.extractor.segments(&scope)?;
        let place = extract::is_plain(&path).then_some(Place::of_values(&path));
        let decoded = stream.decoder.decode(body, content_type, place)?;
        let records = self.extract(stream, slice, decoded, &scope)?.records;
        Ok(records.into_iter().map(Record::into_value).collect())
    }
}

/// Tells pages apart, and repeated ones together, by some of their records: pages that differ do so
/// in more than a few.
fn sample_hash(records: &[Record]) -> Hash {
    let step = records.len() / SAMPLES + 1;
    let mut text = records.len().to_string().into_bytes();
    for record in records.iter().step_by(step).chain(records.last()) {
        // Nothing fails that writes into memory.
        let _ = record.write(&mut text);
    }
    Hash::of_bytes(&text)
}

/// Whether a run for a single record wants this one.
fn is_wanted(stream: &Stream, slice: &Slice, record: &Record, scope: &Scope<'_>) -> Result<bool> {
    let Some(wanted) = &slice.record else {
        return Ok(true);
    };
    if let Some(condition) = &stream.single.record {
        let scope = scope
            .clone()
            .with("record", record.to_jinja())
            .with("record_id", Jinja::from(wanted.as_str()));
        return condition.truth(&scope);
    }
    Ok(match stream.primary_key.as_slice() {
        [key] => record
            .get(key)
            .is_some_and(|value| python::text(&value).trim() == wanted.trim()),
        _ => true,
    })
}

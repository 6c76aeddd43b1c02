//! `StateDelegatingStream`: one stream while there is no state, another one from then on.

use serde_json::{Value, json};
use sluice_core::{Error, Result};

use super::{
    cursor::Mark,
    manifest::{Component, falsy},
    partition::Router,
    slice::Slice,
    stream::{self, Stream},
    template::{Scope, Template, Templates},
    time::{Duration, Moment},
};

/// The key of a state that says no more than that all was read.
const NO_CURSOR: &str = "__ab_no_cursor_state_message";

/// The state of a stream without a cursor that was read to its end.
pub fn complete_without_cursor() -> Value {
    json!({ NO_CURSOR: true })
}

/// What is read while there is no state.
#[derive(Debug)]
pub struct First {
    pub stream: Box<Stream>,
    /// How far back the other stream can read: an older state is as good as none.
    retention: Option<Template>,
}

/// A stream that was chosen for a state.
#[derive(Debug)]
pub struct Chosen<'a> {
    pub stream: &'a Stream,
    pub state: Option<&'a Value>,
    /// There was a state, and it is too old to be used.
    pub outlived: bool,
}

pub fn build(
    component: &Component<'_>,
    ours: Option<&Component<'_>>,
    templates: &mut Templates,
) -> Result<Stream> {
    let name = stream::name_of(component);
    let mut part = |field: &str| -> Result<Stream> {
        let child = component.required(field)?;
        if child.kind() != "DeclarativeStream" {
            return Err(child.unsupported());
        }
        if stream::name_of(&child) != name {
            return Err(child.invalid("name", "must be that of the stream it is a part of"));
        }
        Stream::build_one(&child, ours, templates)
    };
    let mut first = part("full_refresh_stream")?;
    let mut stream = part("incremental_stream")?;
    let retention = component.template("api_retention_period", templates)?;
    let counts =
        |stream: &Stream| matches!(&stream.cursor, Some(cursor) if !cursor.fits_partitions());
    if retention.is_some() && (counts(&first) || counts(&stream)) {
        return Err(component.invalid(
            "api_retention_period",
            "needs a DatetimeBasedCursor: a count has no age",
        ));
    }
    first.is_first = true;
    stream.first = Some(First {
        stream: Box::new(first),
        retention,
    });
    Ok(stream)
}

impl Stream {
    /// What is read while there is no state.
    pub fn without_state(&self) -> &Self {
        self.first.as_ref().map_or(self, |first| &first.stream)
    }

    /// The one that a slice was found for.
    pub fn of_slice(&self, slice: &Slice) -> &Self {
        if slice.first {
            self.without_state()
        } else {
            self
        }
    }

    /// The one to be read with a state of the protocol's.
    pub fn for_state<'a>(
        &'a self,
        state: Option<&'a Value>,
        scope: &Scope<'_>,
        now: Moment,
    ) -> Result<Chosen<'a>> {
        let state = state.filter(|state| !falsy(state));
        let outlived = match (&self.first, state) {
            (Some(first), Some(state)) => first.outlived(self, state, scope, now)?,
            _ => false,
        };
        let state = state.filter(|_| !outlived);
        Ok(Chosen {
            stream: match state {
                Some(_) => self,
                None => self.without_state(),
            },
            state,
            outlived,
        })
    }

    /// States of partitions as long as none of them is too old to go on from; then none at all.
    pub fn still_good<'a>(
        &self,
        states: &'a [(String, Value)],
        scope: &Scope<'_>,
        now: Moment,
    ) -> Result<&'a [(String, Value)]> {
        if let Some(first) = &self.first {
            for (_, state) in states {
                if first.outlived(self, state, scope, now)? {
                    return Ok(&[]);
                }
            }
        }
        Ok(states)
    }

    /// The time a state stands for.
    fn moment(&self, state: &Value, scope: &Scope<'_>, now: Moment) -> Result<Option<Moment>> {
        let Some(cursor) = &self.cursor else {
            let complete = state.get(NO_CURSOR) == Some(&Value::Bool(true));
            return Ok(complete.then_some(now));
        };
        let partitioned = !matches!(self.router, Router::None);
        let state = match state.get("state") {
            Some(global) if partitioned => global,
            _ => state,
        };
        Ok(match cursor.value(state, &cursor.field(scope)?) {
            Some(Mark::Time(moment)) => Some(moment),
            _ => None,
        })
    }
}

impl First {
    /// A state whose time is not known counts as too old: reading everything loses nothing.
    fn outlived(
        &self,
        incremental: &Stream,
        state: &Value,
        scope: &Scope<'_>,
        now: Moment,
    ) -> Result<bool> {
        let text = match &self.retention {
            Some(retention) => retention.text(scope)?,
            None => String::new(),
        };
        if text.is_empty() {
            return Ok(false);
        }
        let oldest = Duration::parse(&text)
            .and_then(|duration| duration.before(now))
            .ok_or_else(|| {
                Error::config(
                    "retention_invalid",
                    "`api_retention_period` is no ISO 8601 duration",
                )
            })?;
        let mut moment = self.stream.moment(state, scope, now)?;
        if moment.is_none() {
            moment = incremental.moment(state, scope, now)?;
        }
        Ok(moment.is_none_or(|moment| moment < oldest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{manifest, time};

    fn build(first: &str, more: &str) -> (Result<Stream>, Templates) {
        let stream = |path: &str| {
            format!(
                "retriever: {{requester: {{url_base: 'http://x.test', path: {path}}}, record_selector: {{extractor: {{field_path: []}}}}}}"
            )
        };
        let manifest = manifest::load(&format!(
            "streams: [{{type: StateDelegatingStream, name: a, {more} full_refresh_stream: {{{first}, {}}}, incremental_stream: {{name: a, incremental_sync: {{type: DatetimeBasedCursor, cursor_field: at, datetime_format: '%Y-%m-%d', start_datetime: '2020-01-01'}}, {}}}}}]",
            stream("all"), stream("changes"),
        ))
        .unwrap();
        let mut templates = Templates::new();
        let root = Component::new(&manifest, "manifest").unwrap();
        let streams = root.children("streams").unwrap();
        let built = Stream::build(&streams[0], None, &mut templates);
        (built, templates)
    }

    /// I3: what changed while no state was kept must not be missed.
    #[test]
    fn a_state_that_is_too_old_or_unknown_means_all_is_read() {
        let (stream, templates) = build("name: a", "api_retention_period: P30D,");
        let stream = stream.unwrap();
        let config = minijinja::value::Value::UNDEFINED;
        let scope = Scope::new(&templates, &config);
        let now = time::parse_iso("2024-03-01").unwrap();
        for (state, first, outlived) in [
            (None, true, false),
            (Some(json!({})), true, false),
            (Some(json!({"at": "2024-02-20"})), false, false),
            (Some(json!({"at": "2024-01-20"})), true, true),
            (Some(json!({"other": 1})), true, true),
            (Some(complete_without_cursor()), false, false),
        ] {
            let chosen = stream.for_state(state.as_ref(), &scope, now).unwrap();
            assert_eq!(chosen.stream.is_first, first, "{state:?}");
            assert_eq!(chosen.outlived, outlived, "{state:?}");
        }
        let states = |text: &str| vec![("{}".to_owned(), json!({ "at": text }))];
        let good = states("2024-02-20");
        assert_eq!(stream.still_good(&good, &scope, now).unwrap(), good);
        let old = states("2024-01-20");
        assert!(stream.still_good(&old, &scope, now).unwrap().is_empty());
    }

    #[test]
    fn faults_are_told_with_their_place() {
        for (first, more, place) in [
            ("name: b", "", "streams[0].full_refresh_stream.name"),
            (
                "name: a, type: Dance",
                "",
                "`Dance` at manifest.streams[0].full_refresh_stream",
            ),
        ] {
            let error = build(first, more).0.unwrap_err();
            assert!(error.message().contains(place), "{error}");
        }
        let (stream, templates) = build("name: a", "api_retention_period: soon,");
        let config = minijinja::value::Value::UNDEFINED;
        let state = json!({"at": "2024-02-20"});
        let error = stream
            .unwrap()
            .for_state(
                Some(&state),
                &Scope::new(&templates, &config),
                time::parse_iso("2024-03-01").unwrap(),
            )
            .unwrap_err();
        assert_eq!(error.code(), "retention_invalid");
    }
}

//! Cursors: what an incremental read asks for, and the state that advances it (promise I3).
//!
//! The windows of one partition are read one after the other inside one slice, so that the state
//! never passes a window that was not read.

mod bound;
mod clamp;
mod count;
mod dated;
mod mark;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sluice_core::Result;

use super::{
    manifest::Component,
    record::Record,
    request::{Injection, RequestOption},
    template::{Scope, Template, Templates},
    time::Moment,
    track::interval_value,
};
use count::{Count, number};
use dated::Dated;
pub use mark::Mark;

/// The cursor of a stream.
#[derive(Debug)]
pub struct Cursor {
    field: Template,
    start_option: Option<RequestOption>,
    end_option: Option<RequestOption>,
    start_key: String,
    end_key: String,
    scale: Scale,
    /// Keep only records within the range, whatever the source sends.
    pub client_side: bool,
    /// Newest first: nothing follows behind a page whose last record is out of range.
    pub data_feed: bool,
    /// One value for all partitions.
    pub global: bool,
}

/// What the cursor's values are.
#[derive(Debug)]
enum Scale {
    /// `DatetimeBasedCursor`.
    Time(Box<Dated>),
    /// `IncrementingCountCursor`.
    Count(Count),
}

/// The range of a slice, as stored in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Range {
    pub start: Mark,
    pub end: Mark,
    /// The state the range was made from: it is kept while nothing newer is seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Value>,
}

/// One window inside a range; both ends are included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    pub start: Mark,
    pub end: Mark,
    /// Where the following window starts; `None` for the last one.
    pub next: Option<Mark>,
}

/// What a range is made from, besides the cursor.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    pub state: Option<&'a Value>,
    /// The state is taken this much earlier.
    pub earlier: TimeDelta,
    /// Wins over the state.
    pub since: Option<Moment>,
    pub now: Moment,
}

impl Cursor {
    pub fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        component.without_class()?;
        let mut option = |field: &str| -> Result<Option<RequestOption>> {
            component
                .child(field)?
                .map(|child| RequestOption::build(&child, templates))
                .transpose()
        };
        let counts = match component.kind() {
            "DatetimeBasedCursor" => false,
            "IncrementingCountCursor" => true,
            _ => return Err(component.unsupported()),
        };
        let (start_option, end_option) = if counts {
            (option("start_value_option")?, None)
        } else {
            (option("start_time_option")?, option("end_time_option")?)
        };
        let name = |field: &str, default: &str| match component.text(field) {
            Some(name) if !counts => name.to_owned(),
            _ => default.to_owned(),
        };
        let (start_key, end_key) = if counts {
            ("start", "end")
        } else {
            ("start_time", "end_time")
        };
        let data_feed = !counts && component.flag("is_data_feed");
        Ok(Self {
            field: component
                .template("cursor_field", templates)?
                .ok_or_else(|| component.invalid("cursor_field", "is missing"))?,
            start_option,
            end_option,
            start_key: name("partition_field_start", start_key),
            end_key: name("partition_field_end", end_key),
            client_side: data_feed || (!counts && component.flag("is_client_side_incremental")),
            data_feed,
            global: !counts && component.flag("global_substream_cursor"),
            scale: if counts {
                Scale::Count(Count::build(component, templates)?)
            } else {
                Scale::Time(Box::new(Dated::build(component, templates)?))
            },
        })
    }

    /// Whether it can have a value per partition.
    pub fn fits_partitions(&self) -> bool {
        matches!(self.scale, Scale::Time(_))
    }

    /// Whether a range may be read in more than one window.
    pub fn has_steps(&self) -> bool {
        matches!(&self.scale, Scale::Time(dated) if dated.has_steps())
    }

    /// The range to read; `None` when there is nothing to read. `since` wins over the state, the
    /// state over the configured start.
    pub fn range(&self, scope: &Scope<'_>, from: Origin<'_>) -> Result<Option<Range>> {
        let field = self.field(scope)?;
        let known = from
            .state
            .and_then(|state| state_value(state, &field))
            .and_then(|value| self.parse(&value).map(|mark| (mark, value)));
        let known_mark = known.as_ref().map(|(mark, _)| *mark);
        let ends = match &self.scale {
            Scale::Time(dated) => {
                let state = match known_mark {
                    Some(Mark::Time(moment)) => Some(moment),
                    _ => None,
                };
                dated
                    .ends(scope, state, from)?
                    .map(|(start, end)| (Mark::Time(start), Mark::Time(end)))
            }
            Scale::Count(count) => {
                let start = Mark::Count(count.start(scope)?);
                // A time says nothing about a count, so everything is read again.
                let state = known_mark.filter(|_| from.since.is_none());
                Some((
                    state.map_or(start, |mark| mark.max(start)),
                    Mark::Count(i64::MAX),
                ))
            }
        };
        Ok(ends.map(|(start, end)| Range {
            start,
            end,
            state: known.map(|(_, value)| value),
        }))
    }

    /// The window of a range that starts at `from`.
    pub fn window(&self, range: &Range, from: Mark, scope: &Scope<'_>) -> Result<Window> {
        if let (Scale::Time(dated), Mark::Time(start), Mark::Time(end)) =
            (&self.scale, from, range.end)
            && let Some((upper, next)) = dated.upper(start, end, scope)?
        {
            return Ok(Window {
                start: from,
                end: Mark::Time(upper),
                next: Some(Mark::Time(next)),
            });
        }
        Ok(Window {
            start: from,
            end: range.end,
            next: None,
        })
    }

    /// The window's ends under their names, as templates see them.
    pub fn interval(&self, window: &Window) -> Map<String, Value> {
        Map::from_iter([
            (self.start_key.clone(), self.output(window.start)),
            (self.end_key.clone(), self.output(window.end)),
        ])
    }

    /// What goes into each request of a window.
    pub fn injections(&self, window: &Window, scope: &Scope<'_>) -> Result<Vec<Injection>> {
        let mut all = Vec::new();
        for (option, mark) in [
            (&self.start_option, window.start),
            (&self.end_option, window.end),
        ] {
            if let Some(option) = option {
                all.push(option.inject(self.output(mark), scope)?);
            }
        }
        Ok(all)
    }

    /// The highest cursor value in records, never above the range's end: a record dated in the
    /// future must not hide what is edited until then. `None` when no record has a readable one.
    pub fn highest(
        &self,
        records: &[Record],
        range: &Range,
        scope: &Scope<'_>,
    ) -> Result<Option<Mark>> {
        let field = self.field(scope)?;
        Ok(records
            .iter()
            .filter_map(|record| self.parse(&*record.get(&field)?))
            .max()
            .map(|mark| mark.min(range.end)))
    }

    /// Whether a record lies within the range; records without a readable value do.
    pub fn contains(&self, record: &Record, range: &Range, scope: &Scope<'_>) -> Result<bool> {
        let field = self.field(scope)?;
        let mark = record.get(&field).and_then(|value| self.parse(&value));
        Ok(mark.is_none_or(|mark| range.start <= mark && mark <= range.end))
    }

    /// The state after everything up to `highest` was read: the greater of it and the old one.
    pub fn state(
        &self,
        range: &Range,
        highest: Option<Mark>,
        scope: &Scope<'_>,
    ) -> Result<Option<Value>> {
        let old = range.state.as_ref().and_then(|value| self.parse(value));
        let Some(mark) = old.max(highest) else {
            return Ok(None);
        };
        let state = Map::from_iter([(self.field(scope)?, self.output(mark))]);
        Ok(Some(Value::Object(state)))
    }

    pub fn field(&self, scope: &Scope<'_>) -> Result<String> {
        self.field.text(scope)
    }

    /// The configured start.
    pub fn start(&self, scope: &Scope<'_>) -> Result<Mark> {
        match &self.scale {
            Scale::Time(dated) => dated.start(scope).map(Mark::Time),
            Scale::Count(count) => count.start(scope).map(Mark::Count),
        }
    }

    /// The value of a state, if it can be read.
    pub fn value(&self, state: &Value, field: &str) -> Option<Mark> {
        self.parse(&state_value(state, field)?)
    }

    /// Whether a state has no value, or one that can be read.
    pub fn reads(&self, state: &Value, field: &str) -> bool {
        state_value(state, field).is_none_or(|value| self.parse(&value).is_some())
    }

    /// A value as states and requests have it.
    pub fn output(&self, mark: Mark) -> Value {
        match (mark, &self.scale) {
            (Mark::Time(moment), Scale::Time(dated)) => dated.text(moment).into(),
            // Counting has no end.
            (Mark::Count(i64::MAX), _) => "inf".into(),
            (Mark::Count(count), _) => count.into(),
            // Marks of one stream are of one kind; a stored slice of an older manifest may not be.
            (Mark::Time(moment), Scale::Count(_)) => moment.timestamp().into(),
        }
    }

    fn parse(&self, value: &Value) -> Option<Mark> {
        match &self.scale {
            Scale::Time(dated) => dated.parse(value).map(Mark::Time),
            Scale::Count(_) => number(value).map(Mark::Count),
        }
    }
}

fn state_value(state: &Value, field: &str) -> Option<Value> {
    interval_value(state).or_else(|| state.get(field).cloned())
}

#[cfg(test)]
mod tests;

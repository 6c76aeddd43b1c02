//! `DatetimeBasedCursor`: time windows and the state that advances them (promise I3).
//!
//! The windows of one partition are read one after the other inside one slice, so that the state
//! never passes a window that was not read.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sluice_core::{Error, Result};

use super::{
    manifest::Component,
    request::{Injection, RequestOption},
    template::{Scope, Template, Templates, python},
    time::{self, Duration, Moment},
    track::interval_value,
};

/// `DatetimeBasedCursor`.
#[derive(Debug)]
pub struct Cursor {
    field: Template,
    format: String,
    record_formats: Vec<String>,
    start: Bound,
    end: Option<Bound>,
    step: Option<Template>,
    granularity: Option<Duration>,
    lookback: Option<Template>,
    start_option: Option<RequestOption>,
    end_option: Option<RequestOption>,
    start_key: String,
    end_key: String,
    strict: bool,
    /// Keep only records within the range, whatever the source sends.
    pub client_side: bool,
    /// Newest first: nothing follows behind a page whose last record is out of range.
    pub data_feed: bool,
    /// One value for all partitions.
    pub global: bool,
}

/// `MinMaxDatetime`, or a text alone.
#[derive(Debug)]
struct Bound {
    value: Template,
    format: Option<String>,
    min: Option<Template>,
    max: Option<Template>,
}

/// The range of a slice, as stored in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Range {
    #[serde(with = "moment")]
    pub start: Moment,
    #[serde(with = "moment")]
    pub end: Moment,
    /// The state the range was made from: it is kept while nothing newer is seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// One window inside a range; both ends are included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    pub start: Moment,
    pub end: Moment,
    /// Where the following window starts; `None` for the last one.
    pub next: Option<Moment>,
}

/// Moments as RFC 3339 text with microseconds.
pub mod moment {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::source::time::{self, Moment};

    pub fn serialize<S: Serializer>(moment: &Moment, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&moment.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        let text = String::deserialize(deserializer)?;
        time::parse_iso(&text).ok_or_else(|| D::Error::custom("not a time"))
    }
}

impl Cursor {
    pub fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        component.without_class()?;
        if component.kind() != "DatetimeBasedCursor" || component.get("clamping").is_some() {
            return Err(component.unsupported());
        }
        let format = component
            .text("datetime_format")
            .ok_or_else(|| component.invalid("datetime_format", "is missing"))?
            .to_owned();
        let mut record_formats: Vec<String> = match component.get("cursor_datetime_formats") {
            Some(Value::Array(items)) => items.iter().map(python::text).collect(),
            _ => Vec::new(),
        };
        record_formats.push(format.clone());
        let granularity = component
            .text("cursor_granularity")
            .map(|text| {
                Duration::parse(text)
                    .ok_or_else(|| component.invalid("cursor_granularity", "is no ISO duration"))
            })
            .transpose()?;
        let step = component.template("step", templates)?;
        if step.is_some() != granularity.is_some() {
            return Err(component.invalid("step", "and cursor_granularity need each other"));
        }
        let mut option = |field: &str| -> Result<Option<RequestOption>> {
            component
                .child(field)?
                .map(|child| RequestOption::build(&child, templates))
                .transpose()
        };
        let start_option = option("start_time_option")?;
        let end_option = option("end_time_option")?;
        let name = |field: &str, default: &str| component.text(field).unwrap_or(default).to_owned();
        Ok(Self {
            field: component
                .template("cursor_field", templates)?
                .ok_or_else(|| component.invalid("cursor_field", "is missing"))?,
            start: Bound::build(component, "start_datetime", templates)?
                .ok_or_else(|| component.invalid("start_datetime", "is missing"))?,
            end: Bound::build(component, "end_datetime", templates)?,
            format,
            record_formats,
            step,
            granularity,
            lookback: component.template("lookback_window", templates)?,
            start_option,
            end_option,
            start_key: name("partition_field_start", "start_time"),
            end_key: name("partition_field_end", "end_time"),
            strict: component.flag("is_compare_strictly"),
            client_side: component.flag("is_client_side_incremental")
                || component.flag("is_data_feed"),
            data_feed: component.flag("is_data_feed"),
            global: component.flag("global_substream_cursor"),
        })
    }

    /// The range to read; `None` when there is nothing to read. `since` wins over the state, the
    /// state over the configured start; the lookback and `earlier` are taken off both, never below
    /// the start.
    pub fn range(
        &self,
        scope: &Scope<'_>,
        state: Option<&Value>,
        earlier: TimeDelta,
        since: Option<Moment>,
        now: Moment,
    ) -> Result<Option<Range>> {
        let start = self.start.moment(scope, &self.format)?;
        let end = match &self.end {
            Some(end) => end.moment(scope, &self.format)?,
            None => now,
        };
        // Dates without a time would otherwise hold the time of the run.
        let end = time::parse(&time::format(&end, &self.format), &self.format).unwrap_or(end);
        let field = self.field(scope)?;
        let known = state
            .and_then(|state| state_text(state, &field))
            .and_then(|text| self.parse(&text).map(|moment| (moment, text)));
        let lookback = self.duration(self.lookback.as_ref(), scope, "lookback_window")?;
        let back = |moment: Moment| {
            let lookback = lookback.unwrap_or_default();
            let earlier = moment.checked_sub_signed(earlier);
            earlier
                .and_then(|moment| lookback.before(moment))
                .unwrap_or(moment)
        };
        let lower = match (since, &known) {
            (Some(since), _) => back(since),
            (None, Some((value, _))) if *value >= start => back(*value).max(start),
            (None, _) => start,
        };
        let lower = time::parse(&time::format(&lower, &self.format), &self.format).unwrap_or(lower);
        let allowed = if lower == end {
            self.step.is_none() || !self.strict
        } else {
            lower < end
        };
        Ok(allowed.then(|| Range {
            start: lower,
            end,
            state: known.map(|(_, text)| text),
        }))
    }

    /// The window of a range that starts at `from`.
    pub fn window(&self, range: &Range, from: Moment, scope: &Scope<'_>) -> Result<Window> {
        let last = Window {
            start: from,
            end: range.end,
            next: None,
        };
        let (Some(step), Some(granularity)) = (
            self.duration(self.step.as_ref(), scope, "step")?,
            self.granularity,
        ) else {
            return Ok(last);
        };
        match step.after(from) {
            Some(upper) if upper > from && upper < range.end => Ok(Window {
                start: from,
                end: granularity.before(upper).unwrap_or(upper).max(from),
                next: Some(upper),
            }),
            Some(upper) if upper <= from => Err(Error::config(
                "cursor_step_invalid",
                "the cursor's step does not move time forward",
            )),
            _ => Ok(last),
        }
    }

    /// The window's ends under their names, as templates see them.
    pub fn interval(&self, window: &Window) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert(
            self.start_key.clone(),
            time::format(&window.start, &self.format).into(),
        );
        map.insert(
            self.end_key.clone(),
            time::format(&window.end, &self.format).into(),
        );
        map
    }

    /// What goes into each request of a window.
    pub fn injections(&self, window: &Window, scope: &Scope<'_>) -> Result<Vec<Injection>> {
        let mut all = Vec::new();
        for (option, moment) in [
            (&self.start_option, window.start),
            (&self.end_option, window.end),
        ] {
            if let Some(option) = option {
                let text = time::format(&moment, &self.format);
                all.push(option.inject(Value::String(text), scope)?);
            }
        }
        Ok(all)
    }

    /// The highest cursor value in records, never above the range's end: a record dated in the
    /// future must not hide what is edited until then. `None` when no record has a readable one.
    pub fn highest(
        &self,
        records: &[Value],
        range: &Range,
        scope: &Scope<'_>,
    ) -> Result<Option<Moment>> {
        let field = self.field(scope)?;
        Ok(records
            .iter()
            .filter_map(|record| self.parse(&python::text(record.get(&field)?)))
            .max()
            .map(|moment| moment.min(range.end)))
    }

    /// Whether a record lies within the range; records without a readable value do.
    pub fn contains(&self, record: &Value, range: &Range, scope: &Scope<'_>) -> Result<bool> {
        let field = self.field(scope)?;
        let moment = record
            .get(&field)
            .and_then(|value| self.parse(&python::text(value)));
        Ok(moment.is_none_or(|moment| range.start <= moment && moment <= range.end))
    }

    /// The state after everything up to `highest` was read: the greater of it and the old one.
    pub fn state(
        &self,
        range: &Range,
        highest: Option<Moment>,
        scope: &Scope<'_>,
    ) -> Result<Option<Value>> {
        let old = range.state.as_ref().and_then(|text| self.parse(text));
        let Some(value) = old.max(highest) else {
            return Ok(None);
        };
        let mut map = Map::new();
        map.insert(
            self.field(scope)?,
            time::format(&value, &self.format).into(),
        );
        Ok(Some(Value::Object(map)))
    }

    pub fn field(&self, scope: &Scope<'_>) -> Result<String> {
        self.field.text(scope)
    }

    /// The configured start.
    pub fn start(&self, scope: &Scope<'_>) -> Result<Moment> {
        self.start.moment(scope, &self.format)
    }

    /// The value of a state, if it can be read.
    pub fn value(&self, state: &Value, field: &str) -> Option<Moment> {
        self.parse(&state_text(state, field)?)
    }

    /// A value as states and requests have it.
    pub fn text(&self, moment: Moment) -> String {
        time::format(&moment, &self.format)
    }

    fn parse(&self, text: &str) -> Option<Moment> {
        let text = text.trim();
        self.record_formats
            .iter()
            .find_map(|format| time::parse(text, format))
    }

    fn duration(
        &self,
        template: Option<&Template>,
        scope: &Scope<'_>,
        field: &str,
    ) -> Result<Option<Duration>> {
        let Some(template) = template else {
            return Ok(None);
        };
        let text = template.text(scope)?;
        if text.is_empty() {
            return Ok(None);
        }
        Duration::parse(&text).map(Some).ok_or_else(|| {
            Error::config(
                "cursor_duration_invalid",
                format!("the cursor's {field} is no ISO 8601 duration"),
            )
        })
    }
}

fn state_text(state: &Value, field: &str) -> Option<String> {
    interval_value(state).or_else(|| state.get(field).map(python::text))
}

impl Bound {
    fn build(
        owner: &Component<'_>,
        field: &str,
        templates: &mut Templates,
    ) -> Result<Option<Self>> {
        match owner.get(field) {
            None => Ok(None),
            Some(Value::Object(_)) => {
                let component = owner.required(field)?;
                if component.kind() != "MinMaxDatetime" {
                    return Err(component.unsupported());
                }
                Ok(Some(Self {
                    value: component
                        .template("datetime", templates)?
                        .ok_or_else(|| component.invalid("datetime", "is missing"))?,
                    format: component
                        .text("datetime_format")
                        .filter(|format| !format.is_empty())
                        .map(str::to_owned),
                    min: component.template("min_datetime", templates)?,
                    max: component.template("max_datetime", templates)?,
                }))
            }
            Some(_) => Ok(owner.template(field, templates)?.map(|value| Self {
                value,
                format: None,
                min: None,
                max: None,
            })),
        }
    }

    fn moment(&self, scope: &Scope<'_>, inherited: &str) -> Result<Moment> {
        let format = self.format.as_deref().unwrap_or(inherited);
        let read = |template: &Template| -> Result<Option<Moment>> {
            let text = template.text(scope)?;
            if text.is_empty() {
                return Ok(None);
            }
            time::parse(&text, format)
                // Values such as `now_utc()` print in ISO form.
                .or_else(|| time::parse_iso(&text))
                .map(Some)
                .ok_or_else(|| {
                    Error::config(
                        "cursor_date_invalid",
                        format!("a start or end date does not match the format {format}"),
                    )
                    .hint("look at the dates in the connection's settings")
                })
        };
        let mut moment = read(&self.value)?.ok_or_else(|| {
            Error::config("cursor_date_missing", "a start or end date is empty")
                .hint("look at the dates in the connection's settings")
        })?;
        if let Some(min) = self.min.as_ref().map(&read).transpose()?.flatten() {
            moment = moment.max(min);
        }
        if let Some(max) = self.max.as_ref().map(&read).transpose()?.flatten() {
            moment = moment.min(max);
        }
        Ok(moment)
    }
}

#[cfg(test)]
mod tests;

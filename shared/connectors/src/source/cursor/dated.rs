//! `DatetimeBasedCursor`: windows of time.

use serde_json::Value;
use sluice_core::{Error, Result};

use super::{
    Origin,
    bound::Bound,
    clamp::{Clamping, Period},
};
use crate::source::{
    manifest::Component,
    template::{Scope, Template, Templates, python},
    time::{self, Duration, Moment},
};

#[derive(Debug)]
pub(super) struct Dated {
    format: String,
    record_formats: Vec<String>,
    start: Bound,
    end: Option<Bound>,
    step: Option<Template>,
    granularity: Option<Duration>,
    lookback: Option<Template>,
    clamping: Option<Clamping>,
    strict: bool,
}

impl Dated {
    pub(super) fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
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
        Ok(Self {
            start: Bound::build(component, "start_datetime", templates)?
                .ok_or_else(|| component.invalid("start_datetime", "is missing"))?,
            end: Bound::build(component, "end_datetime", templates)?,
            format,
            record_formats,
            step,
            granularity,
            lookback: component.template("lookback_window", templates)?,
            clamping: component
                .child("clamping")?
                .map(|clamping| Clamping::build(&clamping, templates))
                .transpose()?,
            strict: component.flag("is_compare_strictly"),
        })
    }

    pub(super) fn has_steps(&self) -> bool {
        self.step.is_some()
    }

    /// Where reading starts and ends, if there is anything to read. The lookback and `earlier` are
    /// taken off the state, never below the configured start.
    pub(super) fn ends(
        &self,
        scope: &Scope<'_>,
        state: Option<Moment>,
        from: Origin<'_>,
    ) -> Result<Option<(Moment, Moment)>> {
        let start = self.start(scope)?;
        let period = self.period(scope)?;
        let end = match &self.end {
            Some(end) => end.moment(scope, &self.format)?,
            None => from.now,
        };
        // Windows of whole periods end before the one that is not over.
        let over = match period {
            Some(period) => {
                let unit = self.granularity.unwrap_or_else(|| period.unit());
                period.floor(end).and_then(|end| unit.before(end))
            }
            None => Some(end),
        };
        // Dates without a time would otherwise hold the time of the run.
        let end = self.trimmed(over.unwrap_or(end));
        let lookback = self.duration(self.lookback.as_ref(), scope, "lookback_window")?;
        let back = |moment: Moment| {
            let lookback = lookback.unwrap_or_default();
            let earlier = moment.checked_sub_signed(from.earlier);
            earlier
                .and_then(|moment| lookback.before(moment))
                .unwrap_or(moment)
        };
        let lower = match (from.since, state) {
            (Some(since), _) => back(since),
            (None, Some(value)) if value >= start => back(value).max(start),
            (None, _) => start,
        };
        let lower = self.trimmed(clamped(period, lower));
        let something = if lower == end {
            self.step.is_none() || !self.strict
        } else {
            lower < end
        };
        // Without steps the only window ends with the period.
        let end = if self.step.is_none() {
            clamped(period, end)
        } else {
            end
        };
        Ok(something.then_some((lower, end)))
    }

    /// The end of the window that starts at `from`, and where the next one starts; `None` for the
    /// last one of a range.
    pub(super) fn upper(
        &self,
        from: Moment,
        end: Moment,
        scope: &Scope<'_>,
    ) -> Result<Option<(Moment, Moment)>> {
        let (Some(step), Some(granularity)) = (
            self.duration(self.step.as_ref(), scope, "step")?,
            self.granularity,
        ) else {
            return Ok(None);
        };
        let Some(upper) = step.after(from) else {
            return Ok(None);
        };
        if upper <= from {
            return Err(Error::config(
                "cursor_step_invalid",
                "the cursor's step does not move time forward",
            ));
        }
        if upper >= end {
            return Ok(None);
        }
        let upper = clamped(self.period(scope)?, upper);
        let last = granularity.before(upper).unwrap_or(upper).max(from);
        Ok((upper < end).then_some((last, upper)))
    }

    /// The configured start.
    pub(super) fn start(&self, scope: &Scope<'_>) -> Result<Moment> {
        self.start.moment(scope, &self.format)
    }

    pub(super) fn text(&self, moment: Moment) -> String {
        time::format(&moment, &self.format)
    }

    pub(super) fn parse(&self, value: &Value) -> Option<Moment> {
        let text = python::text(value);
        let text = text.trim();
        self.record_formats
            .iter()
            .find_map(|format| time::parse(text, format))
    }

    /// As precise as the format is.
    fn trimmed(&self, moment: Moment) -> Moment {
        time::parse(&self.text(moment), &self.format).unwrap_or(moment)
    }

    fn period(&self, scope: &Scope<'_>) -> Result<Option<Period>> {
        self.clamping
            .as_ref()
            .map(|clamping| clamping.period(scope))
            .transpose()
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

fn clamped(period: Option<Period>, moment: Moment) -> Moment {
    period
        .and_then(|period| period.ceiling(moment))
        .unwrap_or(moment)
}

//! `clamping`: windows that begin and end with whole days, weeks or months.

use chrono::{Datelike as _, Months, NaiveTime, TimeDelta, Weekday};
use sluice_core::{Error, Result};

use crate::source::{
    manifest::Component,
    template::{Scope, Template, Templates},
    time::{Duration, Moment},
};

/// The manifest's wish; which period it is may be a setting.
#[derive(Debug)]
pub(super) struct Clamping {
    target: Template,
    weekday: Option<Weekday>,
}

/// What bounds are rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Period {
    Day,
    /// Begins on this day.
    Week(Weekday),
    Month,
}

impl Clamping {
    pub(super) fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        let weekday = component
            .child("target_details")?
            .and_then(|details| details.text("weekday"))
            .map(|text| {
                text.parse()
                    .map_err(|_| component.invalid("target_details.weekday", "is no day of a week"))
            })
            .transpose()?;
        Ok(Self {
            target: component
                .template("target", templates)?
                .ok_or_else(|| component.invalid("target", "is missing"))?,
            weekday,
        })
    }

    pub(super) fn period(&self, scope: &Scope<'_>) -> Result<Period> {
        let invalid = |detail: &str| Error::config("cursor_clamping_invalid", detail);
        match self.target.text(scope)?.as_str() {
            "DAY" => Ok(Period::Day),
            "MONTH" => Ok(Period::Month),
            "WEEK" => self.weekday.map(Period::Week).ok_or_else(|| {
                invalid("windows of weeks need to know the day a week begins with")
                    .hint("set `clamping.target_details.weekday`")
            }),
            _ => Err(invalid("the cursor's clamping must be DAY, WEEK or MONTH")),
        }
    }
}

impl Period {
    /// The beginning of the period; `None` beyond the calendar.
    pub(super) fn floor(self, moment: Moment) -> Option<Moment> {
        let day = midnight(moment)?;
        match self {
            Self::Day => Some(day),
            Self::Month => day.with_day(1),
            Self::Week(first) => {
                let days = day.weekday().days_since(first);
                day.checked_sub_signed(TimeDelta::days(i64::from(days)))
            }
        }
    }

    /// The beginning of the next period, unless one begins on this day; only whole days count for
    /// that, except with days, as in the reference runtime.
    pub(super) fn ceiling(self, moment: Moment) -> Option<Moment> {
        let day = midnight(moment)?;
        let floor = self.floor(moment)?;
        if floor == moment || (floor == day && self != Self::Day) {
            return Some(floor);
        }
        match self {
            Self::Day => floor.checked_add_signed(TimeDelta::days(1)),
            Self::Week(_) => floor.checked_add_signed(TimeDelta::days(7)),
            Self::Month => floor.checked_add_months(Months::new(1)),
        }
    }

    /// What the end of the last window lies before the next period, when the cursor does not say.
    pub(super) fn unit(self) -> Duration {
        let text = match self {
            Self::Day => "PT1S",
            Self::Week(_) | Self::Month => "P1D",
        };
        Duration::parse(text).unwrap_or_default()
    }
}

fn midnight(moment: Moment) -> Option<Moment> {
    moment.with_time(NaiveTime::MIN).single()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::time;

    #[test]
    fn moments_are_rounded_to_periods() {
        let at = |text: &str| time::parse_iso(text).unwrap();
        for (period, moment, floor, ceiling) in [
            (
                Period::Day,
                "2024-02-03T00:00:00Z",
                "2024-02-03",
                "2024-02-03",
            ),
            (
                Period::Day,
                "2024-02-03T04:05:06Z",
                "2024-02-03",
                "2024-02-04",
            ),
            (
                Period::Month,
                "2024-12-03T04:05:06Z",
                "2024-12-01",
                "2025-01-01",
            ),
            (
                Period::Month,
                "2024-12-01T04:05:06Z",
                "2024-12-01",
                "2024-12-01",
            ),
            // 2024-01-01 is a Monday.
            (
                Period::Week(Weekday::Mon),
                "2024-01-03",
                "2024-01-01",
                "2024-01-08",
            ),
            (
                Period::Week(Weekday::Thu),
                "2024-01-03",
                "2023-12-28",
                "2024-01-04",
            ),
            (
                Period::Week(Weekday::Wed),
                "2024-01-03",
                "2024-01-03",
                "2024-01-03",
            ),
        ] {
            let moment = at(moment);
            assert_eq!(period.floor(moment), Some(at(floor)), "{period:?} {moment}");
            assert_eq!(
                period.ceiling(moment),
                Some(at(ceiling)),
                "{period:?} {moment}"
            );
        }
    }
}

//! Days and times as they are expected: the vendor writes local ones, of America/Chicago.

use chrono::{Datelike, NaiveDate, NaiveDateTime, TimeDelta, Weekday};
use serde_json::Value;

use super::rules::text;

/// Typing errors such as the year 5025 are not passed on.
const LAST_YEAR: i32 = 2200;

/// The day at a pointer, without those no one can mean.
pub(super) fn day(record: &Value, pointer: &str) -> Value {
    sane_day(text(record, pointer)).map_or(Value::Null, |day| Value::from(day.to_string()))
}

/// Whether there is a day at a pointer that no one can mean.
pub(super) fn absurd(record: &Value, pointer: &str) -> bool {
    !text(record, pointer).is_empty() && sane_day(text(record, pointer)).is_none()
}

/// The beginning of the day at a pointer, in UTC.
pub(super) fn start_of_day(record: &Value, pointer: &str) -> Value {
    utc(midnight(record, pointer))
}

/// The beginning of the day at a pointer, in the vendor's own time and with its offset.
pub(super) fn start_of_day_there(record: &Value, pointer: &str) -> Value {
    midnight(record, pointer).map_or(Value::Null, |at| {
        Value::from(format!("{}-{:02}:00", at.format("%FT%T"), behind(at)))
    })
}

/// The moment at a pointer, in UTC.
pub(super) fn moment(record: &Value, pointer: &str) -> Value {
    utc(NaiveDateTime::parse_from_str(text(record, pointer), "%FT%T").ok())
}

fn sane_day(text: &str) -> Option<NaiveDate> {
    let day = NaiveDate::parse_from_str(text.get(..10)?, "%F").ok()?;
    (day.year() <= LAST_YEAR).then_some(day)
}

fn midnight(record: &Value, pointer: &str) -> Option<NaiveDateTime> {
    sane_day(text(record, pointer))?.and_hms_opt(0, 0, 0)
}

fn utc(local: Option<NaiveDateTime>) -> Value {
    local.map_or(Value::Null, |at| {
        let at = at + TimeDelta::hours(behind(at));
        Value::from(format!("{}Z", at.format("%FT%T")))
    })
}

/// Hours behind UTC, by the rule of the United States since 2007: summer time from the second
/// Sunday of March to the first of November, at two o'clock. An hour that is skipped counts as
/// before the change, one that comes twice as the first.
fn behind(at: NaiveDateTime) -> i64 {
    let change = |month, sunday, hour| {
        NaiveDate::from_weekday_of_month_opt(at.year(), month, Weekday::Sun, sunday)
            .and_then(|day| day.and_hms_opt(hour, 0, 0))
    };
    let summer = change(3, 2, 3).is_some_and(|start| at >= start)
        && change(11, 1, 2).is_some_and(|end| at < end);
    if summer { 5 } else { 6 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn local_times_become_utc_by_the_season() {
        for (written, expected) in [
            ("2025-01-05T16:02:31", json!("2025-01-05T22:02:31Z")),
            ("2025-07-05T16:02:31", json!("2025-07-05T21:02:31Z")),
            ("2025-03-09T02:30:00", json!("2025-03-09T08:30:00Z")),
            ("2025-11-02T01:30:00", json!("2025-11-02T06:30:00Z")),
            ("2025-11-02T02:00:00", json!("2025-11-02T08:00:00Z")),
            ("", Value::Null),
        ] {
            assert_eq!(moment(&json!({ "at": written }), "/at"), expected);
        }
    }

    #[test]
    fn days_begin_at_midnight_there_and_absurd_ones_are_left_out() {
        let record = json!({ "fine": "2025-07-05T16:02:31", "absurd": "5025-07-05", "none": null });
        assert_eq!(day(&record, "/fine"), "2025-07-05");
        assert_eq!(start_of_day(&record, "/fine"), "2025-07-05T05:00:00Z");
        assert_eq!(
            start_of_day_there(&record, "/fine"),
            "2025-07-05T00:00:00-05:00"
        );
        for pointer in ["/absurd", "/none"] {
            assert_eq!(day(&record, pointer), Value::Null);
            assert_eq!(start_of_day(&record, pointer), Value::Null);
            assert_eq!(start_of_day_there(&record, pointer), Value::Null);
        }
        assert!(absurd(&record, "/absurd"));
        assert!(!absurd(&record, "/none") && !absurd(&record, "/fine"));
    }
}

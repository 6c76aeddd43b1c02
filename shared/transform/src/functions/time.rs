//! Dates and times as vendors write them.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, SecondsFormat, TimeDelta, Utc};
use chrono_tz::Tz;
use vrl::value::Value;

use super::values;

/// Years outside are typing errors: years 5025 and 6065 exist in live Yardi data.
const YEARS: std::ops::RangeInclusive<i32> = 1900..=2200;

pub(super) fn day(value: Option<&Value>) -> Option<String> {
    let text = values::text(value)?;
    let day = match parse(&text)? {
        Moment::Local(time) => time.date(),
        // The day is the vendor's own, so the offset is left as written.
        Moment::Fixed(time) => time.naive_local().date(),
    };
    sane(day.year()).then(|| day.format("%Y-%m-%d").to_string())
}

pub(super) fn instant(value: Option<&Value>, zone: Option<&Value>) -> Option<String> {
    if let Some(Value::Timestamp(time)) = value {
        return utc(*time);
    }
    let text = values::text(value)?;
    utc(match parse(&text)? {
        Moment::Local(time) => from_local(time, zone_of(zone)?)?,
        Moment::Fixed(time) => time.with_timezone(&Utc),
    })
}

pub(super) fn in_zone(value: Option<&Value>, zone: Option<&Value>) -> Option<String> {
    let text = values::text(value)?;
    let time = DateTime::parse_from_rfc3339(&text).ok()?;
    Some(
        time.with_timezone(&zone_of(zone)?)
            .to_rfc3339_opts(SecondsFormat::AutoSi, true),
    )
}

fn utc(time: DateTime<Utc>) -> Option<String> {
    sane(time.year()).then(|| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

fn sane(year: i32) -> bool {
    YEARS.contains(&year)
}

fn zone_of(zone: Option<&Value>) -> Option<Tz> {
    values::text(zone)?.parse().ok()
}

/// A time of day that daylight saving repeats means its first occurrence; one that it skips means
/// the same distance from the last moment before the gap, as clocks in the field behave.
fn from_local(time: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    match time.and_local_timezone(zone) {
        chrono::LocalResult::Single(time) | chrono::LocalResult::Ambiguous(time, _) => {
            Some(time.with_timezone(&Utc))
        }
        chrono::LocalResult::None => {
            let before = time.checked_sub_signed(TimeDelta::hours(3))?;
            let before = before.and_local_timezone(zone).earliest()?;
            before
                .with_timezone(&Utc)
                .checked_add_signed(TimeDelta::hours(3))
        }
    }
}

enum Moment {
    /// Without an offset.
    Local(NaiveDateTime),
    Fixed(DateTime<chrono::FixedOffset>),
}

/// ISO 8601 date or date-time with `T` or a blank, with or without offset; M/D/YYYY with or
/// without a time, 24 hours or AM/PM.
fn parse(text: &str) -> Option<Moment> {
    if text.contains('/') {
        return slashes(text).map(Moment::Local);
    }
    if text.len() <= 10 {
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        return Some(Moment::Local(day.and_hms_opt(0, 0, 0)?));
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(Moment::Fixed(time));
    }
    [
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M",
    ]
    .iter()
    .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
    .map(Moment::Local)
}

fn slashes(text: &str) -> Option<NaiveDateTime> {
    if let Ok(day) = NaiveDate::parse_from_str(text, "%m/%d/%Y") {
        return day.and_hms_opt(0, 0, 0);
    }
    [
        "%m/%d/%Y %H:%M:%S",
        "%m/%d/%Y %H:%M",
        "%m/%d/%Y %I:%M:%S %p",
        "%m/%d/%Y %I:%M %p",
    ]
    .iter()
    .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, zone: &str) -> Option<String> {
        instant(Some(&Value::from(text)), Some(&Value::from(zone)))
    }

    #[test]
    fn days_are_read_in_all_forms_and_impossible_ones_refused() {
        for (input, expected) in [
            ("2025-03-05", Some("2025-03-05")),
            (" 2025-03-05T16:02:31 ", Some("2025-03-05")),
            ("3/5/2025", Some("2025-03-05")),
            ("12/31/2025 11:59:00 PM", Some("2025-12-31")),
            ("2025-02-31", None),
            ("2/30/2025", None),
            ("5025-01-01", None),
            ("6065-01-01T00:00:00", None),
            ("0001-01-01", None),
            ("1/1/25", None),
            ("soon", None),
        ] {
            assert_eq!(
                day(Some(&Value::from(input))).as_deref(),
                expected,
                "{input}"
            );
        }
    }

    #[test]
    fn local_times_use_the_zone_and_its_daylight_saving() {
        let chicago = "America/Chicago";
        for (input, expected) in [
            ("2025-01-05T16:02:31", Some("2025-01-05T22:02:31Z")),
            ("2025-07-05T16:02:31", Some("2025-07-05T21:02:31Z")),
            ("7/5/2025", Some("2025-07-05T05:00:00Z")),
            ("2025-01-05T16:02:31Z", Some("2025-01-05T16:02:31Z")),
            (
                "2025-01-05T16:02:31.250+02:00",
                Some("2025-01-05T14:02:31.250Z"),
            ),
            // Skipped on 9 March 2025, repeated on 2 November 2025.
            ("2025-03-09T02:30:00", Some("2025-03-09T08:30:00Z")),
            ("2025-11-02T01:30:00", Some("2025-11-02T06:30:00Z")),
            ("2025-02-31T00:00:00", None),
            ("5025-01-01T00:00:00", None),
        ] {
            assert_eq!(at(input, chicago).as_deref(), expected, "{input}");
        }
        assert_eq!(at("2025-01-05", "Mars/Olympus"), None);
        assert_eq!(
            in_zone(
                Some(&Value::from("2025-01-05T22:02:31Z")),
                Some(&Value::from(chicago))
            )
            .as_deref(),
            Some("2025-01-05T16:02:31-06:00")
        );
    }
}

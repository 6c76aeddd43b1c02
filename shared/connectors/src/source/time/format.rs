//! Parsing and printing with Python's `strptime`/`strftime` formats and the manifest format's own
//! directives `%s`, `%s_as_float`, `%ms`, `%epoch_microseconds` and `%_ms`.

use chrono::{
    DateTime, Datelike, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Timelike, Utc,
};

use super::Moment;
use crate::source::template::python;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// Reads the whole text by the format; `None` when it does not match. No offset means UTC.
pub fn parse(text: &str, format: &str) -> Option<Moment> {
    // Python's calendar ends with the year 9999.
    beyond_the_calendar(text, format).filter(|moment| (1..=9999).contains(&moment.year()))
}

fn beyond_the_calendar(text: &str, format: &str) -> Option<Moment> {
    match format {
        "%s" => seconds(text.trim().parse::<i64>().ok()?, 0),
        "%s_as_float" => {
            let value: f64 = text.trim().parse().ok()?;
            micros((value * 1e6).round())
        }
        "%ms" => {
            let value: i64 = text.trim().parse().ok()?;
            seconds(
                value.div_euclid(1000),
                u32::try_from(value.rem_euclid(1000)).ok()? * 1_000_000,
            )
        }
        "%epoch_microseconds" => {
            let value: i64 = text.trim().parse().ok()?;
            DateTime::from_timestamp_micros(value).map(super::utc)
        }
        _ => strptime(text, &format.replace("%_ms", "%f")),
    }
}

fn seconds(seconds: i64, nanos: u32) -> Option<Moment> {
    DateTime::<Utc>::from_timestamp(seconds, nanos).map(super::utc)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "checked to lie within the range of i64 before"
)]
fn micros(value: f64) -> Option<Moment> {
    (value.abs() < 9e18)
        .then(|| DateTime::from_timestamp_micros(value as i64))
        .flatten()
        .map(super::utc)
}

#[derive(Default)]
struct Fields {
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    ordinal: Option<u32>,
    hour: Option<u32>,
    hour12: Option<u32>,
    afternoon: Option<bool>,
    minute: Option<u32>,
    second: Option<u32>,
    micro: Option<u32>,
    offset: Option<i32>,
}

fn strptime(text: &str, format: &str) -> Option<Moment> {
    let mut fields = Fields::default();
    let mut rest = text;
    let mut pattern = format.chars();
    while let Some(c) = pattern.next() {
        if c.is_whitespace() {
            rest = rest.trim_start();
        } else if c == '%' {
            rest = directive(pattern.next()?, rest, &mut fields)?;
        } else {
            rest = rest.strip_prefix(c).or_else(|| {
                // Literals match without regard to case, as in Python.
                let first = rest.chars().next()?;
                first
                    .to_lowercase()
                    .eq(c.to_lowercase())
                    .then(|| rest.get(first.len_utf8()..))?
            })?;
        }
    }
    rest.is_empty().then(|| fields.moment())?
}

/// Up to `width` digits, at least one.
fn digits(text: &str, width: usize) -> Option<(u32, &str)> {
    let end = text
        .bytes()
        .take(width)
        .take_while(u8::is_ascii_digit)
        .count();
    Some((text.get(..end)?.parse().ok()?, text.get(end..)?))
}

fn directive<'a>(directive: char, text: &'a str, fields: &mut Fields) -> Option<&'a str> {
    // As many digits as stay within the largest value: `131` is month 1 and day 31.
    let mut number =
        |text: &'a str, width: usize, most: u32, field: fn(&mut Fields) -> &mut Option<u32>| {
            let (value, rest) = (1..=width)
                .rev()
                .filter_map(|width| digits(text, width))
                .find(|(value, _)| *value <= most)?;
            *field(fields) = Some(value);
            Some(rest)
        };
    match directive {
        'm' => number(text, 2, 12, |f| &mut f.month),
        // A blank may stand for the first digit.
        'd' => match text.strip_prefix(' ') {
            Some(text) if !text.starts_with('0') => number(text, 1, 9, |f| &mut f.day),
            _ => number(text, 2, 31, |f| &mut f.day),
        },
        'H' => number(text, 2, 23, |f| &mut f.hour),
        'I' => number(text, 2, 12, |f| &mut f.hour12),
        'M' => number(text, 2, 59, |f| &mut f.minute),
        'S' => number(text, 2, 61, |f| &mut f.second),
        'j' => number(text, 3, 366, |f| &mut f.ordinal),
        'Y' => {
            let (value, rest) = digits(text, 4)?;
            // Python wants four digits here.
            (text.len() - rest.len() == 4).then_some(())?;
            fields.year = Some(i32::try_from(value).ok()?);
            Some(rest)
        }
        'y' => {
            let (value, rest) = digits(text, 2)?;
            let value = i32::try_from(value).ok()?;
            fields.year = Some(if value < 69 {
                2000 + value
            } else {
                1900 + value
            });
            Some(rest)
        }
        'f' => {
            let (value, rest) = digits(text, 6)?;
            let width = u32::try_from(text.len() - rest.len()).ok()?;
            fields.micro = Some(value * 10_u32.pow(6 - width));
            Some(rest)
        }
        'z' => {
            let (offset, rest) = offset(text)?;
            fields.offset = Some(offset);
            Some(rest)
        }
        'Z' => {
            let rest = ["UTC", "GMT", "Z"]
                .iter()
                .find_map(|zone| text.strip_prefix(zone))?;
            fields.offset = Some(0);
            Some(rest)
        }
        'B' | 'b' => {
            let (index, rest) = name(text, &MONTHS, directive == 'b')?;
            fields.month = Some(u32::try_from(index).ok()? + 1);
            Some(rest)
        }
        'A' | 'a' => name(text, &DAYS, directive == 'a').map(|(_, rest)| rest),
        'p' => {
            let (index, rest) = name(text, &["AM", "PM"], false)?;
            fields.afternoon = Some(index == 1);
            Some(rest)
        }
        '%' => text.strip_prefix('%'),
        _ => None,
    }
}

/// The index of the name the text starts with, letter case aside.
fn name<'a>(text: &'a str, names: &[&str], short: bool) -> Option<(usize, &'a str)> {
    names.iter().enumerate().find_map(|(index, name)| {
        let name = if short { name.get(..3)? } else { name };
        let start = text.get(..name.len())?;
        start
            .eq_ignore_ascii_case(name)
            .then(|| text.get(name.len()..))?
            .map(|rest| (index, rest))
    })
}

/// `Z`, `+0200`, `+02:00`, `+02` is refused as in Python; seconds east of UTC.
pub(super) fn offset(text: &str) -> Option<(i32, &str)> {
    if let Some(rest) = text.strip_prefix('Z') {
        return Some((0, rest));
    }
    let sign = match text.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let two = |text: &str| -> Option<i32> {
        (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse().ok())
            .flatten()
    };
    let hours = two(text.get(1..3)?)?;
    let after = text.get(3..)?;
    let after = after.strip_prefix(':').unwrap_or(after);
    let minutes = two(after.get(..2)?)?;
    (minutes < 60).then_some(())?;
    Some((sign * (hours * 3600 + minutes * 60), after.get(2..)?))
}

impl Fields {
    fn moment(self) -> Option<Moment> {
        let year = self.year.unwrap_or(1900);
        let date = match self.ordinal {
            Some(ordinal) if self.month.is_none() => NaiveDate::from_yo_opt(year, ordinal)?,
            _ => NaiveDate::from_ymd_opt(year, self.month.unwrap_or(1), self.day.unwrap_or(1))?,
        };
        let hour = match (self.hour, self.hour12) {
            (Some(hour), _) => hour,
            (None, Some(hour)) => {
                (1..=12).contains(&hour).then_some(())?;
                hour % 12 + if self.afternoon == Some(true) { 12 } else { 0 }
            }
            (None, None) => 0,
        };
        let time = NaiveTime::from_hms_micro_opt(
            hour,
            self.minute.unwrap_or(0),
            self.second.unwrap_or(0),
            self.micro.unwrap_or(0),
        )?;
        at(NaiveDateTime::new(date, time), self.offset.unwrap_or(0))
    }
}

/// A local time at an offset.
pub(super) fn at(local: NaiveDateTime, offset: i32) -> Option<Moment> {
    FixedOffset::east_opt(offset)?
        .from_local_datetime(&local)
        .single()
}

/// Prints without converting to another offset.
pub fn format(moment: &Moment, format: &str) -> String {
    match format {
        "%s" => return moment.timestamp().to_string(),
        #[expect(
            clippy::cast_precision_loss,
            reason = "Python prints a float here, with the same loss"
        )]
        "%s_as_float" => return python::float(moment.timestamp_micros() as f64 / 1e6),
        "%ms" => return moment.timestamp_millis().to_string(),
        "%epoch_microseconds" => return moment.timestamp_micros().to_string(),
        _ => {}
    }
    let mut out = String::new();
    let mut rest = format;
    while let Some(percent) = rest.find('%') {
        out.push_str(rest.get(..percent).unwrap_or_default());
        rest = rest.get(percent + 1..).unwrap_or_default();
        if let Some(after) = rest.strip_prefix("_ms") {
            out.push_str(&format!("{:03}", moment.timestamp_subsec_millis().min(999)));
            rest = after;
            continue;
        }
        let Some(directive) = rest.chars().next() else {
            out.push('%');
            break;
        };
        rest = rest.get(directive.len_utf8()..).unwrap_or_default();
        print(moment, directive, &mut out);
    }
    out.push_str(rest);
    out
}

fn print(moment: &Moment, directive: char, out: &mut String) {
    let month = MONTHS
        .get(moment.month0() as usize)
        .copied()
        .unwrap_or_default();
    let day = DAYS
        .get(moment.weekday().num_days_from_monday() as usize)
        .copied()
        .unwrap_or_default();
    let (afternoon, hour12) = moment.hour12();
    let text = match directive {
        'Y' => moment.year().to_string(),
        'y' => format!("{:02}", moment.year().rem_euclid(100)),
        'm' => format!("{:02}", moment.month()),
        'd' => format!("{:02}", moment.day()),
        'H' => format!("{:02}", moment.hour()),
        'I' => format!("{hour12:02}"),
        'M' => format!("{:02}", moment.minute()),
        'S' => format!("{:02}", moment.second()),
        'f' => format!("{:06}", moment.timestamp_subsec_micros().min(999_999)),
        'j' => format!("{:03}", moment.ordinal()),
        'z' => {
            let offset = moment.offset().local_minus_utc();
            let minutes = offset.abs() / 60;
            let sign = if offset < 0 { '-' } else { '+' };
            format!("{sign}{:02}{:02}", minutes / 60, minutes % 60)
        }
        'Z' => match moment.offset().local_minus_utc() {
            0 => "UTC".to_owned(),
            _ => format!("UTC{}", moment.format("%:z")),
        },
        'B' => month.to_owned(),
        'b' => month.get(..3).unwrap_or_default().to_owned(),
        'A' => day.to_owned(),
        'a' => day.get(..3).unwrap_or_default().to_owned(),
        'p' => if afternoon { "PM" } else { "AM" }.to_owned(),
        's' => moment.timestamp().to_string(),
        'F' => moment.format("%Y-%m-%d").to_string(),
        'T' => moment.format("%H:%M:%S").to_string(),
        '%' => "%".to_owned(),
        other => format!("%{other}"),
    };
    out.push_str(&text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn formats_in_use_are_read_and_printed() {
        for (text, pattern, printed) in [
            (
                "2024-01-02T03:04:05.678900Z",
                "%Y-%m-%dT%H:%M:%S.%fZ",
                "2024-01-02T03:04:05.678900Z",
            ),
            ("2024-01-02", "%Y-%m-%d", "2024-01-02"),
            ("2024-1-5", "%Y-%m-%d", "2024-01-05"),
            ("3/5/2025", "%m/%d/%Y", "03/05/2025"),
            ("1704164645", "%s", "1704164645"),
            ("1704164645123", "%ms", "1704164645123"),
            ("1704164645.5", "%s_as_float", "1704164645.5"),
            (
                "2024-01-02T03:04:05+02:00",
                "%Y-%m-%dT%H:%M:%S%z",
                "2024-01-02T03:04:05+0200",
            ),
            (
                "2024-01-02 03:04:05.12",
                "%Y-%m-%d %H:%M:%S.%f",
                "2024-01-02 03:04:05.120000",
            ),
            (
                "2024-01-02T03:04:05.123",
                "%Y-%m-%dT%H:%M:%S.%_ms",
                "2024-01-02T03:04:05.123",
            ),
            (
                "Jan 2 2024 03:04 PM",
                "%b %d %Y %I:%M %p",
                "Jan 02 2024 03:04 PM",
            ),
        ] {
            let moment = parse(text, pattern).unwrap_or_else(|| panic!("{text} by {pattern}"));
            assert_eq!(format(&moment, pattern), printed);
        }
    }

    #[test]
    fn mismatches_are_refused() {
        for (text, pattern) in [
            ("2024-01-02T", "%Y-%m-%d"),
            ("24-01-02", "%Y-%m-%d"),
            ("2024-13-02", "%Y-%m-%d"),
            ("2024-02-30", "%Y-%m-%d"),
            ("2024-01-02T03:04:05.123456789Z", "%Y-%m-%dT%H:%M:%S.%fZ"),
            ("", "%Y"),
            ("x", "%s"),
        ] {
            assert!(parse(text, pattern).is_none(), "{text} by {pattern}");
        }
    }

    #[test]
    fn a_literal_z_does_not_convert() {
        let moment = parse("2024-01-02T03:04:05+02:00", "%Y-%m-%dT%H:%M:%S%z").unwrap();
        assert_eq!(
            format(&moment, "%Y-%m-%dT%H:%M:%SZ"),
            "2024-01-02T03:04:05Z"
        );
    }

    proptest! {
        #[test]
        fn printed_moments_are_read_back(seconds in 0_i64..253_402_300_799, micros in 0_u32..1_000_000) {
            let moment = super::super::utc(DateTime::from_timestamp(seconds, micros * 1000).unwrap());
            for pattern in ["%Y-%m-%dT%H:%M:%S.%f%z", "%d %B %Y %H.%M.%S %f"] {
                prop_assert_eq!(parse(&format(&moment, pattern), pattern), Some(moment));
            }
            prop_assert_eq!(parse(&format(&moment, "%epoch_microseconds"), "%epoch_microseconds"), Some(moment));
        }

        #[test]
        fn any_text_and_format_are_survived(text in any::<String>(), pattern in "(%[a-zA-Z%_]|[-T: é]){0,8}") {
            let _ = parse(&text, &pattern);
            let _ = format(&super::super::utc(DateTime::from_timestamp(0, 0).unwrap()), &pattern);
        }
    }
}

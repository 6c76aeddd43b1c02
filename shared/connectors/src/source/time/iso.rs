//! ISO 8601 dates as templates read them.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime, Weekday};

use super::{Moment, format};

/// Reads dates, months (`2024-01`), week dates, basic and extended forms, any one separator
/// between date and time, fractions up to six digits, `Z` or an offset. No offset means UTC.
pub fn parse(text: &str) -> Option<Moment> {
    let (date, rest) = date(text)?;
    if rest.is_empty() {
        return format::at(date.and_time(NaiveTime::MIN), 0);
    }
    let separator = rest.chars().next()?;
    let (time, rest) = time(rest.get(separator.len_utf8()..)?)?;
    let offset = offset(rest)?;
    format::at(NaiveDateTime::new(date, time), offset)
}

/// Exactly `count` digits.
fn digits(text: &str, count: usize) -> Option<(u32, &str)> {
    let part = text.get(..count)?;
    part.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| Some((part.parse().ok()?, text.get(count..)?)))?
}

fn date(text: &str) -> Option<(NaiveDate, &str)> {
    let (year, rest) = digits(text, 4)?;
    let year = i32::try_from(year).ok()?;
    let (extended, after) = match rest.strip_prefix('-') {
        Some(after) => (true, after),
        None => (false, rest),
    };
    if let Some(week) = after.strip_prefix('W') {
        let (week, rest) = digits(week, 2)?;
        let (day, rest) = match if extended {
            rest.strip_prefix('-')
        } else {
            Some(rest)
        } {
            Some(next) => digits(next, 1).map_or((1, rest), |found| found),
            None => (1, rest),
        };
        let weekday = Weekday::try_from(u8::try_from(day.checked_sub(1)?).ok()?).ok()?;
        return Some((NaiveDate::from_isoywd_opt(year, week, weekday)?, rest));
    }
    if after.is_empty() && !extended {
        return Some((NaiveDate::from_ymd_opt(year, 1, 1)?, after));
    }
    let (month, rest) = digits(after, 2)?;
    let day = if extended {
        rest.strip_prefix('-').map(|rest| digits(rest, 2))
    } else {
        Some(digits(rest, 2))
    };
    match day {
        Some(found) => {
            let (day, rest) = found?;
            Some((NaiveDate::from_ymd_opt(year, month, day)?, rest))
        }
        None if rest.is_empty() => Some((NaiveDate::from_ymd_opt(year, month, 1)?, rest)),
        None => None,
    }
}

fn time(text: &str) -> Option<(NaiveTime, &str)> {
    let (hour, rest) = digits(text, 2)?;
    let extended = rest.starts_with(':');
    let step = |rest: &str| -> Option<(u32, usize)> {
        let next = if extended {
            rest.strip_prefix(':')?
        } else {
            rest
        };
        let (value, after) = digits(next, 2)?;
        Some((value, rest.len() - after.len()))
    };
    let (minute, rest) = match step(rest) {
        Some((value, used)) => (value, rest.get(used..)?),
        None => (0, rest),
    };
    let (second, rest) = match step(rest) {
        Some((value, used)) => (value, rest.get(used..)?),
        None => (0, rest),
    };
    let (micro, rest) = match rest.strip_prefix(['.', ',']) {
        Some(fraction) => {
            let width = fraction.bytes().take_while(u8::is_ascii_digit).count();
            (1..=6).contains(&width).then_some(())?;
            let (value, rest) = digits(fraction, width)?;
            (value * 10_u32.pow(6 - u32::try_from(width).ok()?), rest)
        }
        None => (0, rest),
    };
    Some((
        NaiveTime::from_hms_micro_opt(hour, minute, second, micro)?,
        rest,
    ))
}

fn offset(text: &str) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    if let Some((offset, "")) = format::offset(text) {
        return Some(offset);
    }
    let sign = match text.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let (hours, rest) = digits(text.get(1..)?, 2)?;
    rest.is_empty()
        .then(|| i32::try_from(hours).ok().map(|h| sign * h * 3600))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_forms_are_read_and_others_refused() {
        for (text, expected) in [
            ("2024-01-02", "2024-01-02T00:00:00+00:00"),
            ("2024-01", "2024-01-01T00:00:00+00:00"),
            ("20240102", "2024-01-02T00:00:00+00:00"),
            ("2024-W01-2", "2024-01-02T00:00:00+00:00"),
            ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05+00:00"),
            (
                "2024-01-02 03:04:05.5+02:00",
                "2024-01-02T03:04:05.500+02:00",
            ),
            ("20240102T030405-0530", "2024-01-02T03:04:05-05:30"),
            ("2024-01-02T03:04", "2024-01-02T03:04:00+00:00"),
        ] {
            assert_eq!(parse(text).unwrap().to_rfc3339(), expected, "{text}");
        }
        for text in [
            "Jan 1 2022",
            "1704164645",
            "2024-01-02T",
            "2024-13-01",
            "2024-01-02T25:00",
            "é",
            "",
            "2024-01-02T03:04:05.1234567Z",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}

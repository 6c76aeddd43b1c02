//! The date spellings of Yardi.

use chrono::{Datelike, NaiveDate, NaiveDateTime};

/// Reads a date parameter: ISO date, ISO date-time or M/D/YYYY; empty means none.
///
/// # Errors
/// The text a .NET server answers.
pub(crate) fn parameter(text: &str) -> Result<Option<NaiveDate>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let day = text.split(['T', ' ']).next().unwrap_or(text);
    NaiveDate::parse_from_str(day, "%Y-%m-%d")
        .or_else(|_| NaiveDate::parse_from_str(day, "%m/%d/%Y"))
        .map(Some)
        .map_err(|_| "String was not recognized as a valid DateTime.".into())
}

/// `2025-03-04`.
pub(crate) fn iso(date: NaiveDate) -> String {
    date.format("%Y-%m-%d").to_string()
}

/// `3/4/2025`.
pub(crate) fn slashes(date: NaiveDate) -> String {
    format!("{}/{}/{}", date.month(), date.day(), date.year())
}

/// `2025-03-04T00:00:00`.
pub(crate) fn midnight(date: NaiveDate) -> String {
    date.format("%Y-%m-%dT00:00:00").to_string()
}

/// `2025-03-04T09:10:02`.
pub(crate) fn stamp(at: NaiveDateTime) -> String {
    at.format("%Y-%m-%dT%H:%M:%S").to_string()
}

/// Whole days, both ends included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Days {
    pub from: Option<NaiveDate>,
    pub to: Option<NaiveDate>,
}

impl Days {
    pub(crate) fn contain(self, day: NaiveDate) -> bool {
        self.from.is_none_or(|from| day >= from) && self.to.is_none_or(|to| day <= to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_the_three_spellings() {
        let day = NaiveDate::from_ymd_opt(2025, 3, 4);
        for text in [
            "2025-03-04",
            "2025-03-04T09:10:02",
            "3/4/2025",
            " 03/04/2025 ",
        ] {
            assert_eq!(parameter(text), Ok(day), "{text}");
        }
        assert_eq!(parameter(" "), Ok(None));
        assert!(parameter("2025-02-31").is_err());
        assert!(parameter("soon").is_err());
        assert_eq!(slashes(day.unwrap()), "3/4/2025");
    }

    #[test]
    fn days_include_both_ends() {
        let day = |d| NaiveDate::from_ymd_opt(2025, 3, d).unwrap();
        let days = Days {
            from: Some(day(2)),
            to: Some(day(4)),
        };
        let inside: Vec<u32> = (1..=5).filter(|d| days.contain(day(*d))).collect();
        assert_eq!(inside, [2, 3, 4]);
        assert!(Days::default().contain(day(1)));
    }
}

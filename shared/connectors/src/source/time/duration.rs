//! ISO 8601 durations such as `P1D` or `PT0.5S`.

use chrono::{Months, TimeDelta};

use super::Moment;

/// Months and years are calendar steps, the rest is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Duration {
    months: i32,
    exact: TimeDelta,
}

impl Duration {
    /// Reads `P1Y2M3W4DT5H6M7.5S`, with an optional sign in front; like Python's reader it takes a
    /// `T` with nothing behind it. `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let rest = rest.strip_prefix('P')?;
        let (date, time) = match rest.split_once('T') {
            Some(parts) => parts,
            None if rest.is_empty() => return None,
            None => (rest, ""),
        };
        let mut duration = Self::default();
        for (amount, unit) in parts(date)? {
            match unit {
                'Y' => duration.months = duration.months.checked_add(months(amount, 12)?)?,
                'M' => duration.months = duration.months.checked_add(months(amount, 1)?)?,
                'W' => duration.add_seconds(amount * 604_800.0)?,
                'D' => duration.add_seconds(amount * 86_400.0)?,
                _ => return None,
            }
        }
        for (amount, unit) in parts(time)? {
            match unit {
                'H' => duration.add_seconds(amount * 3_600.0)?,
                'M' => duration.add_seconds(amount * 60.0)?,
                'S' => duration.add_seconds(amount)?,
                _ => return None,
            }
        }
        Some(if negative {
            duration.negated()
        } else {
            duration
        })
    }

    /// Whole days.
    pub fn days(days: i64) -> Option<Self> {
        Some(Self {
            months: 0,
            exact: TimeDelta::try_days(days)?,
        })
    }

    /// As Python prints a timedelta, or a duration with months.
    pub fn python_text(self) -> String {
        let seconds = self.exact.num_seconds() - i64::from(self.exact.subsec_nanos() < 0);
        let micros = (self.exact - TimeDelta::seconds(seconds)).subsec_nanos() / 1000;
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let mut text = String::new();
        let (years, months) = (self.months / 12, self.months % 12);
        if years != 0 {
            text.push_str(&format!("{years} years, "));
        }
        match months {
            0 => {}
            1 => text.push_str("1 month, "),
            _ => text.push_str(&format!("{months} months, ")),
        }
        match days {
            0 => {}
            1 | -1 => text.push_str(&format!("{days} day, ")),
            _ => text.push_str(&format!("{days} days, ")),
        }
        text.push_str(&format!(
            "{}:{:02}:{:02}",
            rest / 3600,
            rest / 60 % 60,
            rest % 60
        ));
        if micros != 0 {
            text.push_str(&format!(".{micros:06}"));
        }
        text
    }

    #[must_use]
    pub fn negated(self) -> Self {
        Self {
            months: -self.months,
            exact: -self.exact,
        }
    }

    /// Adds to a moment; months clip to the last day. `None` outside the calendar.
    pub fn after(self, moment: Moment) -> Option<Moment> {
        let months = Months::new(self.months.unsigned_abs());
        let moved = if self.months < 0 {
            moment.checked_sub_months(months)?
        } else {
            moment.checked_add_months(months)?
        };
        moved.checked_add_signed(self.exact)
    }

    /// Subtracts from a moment.
    pub fn before(self, moment: Moment) -> Option<Moment> {
        self.negated().after(moment)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked to lie within the range of i64 before"
    )]
    fn add_seconds(&mut self, seconds: f64) -> Option<()> {
        let micros = (seconds * 1e6).round();
        (micros.abs() < 9e18).then_some(())?;
        self.exact = self
            .exact
            .checked_add(&TimeDelta::microseconds(micros as i64))?;
        Some(())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "checked to be whole and small before"
)]
fn months(amount: f64, factor: i32) -> Option<i32> {
    (amount.fract() == 0.0 && amount.abs() < 120_000.0)
        .then(|| (amount as i32).checked_mul(factor))?
}

/// `3W4D` as [(3, W), (4, D)].
fn parts(text: &str) -> Option<Vec<(f64, char)>> {
    let mut parts = Vec::new();
    let mut number = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' | '.' => number.push(c),
            ',' => number.push('.'),
            unit => {
                parts.push((number.parse().ok()?, unit));
                number.clear();
            }
        }
    }
    number.is_empty().then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Moment {
        super::super::parse_iso(text).unwrap()
    }

    #[test]
    fn durations_move_time() {
        for (start, duration, end) in [
            ("2024-01-31", "P1M", "2024-02-29"),
            ("2024-01-31", "P1W", "2024-02-07"),
            ("2024-01-01", "-P1D", "2023-12-31"),
            ("2024-02-29", "P1Y", "2025-02-28"),
            ("2024-01-01", "PT36H", "2024-01-02T12:00:00"),
            ("2024-01-01", "PT0.000001S", "2024-01-01T00:00:00.000001"),
            ("2024-01-01", "P1Y2M3DT4H", "2025-03-04T04:00:00"),
        ] {
            let duration = Duration::parse(duration).unwrap();
            assert_eq!(duration.after(moment(start)), Some(moment(end)));
        }
    }

    #[test]
    fn other_texts_are_no_durations() {
        for text in ["", "P", "1D", "P1", "PD", "P1H", "PT1D", "P1.5M"] {
            assert_eq!(Duration::parse(text), None, "{text}");
        }
    }
}

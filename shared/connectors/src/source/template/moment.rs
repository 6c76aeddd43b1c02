//! Dates as template values.

use std::{cmp::Ordering, fmt, sync::Arc};

use chrono::{Datelike, NaiveDate, NaiveTime, Timelike};
use minijinja::{
    Error, ErrorKind, State,
    value::{DynObject, Kwargs, Object, ObjectRepr, Value, from_args},
};

use crate::source::time::{self, Moment};

/// A Python `datetime`, or a `date` when `date_only`.
#[derive(Debug, Clone, Copy)]
pub(super) struct DateValue {
    pub moment: Moment,
    pub date_only: bool,
}

impl DateValue {
    pub fn value(moment: Moment) -> Value {
        Value::from_object(Self {
            moment,
            date_only: false,
        })
    }

    /// The day of a moment, without its time.
    pub fn date(moment: Moment) -> Value {
        let midnight = moment.date_naive().and_time(NaiveTime::MIN);
        Value::from_object(Self {
            moment: midnight.and_utc().fixed_offset(),
            date_only: true,
        })
    }

    /// Python's `replace(year=…, day=…)`; time zones cannot be given.
    fn replaced(&self, args: &[Value]) -> Result<Value, Error> {
        let (fields,): (Kwargs,) = from_args(args)?;
        let time = self.moment.naive_local();
        let part = |name: &'static str, old: u32| -> Result<u32, Error> {
            Ok(fields.get::<Option<u32>>(name)?.unwrap_or(old))
        };
        let year = fields.get::<Option<i32>>("year")?.unwrap_or(time.year());
        let micros = part("microsecond", time.and_utc().timestamp_subsec_micros())?;
        let replaced =
            NaiveDate::from_ymd_opt(year, part("month", time.month())?, part("day", time.day())?)
                .and_then(|day| {
                    let part = |name, old| part(name, old).ok();
                    day.and_hms_micro_opt(
                        part("hour", time.hour())?,
                        part("minute", time.minute())?,
                        part("second", time.second())?,
                        micros,
                    )
                });
        fields.assert_all_used()?;
        let offset = *self.moment.offset();
        let moment = replaced.and_then(|time| time.and_local_timezone(offset).single());
        let moment = moment
            .ok_or_else(|| Error::new(ErrorKind::CannotDeserialize, "outside the calendar"))?;
        Ok(Value::from_object(Self {
            moment,
            date_only: self.date_only,
        }))
    }

    fn iso(&self, separator: char) -> String {
        if self.date_only {
            return time::format(&self.moment, "%Y-%m-%d");
        }
        let fraction = if self.moment.timestamp_subsec_micros() == 0 {
            ""
        } else {
            ".%f"
        };
        let mut text = time::format(
            &self.moment,
            &format!("%Y-%m-%d{separator}%H:%M:%S{fraction}"),
        );
        let zone = time::format(&self.moment, "%z");
        let (hours, minutes) = zone.split_at(zone.len().min(3));
        text.push_str(&format!("{hours}:{minutes}"));
        text
    }
}

fn argument(args: &[Value], index: usize) -> Result<&str, Error> {
    args.get(index)
        .and_then(Value::as_str)
        .ok_or_else(|| Error::from(ErrorKind::MissingArgument))
}

impl Object for DateValue {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let moment = &self.moment;
        Some(match key.as_str()? {
            "year" => moment.year().into(),
            "month" => moment.month().into(),
            "day" => moment.day().into(),
            "hour" => moment.hour().into(),
            "minute" => moment.minute().into(),
            "second" => moment.second().into(),
            "microsecond" => moment.timestamp_subsec_micros().min(999_999).into(),
            _ => return None,
        })
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        Ok(match method {
            "strftime" => time::format(&self.moment, argument(args, 0)?).into(),
            "isoformat" => self.iso('T').into(),
            #[expect(
                clippy::cast_precision_loss,
                reason = "Python gives a float here, with the same loss"
            )]
            "timestamp" => (self.moment.timestamp_micros() as f64 / 1e6).into(),
            "weekday" => self.moment.weekday().num_days_from_monday().into(),
            "date" => Self::date(self.moment),
            "replace" => Self::replaced(self, args)?,
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        })
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        let other = other.downcast_ref::<Self>()?;
        Some(self.moment.cmp(&other.moment))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iso(' '))
    }
}

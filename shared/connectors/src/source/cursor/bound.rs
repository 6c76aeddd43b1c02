//! `MinMaxDatetime`: where reading starts and ends.

use serde_json::Value;
use sluice_core::{Error, Result};

use crate::source::{
    manifest::Component,
    template::{Scope, Template, Templates},
    time::{self, Moment},
};

/// `MinMaxDatetime`, or a text alone.
#[derive(Debug)]
pub(super) struct Bound {
    value: Template,
    format: Option<String>,
    min: Option<Template>,
    max: Option<Template>,
}

impl Bound {
    pub(super) fn build(
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

    pub(super) fn moment(&self, scope: &Scope<'_>, inherited: &str) -> Result<Moment> {
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

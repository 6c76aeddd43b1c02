//! `HTTPAPIBudget`: how many calls a manifest allows itself. It comes on top of the connection's
//! own limits and holds within one process.

mod limit;
mod matcher;

use std::{sync::Mutex, time::Duration};

use chrono::Utc;
use serde_json::Value;
use sluice_core::{Error, ErrorClass, Result};
use tokio::time::Instant;

use self::{limit::Limit, matcher::Matcher};
use super::{
    manifest::Component,
    template::{Scope, Template, Templates},
    time,
};
use crate::http::{Request, Response};

/// The policies; the first that matches a request counts.
#[derive(Debug)]
pub struct Budget {
    policies: Vec<Policy>,
    remaining_header: String,
    reset_header: String,
    hit_codes: Vec<u64>,
}

#[derive(Debug)]
struct Policy {
    matchers: Vec<Matcher>,
    limit: Limit,
}

impl Budget {
    pub fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        component.without_class()?;
        if component.kind() != "HTTPAPIBudget" {
            return Err(component.unsupported());
        }
        let text = |field: &str, default: &str| -> String {
            component
                .text(field)
                .unwrap_or(default)
                .to_ascii_lowercase()
        };
        Ok(Self {
            policies: component
                .children("policies")?
                .iter()
                .map(|policy| Policy::build(policy, templates))
                .collect::<Result<_>>()?,
            remaining_header: text("ratelimit_remaining_header", "ratelimit-remaining"),
            reset_header: text("ratelimit_reset_header", "ratelimit-reset"),
            hit_codes: match component.get("status_codes_for_ratelimit_hit") {
                Some(Value::Array(codes)) => codes.iter().filter_map(Value::as_u64).collect(),
                _ => vec![429],
            },
        })
    }

    /// Takes the call from the budget, or says how long to wait for it.
    pub fn take(&self, request: &Request, scope: &Scope<'_>) -> Result<Option<Duration>> {
        let Some((policy, weight)) = self.policy(request, scope)? else {
            return Ok(None);
        };
        policy.limit.take(weight, Instant::now(), scope)
    }

    /// Learns from an answer; that can only lower what is left.
    pub fn learn(&self, request: &Request, answer: &Response, scope: &Scope<'_>) -> Result<()> {
        let Some((policy, _)) = self.policy(request, scope)? else {
            return Ok(());
        };
        let number = |name: &str| {
            answer
                .header(name)
                .and_then(|text| text.trim().parse().ok())
        };
        let left: Option<u64> = number(&self.remaining_header).or_else(|| {
            self.hit_codes
                .contains(&u64::from(answer.status.as_u16()))
                .then_some(0)
        });
        let now = Instant::now();
        #[expect(
            clippy::cast_possible_wrap,
            reason = "seconds since 1970 fit into 63 bits"
        )]
        let resets = number(&self.reset_header).map(|at| {
            let wait = (at as i64).saturating_sub(Utc::now().timestamp());
            now + Duration::from_secs(u64::try_from(wait).unwrap_or(0).min(86_400))
        });
        policy.limit.learn(left, resets, now, scope)
    }

    fn policy(&self, request: &Request, scope: &Scope<'_>) -> Result<Option<(&Policy, u64)>> {
        for policy in &self.policies {
            if policy.matchers.is_empty() {
                return Ok(Some((policy, 1)));
            }
            for matcher in &policy.matchers {
                if matcher.matches(request, scope)? {
                    return Ok(Some((policy, matcher.weight)));
                }
            }
        }
        Ok(None)
    }
}

fn period(component: &Component<'_>, field: &str) -> Result<Duration> {
    component
        .text(field)
        .and_then(time::Duration::parse)
        .and_then(|duration| {
            let start = time::utc(Utc::now());
            (duration.after(start)? - start).to_std().ok()
        })
        .filter(|period| !period.is_zero())
        .ok_or_else(|| component.invalid(field, "is no ISO duration"))
}

impl Policy {
    fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        component.without_class()?;
        let required = |found: Option<Template>, field: &str| {
            found.ok_or_else(|| component.invalid(field, "is missing"))
        };
        let limit = match component.kind() {
            "UnlimitedCallRatePolicy" => Limit::Unlimited,
            "MovingWindowCallRatePolicy" => Limit::Moving {
                rates: component
                    .children("rates")?
                    .iter()
                    .map(|rate| {
                        let limit = rate
                            .template("limit", templates)?
                            .ok_or_else(|| rate.invalid("limit", "is missing"))?;
                        Ok((limit, period(rate, "interval")?))
                    })
                    .collect::<Result<_>>()?,
                made: Mutex::default(),
            },
            "FixedWindowCallRatePolicy" => Limit::Fixed {
                calls: required(component.template("call_limit", templates)?, "call_limit")?,
                period: period(component, "period")?,
                window: Mutex::default(),
            },
            _ => return Err(component.unsupported()),
        };
        Ok(Self {
            matchers: component
                .children("matchers")?
                .iter()
                .map(|matcher| Matcher::build(matcher, templates))
                .collect::<Result<_>>()?,
            limit,
        })
    }
}

/// The refusal of a call that would have to wait for longer than anybody is meant to.
pub fn exhausted(wait: Duration) -> Error {
    Error::new(
        ErrorClass::RateLimit,
        "budget_used_up",
        "the calls that the connector allows itself are used up",
    )
    .retry_after(wait)
}

#[cfg(test)]
mod tests;

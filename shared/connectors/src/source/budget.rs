//! `HTTPAPIBudget`: how many calls a manifest allows itself. It comes on top of the connection's
//! own limits and holds within one process.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chrono::Utc;
use fancy_regex::Regex;
use serde_json::Value;
use sluice_core::{Error, ErrorClass, Result};
use tokio::time::Instant;

use super::{
    manifest::Component,
    template::{Scope, Template, Templates, python},
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

#[derive(Debug)]
enum Limit {
    Unlimited,
    Moving {
        rates: Vec<(Template, Duration)>,
        /// When calls were made, oldest first; a call of weight n is there n times.
        made: Mutex<VecDeque<Instant>>,
    },
    Fixed {
        calls: Template,
        period: Duration,
        window: Mutex<Option<Window>>,
    },
}

#[derive(Debug)]
struct Window {
    ends: Instant,
    used: u64,
}

/// `HttpRequestRegexMatcher`.
#[derive(Debug)]
struct Matcher {
    method: Option<String>,
    base: Option<Template>,
    path: Option<Regex>,
    params: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    weight: u64,
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

fn pairs(value: Option<&Value>) -> Vec<(String, String)> {
    match value {
        Some(Value::Object(map)) => map
            .iter()
            .map(|(key, value)| (key.clone(), python::text(value)))
            .collect(),
        _ => Vec::new(),
    }
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

impl Matcher {
    fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        component.without_class()?;
        if !matches!(component.kind(), "HttpRequestRegexMatcher" | "") {
            return Err(component.unsupported());
        }
        Ok(Self {
            method: component.text("method").map(str::to_ascii_uppercase),
            base: component.template("url_base", templates)?,
            path: component
                .text("url_path_pattern")
                .map(|text| {
                    Regex::new(text)
                        .map_err(|_| component.invalid("url_path_pattern", "is not valid"))
                })
                .transpose()?,
            params: pairs(component.get("params")),
            headers: pairs(component.get("headers")),
            weight: component
                .integer("weight")
                .and_then(|weight| u64::try_from(weight).ok())
                .unwrap_or(1)
                .max(1),
        })
    }

    fn matches(&self, request: &Request, scope: &Scope<'_>) -> Result<bool> {
        let url = &request.url;
        if let Some(base) = &self.base {
            let wanted = base.text(scope)?;
            if url.origin().ascii_serialization() != wanted.trim_end_matches('/') {
                return Ok(false);
            }
        }
        let header = |name: &str| {
            request
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let parameter = |name: &str| url.query_pairs().find(|(key, _)| key == name);
        Ok(self
            .method
            .as_ref()
            .is_none_or(|method| request.method.as_str() == method)
            && self.path.as_ref().is_none_or(|path| {
                path.is_match(url.path().trim_end_matches('/'))
                    .unwrap_or(false)
            })
            && self
                .params
                .iter()
                .all(|(name, value)| parameter(name).is_some_and(|(_, found)| found == *value))
            && self
                .headers
                .iter()
                .all(|(name, value)| header(name) == Some(value.as_str())))
    }
}

fn number(template: &Template, scope: &Scope<'_>) -> Result<u64> {
    let value = template.value(scope)?;
    value
        .as_u64()
        .or_else(|| value.as_str()?.trim().parse().ok())
        .ok_or_else(|| Error::config("budget_invalid", "a call limit is no whole number"))
}

fn never(weight: u64) -> Error {
    Error::config(
        "budget_too_small",
        format!("a call of weight {weight} is more than the budget ever allows"),
    )
}

impl Limit {
    fn take(&self, weight: u64, now: Instant, scope: &Scope<'_>) -> Result<Option<Duration>> {
        match self {
            Self::Unlimited => Ok(None),
            Self::Moving { rates, made } => {
                let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                let longest = rates.iter().map(|(_, interval)| *interval).max();
                while let (Some(first), Some(longest)) = (made.front(), longest)
                    && now.duration_since(*first) > longest
                {
                    made.pop_front();
                }
                let mut wait = None;
                for (limit, interval) in rates {
                    let limit = number(limit, scope)?;
                    if weight > limit {
                        return Err(never(weight));
                    }
                    // The call that has to be over before this one fits in.
                    let at = made.len() as u64 + weight;
                    let blocking = at
                        .checked_sub(limit + 1)
                        .and_then(|index| made.get(usize::try_from(index).ok()?));
                    if let Some(blocking) = blocking {
                        let over = *blocking + *interval;
                        if over >= now {
                            let needed = over.duration_since(now) + Duration::from_millis(1);
                            wait = wait.max(Some(needed));
                        }
                    }
                }
                if wait.is_none() {
                    made.extend((0..weight).map(|_| now));
                }
                Ok(wait)
            }
            Self::Fixed {
                calls,
                period,
                window,
            } => {
                let calls = number(calls, scope)?;
                if weight > calls {
                    return Err(never(weight));
                }
                let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
                let window = current(&mut window, *period, now);
                if window.used + weight > calls {
                    return Ok(Some(
                        window.ends.duration_since(now) + Duration::from_millis(1),
                    ));
                }
                window.used += weight;
                Ok(None)
            }
        }
    }

    fn learn(
        &self,
        left: Option<u64>,
        resets: Option<Instant>,
        now: Instant,
        scope: &Scope<'_>,
    ) -> Result<()> {
        match self {
            Self::Unlimited => {}
            Self::Moving { rates, made } => {
                // Without a time of reset only "nothing is left" can be told.
                if left == Some(0) && resets.is_none() {
                    let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                    let mut free: Option<u64> = None;
                    for (limit, interval) in rates {
                        let within = made
                            .iter()
                            .filter(|at| now.duration_since(**at) <= *interval)
                            .count() as u64;
                        let left = number(limit, scope)?.saturating_sub(within);
                        free = Some(free.map_or(left, |free| free.min(left)));
                    }
                    made.extend((0..free.unwrap_or(0)).map(|_| now));
                }
            }
            Self::Fixed {
                calls,
                period,
                window,
            } => {
                let calls = number(calls, scope)?;
                let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
                let window = current(&mut window, *period, now);
                if let Some(left) = left {
                    window.used = window.used.max(calls.saturating_sub(left));
                }
                if let Some(resets) = resets {
                    window.ends = resets;
                }
            }
        }
        Ok(())
    }
}

/// The window that holds `now`; the first one begins with the first call.
fn current(window: &mut Option<Window>, period: Duration, now: Instant) -> &mut Window {
    let fresh = Window {
        ends: now + period,
        used: 0,
    };
    match window {
        Some(known) if now <= known.ends => {}
        _ => *window = Some(fresh),
    }
    window.get_or_insert(Window {
        ends: now + period,
        used: 0,
    })
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
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::source::template::json as jinja;

    fn budget(value: &Value) -> (Budget, Templates) {
        let mut templates = Templates::new();
        let component = Component::new(value, "api_budget").unwrap();
        let budget = Budget::build(&component, &mut templates).unwrap();
        (budget, templates)
    }

    fn request(method: &str, url: &str) -> Request {
        Request::new(method.parse().unwrap(), url.parse().unwrap())
    }

    #[test]
    fn the_first_policy_that_matches_counts() {
        let (budget, templates) = budget(&json!({"type": "HTTPAPIBudget", "policies": [
            {"type": "UnlimitedCallRatePolicy", "matchers": [{"type": "HttpRequestRegexMatcher", "method": "get", "url_path_pattern": "^/free"}]},
            {"type": "FixedWindowCallRatePolicy", "call_limit": "{{ config['calls'] }}", "period": "PT1H", "matchers": [
                {"type": "HttpRequestRegexMatcher", "url_base": "https://x.test/", "params": {"a": 1}, "weight": 2}]},
        ]}));
        let config = jinja::of(&json!({"calls": 3}));
        let scope = Scope::new(&templates, &config);
        let take = |method: &str, url: &str| budget.take(&request(method, url), &scope).unwrap();
        for _ in 0..9 {
            assert_eq!(take("GET", "https://x.test/free?a=1"), None);
            assert_eq!(take("POST", "https://y.test/free?a=1"), None);
        }
        assert_eq!(take("POST", "https://x.test/free?a=1"), None);
        assert!(take("POST", "https://x.test/other?a=1").unwrap() > Duration::from_secs(3590));
    }

    #[test]
    fn answers_lower_what_is_left() {
        let (budget, templates) = budget(&json!({"type": "HTTPAPIBudget", "policies": [
            {"type": "FixedWindowCallRatePolicy", "call_limit": 100, "period": "PT1H"}]}));
        let config = jinja::of(&json!({}));
        let scope = Scope::new(&templates, &config);
        let ask = request("GET", "https://x.test/");
        let mut answer = Response {
            status: reqwest::StatusCode::OK,
            headers: crate::http::HeaderMap::new(),
            body: bytes::Bytes::new(),
        };
        answer
            .headers
            .insert("ratelimit-remaining", "1".parse().unwrap());
        assert_eq!(budget.take(&ask, &scope).unwrap(), None);
        budget.learn(&ask, &answer, &scope).unwrap();
        assert_eq!(budget.take(&ask, &scope).unwrap(), None);
        assert!(budget.take(&ask, &scope).unwrap().is_some());
    }

    proptest! {
        /// No moving window ever holds more than its limit, whatever the steps of time.
        #[test]
        fn moving_windows_are_never_overfull(
            limits in prop::collection::vec((1_u64..6, 1_u64..20), 1..3),
            steps in prop::collection::vec(0_u64..3, 1..120),
        ) {
            let mut templates = Templates::new();
            let rates: Vec<_> = limits
                .iter()
                .map(|(limit, seconds)| {
                    let limit = templates.compile(&limit.to_string(), &minijinja::value::Value::UNDEFINED).unwrap();
                    (limit, Duration::from_secs(*seconds))
                })
                .collect();
            let limit = Limit::Moving { rates, made: Mutex::default() };
            let config = jinja::of(&json!({}));
            let scope = Scope::new(&templates, &config);
            let start = Instant::now();
            let mut now = start;
            let mut made: Vec<Instant> = Vec::new();
            for step in steps {
                now += Duration::from_secs(step);
                while let Some(wait) = limit.take(1, now, &scope).unwrap() {
                    now += wait;
                }
                made.push(now);
            }
            for (calls, seconds) in limits {
                for (index, from) in made.iter().enumerate() {
                    let within = made[index..].iter().filter(|at| at.duration_since(*from) <= Duration::from_secs(seconds)).count();
                    prop_assert!(within as u64 <= calls);
                }
            }
        }
    }
}

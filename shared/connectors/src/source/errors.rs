//! What an answer means: error handlers, filters and waiting times.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use fancy_regex::Regex;
use minijinja::value::Value as Jinja;
use sluice_core::{Error, ErrorClass, Result};

use super::{
    decode::Decoded,
    headers,
    manifest::Component,
    template::{Scope, Template, Templates},
};
use crate::http::{HeaderMap, StatusCode};

/// What to do about an answer.
#[derive(Debug, Clone)]
pub enum Action {
    Success,
    Ignore,
    Fail(Error),
    /// Try again after the strategies' wait; when no try is left, this is the error.
    Retry(Error),
    RateLimited(Error),
    /// Fetch a new token and try once more.
    Renew(Error),
    /// Begin again with the first page.
    Restart,
}

/// An answer as filters see it.
pub struct Answer<'a> {
    pub status: StatusCode,
    pub headers: &'a HeaderMap,
    pub decoded: &'a Decoded,
}

/// The error handler of a requester.
#[derive(Debug, Default)]
pub struct ErrorHandler {
    /// One for a plain handler, several for a composite.
    handlers: Vec<Handler>,
    max_retries: Option<Template>,
}

#[derive(Debug, Default)]
struct Handler {
    filters: Vec<Filter>,
    backoffs: Vec<Backoff>,
}

#[derive(Debug)]
struct Filter {
    verdict: Verdict,
    codes: BTreeSet<u16>,
    contains: Option<Template>,
    predicate: Option<Template>,
    message: Option<Template>,
    failure_type: Option<String>,
    class: Option<ErrorClass>,
    code: Option<&'static str>,
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Success,
    Ignore,
    Fail,
    Retry,
    RateLimited,
    Renew,
    Restart,
}

#[derive(Debug)]
enum Backoff {
    Constant(Template),
    Exponential(Option<Template>),
    FromHeader {
        header: Template,
        regex: Option<Regex>,
        max: Option<f64>,
    },
    UntilHeader {
        header: Template,
        min: Option<Template>,
        regex: Option<Regex>,
    },
}

/// Retries when the manifest does not say.
const DEFAULT_RETRIES: u32 = 5;
/// More are never made.
const MAX_RETRIES: u32 = 20;

/// Error codes come from connector files; each distinct one is kept once for the process.
fn intern(code: &str) -> &'static str {
    static CODES: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut codes = CODES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = codes.get(code) {
        return known;
    }
    let code: &'static str = Box::leak(code.to_owned().into_boxed_str());
    codes.insert(code);
    code
}

impl ErrorHandler {
    /// Builds `DefaultErrorHandler` or `CompositeErrorHandler`.
    pub fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        component.without_class()?;
        match component.kind() {
            "DefaultErrorHandler" => Ok(Self {
                handlers: vec![Handler::build(component, templates)?],
                max_retries: component.template("max_retries", templates)?,
            }),
            "CompositeErrorHandler" => {
                let mut handlers = Vec::new();
                let mut max_retries = None;
                for (index, child) in component.children("error_handlers")?.iter().enumerate() {
                    let inner = Self::build(child, templates)?;
                    if index == 0 {
                        max_retries = inner.max_retries;
                    }
                    handlers.extend(inner.handlers);
                }
                Ok(Self {
                    handlers,
                    max_retries,
                })
            }
            _ => Err(component.unsupported()),
        }
    }

    /// Tries after the first one.
    pub fn max_retries(&self, scope: &Scope<'_>) -> Result<u32> {
        let Some(template) = &self.max_retries else {
            return Ok(DEFAULT_RETRIES);
        };
        let value = template.value(scope)?;
        value
            .as_i64()
            .map(|value| u32::try_from(value).unwrap_or(0).min(MAX_RETRIES))
            .ok_or_else(|| Error::config("max_retries_invalid", "`max_retries` is no whole number"))
    }

    /// Judges an answer. Handlers of a composite are asked in order; FAIL and RATE_LIMITED of an
    /// early one yield to later ones, as in the reference runtime.
    pub fn judge(&self, answer: &Answer<'_>, scope: &Scope<'_>) -> Result<Action> {
        let mut last = None;
        for handler in &self.handlers {
            match handler.judge(answer, scope)? {
                yielding @ (Action::Fail(_) | Action::RateLimited(_)) => last = Some(yielding),
                decided => return Ok(decided),
            }
        }
        Ok(last.unwrap_or_else(|| by_status(answer.status)))
    }

    /// How long to wait before the n-th retry (from 1).
    pub fn wait(
        &self,
        attempt: u32,
        headers: Option<&HeaderMap>,
        scope: &Scope<'_>,
        now: chrono::DateTime<chrono::Utc>,
    ) -> Result<Duration> {
        for backoff in self.handlers.iter().flat_map(|handler| &handler.backoffs) {
            if let Some(seconds) = backoff.seconds(attempt, headers, scope, now)?
                && seconds > 0.0
            {
                return Ok(Duration::try_from_secs_f64(seconds + 1.0).unwrap_or(Duration::MAX));
            }
        }
        let asked = headers.and_then(|headers| crate::http::retry_after(headers, now));
        Ok(asked.unwrap_or_else(|| Duration::from_secs(1 << attempt.saturating_sub(1).min(4))))
    }
}

impl Handler {
    fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        Ok(Self {
            filters: component
                .children("response_filters")?
                .iter()
                .map(|filter| Filter::build(filter, templates))
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect(),
            backoffs: component
                .children("backoff_strategies")?
                .iter()
                .map(|backoff| Backoff::build(backoff, templates))
                .collect::<Result<_>>()?,
        })
    }

    fn first_match(&self, answer: &Answer<'_>, scope: &Scope<'_>) -> Result<Option<&Filter>> {
        for filter in &self.filters {
            if filter.matches(answer, scope)? {
                return Ok(Some(filter));
            }
        }
        Ok(None)
    }

    fn judge(&self, answer: &Answer<'_>, scope: &Scope<'_>) -> Result<Action> {
        Ok(match self.first_match(answer, scope)? {
            Some(filter) => filter.action(answer.status, scope),
            None => by_status(answer.status),
        })
    }
}

impl Filter {
    /// A filter without an action never matches, so it is left out.
    fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Option<Self>> {
        if component.kind() != "HttpResponseFilter" {
            return Err(component.unsupported());
        }
        let verdict = match component.text("action") {
            None => return Ok(None),
            Some("SUCCESS") => Verdict::Success,
            Some("IGNORE") => Verdict::Ignore,
            Some("FAIL") => Verdict::Fail,
            Some("RETRY") => Verdict::Retry,
            Some("RATE_LIMITED") => Verdict::RateLimited,
            Some("REFRESH_TOKEN_THEN_RETRY") => Verdict::Renew,
            Some("RESET_PAGINATION") => Verdict::Restart,
            Some(_) => return Err(component.invalid("action", "this action is not supported")),
        };
        let codes = match component.get("http_codes") {
            Some(serde_json::Value::Array(items)) => items
                .iter()
                .filter_map(|item| match item {
                    serde_json::Value::String(text) => text.parse().ok(),
                    other => other.as_u64().and_then(|code| u16::try_from(code).ok()),
                })
                .collect(),
            _ => BTreeSet::new(),
        };
        let ours = component.child("sluice")?;
        let ours = ours.as_ref();
        let class = ours
            .and_then(|ours| ours.text("class"))
            .map(|name| {
                ErrorClass::parse(name)
                    .ok_or_else(|| component.invalid("sluice.class", "unknown error class"))
            })
            .transpose()?;
        Ok(Some(Self {
            verdict,
            codes,
            contains: component.template("error_message_contains", templates)?,
            predicate: component.template("predicate", templates)?,
            message: component.template("error_message", templates)?,
            failure_type: component.text("failure_type").map(str::to_owned),
            class,
            code: ours.and_then(|ours| ours.text("code")).map(intern),
            hint: ours.and_then(|ours| ours.text("hint")).map(str::to_owned),
        }))
    }

    fn matches(&self, answer: &Answer<'_>, scope: &Scope<'_>) -> Result<bool> {
        if self.codes.contains(&answer.status.as_u16()) {
            return Ok(true);
        }
        if let Some(predicate) = &self.predicate {
            let mut inner = scope.clone();
            if predicate.uses("response") {
                inner = inner.with("response", answer.decoded.for_templates());
            }
            if predicate.uses("headers") {
                inner = inner.with("headers", headers::of(answer.headers));
            }
            if predicate.uses("error_text") {
                let text = answer.decoded.error_text();
                inner = inner.with("error_text", Jinja::from(&*text));
            }
            if predicate.truth(&inner)? {
                return Ok(true);
            }
        }
        match &self.contains {
            Some(contains) => {
                let wanted = contains.text(scope)?;
                Ok(!wanted.is_empty() && answer.decoded.error_text().contains(&wanted))
            }
            None => Ok(false),
        }
    }

    fn action(&self, status: StatusCode, scope: &Scope<'_>) -> Action {
        match self.verdict {
            Verdict::Success => Action::Success,
            Verdict::Ignore => Action::Ignore,
            Verdict::Fail => Action::Fail(self.error(status, scope)),
            Verdict::Retry => Action::Retry(self.error(status, scope)),
            Verdict::RateLimited => Action::RateLimited(self.error(status, scope)),
            Verdict::Renew => Action::Renew(self.error(status, scope)),
            Verdict::Restart => Action::Restart,
        }
    }

    /// The manifest's own text, but never with parts of the answer in it: they may be personal
    /// data, and errors are shown and logged.
    fn error(&self, status: StatusCode, scope: &Scope<'_>) -> Error {
        let class = self.class.unwrap_or(match self.failure_type.as_deref() {
            _ if self.verdict == Verdict::RateLimited => ErrorClass::RateLimit,
            Some("config_error") if !matches!(status.as_u16(), 401 | 403) => ErrorClass::Config,
            Some("transient_error") => ErrorClass::TargetError,
            _ => class_of(status),
        });
        let message = self
            .message
            .as_ref()
            .filter(|message| !message.uses("response") && !message.uses("headers"))
            .and_then(|message| message.text(scope).ok())
            .unwrap_or_else(|| format!("the system answered with status {}", status.as_u16()));
        let error = Error::new(class, self.code.unwrap_or("source_refused"), message);
        match &self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// The default table. A status of 400 and more that it does not name is retried.
fn by_status(status: StatusCode) -> Action {
    let error = || {
        Error::new(
            class_of(status),
            "source_answered_error",
            format!("the system answered with status {}", status.as_u16()),
        )
    };
    match status.as_u16() {
        ..400 => Action::Success,
        400 | 401 | 403 | 404 | 405 => Action::Fail(error()),
        429 => Action::RateLimited(error()),
        _ => Action::Retry(error()),
    }
}

fn class_of(status: StatusCode) -> ErrorClass {
    match status.as_u16() {
        401 | 403 | 407 => ErrorClass::Auth,
        404 | 410 => ErrorClass::NotFound,
        408 => ErrorClass::Timeout,
        429 => ErrorClass::RateLimit,
        400..500 => ErrorClass::Validation,
        _ => ErrorClass::TargetError,
    }
}

impl Backoff {
    fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        let required = |found: Option<Template>, field: &str| {
            found.ok_or_else(|| component.invalid(field, "is missing"))
        };
        let regex = || {
            component
                .text("regex")
                .map(|text| {
                    Regex::new(text).map_err(|_| component.invalid("regex", "is not valid"))
                })
                .transpose()
        };
        let number = |field: &str| component.get(field).and_then(serde_json::Value::as_f64);
        Ok(match component.kind() {
            "ConstantBackoffStrategy" => Self::Constant(required(
                component.template("backoff_time_in_seconds", templates)?,
                "backoff_time_in_seconds",
            )?),
            "ExponentialBackoffStrategy" => {
                Self::Exponential(component.template("factor", templates)?)
            }
            "WaitTimeFromHeader" => Self::FromHeader {
                header: required(component.template("header", templates)?, "header")?,
                regex: regex()?,
                max: number("max_waiting_time_in_seconds"),
            },
            "WaitUntilTimeFromHeader" => Self::UntilHeader {
                header: required(component.template("header", templates)?, "header")?,
                min: component.template("min_wait", templates)?,
                regex: regex()?,
            },
            _ => return Err(component.unsupported()),
        })
    }

    fn seconds(
        &self,
        attempt: u32,
        headers: Option<&HeaderMap>,
        scope: &Scope<'_>,
        now: chrono::DateTime<chrono::Utc>,
    ) -> Result<Option<f64>> {
        Ok(match self {
            Self::Constant(template) => template.value(scope)?.as_f64(),
            Self::Exponential(factor) => {
                let factor = match factor {
                    Some(factor) => factor.value(scope)?.as_f64().unwrap_or(5.0),
                    None => 5.0,
                };
                Some(factor * f64::from(2_u32.saturating_pow(attempt.min(16))))
            }
            Self::FromHeader { header, regex, max } => {
                let seconds = header_number(headers, &header.text(scope)?, regex.as_ref());
                // At the maximum the caller gets the wait and decides; it is longer than any
                // wait inside a read.
                match (seconds, max) {
                    (Some(seconds), Some(max)) if seconds >= *max => Some(seconds.max(3600.0)),
                    (seconds, _) => seconds,
                }
            }
            Self::UntilHeader { header, min, regex } => {
                let min = match min {
                    Some(min) => min.value(scope)?.as_f64(),
                    None => None,
                };
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "seconds since 1970 fit into 53 bits"
                )]
                let wait = header_number(headers, &header.text(scope)?, regex.as_ref())
                    .map(|until| until - now.timestamp() as f64);
                match (wait, min) {
                    (Some(wait), Some(min)) => Some(wait.max(min)),
                    (Some(wait), None) if wait < 0.0 => None,
                    (wait, min) => wait.or(min),
                }
            }
        })
    }
}

fn header_number(headers: Option<&HeaderMap>, name: &str, regex: Option<&Regex>) -> Option<f64> {
    let text = headers?.get(name)?.to_str().ok()?;
    let text = match regex {
        // Anchored at the start; the whole match counts, not a group.
        Some(regex) => {
            let found = regex.find(text).ok().flatten()?;
            (found.start() == 0).then(|| found.as_str())?
        }
        None => text,
    };
    text.trim().parse().ok()
}

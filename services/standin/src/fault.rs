//! Faults on demand: which call is hit by which fault.

use std::{sync::Mutex, time::Duration};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::ledger::lock;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The answer comes `delay_ms` later.
    Latency,
    /// No answer until the caller gives up; nothing was done.
    Timeout,
    /// HTTP 500: a `soap:Fault` from Yardi, a JSON error elsewhere.
    #[serde(rename = "http_500_fault")]
    Http500Fault,
    /// HTTP 503 with an HTML page.
    #[serde(rename = "http_503")]
    Http503,
    /// HTTP 502 with an HTML page.
    #[serde(rename = "http_502")]
    Http502,
    /// HTTP 422 that refuses the request for its content; nothing was done.
    #[serde(rename = "http_422")]
    Http422,
    /// HTTP 429 with `Retry-After: {retry_after}` (default 10 seconds).
    #[serde(rename = "http_429")]
    Http429,
    /// The answer is as ever, but its headers say that no call remains for `retry_after` seconds
    /// (default 10), in form `form`; calls that come all the same are answered.
    QuotaSpent,
    /// An HTML error page with status 200; nothing was done.
    #[serde(rename = "html_200")]
    Html200,
    /// The connection is reset; nothing was done.
    Reset,
    /// The connection breaks in the middle of the announced body.
    TruncatedBody,
    /// A complete HTTP answer that holds half of the document.
    CutDocument,
    /// Bytes that are not the announced encoding in the middle of the document.
    WrongEncoding,
    /// XML: a document type with an entity bomb. JSON: 100,000 nested arrays.
    Doctype,
    /// The right document behind `bytes` of padding (default 20 MB).
    Oversized,
    /// The work is done, the answer never comes.
    CommitThenTimeout,
    /// The work is done, the connection is reset.
    CommitThenReset,
    /// The work is done, the answer comes `delay_ms` later (default 1,000), also to callers that
    /// wait no longer.
    CommitThenLate,
    /// ONE: every token issued so far is void when the call arrives.
    TokenExpiry,
    /// Yardi: the caller is refused in form `form` (1 to 3) whatever it presents.
    AuthForm,
    /// The answer says success but nothing is done and no id comes back.
    LyingSuccess,
    /// One record of the page appears twice.
    DuplicateIds,
    /// One record of the page has no id.
    MissingIds,
    /// ONE: data and an `errors` list together in one HTTP 200.
    PartialErrors,
    /// Lessen360: any cursor has expired.
    CursorExpiry,
    /// Records hold a text the reader's schema refuses (dates such as 2025-02-31).
    ImpossibleDates,
}

impl FaultKind {
    /// The name used on the wire and in the ledger.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Timeout => "timeout",
            Self::Http500Fault => "http_500_fault",
            Self::Http503 => "http_503",
            Self::Http502 => "http_502",
            Self::Http422 => "http_422",
            Self::Http429 => "http_429",
            Self::QuotaSpent => "quota_spent",
            Self::Html200 => "html_200",
            Self::Reset => "reset",
            Self::TruncatedBody => "truncated_body",
            Self::CutDocument => "cut_document",
            Self::WrongEncoding => "wrong_encoding",
            Self::Doctype => "doctype",
            Self::Oversized => "oversized",
            Self::CommitThenTimeout => "commit_then_timeout",
            Self::CommitThenReset => "commit_then_reset",
            Self::CommitThenLate => "commit_then_late",
            Self::TokenExpiry => "token_expiry",
            Self::AuthForm => "auth_form",
            Self::LyingSuccess => "lying_success",
            Self::DuplicateIds => "duplicate_ids",
            Self::MissingIds => "missing_ids",
            Self::PartialErrors => "partial_errors",
            Self::CursorExpiry => "cursor_expiry",
            Self::ImpossibleDates => "impossible_dates",
        }
    }
}

/// One order to fail: `POST /_control/faults`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// What happens.
    pub kind: FaultKind,
    /// Only calls of this operation (letter case ignored); absent means all.
    #[serde(default)]
    pub operation: Option<String>,
    /// Share of matching calls that are hit, 0 to 1.
    #[serde(default)]
    pub rate: Option<f64>,
    /// How many calls are hit at most. Without `rate` and `count`: one.
    #[serde(default)]
    pub count: Option<u64>,
    /// Matching calls that pass before the first is hit.
    #[serde(default)]
    pub after: u64,
    /// `latency`, `commit_then_late`: how long, in milliseconds (default 1,000).
    #[serde(default)]
    pub delay_ms: Option<u64>,
    /// `http_429`, `quota_spent`: seconds to wait (default 10).
    #[serde(default)]
    pub retry_after: Option<u64>,
    /// `auth_form`, `quota_spent`: 1, 2 or 3 (default 1).
    #[serde(default)]
    pub form: Option<u8>,
    /// `oversized`: how much padding (default 20,000,000).
    #[serde(default)]
    pub bytes: Option<usize>,
}

impl FaultRule {
    /// How much later an answer comes.
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms.unwrap_or(1_000))
    }

    /// A rule that hits the next call.
    pub fn once(kind: FaultKind) -> Self {
        Self {
            kind,
            operation: None,
            rate: None,
            count: None,
            after: 0,
            delay_ms: None,
            retry_after: None,
            form: None,
            bytes: None,
        }
    }
}

#[derive(Debug)]
struct Active {
    id: u64,
    rule: FaultRule,
    passed: u64,
    left: Option<u64>,
}

/// The faults in force.
#[derive(Debug)]
pub struct Faults {
    inner: Mutex<(Vec<Active>, u64, ChaCha8Rng)>,
}

impl Faults {
    /// None yet; `seed` decides which calls a `rate` hits.
    pub fn new(seed: u64) -> Self {
        Self {
            inner: Mutex::new((Vec::new(), 0, ChaCha8Rng::seed_from_u64(seed))),
        }
    }

    /// Adds a rule and returns its number. Earlier rules are asked first.
    pub fn add(&self, rule: FaultRule) -> u64 {
        let mut inner = lock(&self.inner);
        inner.1 += 1;
        let id = inner.1;
        let left = match (rule.rate, rule.count) {
            (_, Some(count)) => Some(count),
            (Some(_), None) => None,
            (None, None) => Some(1),
        };
        inner.0.push(Active {
            id,
            rule,
            passed: 0,
            left,
        });
        id
    }

    /// Removes every rule.
    pub fn clear(&self) {
        lock(&self.inner).0.clear();
    }

    /// The rules still in force with their numbers and what is left of them.
    pub fn list(&self) -> Vec<(u64, FaultRule, Option<u64>)> {
        lock(&self.inner)
            .0
            .iter()
            .map(|active| (active.id, active.rule.clone(), active.left))
            .collect()
    }

    /// The fault this call is hit by, if any.
    pub fn pick(&self, operation: &str) -> Option<FaultRule> {
        let mut inner = lock(&self.inner);
        let (rules, _, random) = &mut *inner;
        let mut hit = None;
        for active in rules.iter_mut() {
            let matches = active
                .rule
                .operation
                .as_deref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(operation));
            if !matches {
                continue;
            }
            active.passed += 1;
            if active.passed <= active.rule.after {
                continue;
            }
            if let Some(rate) = active.rule.rate
                && !random.random_bool(rate.clamp(0.0, 1.0))
            {
                continue;
            }
            if let Some(left) = &mut active.left {
                *left -= 1;
            }
            hit = Some(active.rule.clone());
            break;
        }
        rules.retain(|active| active.left != Some(0));
        hit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_skips_hits_and_is_used_up() {
        let faults = Faults::new(1);
        faults.add(FaultRule {
            operation: Some("Ping".into()),
            after: 1,
            count: Some(2),
            ..FaultRule::once(FaultKind::Reset)
        });
        let hits: Vec<bool> = ["Ping", "Other", "ping", "PING", "Ping"]
            .iter()
            .map(|operation| faults.pick(operation).is_some())
            .collect();
        assert_eq!(hits, [false, false, true, true, false]);
        assert!(faults.list().is_empty());
    }

    #[test]
    fn count_zero_hits_nothing() {
        let faults = Faults::new(1);
        faults.add(FaultRule {
            count: Some(1),
            ..FaultRule::once(FaultKind::Reset)
        });
        assert!(faults.pick("x").is_some());
        assert!(faults.pick("x").is_none());
    }

    #[test]
    fn a_rate_hits_about_its_share_and_the_same_ones_for_a_seed() {
        let run = |seed| {
            let faults = Faults::new(seed);
            faults.add(FaultRule {
                rate: Some(0.3),
                ..FaultRule::once(FaultKind::Http503)
            });
            (0..1000)
                .map(|_| faults.pick("x").is_some())
                .collect::<Vec<_>>()
        };
        let hits = run(7);
        let count = hits.iter().filter(|hit| **hit).count();
        assert!((250..350).contains(&count), "{count}");
        assert_eq!(hits, run(7));
        assert_ne!(hits, run(8));
    }
}

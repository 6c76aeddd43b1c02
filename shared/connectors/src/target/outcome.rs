//! What a bad answer means for a record: a pure decision over status, body and rules.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use sluice_core::{Error, ErrorClass};

use super::{
    model::{Action, ErrorHandler, ResponseFilter},
    select::Path,
};

/// What a code, or a whole answer, means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The record is there already: found and updated.
    Exists,
    /// A record it refers to is not there.
    ParentMissing,
    Class(ErrorClass),
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Ok(match word.as_str() {
            "exists" => Self::Exists,
            "parent_missing" => Self::ParentMissing,
            class => Self::Class(ErrorClass::parse(class).ok_or_else(|| {
                serde::de::Error::custom(format!(
                    "unknown outcome `{class}`, expected exists, parent_missing or an error class"
                ))
            })?),
        })
    }
}

/// The rules of one requester: the operation's own, then the defaults.
#[derive(Debug, Clone, Default)]
pub(super) struct ErrorRules {
    pub(super) code_path: Option<Path>,
    pub(super) field_path: Option<Path>,
    pub(super) filters: Vec<ResponseFilter>,
}

impl ErrorRules {
    pub(super) fn merged(own: Option<ErrorHandler>, defaults: Option<&ErrorHandler>) -> Self {
        let own = own.unwrap_or_default();
        let defaults = defaults.cloned().unwrap_or_default();
        let mut filters = own.response_filters;
        filters.extend(defaults.response_filters);
        Self {
            code_path: own.error_code_path.or(defaults.error_code_path),
            field_path: own.error_field_path.or(defaults.error_field_path),
            filters,
        }
    }
}

/// A refused call or record.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) outcome: Outcome,
    pub(super) action: Action,
    /// A rule of the file says so. A bare 404, for instance, may come from a proxy or a wrong
    /// path, and proves nothing about a record.
    pub(super) by_rule: bool,
    pub(super) error: Error,
    /// The answer, for the id of an existing record.
    pub(super) body: Value,
}

impl Refusal {
    /// A failure of ours, or of the connection: there was no answer to judge.
    pub(super) fn without_answer(error: Error) -> Self {
        Self {
            outcome: Outcome::Class(error.class()),
            action: Action::Fail,
            by_rule: false,
            error,
            body: Value::Null,
        }
    }

    /// Whether the system refuses a call because of a record in it, before carrying anything out.
    /// A "not found" counts only in its own words: a bare one may be about the address, and then
    /// every smaller call would be refused alike.
    pub(super) fn blames_a_record(&self) -> bool {
        match self.outcome {
            Outcome::Exists | Outcome::ParentMissing => true,
            Outcome::Class(ErrorClass::NotFound) => self.by_rule,
            Outcome::Class(class) => {
                matches!(class, ErrorClass::Validation | ErrorClass::Conflict)
            }
        }
    }

    /// The system says, in its own words, that the record is not there.
    pub(super) fn says_missing(&self) -> bool {
        self.by_rule && self.outcome == Outcome::Class(ErrorClass::NotFound)
    }
}

/// What an answer looked like, as far as the decision needs it.
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    /// `None` when the body is not JSON.
    pub(super) body: Option<&'a Value>,
    pub(super) retry_after: Option<Duration>,
    pub(super) request_id: Option<&'a str>,
}

/// `None` for a good answer. One with a good status is bad when it lacks what it should hold: then
/// nothing in it can be used.
pub(super) fn judge(
    answer: &Answer<'_>,
    rules: &ErrorRules,
    lacking: Option<&str>,
) -> Option<Refusal> {
    let good_status = (200..300).contains(&answer.status);
    let texts = |path: &Option<Path>| match (path, answer.body) {
        (Some(path), Some(body)) => path.texts(body),
        _ => Vec::new(),
    };
    let (codes, fields) = (texts(&rules.code_path), texts(&rules.field_path));
    let lacking = lacking.filter(|_| good_status);
    if good_status && lacking.is_none() {
        return None;
    }
    let lacking = lacking.map(|lacking| format!(" {lacking}"));
    let filter = rules
        .filters
        .iter()
        .find(|filter| matches(filter, answer.status, &codes, &fields));
    let action = filter
        .and_then(|filter| filter.action)
        .unwrap_or(Action::Fail);
    let outcome = filter
        .and_then(|filter| filter.outcome)
        .unwrap_or(match action {
            Action::RefreshTokenThenRetry => Outcome::Class(ErrorClass::Auth),
            Action::Fail => Outcome::Class(class_of_status(answer.status)),
        });
    let mut error = describe(
        outcome,
        &format!("answered {}{}", answer.status, lacking.unwrap_or_default()),
        &codes,
        &fields,
    )
    .http_status(answer.status);
    if let Some(wait) = answer.retry_after {
        error = error.retry_after(wait);
    }
    if let Some(id) = answer.request_id.filter(|id| is_request_id(id)) {
        error = error.hint(format!("the system's request id is {id}"));
    }
    Some(Refusal {
        outcome,
        action,
        by_rule: filter.is_some_and(|filter| filter.outcome.is_some()),
        error,
        body: answer.body.cloned().unwrap_or_default(),
    })
}

fn matches(filter: &ResponseFilter, status: u16, codes: &[String], fields: &[String]) -> bool {
    let listed = |wanted: &[String], found: &[String]| {
        wanted.is_empty() || found.iter().any(|one| wanted.contains(one))
    };
    (filter.http_codes.is_empty() || filter.http_codes.contains(&status))
        && listed(&filter.error_codes, codes)
        && listed(&filter.error_fields, fields)
}

/// Without a rule, the status decides. A good status ends here when the answer is unusable.
pub(super) fn class_of_status(status: u16) -> ErrorClass {
    match status {
        401 | 403 | 407 => ErrorClass::Auth,
        404 | 410 => ErrorClass::NotFound,
        409 | 412 => ErrorClass::Conflict,
        429 => ErrorClass::RateLimit,
        // The other side gave up waiting, or is not ready: the request was not carried out.
        408 | 425 => ErrorClass::TargetError,
        400..500 => ErrorClass::Validation,
        // A redirect is not followed: the address in the settings is wrong.
        300..400 => ErrorClass::Config,
        _ => ErrorClass::TargetError,
    }
}

/// What the codes of one refused record mean. `exists` counts only when nothing else is wrong.
pub(super) fn of_codes(
    codes: &[String],
    fields: &[String],
    outcomes: &std::collections::BTreeMap<String, Outcome>,
) -> (Outcome, Error) {
    let meanings: Vec<Outcome> = codes
        .iter()
        .map(|code| {
            outcomes
                .get(code)
                .copied()
                .unwrap_or(Outcome::Class(ErrorClass::Validation))
        })
        .collect();
    let outcome = meanings
        .iter()
        .copied()
        .find(|meaning| *meaning != Outcome::Exists)
        .or(meanings.first().copied())
        .unwrap_or(Outcome::Class(ErrorClass::Validation));
    (
        outcome,
        describe(outcome, "refused the record", codes, fields),
    )
}

fn describe(outcome: Outcome, what: &str, codes: &[String], fields: &[String]) -> Error {
    let (class, code) = match outcome {
        Outcome::Exists => (ErrorClass::Conflict, "target_record_exists"),
        Outcome::ParentMissing => (ErrorClass::Validation, "target_parent_missing"),
        Outcome::Class(class) => (class, code_of(class)),
    };
    let mut text = format!("the target {what}");
    for (intro, words) in [(": ", codes), (" on ", fields)] {
        let mut plain: Vec<&str> = words
            .iter()
            .map(String::as_str)
            .filter(|word| is_plain(word))
            .take(8)
            .collect();
        plain.dedup();
        if !plain.is_empty() {
            text.push_str(intro);
            text.push_str(&plain.join(", "));
        }
    }
    Error::new(class, code, text)
}

fn code_of(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Network => "target_unreachable",
        ErrorClass::Timeout => "target_timeout",
        ErrorClass::RateLimit => "target_rate_limited",
        ErrorClass::Auth => "target_auth_refused",
        ErrorClass::Validation => "target_refused",
        ErrorClass::NotFound => "target_record_missing",
        ErrorClass::Conflict => "target_conflict",
        ErrorClass::TargetError => "target_failed",
        ErrorClass::Config => "target_misconfigured",
        ErrorClass::Internal => "target_answer_unusable",
    }
}

/// Codes and field names come from outside: only what cannot be a sentence, an address or a
/// number of somebody goes into an error.
fn is_plain(word: &str) -> bool {
    (1..=64).contains(&word.len())
        && word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '[' | ']'))
}

fn is_request_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(handler: Value) -> ErrorRules {
        ErrorRules::merged(Some(serde_json::from_value(handler).unwrap()), None)
    }

    fn answer(status: u16, body: Option<&Value>) -> Answer<'_> {
        Answer {
            status,
            body,
            retry_after: None,
            request_id: None,
        }
    }

    #[test]
    fn all_conditions_of_a_filter_must_hold_and_the_first_match_counts() {
        let rules = rules(json!({
            "error_code_path": ["error", "code"],
            "error_field_path": ["error", "fields", "*", "path"],
            "response_filters": [
                {"http_codes": [409], "error_codes": ["duplicate"], "outcome": "exists"},
                {"error_codes": ["invalid"], "error_fields": ["propertyId"], "outcome": "parent_missing"},
                {"http_codes": [401], "action": "REFRESH_TOKEN_THEN_RETRY"},
            ],
        }));
        let with =
            |code: &str, field: &str| json!({"error": {"code": code, "fields": [{"path": field}]}});
        for (status, body, outcome) in [
            (409, with("duplicate", ""), Outcome::Exists),
            (409, with("other", ""), Outcome::Class(ErrorClass::Conflict)),
            (422, with("invalid", "propertyId"), Outcome::ParentMissing),
            (
                422,
                with("invalid", "name"),
                Outcome::Class(ErrorClass::Validation),
            ),
            (401, json!(null), Outcome::Class(ErrorClass::Auth)),
            (502, json!(null), Outcome::Class(ErrorClass::TargetError)),
            (302, json!(null), Outcome::Class(ErrorClass::Config)),
        ] {
            let refusal = judge(&answer(status, Some(&body)), &rules, None).unwrap();
            assert_eq!(refusal.outcome, outcome, "{status}");
        }
        assert!(judge(&answer(201, None), &rules, None).is_none());
    }

    /// C4: what the other side says about a person stays out of the error.
    #[test]
    fn only_plain_codes_and_field_names_reach_the_text() {
        let body = json!({"codes": ["dana@example.test", "BAD_INPUT", "+15550104477"],
                          "fields": ["email", "Dana Poe"]});
        let rules =
            rules(json!({"error_code_path": ["codes", "*"], "error_field_path": ["fields", "*"]}));
        let refusal = judge(&answer(422, Some(&body)), &rules, None).unwrap();
        assert_eq!(
            refusal.error.message(),
            "the target answered 422: BAD_INPUT on email"
        );
    }

    #[test]
    fn exists_counts_only_when_nothing_else_is_wrong() {
        let outcomes = [("DUPLICATE".to_owned(), Outcome::Exists)].into();
        let of = |codes: &[&str]| {
            let codes: Vec<_> = codes.iter().map(|c| (*c).to_owned()).collect();
            of_codes(&codes, &[], &outcomes).0
        };
        assert_eq!(of(&["DUPLICATE"]), Outcome::Exists);
        assert_eq!(
            of(&["DUPLICATE", "REQUIRED"]),
            Outcome::Class(ErrorClass::Validation)
        );
        assert_eq!(of(&[]), Outcome::Class(ErrorClass::Validation));
    }
}

//! Answers of Lessen360 before they become HTTP.

use serde_json::{Value, json};

use crate::fields::{Fault, Finding};
use crate::ledger::Effect;

/// A status, a body, and what happened.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u16,
    /// `Null` means no body.
    pub body: Value,
    pub effect: Effect,
    pub replayed: bool,
}

impl Reply {
    pub(crate) fn read(status: u16, body: Value) -> Self {
        Self {
            status,
            body,
            effect: Effect::default(),
            replayed: false,
        }
    }

    pub(crate) fn wrote(status: u16, body: Value, effect: Effect) -> Self {
        Self {
            status,
            body,
            effect,
            replayed: false,
        }
    }

    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::read(
            status,
            json!({ "error": { "code": code, "message": message } }),
        )
    }

    pub(crate) fn not_found() -> Self {
        Self::error(404, "not_found", "there is no such record")
    }

    /// 422 with the fields that are wrong.
    pub(crate) fn invalid(findings: &[Finding]) -> Self {
        let fields: Vec<Value> = findings
            .iter()
            .map(|finding| {
                let reason = match finding.fault {
                    Fault::Required => "required",
                    Fault::Invalid => "invalid",
                    Fault::TooLong => "too_long",
                    Fault::Unknown => "unknown",
                };
                json!({ "path": finding.path, "reason": reason })
            })
            .collect();
        Self::read(
            422,
            json!({ "error": { "code": "validation_failed", "message": "some fields are not acceptable", "fields": fields } }),
        )
    }
}

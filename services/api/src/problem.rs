//! Errors as `application/problem+json` (RFC 9457).

use std::borrow::Cow;

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use sluice_core::{Error, ErrorClass};

/// An answer that says what was wrong: a stable code, a status, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    pub code: &'static str,
    pub detail: Cow<'static, str>,
}

impl Problem {
    pub const fn new(status: StatusCode, code: &'static str, detail: &'static str) -> Self {
        Self {
            status,
            code,
            detail: Cow::Borrowed(detail),
        }
    }

    /// The request itself is wrong; `detail` may quote it, since it goes to its sender only.
    pub fn bad_request(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code,
            detail: detail.into(),
        }
    }

    pub fn not_found(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code,
            detail: detail.into(),
        }
    }

    /// The answer; `instance` names the request, when it has a name.
    pub fn render(&self, instance: Option<&str>) -> Response {
        let mut body = json!({
            "type": format!("urn:sluice:problem:{}", self.code),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let (Some(instance), Value::Object(fields)) = (instance, &mut body) {
            fields.insert("instance".to_owned(), instance.into());
        }
        let headers = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, headers, body.to_string()).into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.render(None);
        // So that a layer above can add what only it knows.
        response.extensions_mut().insert(self);
        response
    }
}

/// What the caller can mend is told with its advice; what it cannot is logged here and told by
/// its code only.
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match error.class() {
            ErrorClass::Validation => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorClass::NotFound => StatusCode::NOT_FOUND,
            ErrorClass::Conflict => StatusCode::CONFLICT,
            ErrorClass::Auth => StatusCode::FORBIDDEN,
            ErrorClass::RateLimit => StatusCode::TOO_MANY_REQUESTS,
            ErrorClass::Network
            | ErrorClass::Timeout
            | ErrorClass::TargetError
            | ErrorClass::Config
            | ErrorClass::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = %error.chain(), code = error.code(), "request failed");
            return Self {
                status,
                code: error.code(),
                detail: "it failed inside; the log has the reason under this request's id".into(),
            };
        }
        let detail = match error.advice() {
            Some(advice) => format!("{}; {advice}", error.message()),
            None => error.message().to_owned(),
        };
        Self {
            status,
            code: error.code(),
            detail: detail.into(),
        }
    }
}

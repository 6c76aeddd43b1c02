//! The one error type that crosses crate borders.
//!
//! An error says what happened, where, and what to do. It carries a class (what Sluice does about
//! it), a stable code (what people search for) and a scope (whose data it concerns). Texts never
//! hold secrets or personal data: field names and types, not values.

use std::fmt;

use serde::{Deserialize, Serialize};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure this is, and therefore what happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Nothing was sent: refused connection, DNS, TLS. Retried; the breaker counts it.
    Network,
    /// The request may have been applied: no answer in time, or a reset after sending.
    Timeout,
    /// The system asked us to slow down. Waits as told; costs no attempt.
    RateLimit,
    /// Credentials or permissions. Refreshed once, then retried, then an operator's work.
    Auth,
    /// The data breaks a rule, ours or the target's. Goes to review; never retried unchanged.
    Validation,
    /// The record is not (or no longer) there.
    NotFound,
    /// Somebody else changed or created it: link and update, or a person decides.
    Conflict,
    /// The system failed inside (5xx, fault). Retried; the breaker counts it.
    TargetError,
    /// Our own configuration: unknown key, missing secret, broken connector file.
    Config,
    /// Our own stores or broker, or a defect. Retried.
    Internal,
}

impl ErrorClass {
    pub const ALL: [Self; 10] = [
        Self::Network,
        Self::Timeout,
        Self::RateLimit,
        Self::Auth,
        Self::Validation,
        Self::NotFound,
        Self::Conflict,
        Self::TargetError,
        Self::Config,
        Self::Internal,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::RateLimit => "rate_limit",
            Self::Auth => "auth",
            Self::Validation => "validation",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::TargetError => "target_error",
            Self::Config => "config",
            Self::Internal => "internal",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }

    /// Whether a call that failed so may have been carried out all the same (promise O1): then
    /// it must not be repeated blindly.
    pub fn may_have_been_applied(self) -> bool {
        matches!(self, Self::Timeout | Self::TargetError | Self::Internal)
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose data an error concerns. Names and ids only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub organization: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub connection: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub record: Option<String>,
}

/// A failure with its class, stable code, scope and advice. See the module's text.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    class: ErrorClass,
    code: &'static str,
    message: String,
    hint: Option<String>,
    scope: Scope,
    retry_after: Option<std::time::Duration>,
    http_status: Option<u16>,
    source: Option<std::sync::Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// `code` is stable, lower case with underscores, unique to one kind of failure.
    pub fn new(class: ErrorClass, code: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            class,
            code,
            message: message.into(),
            hint: None,
            scope: Scope::default(),
            retry_after: None,
            http_status: None,
            source: None,
        }))
    }

    pub fn config(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Config, code, message)
    }

    pub fn internal(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Internal, code, message)
    }

    pub fn validation(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Validation, code, message)
    }

    /// What the reader can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub fn organization(mut self, name: impl Into<String>) -> Self {
        self.0.scope.organization = Some(name.into());
        self
    }

    pub fn connection(mut self, name: impl Into<String>) -> Self {
        self.0.scope.connection = Some(name.into());
        self
    }

    pub fn record(mut self, id: impl Into<String>) -> Self {
        self.0.scope.record = Some(id.into());
        self
    }

    /// How long the other side asked us to wait.
    pub fn retry_after(mut self, wait: std::time::Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// The status of the answer that this error was made of.
    pub fn http_status(mut self, status: u16) -> Self {
        self.0.http_status = Some(status);
        self
    }

    /// The error below this one. Its text must be free of secrets and personal data too.
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(std::sync::Arc::new(source));
        self
    }

    pub fn class(&self) -> ErrorClass {
        self.0.class
    }

    pub fn code(&self) -> &'static str {
        self.0.code
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn advice(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    pub fn scope(&self) -> &Scope {
        &self.0.scope
    }

    pub fn wait(&self) -> Option<std::time::Duration> {
        self.0.retry_after
    }

    /// The status of the other side's answer, when there was one.
    pub fn status(&self) -> Option<u16> {
        self.0.http_status
    }

    /// The whole chain on one line, for the place that handles the error.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            text.push_str(": ");
            text.push_str(&error.to_string());
            next = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            code,
            message,
            hint,
            scope,
            ..
        } = &*self.0;
        write!(f, "{message} [{code}]")?;
        for (name, value) in [
            ("organization", &scope.organization),
            ("connection", &scope.connection),
            ("record", &scope.record),
        ] {
            if let Some(value) = value {
                write!(f, " {name}={value}")?;
            }
        }
        if let Some(hint) = hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

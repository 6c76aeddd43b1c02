//! What calls fail with, for people who wonder why a breaker is open.

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorClass};

/// Bytes of a text that are kept: the state travels with every exchange of slots.
const MOST_TEXT: usize = 240;

/// The error of a failed call. No secrets, no personal data: as in [`Error`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    pub class: ErrorClass,
    pub code: String,
    pub message: String,
}

impl Cause {
    pub fn new(class: ErrorClass, code: impl Into<String>, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MOST_TEXT));
        Self {
            class,
            code: code.into(),
            message,
        }
    }

    /// What whoever looks after the connection can do.
    pub fn advice(&self) -> &'static str {
        match self.class {
            ErrorClass::Network => {
                "look whether the system is up and the address in the connection's settings is \
                 right, and at DNS, firewall and certificates on the way"
            }
            ErrorClass::Timeout => {
                "look whether the system is up; where it is only slow, ask for smaller pages or \
                 raise `http.timeout_seconds` of the connection"
            }
            _ => "the system fails inside: ask those who run it",
        }
    }
}

/// The message with what is below it, without codes.
impl From<&Error> for Cause {
    fn from(error: &Error) -> Self {
        let mut text = error.message().to_owned();
        let mut next = std::error::Error::source(error);
        while let Some(below) = next {
            text.push_str(": ");
            text.push_str(&below.to_string());
            next = below.source();
        }
        Self::new(error.class(), error.code(), text)
    }
}

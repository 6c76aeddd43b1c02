//! Checking the credential elements. Every refusal comes with HTTP 200.

use super::soap::Element;
use super::xml::{Reply, messages};
use crate::options::{Options, YardiCredentials};

/// The three ways a refusal looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Form 1: a message that begins `Login failed.`
    LoginFailed,
    /// Form 2: the text `Invalid Interface Entity`.
    InvalidEntity,
    /// Form 3: a response without a result.
    NoResult,
}

impl Refusal {
    /// The form by its number in a fault rule.
    pub(crate) fn by_number(form: u8) -> Self {
        match form {
            2 => Self::InvalidEntity,
            3 => Self::NoResult,
            _ => Self::LoginFailed,
        }
    }

    pub(crate) fn reply(self) -> Reply {
        match self {
            Self::LoginFailed => messages(
                "Error",
                &[
                    "Login failed. User name, password, server or database is wrong.",
                    "",
                ],
            ),
            Self::InvalidEntity => Reply::Text("Invalid Interface Entity".into()),
            Self::NoResult => Reply::Nothing,
        }
    }
}

/// Checks the seven elements of an operation at an interface (lower-case name).
pub(crate) fn check(options: &Options, interface: &str, call: &Element) -> Result<(), Refusal> {
    let wanted: &YardiCredentials = options
        .yardi_interfaces
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(interface))
        .map_or(&options.yardi, |(_, credentials)| credentials);
    let database = match call.text_of("Database") {
        "" => call.text_of("DataBase"),
        text => text,
    };
    let platform = call.text_of("Platform");
    if call.text_of("UserName") != wanted.user || call.text_of("Password") != wanted.password {
        return Err(Refusal::LoginFailed);
    }
    if !call
        .text_of("ServerName")
        .eq_ignore_ascii_case(&wanted.server)
        || !database.eq_ignore_ascii_case(&wanted.database)
        || !matches!(platform, "SQL Server" | "SQL")
    {
        return Err(Refusal::LoginFailed);
    }
    if call.text_of("InterfaceEntity") != wanted.entity {
        return Err(Refusal::InvalidEntity);
    }
    // The licence text wraps in some clients.
    let license: String = call
        .text_of("InterfaceLicense")
        .split_whitespace()
        .collect();
    if license != wanted.license {
        return Err(Refusal::NoResult);
    }
    Ok(())
}

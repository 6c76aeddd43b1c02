//! Faults in the settings, collected so that all are reported at once.

use sluice_core::Error;

/// Faults found so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    /// A fault of a key; `what` names no value that could be a secret.
    pub(super) fn add(&mut self, key: &str, what: impl std::fmt::Display) {
        self.0.push(format!("{key}: {what}"));
    }

    /// A fault of a key, with the place its value came from.
    pub(super) fn add_from(
        &mut self,
        origin: Option<&str>,
        key: &str,
        what: impl std::fmt::Display,
    ) {
        match origin {
            Some(origin) => self.0.push(format!("{origin}: {key}: {what}")),
            None => self.add(key, what),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_error(self) -> Error {
        let count = self.0.len();
        let list = self.0.join("\n  ");
        let noun = if count == 1 { "fault" } else { "faults" };
        Error::config(
            "config_invalid",
            format!("{count} {noun} in the settings:\n  {list}"),
        )
        .hint("docs/configuration.md explains every key")
    }
}

/// The known name nearest to a wrong one, when one is near enough to be meant.
pub fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 3)
        .map(|(_, name)| name)
}

/// "unknown key" with advice.
pub(super) fn unknown<'a>(wrong: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(wrong, known.clone()) {
        Some(name) => format!("unknown key, did you mean `{name}`?"),
        None => {
            let all: Vec<_> = known.collect();
            format!("unknown key, known are: {}", all.join(", "))
        }
    }
}

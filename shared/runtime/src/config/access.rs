//! `[[api_tokens]]`: who may use the management API.

use std::collections::BTreeSet;

use serde::Deserialize;
use sluice_core::{access::Role, catalogue::CatalogueSpec};

use super::{
    catalogue::{self, Entry},
    problems::Problems,
};
use crate::secret;

/// One caller of the management API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiTokenSettings {
    /// Shown as the actor of what is done with the token.
    pub name: String,
    /// Slug of the only organization the token opens.
    pub organization: String,
    pub role: Role,
    /// Reference to the token: `env:NAME` or `file:PATH`.
    pub token: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ApiToken {
    name: String,
    organization: String,
    role: String,
    token: String,
}

impl Entry for ApiToken {
    const KEYS: &'static [&'static str] = &["name", "organization", "role", "token"];
}

/// Checks names and references; entries with a fault are left out.
pub(super) fn check(
    entries: Vec<(String, ApiToken)>,
    catalogue: &CatalogueSpec,
    problems: &mut Problems,
) -> Vec<ApiTokenSettings> {
    let mut names = BTreeSet::new();
    let mut tokens = Vec::new();
    for (place, entry) in entries {
        catalogue::slug(&place, "name", &entry.name, problems);
        if !names.insert((entry.organization.clone(), entry.name.clone())) {
            problems.add(&place, format!("the name `{}` is taken", entry.name));
        }
        let known = |slug: &str| catalogue.organizations.iter().any(|one| one.slug == slug);
        if !known(&entry.organization) {
            problems.add(
                &format!("{place}.organization"),
                format!("there is no organization `{}`", entry.organization),
            );
        }
        if !secret::is_reference(&entry.token) {
            problems.add(
                &format!("{place}.token"),
                "is a secret: write env:NAME or file:PATH instead",
            );
        }
        match Role::parse(&entry.role) {
            Some(role) => tokens.push(ApiTokenSettings {
                name: entry.name,
                organization: entry.organization,
                role,
                token: entry.token,
            }),
            None => problems.add(
                &format!("{place}.role"),
                format!("must be {}", Role::ALL.map(Role::as_str).join(" or ")),
            ),
        }
    }
    tokens
}

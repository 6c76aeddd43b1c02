//! Bearer tokens: who calls, for which organization, with which role.
//!
//! The organization comes from the token and from nowhere else (promise C4).

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use sha2::{Digest, Sha256};
use sluice_core::{Error, OrganizationId, Result, access::Role};
use subtle::ConstantTimeEq;

use crate::problem::Problem;

/// Shortest accepted token, in bytes.
const MIN_TOKEN: usize = 32;

/// One caller. Only the digest of its token is kept.
pub struct Token {
    name: String,
    organization_id: OrganizationId,
    role: Role,
    digest: [u8; 32],
}

impl Token {
    /// # Errors
    /// `api_token_weak` for a token shorter than 32 bytes.
    pub fn new(
        name: impl Into<String>,
        organization_id: OrganizationId,
        role: Role,
        token: &str,
    ) -> Result<Self> {
        let name = name.into();
        if token.len() < MIN_TOKEN {
            return Err(Error::config(
                "api_token_weak",
                format!("the API token `{name}` is shorter than {MIN_TOKEN} bytes"),
            )
            .hint("make one with: openssl rand -hex 32"));
        }
        Ok(Self {
            name,
            organization_id,
            role,
            digest: Sha256::digest(token).into(),
        })
    }
}

/// All callers.
#[derive(Default)]
pub struct Tokens(pub Vec<Token>);

impl Tokens {
    /// The caller whose token the headers carry.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        if self.0.is_empty() {
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "api_tokens_missing",
                "no API token is configured; add [[api_tokens]] to the settings, see docs/api.md",
            ));
        }
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or(Problem::new(
                StatusCode::UNAUTHORIZED,
                "token_missing",
                "send the header `Authorization: Bearer <token>`",
            ))?;
        let digest = Sha256::digest(given);
        // Every token is looked at, so that the time tells nothing about which one was close.
        let mut found = None;
        for token in &self.0 {
            if bool::from(token.digest.as_slice().ct_eq(digest.as_slice())) {
                found = Some(token);
            }
        }
        let token = found.ok_or(Problem::new(
            StatusCode::UNAUTHORIZED,
            "token_unknown",
            "no configured API token is this one",
        ))?;
        Ok(Caller {
            organization_id: token.organization_id,
            role: token.role,
            actor: format!("api:{}", token.name),
        })
    }
}

/// Who calls. Handlers take it as an argument.
#[derive(Debug, Clone)]
pub struct Caller {
    pub organization_id: OrganizationId,
    pub role: Role,
    /// For the audit: `api:` and the token's name.
    pub actor: String,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or(Problem::new(
            StatusCode::UNAUTHORIZED,
            "token_missing",
            "this request was not authenticated",
        ))
    }
}

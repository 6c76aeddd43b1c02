//! `OAuthAuthenticator`: an access token by a refresh request.

mod build;
mod request;

use chrono::Utc;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sluice_core::{Error, ErrorClass, Hash, Result};
use tokio::time::timeout;
use url::Url;

use super::{Added, Ticket, Token, bearer, jwt::Jwt};
use crate::{
    credentials::{Begun, Credentials},
    source::{
        Source,
        template::{Mapping, Scope, Template, python},
        time,
    },
};

/// Code of the error that the refresh token is taken no more.
const REFUSED: &str = "refresh_token_refused";

/// The refresh request and how its answer is read.
#[derive(Debug)]
pub struct OAuth {
    /// Without one the configured access token is used as it is.
    endpoint: Option<Template>,
    client_id: Option<Template>,
    client_secret: Option<Template>,
    refresh_token: Option<Template>,
    grant_type: Template,
    names: Names,
    scopes: Vec<String>,
    body: Option<Mapping>,
    headers: Option<Mapping>,
    as_query: bool,
    access_token: Option<Template>,
    expiry: Option<Template>,
    expiry_format: Option<String>,
    refused: Refused,
    updater: Option<Updater>,
    /// Signed here, in place of a secret and a refresh token.
    assertion: Option<Jwt>,
}

/// Names of the fields in request and answer.
#[derive(Debug)]
struct Names {
    client_id: Template,
    client_secret: Template,
    refresh_token: Template,
    grant_type: Template,
    access_token: Template,
    expires_in: Template,
}

/// What a refused refresh token looks like.
#[derive(Debug)]
struct Refused {
    codes: Vec<u64>,
    key: String,
    values: Vec<String>,
}

/// Where a rotated refresh token goes in the settings.
#[derive(Debug)]
struct Updater {
    refresh_token_name: Template,
    access_token_path: Vec<String>,
    refresh_token_path: Vec<String>,
    expiry_path: Vec<String>,
}

impl OAuth {
    pub(super) fn fixed_url(&self) -> Option<Url> {
        self.endpoint.as_ref().and_then(Template::fixed_url)
    }

    pub(super) async fn prepare(&self, source: &Source) -> Result<Added> {
        let scope = source.scope();
        let plain = |token: &str| Added {
            injections: vec![bearer(token)],
            ticket: None,
        };
        if self.endpoint.is_none() {
            return match &self.access_token {
                Some(token) => Ok(plain(&token.text(&scope)?)),
                None => Err(Error::config(
                    "oauth_without_endpoint",
                    "OAuth needs `token_refresh_endpoint` or `access_token_value`",
                )),
            };
        }
        // The configured credentials name the token, also after the refresh token has changed.
        let first = match &self.assertion {
            Some(assertion) => assertion.identity(&scope)?,
            None => self.form(source, &scope, None)?,
        };
        let key = Hash::of_json(&serde_json::json!([self.address(&scope)?.as_str(), first]));
        let slot = source.tokens().slot(key);
        // Held while refreshing: all others wait for this one refresh.
        let mut token = slot.lock().await;
        if token.generation == 0 && token.value.is_none() {
            self.configured(&mut token, source, &scope)?;
        }
        if token.good(Utc::now()).is_none() {
            match source.client().credentials() {
                Some(credentials) => {
                    self.share(&mut token, credentials, key, source, &scope)
                        .await?;
                }
                None => self.refresh(&mut token, source, &scope).await?,
            }
        }
        let value = token
            .value
            .as_ref()
            .map(|value| value.expose_secret().to_owned())
            .unwrap_or_default();
        Ok(Added {
            ticket: Some(Ticket {
                key,
                generation: token.generation,
            }),
            ..plain(&value)
        })
    }

    /// The token that the settings hold already; without a time until which it is good it counts
    /// as over.
    fn configured(&self, token: &mut Token, source: &Source, scope: &Scope<'_>) -> Result<()> {
        let text = |value: Option<&Value>| value.map(python::text).filter(|text| !text.is_empty());
        let at = |path: &[String]| {
            path.iter()
                .try_fold(source.settings(), |value, key| value.get(key))
        };
        let (value, until) = match &self.updater {
            Some(updater) => (
                text(at(&updater.access_token_path)),
                text(at(&updater.expiry_path)),
            ),
            None => {
                let evaluated = |template: &Option<Template>| -> Result<Option<String>> {
                    let text = template.as_ref().map(|one| one.text(scope)).transpose()?;
                    Ok(text.filter(|text| !text.is_empty()))
                };
                (evaluated(&self.access_token)?, evaluated(&self.expiry)?)
            }
        };
        let until = until
            .as_deref()
            .and_then(|text| time::parse_iso(text).or_else(|| time::parse(text, "%s")));
        if let (Some(value), Some(until)) = (value, until) {
            token.value = Some(value.into());
            token.until = Some(until.to_utc());
        }
        Ok(())
    }

    /// The fleet's token, renewed here when it is this process's turn.
    async fn share(
        &self,
        token: &mut Token,
        credentials: &Credentials,
        key: Hash,
        source: &Source,
        scope: &Scope<'_>,
    ) -> Result<()> {
        let name = Hash::of_json(&serde_json::json!([
            self.address(scope)?.as_str(),
            self.client_id.as_ref().map(Template::source),
            self.refresh_token.as_ref().map(Template::source),
            self.scopes,
            self.assertion.as_ref().map(Jwt::key_source),
        ]));
        let (found, number) = match credentials.begin(name, key, token.shared).await? {
            Begun::Found(found) => found,
            Begun::Mine(renewal) => {
                let kept = renewal.kept().and_then(|kept| kept.refresh_token.clone());
                let renewed = timeout(renewal.lasts(), self.renewed(kept.as_ref(), source, scope));
                match renewed.await {
                    Ok(Ok(mut renewed)) => {
                        renewed.refresh_token = renewed.refresh_token.or(kept);
                        // Kept before it is used: the old refresh token is worth nothing from now on.
                        renewal.keep(renewed).await?
                    }
                    Ok(Err(error)) if error.code() == REFUSED => {
                        return Err(renewal.refused().await);
                    }
                    Ok(Err(error)) => {
                        renewal.give_up().await;
                        return Err(error);
                    }
                    Err(_) => {
                        renewal.give_up().await;
                        return Err(Error::new(
                            ErrorClass::Network,
                            "token_unavailable",
                            "the token endpoint could not be called in time",
                        ));
                    }
                }
            }
        };
        token.shared = number;
        token.value = Some(found.value);
        token.until = Some(found.until);
        token.generation += 1;
        Ok(())
    }

    async fn refresh(&self, token: &mut Token, source: &Source, scope: &Scope<'_>) -> Result<()> {
        if self.updater.is_some() {
            // Asked before the old refresh token is spent.
            source.keeper()?;
        }
        let renewed = self
            .renewed(token.refresh_token.as_ref(), source, scope)
            .await?;
        if let Some(updater) = &self.updater {
            let text = |secret: &SecretString| secret.expose_secret().to_owned();
            let changes = [
                (&updater.access_token_path, Some(text(&renewed.value))),
                (
                    &updater.refresh_token_path,
                    renewed.refresh_token.as_ref().map(text),
                ),
                (&updater.expiry_path, Some(renewed.until.to_rfc3339())),
            ];
            let changes = changes
                .into_iter()
                .filter_map(|(path, text)| Some((path.clone(), text?)))
                .collect();
            // Kept before it is used: the old refresh token is worth nothing from now on.
            source.keep_settings(changes).await?;
            if renewed.refresh_token.is_some() {
                token.refresh_token = renewed.refresh_token;
            }
        }
        token.value = Some(renewed.value);
        token.until = Some(renewed.until);
        token.generation += 1;
        Ok(())
    }
}

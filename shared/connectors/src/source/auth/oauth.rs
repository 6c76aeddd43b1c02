//! `OAuthAuthenticator`: an access token by a refresh request.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use sluice_core::{Error, ErrorClass, Hash, Result};
use tokio::time::timeout;
use url::Url;

use super::{Added, Ticket, Token, bearer, jwt::Jwt};
use crate::{
    credentials::{Begun, Credentials, SharedToken},
    http::{HeaderName, HeaderValue, Method, Request, Response, header::CONTENT_TYPE},
    source::{
        Source,
        manifest::Component,
        request::{add_query, encode_form},
        template::{Mapping, Scope, Template, Templates, python},
        time,
    },
};

/// Token fields are looked for this deep in the answer.
const MAX_DEPTH: usize = 5;
/// The kind of grant that an assertion is (RFC 7523).
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Code of the error that the refresh token is taken no more.
const REFUSED: &str = "refresh_token_refused";
/// Tries of one refresh.
const MAX_TRIES: u32 = 6;

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

fn texts(value: Option<&Value>, default: &[&str]) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => items.iter().map(python::text).collect(),
        Some(value) => vec![python::text(value)],
        None => default.iter().map(|text| (*text).to_owned()).collect(),
    }
}

impl OAuth {
    pub(super) fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        let assertion = assertion(component, templates)?;
        let codes = match component.get("refresh_token_error_status_codes") {
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_u64).collect(),
            _ => vec![400],
        };
        let mut or = |field: &str, default: &str| match component.template(field, templates)? {
            Some(template) => Ok(template),
            None => component.compile(&default.into(), templates),
        };
        let names = Names {
            client_id: or("client_id_name", "client_id")?,
            client_secret: or("client_secret_name", "client_secret")?,
            refresh_token: or("refresh_token_name", "refresh_token")?,
            grant_type: or("grant_type_name", "grant_type")?,
            access_token: or("access_token_name", "access_token")?,
            expires_in: or("expires_in_name", "expires_in")?,
        };
        let grant_type = or("grant_type", "refresh_token")?;
        let updater = match component.child("refresh_token_updater")? {
            Some(updater) => Some(Updater {
                refresh_token_name: match updater.template("refresh_token_name", templates)? {
                    Some(name) => name,
                    None => updater.compile(&"refresh_token".into(), templates)?,
                },
                access_token_path: texts(
                    updater.get("access_token_config_path"),
                    &["credentials", "access_token"],
                ),
                refresh_token_path: texts(
                    updater.get("refresh_token_config_path"),
                    &["credentials", "refresh_token"],
                ),
                expiry_path: texts(
                    updater.get("token_expiry_date_config_path"),
                    &["credentials", "token_expiry_date"],
                ),
            }),
            None => None,
        };
        let built = Self {
            endpoint: component.template("token_refresh_endpoint", templates)?,
            client_id: component.template("client_id", templates)?,
            client_secret: component.template("client_secret", templates)?,
            refresh_token: component.template("refresh_token", templates)?,
            grant_type,
            names,
            scopes: texts(component.get("scopes"), &[]),
            body: component.mapping("refresh_request_body", templates)?,
            headers: component.mapping("refresh_request_headers", templates)?,
            as_query: component.flag("send_refresh_request_as_query_params"),
            access_token: component.template("access_token_value", templates)?,
            expiry: component.template("token_expiry_date", templates)?,
            expiry_format: component
                .text("token_expiry_date_format")
                .map(str::to_owned),
            refused: Refused {
                codes,
                key: component
                    .text("refresh_token_error_key")
                    .unwrap_or("error")
                    .to_owned(),
                values: texts(
                    component.get("refresh_token_error_values"),
                    &["invalid_grant", "invalid_permissions"],
                ),
            },
            updater,
            assertion,
        };
        if built.assertion.is_some() {
            return Ok(built);
        }
        for (field, missing) in [
            ("client_id", built.client_id.is_none()),
            ("client_secret", built.client_secret.is_none()),
            (
                "refresh_token",
                built.refresh_token.is_none()
                    && built.updater.is_none()
                    && built.grant_type.source() == "refresh_token",
            ),
        ] {
            if missing {
                return Err(component.invalid(field, "is missing"));
            }
        }
        Ok(built)
    }

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

    /// Asks for a new token, with the refresh token that took the place of the configured one.
    async fn renewed(
        &self,
        kept: Option<&SecretString>,
        source: &Source,
        scope: &Scope<'_>,
    ) -> Result<SharedToken> {
        let form = self.form(source, scope, kept.map(ExposeSecret::expose_secret))?;
        let body = self.fetch(source, scope, &form).await?;
        let name = self.names.access_token.text(scope)?;
        let value = find(&body, &name, 0).map(python::text).ok_or_else(|| {
            Error::new(
                ErrorClass::Auth,
                "token_missing",
                format!("the token answer has no `{name}`"),
            )
        })?;
        let refresh_token = match &self.updater {
            Some(updater) => {
                let name = updater.refresh_token_name.text(scope)?;
                find(&body, &name, 0)
                    .map(python::text)
                    .map(SecretString::from)
            }
            None => None,
        };
        Ok(SharedToken {
            value: value.into(),
            until: self.until(&body, scope)?,
            refresh_token,
        })
    }

    fn address(&self, scope: &Scope<'_>) -> Result<Url> {
        let text = match &self.endpoint {
            Some(endpoint) => endpoint.text(scope)?,
            None => String::new(),
        };
        Url::parse(&text).map_err(|_| {
            Error::config(
                "oauth_endpoint_invalid",
                "`token_refresh_endpoint` is no valid URL",
            )
        })
    }

    /// The standard fields; those of `refresh_request_body` join when their name is free.
    fn form(
        &self,
        source: &Source,
        scope: &Scope<'_>,
        rotated: Option<&str>,
    ) -> Result<Map<String, Value>> {
        let mut form = Map::new();
        if let Some(assertion) = &self.assertion {
            form.insert(self.names.grant_type.text(scope)?, JWT_BEARER.into());
            form.insert("assertion".into(), assertion.token(scope)?.into());
            return Ok(form);
        }
        let grant_type = self.grant_type.value(scope)?;
        form.insert(self.names.grant_type.text(scope)?, grant_type);
        if !self.refresh_headers(scope)?.contains_key("Authorization") {
            for (name, value) in [
                (&self.names.client_id, &self.client_id),
                (&self.names.client_secret, &self.client_secret),
            ] {
                let value = match value {
                    Some(value) => value.value(scope)?,
                    None => Value::Null,
                };
                form.insert(name.text(scope)?, value);
            }
        }
        let kept = self.updater.as_ref().and_then(|updater| {
            let path = updater.refresh_token_path.iter();
            path.into_iter()
                .try_fold(source.settings(), |value, key| value.get(key))
        });
        let refresh_token = match (rotated, kept, &self.refresh_token) {
            (Some(rotated), _, _) => Some(rotated.to_owned()),
            (None, Some(kept), _) => Some(python::text(kept)),
            (None, None, Some(template)) => Some(template.text(scope)?),
            (None, None, None) => None,
        };
        if let Some(text) = refresh_token {
            form.insert(self.names.refresh_token.text(scope)?, Value::String(text));
        }
        if !self.scopes.is_empty() {
            form.insert(
                "scopes".into(),
                self.scopes.iter().map(String::as_str).collect(),
            );
        }
        if let Some(body) = &self.body {
            for (key, value) in body.entries(scope, |_| true)? {
                form.entry(key).or_insert(value);
            }
        }
        Ok(form)
    }

    fn refresh_headers(&self, scope: &Scope<'_>) -> Result<Map<String, Value>> {
        match &self.headers {
            Some(headers) => headers.entries(scope, |_| true),
            None => Ok(Map::new()),
        }
    }

    async fn fetch(
        &self,
        source: &Source,
        scope: &Scope<'_>,
        form: &Map<String, Value>,
    ) -> Result<Value> {
        let mut request = Request::new(Method::POST, self.address(scope)?);
        for (name, value) in self.refresh_headers(scope)? {
            let header = HeaderName::try_from(name.as_str())
                .ok()
                .zip(HeaderValue::from_str(&python::text(&value)).ok());
            let Some((name, value)) = header else {
                return Err(Error::config(
                    "request_header_invalid",
                    format!("the request header `{name}` is no valid header"),
                ));
            };
            request.headers.insert(name, value);
        }
        if self.as_query {
            add_query(&mut request.url, form);
        } else {
            request
                .headers
                .entry(CONTENT_TYPE)
                .or_insert(HeaderValue::from_static(
                    "application/x-www-form-urlencoded",
                ));
            request.body = Bytes::from(encode_form(form));
        }
        let mut tries = 1;
        loop {
            let error = match source.client().send(request.clone()).await {
                Ok(answer) if answer.status.is_success() => {
                    return serde_json::from_slice(&answer.body).map_err(|_| {
                        Error::new(
                            ErrorClass::TargetError,
                            "token_answer_invalid",
                            "the token endpoint's answer is no JSON",
                        )
                    });
                }
                Ok(answer) => self.failure(&answer),
                Err(error) => error,
            };
            let heals = matches!(
                error.class(),
                ErrorClass::RateLimit
                    | ErrorClass::TargetError
                    | ErrorClass::Network
                    | ErrorClass::Timeout
            );
            if !heals || tries >= MAX_TRIES {
                return Err(error);
            }
            source
                .patience()
                .sleep(std::time::Duration::from_secs(1 << (tries - 1).min(4)))
                .await;
            tries += 1;
        }
    }

    /// Texts name the status only: such answers may repeat the credentials.
    fn failure(&self, answer: &Response) -> Error {
        let status = answer.status.as_u16();
        let class = match status {
            429 => ErrorClass::RateLimit,
            408 | 500.. => ErrorClass::TargetError,
            _ => ErrorClass::Auth,
        };
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let word = body.get(&self.refused.key).map(python::text);
        let rejected = self.refused.codes.contains(&u64::from(status))
            && word.is_some_and(|word| self.refused.values.contains(&word));
        if rejected {
            return Error::new(
                ErrorClass::Auth,
                REFUSED,
                "the refresh token was refused: it is invalid, expired or used already",
            )
            .hint("renew the connection's credentials");
        }
        let error = Error::new(
            class,
            "token_refused",
            format!("the token endpoint answered {status}"),
        );
        match class {
            ErrorClass::Auth => error.hint("check the client id and secret of the connection"),
            _ => error,
        }
    }

    /// Until when the token is good: seconds from now, a time by the format, or an hour.
    fn until(&self, body: &Value, scope: &Scope<'_>) -> Result<DateTime<Utc>> {
        let now = Utc::now();
        let name = self.names.expires_in.text(scope)?;
        let Some(text) = find(body, &name, 0).map(python::text) else {
            return Ok(now + TimeDelta::hours(1));
        };
        if let Some(format) = &self.expiry_format {
            return time::parse(&text, format)
                .map(|moment| moment.to_utc())
                .ok_or_else(|| {
                    Error::config(
                        "token_expiry_invalid",
                        format!("`{name}` of the token answer does not match {format}"),
                    )
                });
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "clamped to a century before"
        )]
        let seconds = text
            .trim()
            .parse::<f64>()
            .map(|seconds| seconds.clamp(0.0, 3.2e9) as i64);
        match seconds {
            Ok(seconds) => Ok(now + TimeDelta::seconds(seconds)),
            Err(_) => {
                Ok(time::parse_iso(&text)
                    .map_or(now + TimeDelta::hours(1), |moment| moment.to_utc()))
            }
        }
    }
}

/// `profile_assertion`, when the manifest says to use it.
fn assertion(component: &Component<'_>, templates: &mut Templates) -> Result<Option<Jwt>> {
    match component.get("use_profile_assertion") {
        Some(Value::String(text)) if text.contains("{{") => {
            return Err(component.unsupported_field("use_profile_assertion"));
        }
        _ if !component.flag("use_profile_assertion") => return Ok(None),
        _ => {}
    }
    let child = component.required("profile_assertion")?;
    child.without_class()?;
    if child.kind() != "JwtAuthenticator" {
        return Err(child.unsupported());
    }
    Jwt::build(&child, templates).map(Some)
}

/// A key anywhere in an answer, depth first.
fn find<'a>(value: &'a Value, key: &str, depth: usize) -> Option<&'a Value> {
    if depth > MAX_DEPTH {
        return None;
    }
    match value {
        Value::Object(map) => map
            .get(key)
            .filter(|value| !value.is_null())
            .or_else(|| map.values().find_map(|value| find(value, key, depth + 1))),
        Value::Array(items) => items.iter().find_map(|item| find(item, key, depth + 1)),
        _ => None,
    }
}

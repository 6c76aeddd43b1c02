//! Asking for a token.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use sluice_core::{Error, ErrorClass, Result};
use url::Url;

use super::{OAuth, REFUSED};
use crate::{
    credentials::SharedToken,
    http::{HeaderName, HeaderValue, Method, Request, Response, header::CONTENT_TYPE},
    source::{
        Source,
        request::{add_query, encode_form},
        template::{Scope, python},
        time,
    },
};

/// Token fields are looked for this deep in the answer.
const MAX_DEPTH: usize = 5;
/// The kind of grant that an assertion is (RFC 7523).
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Tries of one refresh.
const MAX_TRIES: u32 = 6;

impl OAuth {
    /// Asks for a new token, with the refresh token that took the place of the configured one.
    pub(super) async fn renewed(
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

    pub(super) fn address(&self, scope: &Scope<'_>) -> Result<Url> {
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
    pub(super) fn form(
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

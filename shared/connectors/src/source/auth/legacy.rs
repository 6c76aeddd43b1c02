//! `LegacySessionTokenAuthenticator`: a token from the settings, or else from a login.

use bytes::Bytes;
use chrono::Utc;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sluice_core::{Error, ErrorClass, Hash, Result};
use url::Url;

use super::{Added, Ticket, header};
use crate::{
    http::{HeaderName, HeaderValue, Method, Request, StatusCode, header::CONTENT_TYPE},
    source::{
        Source,
        manifest::Component,
        template::{Scope, Template, Templates, python},
    },
};

#[derive(Debug)]
pub struct Legacy {
    /// The requester's; the two addresses are written behind it as they are.
    base: Template,
    login_url: Template,
    validate_url: Template,
    header: Template,
    response_key: Template,
    token: Option<Template>,
    username: Option<Template>,
    password: Option<Template>,
}

impl Legacy {
    pub(super) fn build(
        component: &Component<'_>,
        owner: &Component<'_>,
        templates: &mut Templates,
    ) -> Result<Self> {
        let mut required = |owner: &Component<'_>, field: &str| -> Result<Template> {
            owner
                .template(field, templates)?
                .ok_or_else(|| owner.invalid(field, "is missing"))
        };
        Ok(Self {
            base: required(owner, "url_base")?,
            login_url: required(component, "login_url")?,
            validate_url: required(component, "validate_session_url")?,
            header: required(component, "header")?,
            response_key: required(component, "session_token_response_key")?,
            token: component.template("session_token", templates)?,
            username: component.template("username", templates)?,
            password: component.template("password", templates)?,
        })
    }

    pub(super) async fn prepare(&self, source: &Source) -> Result<Added> {
        let scope = source.scope();
        let text = |template: &Option<Template>| match template {
            Some(template) => template.text(&scope),
            None => Ok(String::new()),
        };
        let (given, username, password) = (
            text(&self.token)?,
            text(&self.username)?,
            text(&self.password)?,
        );
        let login = self.address(&self.login_url, &scope)?;
        let key = Hash::of_json(&json!([login.as_str(), given, username, password]));
        let slot = source.tokens().slot(key);
        // Held while logging in: all others wait for this one login.
        let mut token = slot.lock().await;
        if token.good(Utc::now()).is_none() {
            let value = if !given.is_empty() && self.is_good(source, &scope, &given).await? {
                given
            } else if !username.is_empty() && !password.is_empty() {
                let body = json!({"username": username, "password": password});
                self.log_in(source, &scope, login, &body).await?
            } else {
                return Err(Error::new(
                    ErrorClass::Auth,
                    "session_token_refused",
                    "the session token is missing or over, and there is no login to get another one",
                )
                .hint("set a new session token, or a username and a password"));
            };
            token.value = Some(SecretString::from(value));
            token.generation += 1;
        }
        let value = token
            .value
            .as_ref()
            .map(|value| value.expose_secret().to_owned())
            .unwrap_or_default();
        Ok(Added {
            injections: vec![header(&self.header.text(&scope)?, value)],
            ticket: Some(Ticket {
                key,
                generation: token.generation,
            }),
        })
    }

    /// Whether a token is still taken.
    async fn is_good(&self, source: &Source, scope: &Scope<'_>, token: &str) -> Result<bool> {
        let mut request = Request::new(Method::GET, self.address(&self.validate_url, scope)?);
        let name = HeaderName::try_from(self.header.text(scope)?).ok();
        let Some((name, value)) = name.zip(HeaderValue::from_str(token).ok()) else {
            return Err(Error::config(
                "request_header_invalid",
                "the header of a session token, or the token, is no valid header",
            ));
        };
        request.headers.insert(name, value);
        let answer = source.client().send(request).await?;
        match answer.status {
            status if status.as_u16() < 400 => Ok(true),
            StatusCode::UNAUTHORIZED => Ok(false),
            status => Err(refused(status)),
        }
    }

    async fn log_in(
        &self,
        source: &Source,
        scope: &Scope<'_>,
        address: Url,
        body: &Value,
    ) -> Result<String> {
        let mut request = Request::new(Method::POST, address);
        request
            .headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.body = Bytes::from(body.to_string());
        let answer = source.client().send(request).await?;
        if answer.status.as_u16() >= 400 {
            return Err(refused(answer.status));
        }
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let key = self.response_key.text(scope)?;
        body.get(&key).map(python::text).ok_or_else(|| {
            Error::new(
                ErrorClass::Auth,
                "login_without_token",
                "the answer to the login holds no token",
            )
            .hint("look at `session_token_response_key` of the connector and at the credentials")
        })
    }

    fn address(&self, path: &Template, scope: &Scope<'_>) -> Result<Url> {
        let text = format!("{}{}", self.base.text(scope)?, path.text(scope)?);
        Url::parse(&text).map_err(|_| {
            Error::config(
                "request_url_invalid",
                "the address of a login is no valid URL",
            )
            .hint("look at `url_base` and `login_url` of the manifest and at the connection's settings")
        })
    }
}

/// Texts name the status only: such answers may repeat the credentials.
fn refused(status: StatusCode) -> Error {
    let class = match status.as_u16() {
        429 => ErrorClass::RateLimit,
        408 | 500.. => ErrorClass::TargetError,
        _ => ErrorClass::Auth,
    };
    Error::new(
        class,
        "login_refused",
        format!("the login was answered with status {}", status.as_u16()),
    )
}

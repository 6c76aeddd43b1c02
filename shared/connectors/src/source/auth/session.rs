//! `SessionTokenAuthenticator`: a login gives a token for all requests.

use chrono::Utc;
use secrecy::ExposeSecret;
use serde_json::Value;
use sluice_core::{Error, ErrorClass, Result};

use super::{Added, Ticket, bearer, with_token};
use crate::source::{
    Source,
    cache::identity,
    decode::Decoder,
    exchange::Call,
    extract,
    manifest::Component,
    request::{RequestOption, Requester},
    stream,
    template::{Template, Templates, python},
    time::{self, Duration},
};

/// The login and what its token is used for.
#[derive(Debug)]
pub struct Session {
    pub(super) login: Requester,
    decoder: Decoder,
    path: Vec<String>,
    /// `None`: the token is used until it is refused.
    life: Option<Duration>,
    usage: Usage,
}

#[derive(Debug)]
enum Usage {
    Bearer,
    ApiKey {
        option: RequestOption,
        token: Option<Template>,
    },
}

impl Session {
    pub(super) fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        let path = match component.get("session_token_path") {
            Some(Value::Array(parts)) => parts.iter().map(python::text).collect(),
            _ => return Err(component.invalid("session_token_path", "must be a list")),
        };
        let life = component
            .text("expiration_duration")
            .map(|text| {
                Duration::parse(text)
                    .ok_or_else(|| component.invalid("expiration_duration", "is no ISO duration"))
            })
            .transpose()?;
        let usage = component.required("request_authentication")?;
        let usage = match usage.kind() {
            "Bearer" => Usage::Bearer,
            "ApiKey" => Usage::ApiKey {
                option: RequestOption::build(&usage.required("inject_into")?, templates)?,
                token: usage
                    .template("api_token", templates)?
                    .filter(|token| !token.source().is_empty()),
            },
            _ => return Err(usage.unsupported()),
        };
        Ok(Self {
            login: Requester::build(&component.required("login_requester")?, templates)?,
            decoder: stream::decoder(component)?,
            path,
            life,
            usage,
        })
    }

    pub(super) async fn prepare(&self, source: &Source) -> Result<Added> {
        let scope = source.scope();
        let probe = self.login.request(&scope, Vec::new(), Vec::new(), None)?;
        let key = identity(&probe);
        let slot = source.tokens().slot(key);
        // Held while logging in: all others wait for this one login.
        let mut token = slot.lock().await;
        if token.good(Utc::now()).is_none() {
            let value = self.log_in(source).await?;
            token.value = Some(value.into());
            token.until = self
                .life
                .and_then(|life| life.after(time::utc(Utc::now())))
                .map(|until| until.to_utc());
            token.generation += 1;
        }
        let value = token
            .value
            .as_ref()
            .map(|value| value.expose_secret().to_owned())
            .unwrap_or_default();
        let ticket = Ticket {
            key,
            generation: token.generation,
        };
        drop(token);
        let injection = match &self.usage {
            Usage::Bearer => bearer(&value),
            Usage::ApiKey { option, token } => {
                let text = match token {
                    Some(token) => token.text(&with_token(&scope, "session_token", &value))?,
                    None => value,
                };
                option.inject(Value::String(text), &scope)?
            }
        };
        Ok(Added {
            injections: vec![injection],
            ticket: Some(ticket),
        })
    }

    async fn log_in(&self, source: &Source) -> Result<String> {
        let scope = source.scope();
        let call = Call {
            requester: &self.login,
            decoder: &self.decoder,
            records: None,
            injections: Vec::new(),
            path: None,
            cached: false,
        };
        let answer = source.exchange(&call, &scope).await?;
        let refused = |detail: &str| {
            Error::new(ErrorClass::Auth, "login_without_token", detail)
                .hint("look at `session_token_path` of the connector and at the credentials")
        };
        if answer.response.status.as_u16() >= 400 {
            return Err(refused("the login was refused"));
        }
        let decoded = answer.decoded?;
        extract::first(decoded.response(), &self.path)
            .map(python::text)
            .ok_or_else(|| refused("the answer to the login holds no token"))
    }
}

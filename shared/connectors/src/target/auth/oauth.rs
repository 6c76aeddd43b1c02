//! OAuth 2.0 client credentials (RFC 6749 section 4.4): one token for all callers.

use std::time::Duration;

use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sluice_core::{Error, ErrorClass, Result};
use sluice_runtime::failpoint::{self, Point};
use tokio::{sync::Mutex, time::Instant};

use super::filled;
use crate::{
    http::{Request, Response, Terms, retry_after},
    target::{
        call::Session,
        requester::parse_base,
        template::{Scope, Template},
    },
};

/// When the answer does not say how long a token lives.
const DEFAULT_LIFE: Duration = Duration::from_secs(3600);
/// A token is renewed this long before its end, or at nine tenths of a short life, so that it
/// does not end on its way.
const MARGIN: Duration = Duration::from_secs(60);

/// Fetches and keeps the token. Callers that need a new one wait for the same refresh.
#[derive(Debug)]
pub(in crate::target) struct OAuth {
    pub(in crate::target) endpoint: Template,
    pub(in crate::target) client_id: Template,
    pub(in crate::target) client_secret: Template,
    pub(in crate::target) scopes: Vec<Template>,
    pub(in crate::target) access_token_name: String,
    pub(in crate::target) expires_in_name: String,
    pub(in crate::target) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(in crate::target) struct State {
    token: Option<(SecretString, Instant)>,
    /// Counts the tokens fetched.
    generation: u64,
}

/// Names the token a request was sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::target) struct Ticket(u64);

impl OAuth {
    /// The current token, fetched when there is none or its time is over.
    pub(super) async fn token(
        &self,
        config: &Value,
        session: &Session<'_>,
    ) -> Result<(String, Ticket)> {
        // Held while fetching: all others wait for this one refresh.
        let mut state = self.state.lock().await;
        if let Some((token, until)) = &state.token
            && Instant::now() < *until
        {
            return Ok((token.expose_secret().to_owned(), Ticket(state.generation)));
        }
        let (token, life) = self.fetch(config, session).await?;
        failpoint::reach(Point::TargetToken).await;
        state.generation += 1;
        let usable = life.saturating_sub(MARGIN.min(life / 10));
        state.token = Some((token.clone().into(), Instant::now() + usable));
        Ok((token, Ticket(state.generation)))
    }

    /// Forgets the token of this ticket; a newer one stays.
    pub(super) async fn give_up(&self, ticket: Ticket) {
        let mut state = self.state.lock().await;
        if state.generation == ticket.0 {
            state.token = None;
        }
    }

    async fn fetch(&self, config: &Value, session: &Session<'_>) -> Result<(String, Duration)> {
        let scope = Scope::default().with("config", config);
        let url = parse_base(&filled(&self.endpoint, &scope)?)?;
        let mut scopes = Vec::new();
        for template in &self.scopes {
            scopes.push(filled(template, &scope)?);
        }
        // A block of its own: the serializer must be gone before the call is awaited.
        let form = {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "client_credentials")
                .append_pair("client_id", &filled(&self.client_id, &scope)?)
                .append_pair("client_secret", &filled(&self.client_secret, &scope)?);
            if !scopes.is_empty() {
                form.append_pair("scope", &scopes.join(" "));
            }
            form.finish()
        };
        let mut request = Request::new(Method::POST, url);
        request.headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        request
            .headers
            .insert(ACCEPT, HeaderValue::from_static("application/json"));
        request.body = form.into();
        let answer = Terms::urgently(session.send(request)).await;
        let answer = answer.map_err(nothing_sent)?;
        if !answer.status.is_success() {
            return Err(refused(&answer));
        }
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let token = body
            .get(&self.access_token_name)
            .and_then(Value::as_str)
            .ok_or_else(|| {
                Error::new(
                    ErrorClass::TargetError,
                    "token_missing",
                    format!("the token answer has no `{}`", self.access_token_name),
                )
            })?;
        let life = body
            .get(&self.expires_in_name)
            .and_then(|seconds| {
                let text = seconds.as_str().map(str::parse::<f64>);
                text.map_or_else(|| seconds.as_f64(), std::result::Result::ok)
            })
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .unwrap_or(DEFAULT_LIFE)
            .min(Duration::from_secs(30 * 24 * 3600));
        Ok((token.to_owned(), life))
    }
}

/// A token call that got no answer changed nothing at the target: the write itself was not sent.
fn nothing_sent(error: Error) -> Error {
    if error.class() != ErrorClass::Timeout {
        return error;
    }
    Error::new(
        ErrorClass::Network,
        "token_unavailable",
        "the token endpoint did not answer",
    )
    .caused_by(error)
}

fn refused(answer: &Response) -> Error {
    let status = answer.status.as_u16();
    let class = match status {
        429 => ErrorClass::RateLimit,
        408 | 425 | 500.. => ErrorClass::TargetError,
        _ => ErrorClass::Auth,
    };
    let error = Error::new(
        class,
        "token_refused",
        format!("the token endpoint answered {status}"),
    );
    let error = match class {
        ErrorClass::Auth => error.hint("check the client id and secret of the connection"),
        _ => error,
    };
    match retry_after(&answer.headers, chrono::Utc::now()) {
        Some(wait) => error.retry_after(wait),
        None => error,
    }
}

//! OAuth 2.0 client credentials (RFC 6749 section 4.4): one token for all callers.

use std::time::Duration;

use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sluice_core::{Error, ErrorClass, Hash, Result};
use sluice_runtime::failpoint::{self, Point};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::filled;
use crate::{
    credentials::{Begun, Credentials, Numbered, SharedToken},
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
    /// The number of the last one that the fleet shared.
    shared: i64,
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
        // Rare, and large: boxed, they do not go along with every call.
        let token = match session.http.credentials() {
            Some(credentials) => {
                let share = self.share(credentials, state.shared, config, session);
                let (token, shared) = Box::pin(share).await?;
                state.shared = shared;
                token
            }
            None => Box::pin(self.fetch(config, session)).await?,
        };
        failpoint::reach(Point::TargetToken).await;
        state.generation += 1;
        let usable = (token.until - chrono::Utc::now())
            .to_std()
            .unwrap_or_default();
        let value = token.value.expose_secret().to_owned();
        state.token = Some((token.value, Instant::now() + usable));
        Ok((value, Ticket(state.generation)))
    }

    /// The fleet's token, renewed here when it is this process's turn.
    async fn share(
        &self,
        credentials: &Credentials,
        known: i64,
        config: &Value,
        session: &Session<'_>,
    ) -> Result<Numbered> {
        let scope = Scope::default().with("config", config);
        let scopes: Vec<_> = self
            .scopes
            .iter()
            .map(|template| filled(template, &scope))
            .collect::<Result<_>>()?;
        let shown = json!([
            filled(&self.endpoint, &scope)?,
            filled(&self.client_id, &scope)?,
            scopes
        ]);
        let of = Hash::of_json(&json!([shown, filled(&self.client_secret, &scope)?]));
        let renewal = match credentials.begin(Hash::of_json(&shown), of, known).await? {
            Begun::Found(found) => return Ok(found),
            Begun::Mine(renewal) => renewal,
        };
        match timeout(renewal.lasts(), self.fetch(config, session)).await {
            Ok(Ok(token)) => renewal.keep(token).await,
            Ok(Err(error)) => {
                renewal.give_up().await;
                Err(error)
            }
            Err(_) => {
                renewal.give_up().await;
                Err(Error::new(
                    ErrorClass::Network,
                    "token_unavailable",
                    "the token endpoint could not be called in time",
                ))
            }
        }
    }

    /// Forgets the token of this ticket; a newer one stays.
    pub(super) async fn give_up(&self, ticket: Ticket) {
        let mut state = self.state.lock().await;
        if state.generation == ticket.0 {
            state.token = None;
        }
    }

    async fn fetch(&self, config: &Value, session: &Session<'_>) -> Result<SharedToken> {
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
        let usable = life.saturating_sub(MARGIN.min(life / 10));
        Ok(SharedToken {
            value: token.into(),
            until: chrono::Utc::now() + usable,
            refresh_token: None,
        })
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

//! One exchange with the target: authenticate, send, read, judge; refresh a refused token once.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use sluice_core::{ErrorClass, Result, retry::is_own_wait};

use super::{
    model::Action,
    outcome::{Answer, Refusal, judge},
    requester::Requester,
    template::Scope,
};
use crate::http::{HttpClient, Request, Response, retry_after};

/// The calls of one push or look-up, counted.
pub(super) struct Session<'a> {
    pub(super) http: &'a HttpClient,
    pub(super) config: &'a Value,
    calls: AtomicU32,
}

impl<'a> Session<'a> {
    pub(super) fn new(http: &'a HttpClient, config: &'a Value) -> Self {
        Self {
            http,
            config,
            calls: AtomicU32::new(0),
        }
    }

    pub(super) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// A scope that knows the settings.
    pub(super) fn scope(&self) -> Scope<'a> {
        Scope::default().with("config", self.config)
    }

    pub(super) async fn send(&self, request: Request) -> Result<Response> {
        let answer = self.http.send(request).await;
        // Refused by our own rules, or held back by a limit or the breaker: no call was made.
        let made = answer
            .as_ref()
            .err()
            .is_none_or(|error| error.class() != ErrorClass::Config && !is_own_wait(error.code()));
        if made {
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// Makes the call and returns the good answer's body; `lacks` says what a body does not hold
    /// that a good one must, in words for people and without values.
    pub(super) async fn call(
        &self,
        requester: &Requester,
        scope: &Scope<'_>,
        lacks: impl Fn(&Value) -> Option<String>,
    ) -> Result<Value, Refusal> {
        let request = requester.build(scope).map_err(Refusal::without_answer)?;
        let mut refreshed = false;
        loop {
            let mut attempt = request.clone();
            let ticket = requester
                .authenticator
                .apply(&mut attempt, self.config, self)
                .await
                .map_err(Refusal::without_answer)?;
            let answer = self.send(attempt).await.map_err(Refusal::without_answer)?;
            let refusal = match read(&answer, requester, &lacks) {
                Ok(body) => return Ok(body),
                Err(refusal) => refusal,
            };
            // Some say in the body what others say in a header.
            if refusal.error.class() == ErrorClass::RateLimit
                && let Some(wait) = refusal.error.wait()
            {
                self.http.limiter().pause(wait);
            }
            let again = refusal.action == Action::RefreshTokenThenRetry
                && !refreshed
                && requester.authenticator.renew(ticket).await;
            if !again {
                return Err(refusal);
            }
            refreshed = true;
        }
    }
}

fn read(
    answer: &Response,
    requester: &Requester,
    lacks: impl Fn(&Value) -> Option<String>,
) -> Result<Value, Refusal> {
    let body: Option<Value> = if answer.body.is_empty() {
        Some(Value::Null)
    } else {
        serde_json::from_slice(&answer.body).ok()
    };
    let seen = Answer {
        status: answer.status.as_u16(),
        body: body.as_ref(),
        retry_after: matches!(answer.status.as_u16(), 429 | 503)
            .then(|| retry_after(&answer.headers, chrono::Utc::now()))
            .flatten(),
        request_id: answer.header("x-request-id"),
    };
    let lacking = match &body {
        Some(body) => lacks(body),
        None => Some("with something that is no JSON".to_owned()),
    };
    match judge(&seen, &requester.rules, lacking.as_deref()) {
        Some(refusal) => Err(refusal),
        None => Ok(body.unwrap_or_default()),
    }
}

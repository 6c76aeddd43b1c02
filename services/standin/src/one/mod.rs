//! ONE: a token call, then GraphQL over HTTP.

mod edits;
mod graphql;
mod held;
mod lookup;
mod mutate;
mod query;
mod schema;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::control::{self, EditRequest, System, Truth};
use crate::fault::FaultKind;
use crate::fault_effect::answer;
use crate::front::{Call, Front, Manner, Outcome};
use crate::ledger::lock;
use crate::options::Options;
use held::Held;
use schema::Entity;

/// Largest request body, in bytes.
const MAX_REQUEST: usize = 8 * 1024 * 1024;

/// Most tokens kept; the oldest make room.
const MAX_TOKENS: usize = 10_000;

/// A stand-in for ONE.
pub struct OneState {
    pub(crate) front: Front,
    held: Mutex<Held>,
    tokens: Mutex<HashMap<String, Instant>>,
}

impl OneState {
    /// A stand-in without records.
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            front: Front::new(options),
            held: Mutex::new(Held::default()),
            tokens: Mutex::new(HashMap::new()),
        })
    }

    fn issue(&self) -> String {
        let token = format!("one-{}", uuid::Uuid::new_v4().simple());
        let ends = Instant::now() + Duration::from_secs(self.front.options.token_seconds);
        let mut tokens = lock(&self.tokens);
        if tokens.len() >= MAX_TOKENS {
            let now = Instant::now();
            tokens.retain(|_, ends| *ends > now);
        }
        if tokens.len() < MAX_TOKENS {
            tokens.insert(token.clone(), ends);
        }
        token
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|token| {
                lock(&self.tokens)
                    .get(token.trim())
                    .is_some_and(|ends| *ends > Instant::now())
            })
    }
}

impl System for OneState {
    fn front(&self) -> &Front {
        &self.front
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["location", "resident", "service_request", "attachment"]
    }

    fn truth(self: Arc<Self>, kind: &str) -> Option<Truth> {
        let entity = Entity::ALL
            .into_iter()
            .find(|entity| entity.kind() == kind)?;
        let mut at = 0;
        Some(Box::new(std::iter::from_fn(move || {
            let held = lock(&self.held);
            let record = held.table(entity).after(at).next()?;
            at = record.number;
            Some(record.truth(entity))
        })))
    }

    fn edit(&self, request: &EditRequest) -> Result<Vec<Value>, String> {
        edits::edit(
            &mut lock(&self.held),
            self.front.options.seed,
            request,
            &now(),
        )
    }
}

/// The routes of a stand-in for ONE: `/oauth/token`, `/graphql` and `/_control`.
pub fn router(state: Arc<OneState>) -> Router {
    Router::new()
        .route("/oauth/token", post(token))
        .route("/graphql", post(graphql))
        .with_state(Arc::clone(&state))
        .merge(control::routes(state))
}

/// Now, RFC 3339 UTC with milliseconds.
fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn json_answer(status: StatusCode, body: &Value) -> Response {
    answer(status, "application/json", body.to_string())
}

struct OneManner;

impl Manner for OneManner {
    fn too_many(&self, retry_after: u64) -> Response {
        let mut response = json_answer(
            StatusCode::TOO_MANY_REQUESTS,
            &json!({ "error": "rate_limited" }),
        );
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, retry_after.into());
        response
    }

    fn server_error(&self) -> Response {
        json_answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            &json!({ "error": "internal_server_error" }),
        )
    }

    fn bomb(&self) -> String {
        "[".repeat(100_000)
    }
}

async fn token(State(state): State<Arc<OneState>>, body: bytes::Bytes) -> Response {
    let call = Call {
        operation: "token".into(),
        ..Call::default()
    };
    state
        .front
        .answer(&OneManner, call, |fault| {
            let form: HashMap<String, String> = form(&body);
            let has =
                |name: &str, wanted: &str| form.get(name).is_some_and(|value| value == wanted);
            let wanted = &state.front.options.one;
            let good = has("grant_type", "client_credentials")
                && has("client_id", &wanted.client_id)
                && has("client_secret", &wanted.client_secret)
                && fault.is_none_or(|rule| rule.kind != FaultKind::AuthForm);
            let response = if good {
                json_answer(
                    StatusCode::OK,
                    &json!({
                        "access_token": state.issue(),
                        "token_type": "Bearer",
                        "expires_in": state.front.options.token_seconds,
                    }),
                )
            } else {
                json_answer(
                    StatusCode::UNAUTHORIZED,
                    &json!({ "error": "invalid_client" }),
                )
            };
            Outcome::plain(response)
        })
        .await
}

/// Reads a form body; what cannot be read is left out.
fn form(body: &[u8]) -> HashMap<String, String> {
    std::str::from_utf8(body)
        .unwrap_or("")
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter_map(|(name, value)| {
            Some((
                crate::percent::decode(name)?,
                crate::percent::decode(value)?,
            ))
        })
        .collect()
}

async fn graphql(State(state): State<Arc<OneState>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, MAX_REQUEST).await.ok();
    let request = bytes.as_deref().map(graphql::Request::read);
    let mut call = Call {
        operation: "graphql".into(),
        ..Call::default()
    };
    if let Some(Ok(request)) = &request {
        request.name().clone_into(&mut call.operation);
        (call.keys, call.contents) = request.keys();
        call.writes = request.writes();
    }
    state
        .front
        .answer(&OneManner, call, |fault| {
            let kind = fault.map(|rule| rule.kind);
            if kind == Some(FaultKind::TokenExpiry) {
                lock(&state.tokens).clear();
            }
            let Some(request) = request else {
                let body = json!({ "error": "request_too_large" });
                return Outcome::plain(json_answer(StatusCode::PAYLOAD_TOO_LARGE, &body));
            };
            if !state.knows(&parts.headers) || kind == Some(FaultKind::AuthForm) {
                let refusal = graphql::Refusal {
                    code: "UNAUTHENTICATED",
                    message: "the token is missing, unknown or expired".into(),
                    path: request.ok().map(|request| request.name().to_owned()),
                };
                return Outcome::plain(json_answer(StatusCode::OK, &refusal.body()));
            }
            match request.and_then(|request| graphql::answer(&state, request, kind)) {
                Ok((body, effect)) => Outcome {
                    response: json_answer(StatusCode::OK, &body),
                    effect,
                    keys: Vec::new(),
                },
                Err(refusal) => Outcome::plain(json_answer(StatusCode::OK, &refusal.body())),
            }
        })
        .await
}

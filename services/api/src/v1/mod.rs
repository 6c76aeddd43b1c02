//! The management API, `/api/v1`: what people and programs do with a running system.
//!
//! One file per resource; each lists its endpoints, and the router, the tests of access and the
//! test of docs/api.md go over these lists. Every request passes `gate` first: a token, its role,
//! a name for the request, a time limit. A method other than GET needs an operator.

mod access;
mod activity;
mod blockers;
mod connections;
mod dead_letters;
mod input;
mod replays;
#[cfg(test)]
mod tests;
mod unknown;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    handler::Handler,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{self, MethodRouter},
};
use sluice_core::access::Role;
use sluice_transform::Schemas;
use tracing::Instrument;
use uuid::Uuid;

pub use access::{Caller, Token, Tokens};

use crate::{Api, problem::Problem};

/// Largest accepted body, in bytes.
const MAX_BODY: usize = 1 << 20;
/// Longest time a request may take.
const MAX_TIME: Duration = Duration::from_secs(30);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest accepted request id, in bytes.
const MAX_REQUEST_ID: usize = 64;

/// What the management API needs beside the stores.
pub struct Management {
    pub tokens: Tokens,
    /// What edited data must pass.
    pub schemas: Arc<Schemas>,
}

/// One endpoint: its method and path below `/api/v1`, and what serves it.
struct Endpoint {
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests of access go by it"))]
    method: Method,
    path: &'static str,
    serve: MethodRouter<Api>,
}

impl Endpoint {
    fn get<H: Handler<T, Api>, T: 'static>(path: &'static str, handler: H) -> Self {
        Self {
            method: Method::GET,
            path,
            serve: routing::get(handler),
        }
    }

    fn post<H: Handler<T, Api>, T: 'static>(path: &'static str, handler: H) -> Self {
        Self {
            method: Method::POST,
            path,
            serve: routing::post(handler),
        }
    }
}

/// Every endpoint of every resource.
fn endpoints() -> Vec<Endpoint> {
    [
        activity::endpoints(),
        blockers::endpoints(),
        connections::endpoints(),
        dead_letters::endpoints(),
        replays::endpoints(),
        unknown::endpoints(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// All routes of the management API.
pub(crate) fn router(api: &Api) -> Router<Api> {
    let unknown = || async { Problem::not_found("endpoint_unknown", "docs/api.md lists them all") };
    let no_such_method = || async {
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_unknown",
            "docs/api.md lists the methods of each path",
        )
    };
    let routes = endpoints()
        .into_iter()
        .fold(Router::new(), |router, endpoint| {
            router.route(endpoint.path, endpoint.serve)
        })
        .fallback(unknown)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(api.clone(), gate));
    Router::new().nest("/api/v1", routes)
}

/// What every request passes: it gets a name, a caller and a time limit.
async fn gate(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let id = request_id(&request);
    let span = tracing::info_span!("api", request.id = id, method = %request.method());
    let answer = async {
        let caller = match admit(&api, &request) {
            Ok(caller) => caller,
            Err(problem) => return problem.into_response(),
        };
        request.extensions_mut().insert(caller);
        tokio::time::timeout(MAX_TIME, next.run(request))
            .await
            .unwrap_or_else(|_| {
                Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "request_timed_out",
                    "it took longer than 30 s; what it began may have been done",
                )
                .into_response()
            })
    };
    let mut response = answer.instrument(span).await;
    if let Some(problem) = response.extensions().get::<Problem>() {
        response = problem.render(Some(&id));
    }
    if response.status() == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// What the management API needs; its routes exist only where it is there.
fn management(api: &Api) -> Result<&Management, Problem> {
    api.management.as_deref().ok_or(Problem::new(
        StatusCode::NOT_FOUND,
        "endpoint_unknown",
        "this process offers no management API",
    ))
}

/// The caller, when its role allows the method.
fn admit(api: &Api, request: &Request) -> Result<Caller, Problem> {
    let caller = management(api)?.tokens.caller(request.headers())?;
    if !request.method().is_safe() && caller.role < Role::Operator {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "operator_needed",
            "this token may look only; changes need one with the role operator",
        ));
    }
    Ok(caller)
}

/// The caller's name for the request when it is short and plain, else one of our own.
fn request_id(request: &Request) -> String {
    let plain = |text: &&str| {
        (1..=MAX_REQUEST_ID).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(plain)
        .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

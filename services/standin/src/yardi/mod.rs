//! Yardi Voyager: the SOAP interfaces, as far as Sluice reads and writes them.

mod attachments;
mod dates;
mod edits;
mod generate;
mod held;
mod listing;
mod login;
mod model;
mod operations;
mod people;
mod places;
mod requests;
mod soap;
mod truth;
mod write;
mod xml;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use axum::{Json, response::IntoResponse};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::control::{self, EditRequest, System, Truth};
use crate::fault_effect::answer;
use crate::front::{Call, Front, Manner, Outcome};
use crate::options::Options;
use held::Held;
use operations::Interface;

/// Largest request body read, in bytes: a file of 4 MiB in base64 with room to spare.
const MAX_REQUEST: usize = 16 * 1024 * 1024;

/// A Yardi stand-in.
pub struct YardiState {
    pub(crate) front: Front,
    held: RwLock<Held>,
}

impl YardiState {
    /// A stand-in with its seeded records.
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            held: RwLock::new(Held::new(&options)),
            front: Front::new(options),
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl System for YardiState {
    fn front(&self) -> &Front {
        &self.front
    }

    fn kinds(&self) -> &'static [&'static str] {
        truth::KINDS
    }

    fn truth(self: Arc<Self>, kind: &str) -> Option<Truth> {
        truth::records(self, kind)
    }

    fn edit(&self, request: &EditRequest) -> Result<Vec<Value>, String> {
        let now = self.front.options.server_now();
        edits::edit(&mut self.write(), now, request)
    }
}

/// The routes of a Yardi stand-in: `/{company}/{folder}/{interface}.asmx` in any letter
/// case, and `/_control`.
pub fn router(state: Arc<YardiState>) -> Router {
    Router::new()
        .route("/_control/rename", post(rename))
        .fallback(interface)
        .with_state(Arc::clone(&state))
        .merge(control::routes(state))
}

struct YardiManner;

impl Manner for YardiManner {
    fn too_many(&self, retry_after: u64) -> Response {
        let mut response = answer(
            StatusCode::TOO_MANY_REQUESTS,
            "text/plain; charset=utf-8",
            "API rate limit exceeded",
        );
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, retry_after.into());
        response
    }

    fn server_error(&self) -> Response {
        xml::fault(
            false,
            "Server was unable to process request. ---> Timeout expired.",
        )
    }

    fn bomb(&self) -> String {
        let mut text =
            String::from("<?xml version=\"1.0\"?>\n<!DOCTYPE soap [\n<!ENTITY a0 \"ha\">\n");
        for level in 1..12 {
            let inner = format!("&a{};", level - 1).repeat(10);
            text.push_str(&format!("<!ENTITY a{level} \"{inner}\">\n"));
        }
        text.push_str("]>\n<soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap:Body>&a11;</soap:Body></soap:Envelope>");
        text
    }
}

async fn interface(State(state): State<Arc<YardiState>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let Some(interface) = Interface::by_path(parts.uri.path()) else {
        return answer(
            StatusCode::NOT_FOUND,
            "text/html; charset=utf-8",
            "<html><head><title>The resource cannot be found.</title></head><body/></html>",
        );
    };
    if parts.method != axum::http::Method::POST {
        return answer(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain; charset=utf-8",
            "only SOAP by POST",
        );
    }
    let Ok(bytes) = axum::body::to_bytes(body, MAX_REQUEST).await else {
        return answer(
            StatusCode::PAYLOAD_TOO_LARGE,
            "text/plain; charset=utf-8",
            "Maximum request length exceeded.",
        );
    };
    let action = parts
        .headers
        .get("soapaction")
        .and_then(|value| value.to_str().ok())
        .and_then(soap::action_operation)
        .map(str::to_owned);
    let element = std::str::from_utf8(&bytes)
        .map_err(|_| "the request is not UTF-8".to_owned())
        .and_then(|text| soap::operation(text.trim_start_matches('\u{feff}')));
    // The header names the operation; the body element does where there is none.
    let name = action
        .or_else(|| element.as_ref().ok().map(|element| element.name.clone()))
        .unwrap_or_else(|| "unreadable".to_owned());
    let call = Call {
        keys: element
            .as_ref()
            .map_or_else(|_| Vec::new(), operations::keys),
        contents: Vec::new(),
        writes: operations::writes(&name),
        operation: name.clone(),
        idempotency_key: None,
    };
    state
        .front
        .answer(&YardiManner, call, |fault| match element {
            Err(text) => Outcome::plain(xml::fault(
                true,
                &format!("Server was unable to read request. ---> {text}"),
            )),
            Ok(element) => operations::run(&state, interface, &name, &element, fault),
        })
        .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rename {
    property: String,
    code: String,
}

async fn rename(State(state): State<Arc<YardiState>>, body: Bytes) -> Response {
    let rename: Rename = match serde_json::from_slice(&body) {
        Ok(rename) => rename,
        Err(error) => return control::refuse(error.to_string()),
    };
    let mut held = state.write();
    let Some(property) = held.property_by_code(&rename.property) else {
        return control::refuse("no such property".into());
    };
    if !held.rename(property, rename.code.trim()) {
        return control::refuse("that code is taken".into());
    }
    Json(json!({ "code": rename.code.trim() })).into_response()
}

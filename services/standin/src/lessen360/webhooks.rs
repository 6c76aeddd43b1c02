//! The webhook sender: at least once, in no particular order.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, body::Body};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::held::Held;
use super::schema::{Resource, STATUSES};
use super::signing::{Signed, hmac, sign};
use super::{Lessen360State, now, unix_now};
use crate::control::refuse;
use crate::ledger::lock;
use crate::options::Lessen360Credentials;

/// How long a receiver may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most events of one order.
const MAX_EVENTS: usize = 10_000;

/// How the events are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// Each once, in order, well signed.
    Ok,
    /// The signature is wrong.
    WrongSignature,
    /// There is no signature.
    NoSignature,
    /// Each twice with the same event id.
    Repeat,
    /// Newer versions before older ones.
    OutOfOrder,
    /// Every second event is left out.
    Gaps,
    /// A type of event nobody knows.
    UnknownType,
}

/// What `POST /_control/webhooks` asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// Where to, `http:` only.
    url: String,
    #[serde(default = "one")]
    count: usize,
    #[serde(default = "well")]
    mode: Mode,
    /// Also sign by Standard Webhooks with this secret, `whsec_` and base64.
    #[serde(default)]
    secret: Option<String>,
}

fn one() -> usize {
    1
}

fn well() -> Mode {
    Mode::Ok
}

/// Makes status changes and tells them to the receiver; the answer lists what it said.
pub(super) async fn send(State(state): State<Arc<Lessen360State>>, body: Bytes) -> Response {
    let order: Order = match serde_json::from_slice(&body) {
        Ok(order) => order,
        Err(error) => return refuse(error.to_string()),
    };
    if order.count > MAX_EVENTS {
        return refuse(format!("at most {MAX_EVENTS} events"));
    }
    let uri: Uri = match order.url.parse() {
        Ok(uri) => uri,
        Err(_) => return refuse("url is not a URL".into()),
    };
    let events = arrange(events(&mut lock(&state.held), order.count), order.mode);
    let mut sent = Vec::with_capacity(events.len());
    for event in events {
        let credentials = &state.front.options.lessen360;
        let outcome =
            tokio::time::timeout(PATIENCE, deliver(&uri, &order, credentials, &event)).await;
        let (status, error) = match outcome {
            Ok(Ok(status)) => (status.as_u16(), Value::Null),
            Ok(Err(error)) => (0, json!(error)),
            Err(_) => (0, json!("no answer in time")),
        };
        sent.push(json!({ "event": event, "status": status, "error": error }));
    }
    Json(json!({ "sent": sent })).into_response()
}

/// Changes the status of work orders, one after the other, and says so.
fn events(held: &mut Held, count: usize) -> Vec<Value> {
    let table = held.table_mut(Resource::WorkOrder);
    let mut events = Vec::with_capacity(count);
    let mut at = 0;
    for number in 0..count {
        // Two changes in a row to each work order, so that order matters.
        let next = if number % 2 == 0 { at + 1 } else { at };
        let id = table.id_near(next);
        let data = match id.and_then(|id| table.by_id_mut(&id)) {
            Some(record) => {
                at = record.number;
                let place = STATUSES
                    .iter()
                    .position(|one| *one == record.status)
                    .unwrap_or(0);
                let status = STATUSES.get(place + 1).or(STATUSES.first());
                status
                    .copied()
                    .unwrap_or_default()
                    .clone_into(&mut record.status);
                record.version += 1;
                record.updated_at = now();
                json!({
                    "workOrderId": record.id,
                    "externalId": record.external_id,
                    "status": record.status,
                    "version": record.version,
                })
            }
            None => json!({
                "workOrderId": format!("wo_{}", 900_000 + number / 2),
                "externalId": format!("invented:{}", number / 2),
                "status": STATUSES.get(number % 2 + 1),
                "version": number % 2 + 2,
            }),
        };
        events.push(json!({
            "eventId": format!("evt_{}", uuid::Uuid::new_v4().simple()),
            "type": "work_order.status_changed",
            "occurredAt": now(),
            "data": data,
        }));
    }
    events
}

fn arrange(mut events: Vec<Value>, mode: Mode) -> Vec<Value> {
    match mode {
        Mode::Ok | Mode::WrongSignature | Mode::NoSignature => {}
        Mode::Repeat => {
            events = events
                .into_iter()
                .flat_map(|event| [event.clone(), event])
                .collect()
        }
        Mode::OutOfOrder => events.reverse(),
        Mode::Gaps => events = events.into_iter().skip(1).step_by(2).collect(),
        Mode::UnknownType => {
            for event in &mut events {
                if let Some(object) = event.as_object_mut() {
                    object.insert("type".into(), json!("work_order.repainted"));
                }
            }
        }
    }
    events
}

async fn deliver(
    uri: &Uri,
    order: &Order,
    credentials: &Lessen360Credentials,
    event: &Value,
) -> Result<StatusCode, String> {
    let body = event.to_string();
    let request = request(uri, order, credentials, event, body)?;
    let authority = uri.authority().ok_or("the URL has no host")?;
    let address = format!(
        "{}:{}",
        authority.host(),
        authority.port_u16().unwrap_or(80)
    );
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // The sender goes with the exchange, so that the connection ends behind it.
    let exchange = async move {
        let answer = sender.send_request(request).await;
        answer
            .map(|answer| answer.status())
            .map_err(|error| error.to_string())
    };
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}

fn request(
    uri: &Uri,
    order: &Order,
    credentials: &Lessen360Credentials,
    event: &Value,
    body: String,
) -> Result<Request<Body>, String> {
    let timestamp = unix_now().to_string();
    let nonce = uuid::Uuid::new_v4().simple().to_string();
    let what = Signed {
        method: "POST",
        url: &order.url,
        body: body.as_bytes(),
    };
    let mut signature = sign(credentials, what, &timestamp, &nonce);
    let id = event.get("eventId").and_then(Value::as_str).unwrap_or("");
    let mut standard = order
        .secret
        .as_deref()
        .map(|secret| standard(secret, id, &timestamp, &body));
    if order.mode == Mode::WrongSignature {
        // Still base64 of the right length.
        signature = signature
            .chars()
            .rev()
            .collect::<String>()
            .replace('=', "A");
        standard = standard.map(|_| format!("v1,{}", "A".repeat(44)));
    }
    let mut request = Request::post(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(
            header::HOST,
            uri.authority().map_or("", |authority| authority.as_str()),
        )
        .header(header::CONTENT_TYPE, "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", &timestamp);
    if order.mode != Mode::NoSignature {
        let value = format!(
            "HMAC {}:{signature}:{nonce}:{timestamp}",
            credentials.app_id
        );
        request = request.header(header::AUTHORIZATION, value);
        if let Some(standard) = standard {
            request = request.header("webhook-signature", standard);
        }
    }
    request
        .body(Body::from(body))
        .map_err(|error| error.to_string())
}

/// A signature by Standard Webhooks 1.0.
fn standard(secret: &str, id: &str, timestamp: &str, body: &str) -> String {
    use base64::Engine;
    let text = secret.strip_prefix("whsec_").unwrap_or(secret);
    let key = base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap_or_default();
    format!(
        "v1,{}",
        hmac(&key, format!("{id}.{timestamp}.{body}").as_bytes())
    )
}

//! Webhook intake: refuse early, keep the raw bytes, answer, and let sync-in do the rest.
//!
//! `POST /webhooks/{organization}/{connection}/{stream}`. The body goes to the raw store as it
//! came, pending and with no lease, so that a sync-in worker takes it up through the same `ingest`
//! as a pulled page (promises I1, I2). Nothing of an unverified body is stored or looked into:
//! anybody could fill the store otherwise.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use axum::{
    Json,
    extract::{Path, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use chrono::Utc;
use secrecy::SecretSlice;
use serde_json::json;
use sluice_core::ConnectionId;
use sluice_runtime::failpoint::{self, Point};
use sluice_store::raw::{NewPayload, PayloadKind, PutPayload};
use sluice_sync_in::intake::may_hold_records;

use crate::{
    Api, Intake,
    problem::Problem,
    signature::{self, Refused},
};

/// Signing secrets by connection; two of them while one is being replaced.
pub type WebhookSecrets = HashMap<ConnectionId, Vec<SecretSlice<u8>>>;

/// Names of the streams that a connection has.
pub type WebhookStreams = HashMap<ConnectionId, HashSet<String>>;

const UNKNOWN: Problem = Problem::new(
    StatusCode::NOT_FOUND,
    "webhook_unknown",
    "no connection of this name takes webhooks; set `webhook_secrets` in its config",
);

pub(crate) async fn receive(
    State(api): State<Api>,
    Path((organization, connection, stream)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let answer = match (&api.intake, body) {
        (Some(intake), Ok(body)) => {
            accept(
                &api,
                intake,
                &organization,
                &connection,
                stream,
                &headers,
                body,
            )
            .await
        }
        (Some(intake), Err(rejection)) => Err(not_received(&rejection, intake.max_body)),
        (None, _) => Err(UNKNOWN),
    };
    let (outcome, response) = match answer {
        Ok((outcome, status, id)) => (
            outcome,
            (status, Json(json!({ "payload": id }))).into_response(),
        ),
        Err(problem) => {
            tracing::warn!(
                webhook.connection = connection,
                problem.code = problem.code,
                status = problem.status.as_u16(),
                "webhook refused"
            );
            (problem.code, problem.into_response())
        }
    };
    // A label never comes from outside: names nobody configured count together.
    let known = api
        .catalogue
        .organization(&organization)
        .and_then(|id| api.catalogue.connection(id, &connection));
    let source = known.map_or_else(
        || "unknown".to_owned(),
        |connection| connection.spec.name.clone(),
    );
    metrics::counter!(sluice_runtime::metrics::WEBHOOKS, "source" => source, "outcome" => outcome)
        .increment(1);
    response
}

async fn accept(
    api: &Api,
    intake: &Intake,
    organization: &str,
    connection: &str,
    stream: String,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<(&'static str, StatusCode, String), Problem> {
    let organization_id = api.catalogue.organization(organization).ok_or(UNKNOWN)?;
    let connection = api
        .catalogue
        .connection(organization_id, connection)
        .ok_or(UNKNOWN)?;
    let secrets = intake.secrets.get(&connection.id).ok_or(UNKNOWN)?;
    let now = Utc::now();
    let id =
        signature::verify(headers, &body, secrets, now, intake.replay_window).map_err(refused)?;
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    check(intake, connection.id, &stream, content_type)?;
    let payload = NewPayload {
        organization_id,
        connection_id: connection.id,
        source_system: connection.spec.connector.clone(),
        kind: PayloadKind::Webhook,
        stream,
        slice: json!({}),
        content_type: content_type.map(str::to_owned),
        body,
        delivery_id: Some(id.to_owned()),
        run_id: None,
        traceparent: headers
            .get("traceparent")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned),
        received_at: now,
        expires_at: Some(now + intake.retention),
    };
    let put = api
        .backends
        .raw
        .put_payload(payload, Duration::ZERO)
        .await
        .map_err(|error| {
            tracing::error!(error = %error.chain(), "webhook could not be stored");
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "webhook_not_stored",
                "the payload could not be made durable; deliver it again",
            )
        })?;
    failpoint::reach(Point::ApiKept).await;
    Ok(match put {
        PutPayload::Stored(id) | PutPayload::SeenAgain(id) => {
            ("stored", StatusCode::ACCEPTED, id.0)
        }
        PutPayload::Duplicate(id) => ("duplicate", StatusCode::OK, id.0),
    })
}

/// What can be known to be unreadable before anybody looks into the body.
fn check(
    intake: &Intake,
    connection: ConnectionId,
    stream: &str,
    content_type: Option<&str>,
) -> Result<(), Problem> {
    let streams = intake.streams.get(&connection);
    if streams.is_some_and(|known| !known.contains(stream)) {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "webhook_stream_unknown",
            "the connection has no stream of this name; `sluice connector discover` lists them",
        ));
    }
    if !may_hold_records(content_type) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "webhook_content_type",
            "no records are read from this content type; send JSON, NDJSON, CSV or XML",
        ));
    }
    Ok(())
}

fn not_received(rejection: &BytesRejection, max_body: usize) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            code: "webhook_too_large",
            detail: format!("the body is larger than {max_body} bytes; send it in parts").into(),
        },
        status => Problem::new(
            status,
            "webhook_not_received",
            "the body did not arrive; deliver it again",
        ),
    }
}

fn refused(why: Refused) -> Problem {
    let (code, detail) = match why {
        Refused::HeaderMissing => (
            "webhook_headers",
            "webhook-id, webhook-timestamp (seconds) and webhook-signature are needed",
        ),
        Refused::OutsideWindow => (
            "webhook_outside_window",
            "the time stamp is too far from now",
        ),
        Refused::Signature => (
            "webhook_signature",
            "no signature fits; check the shared secret",
        ),
    };
    Problem::new(StatusCode::UNAUTHORIZED, code, detail)
}

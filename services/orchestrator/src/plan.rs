//! Starts runs.

use sluice_core::{
    Error, ErrorClass, OrganizationId, Result, Timestamp,
    catalogue::{Catalogue, Flow},
    run::RunKind,
};
use sluice_runtime::telemetry;
use sluice_store::{
    TaskStore,
    run::{NewRun, StartedRun},
};

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRequest {
    pub organization_id: OrganizationId,
    pub flow: String,
    pub kind: RunKind,
    /// Only these streams of the flow; empty means all of them.
    pub streams: Vec<String>,
    /// Overrides the stored cursor of an incremental run; for a reprocessing run, only records
    /// received since.
    pub since: Option<Timestamp>,
    /// The source id of a [`RunKind::Single`] run; may narrow a reprocessing run too.
    pub record: Option<String>,
    pub dry_run: bool,
    /// The same key gives the same run (promise C1).
    pub idempotency_key: Option<String>,
    /// `schedule`, `cli`, or an API user.
    pub requested_by: String,
    pub traceparent: Option<String>,
    /// See [`NewRun::background`].
    pub background: bool,
}

impl RunRequest {
    /// A request for all streams of a flow, with nothing special about it.
    pub fn new(organization_id: OrganizationId, flow: impl Into<String>, kind: RunKind) -> Self {
        Self {
            organization_id,
            flow: flow.into(),
            kind,
            streams: Vec::new(),
            since: None,
            record: None,
            dry_run: false,
            idempotency_key: None,
            requested_by: "cli".to_owned(),
            traceparent: None,
            background: false,
        }
    }
}

/// Makes a run of a request. `available` are the streams of the flow's source in the connector's
/// order, which lists parents before children (promise O7).
///
/// # Errors
/// `flow_unknown`, `stream_unknown`, `streams_missing`, `record_missing`, `full_since`: each names what was
/// asked for and what there is.
pub fn plan(catalogue: &Catalogue, request: &RunRequest, available: &[String]) -> Result<NewRun> {
    let flow = find_flow(catalogue, request)?;
    let connection = catalogue.connection_by_id(flow.source).ok_or_else(|| {
        Error::config(
            "flow_without_source",
            format!("the source of flow `{}` is not configured", flow.spec.name),
        )
    })?;
    let streams = streams(flow, request, available)?;
    if request.kind == RunKind::Single && request.record.is_none() {
        return Err(invalid(
            "record_missing",
            "a single-record run needs the record's source id".to_owned(),
        ));
    }
    if request.kind == RunKind::Full && request.since.is_some() {
        return Err(invalid(
            "full_since",
            "a full run reads everything, so it begins at no time of its own".to_owned(),
        )
        .hint("leave out either of the two"));
    }
    Ok(NewRun {
        organization_id: request.organization_id,
        flow: flow.spec.name.clone(),
        connection_id: connection.id,
        kind: request.kind,
        streams,
        since: request.since,
        record: request.record.clone(),
        dry_run: request.dry_run,
        idempotency_key: request.idempotency_key.clone(),
        requested_by: request.requested_by.clone(),
        max_retries: connection.spec.retry.max_retries,
        traceparent: request.traceparent.clone(),
        background: request.background,
    })
}

/// Plans and starts a run.
///
/// # Errors
/// Those of [`plan`] and of [`TaskStore::start_run`].
pub async fn start_run(
    tasks: &dyn TaskStore,
    catalogue: &Catalogue,
    request: &RunRequest,
    available: &[String],
) -> Result<StartedRun> {
    let mut run = plan(catalogue, request, available)?;
    // One trace from the run's first page to its last call at a target.
    run.traceparent
        .get_or_insert_with(telemetry::new_traceparent);
    let started = tasks.start_run(&run).await?;
    tracing::info!(
        run.id = started.id.0,
        run.existed = started.existed,
        run.kind = run.kind.as_str(),
        flow = run.flow,
        dry_run = run.dry_run,
        "run requested"
    );
    Ok(started)
}

fn find_flow<'a>(catalogue: &'a Catalogue, request: &RunRequest) -> Result<&'a Flow> {
    catalogue
        .flow(request.organization_id, &request.flow)
        .ok_or_else(|| {
            let names: Vec<_> = catalogue
                .flows
                .iter()
                .filter(|flow| flow.organization_id == request.organization_id)
                .map(|flow| flow.spec.name.as_str())
                .collect();
            Error::new(
                ErrorClass::NotFound,
                "flow_unknown",
                format!("there is no flow `{}`", request.flow),
            )
            .hint(format!("known flows: {}", names.join(", ")))
        })
}

fn streams(flow: &Flow, request: &RunRequest, available: &[String]) -> Result<Vec<String>> {
    let of_flow: &[String] = if flow.spec.streams.is_empty() {
        available
    } else {
        &flow.spec.streams
    };
    for wanted in request.streams.iter().chain(&flow.spec.streams) {
        if !available.contains(wanted) || !of_flow.contains(wanted) {
            return Err(invalid(
                "stream_unknown",
                format!("flow `{}` reads no stream `{wanted}`", flow.spec.name),
            )
            .hint(format!("its source has: {}", available.join(", "))));
        }
    }
    let chosen: Vec<_> = of_flow
        .iter()
        .filter(|stream| request.streams.is_empty() || request.streams.contains(stream))
        .cloned()
        .collect();
    if chosen.is_empty() {
        return Err(invalid(
            "streams_missing",
            format!("flow `{}` has no stream to read", flow.spec.name),
        ));
    }
    Ok(chosen)
}

fn invalid(code: &'static str, message: String) -> Error {
    Error::new(ErrorClass::Validation, code, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sluice_core::{
        ConnectionId,
        catalogue::{Connection, FlowSpec},
    };

    use super::*;

    fn catalogue(streams: &[&str]) -> Catalogue {
        Catalogue {
            organizations: Vec::new(),
            connections: vec![Connection {
                id: ConnectionId(7),
                organization_id: OrganizationId(1),
                spec: serde_json::from_value(json!({
                    "organization": "acme", "name": "yardi", "connector": "yardi", "config": {},
                    "retry": {"max_retries": 9}
                }))
                .unwrap(),
            }],
            flows: vec![Flow {
                organization_id: OrganizationId(1),
                source: ConnectionId(7),
                spec: FlowSpec {
                    organization: "acme".into(),
                    name: "main".into(),
                    source: "yardi".into(),
                    streams: streams.iter().map(ToString::to_string).collect(),
                    targets: Vec::new(),
                },
            }],
        }
    }

    fn available() -> Vec<String> {
        ["properties", "units", "residents"]
            .map(String::from)
            .into()
    }

    fn request(kind: RunKind) -> RunRequest {
        RunRequest::new(OrganizationId(1), "main", kind)
    }

    fn code(result: Result<NewRun>) -> &'static str {
        result.expect_err("must be refused").code()
    }

    #[test]
    fn streams_keep_the_connectors_order_and_the_policy_comes_from_the_source() {
        let run = plan(&catalogue(&[]), &request(RunKind::Full), &available()).unwrap();
        assert_eq!(run.streams, available());
        assert_eq!((run.connection_id, run.max_retries), (ConnectionId(7), 9));
        let narrowed = RunRequest {
            streams: vec!["residents".into(), "properties".into()],
            ..request(RunKind::Full)
        };
        let run = plan(&catalogue(&[]), &narrowed, &available()).unwrap();
        assert_eq!(run.streams, ["properties", "residents"]);
    }

    #[test]
    fn a_flow_with_streams_reads_only_these() {
        let run = plan(
            &catalogue(&["units"]),
            &request(RunKind::Full),
            &available(),
        )
        .unwrap();
        assert_eq!(run.streams, ["units"]);
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_name() {
        let unknown = RunRequest {
            flow: "other".into(),
            ..request(RunKind::Full)
        };
        assert_eq!(
            code(plan(&catalogue(&[]), &unknown, &available())),
            "flow_unknown"
        );
        let stream = RunRequest {
            streams: vec!["invoices".into()],
            ..request(RunKind::Full)
        };
        assert_eq!(
            code(plan(&catalogue(&[]), &stream, &available())),
            "stream_unknown"
        );
        assert_eq!(
            code(plan(
                &catalogue(&["gone"]),
                &request(RunKind::Full),
                &available()
            )),
            "stream_unknown"
        );
        assert_eq!(
            code(plan(&catalogue(&[]), &request(RunKind::Full), &[])),
            "streams_missing"
        );
        assert_eq!(
            code(plan(
                &catalogue(&[]),
                &request(RunKind::Single),
                &available()
            )),
            "record_missing"
        );
        let since = RunRequest {
            since: Some(Timestamp::UNIX_EPOCH),
            ..request(RunKind::Full)
        };
        assert_eq!(
            code(plan(&catalogue(&[]), &since, &available())),
            "full_since"
        );
    }

    /// C4: another organization's flow of the same name is not found.
    #[test]
    fn flows_of_other_organizations_do_not_exist() {
        let foreign = RunRequest {
            organization_id: OrganizationId(2),
            ..request(RunKind::Full)
        };
        assert_eq!(
            code(plan(&catalogue(&[]), &foreign, &available())),
            "flow_unknown"
        );
    }
}

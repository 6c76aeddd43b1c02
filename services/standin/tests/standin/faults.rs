//! Every fault does what its name says, to the caller and to the records.

use crate::support::yardi::{call, credentials, raw_call, texts};
use crate::support::{fault, get, ledger, options, post, records, send, start, stats};
use serde_json::json;
use sluice_standin::{Handle, Kind, Options};

const REQUESTS: &str = "ItfServiceRequests";
const PROPERTIES: &str = "GetPropertyConfigurations";

async fn yardi() -> Handle {
    start(Options {
        records: 400,
        properties: 4,
        ..options(Kind::Yardi)
    })
    .await
}

async fn properties(handle: &Handle) -> crate::support::Answer {
    call(handle, REQUESTS, PROPERTIES, "").await
}

#[tokio::test]
async fn faults_that_prevent_the_work() {
    let handle = yardi().await;
    for (kind, status, content_type) in [
        ("http_500_fault", 500, "text/xml; charset=utf-8"),
        ("http_502", 502, "text/html; charset=utf-8"),
        ("http_503", 503, "text/html; charset=utf-8"),
        ("http_422", 422, "application/json"),
        ("html_200", 200, "text/html; charset=utf-8"),
        ("http_429", 429, "text/plain; charset=utf-8"),
    ] {
        fault(&handle, json!({"kind": kind, "retry_after": 7})).await;
        let answer = properties(&handle).await;
        assert_eq!(answer.status, status, "{kind}");
        assert_eq!(answer.header("content-type"), Some(content_type), "{kind}");
        assert_eq!(answer.header("retry-after").is_some(), kind == "http_429");
        assert!(
            properties(&handle).await.text().contains("<Property>"),
            "one fault, one call"
        );
    }
    fault(&handle, json!({"kind": "reset"})).await;
    assert!(
        raw_call(&handle, REQUESTS, PROPERTIES, &credentials())
            .await
            .is_none()
    );
    let entries = ledger(&handle).await;
    let last = entries.last().unwrap();
    assert_eq!(
        (&last["status"], &last["fault"]),
        (&json!(0), &json!("reset"))
    );
    assert_eq!(stats(&handle).await["faults"]["reset"], 1);
}

#[tokio::test]
async fn faults_that_spoil_the_answer() {
    let handle = yardi().await;
    let whole = properties(&handle).await;
    fault(&handle, json!({"kind": "truncated_body"})).await;
    let answer = properties(&handle).await;
    assert!(!answer.complete);
    assert!(whole.body.starts_with(&answer.body) && answer.body.len() < whole.body.len());

    fault(&handle, json!({"kind": "cut_document"})).await;
    let answer = properties(&handle).await;
    assert!(answer.complete);
    assert!(whole.body.starts_with(&answer.body) && answer.body.len() < whole.body.len());

    fault(&handle, json!({"kind": "wrong_encoding"})).await;
    let answer = properties(&handle).await;
    assert_eq!(
        answer.header("content-type"),
        Some("text/xml; charset=utf-8")
    );
    assert!(std::str::from_utf8(&answer.body).is_err());

    fault(&handle, json!({"kind": "doctype"})).await;
    assert!(properties(&handle).await.text().contains("<!DOCTYPE"));

    fault(&handle, json!({"kind": "oversized"})).await;
    let answer = properties(&handle).await;
    assert_eq!(answer.body.len(), whole.body.len() + 20_000_000);
    assert!(answer.body.starts_with(&whole.body));

    let code = records(&handle, "property").await[0]["code"]
        .as_str()
        .unwrap()
        .to_owned();
    let inner = format!("<YardiPropertyId>{code}</YardiPropertyId>");
    let read = || call(&handle, REQUESTS, "GetServiceRequest_ByDateRange", &inner);
    let ids = texts(&read().await.text(), "ServiceRequestId");
    fault(
        &handle,
        json!({"kind": "duplicate_ids", "operation": "GetServiceRequest_ByDateRange"}),
    )
    .await;
    let doubled = texts(&read().await.text(), "ServiceRequestId");
    assert_eq!(doubled.len(), ids.len() + 1);
    assert_eq!(doubled[0], doubled[1]);
    fault(&handle, json!({"kind": "missing_ids"})).await;
    let missing = texts(&read().await.text(), "ServiceRequestId");
    assert_eq!(missing[0], "");
    assert_eq!(missing[1..], ids[1..]);
    fault(&handle, json!({"kind": "impossible_dates"})).await;
    assert_eq!(
        texts(&read().await.text(), "ServiceRequestDate")[0],
        "2025-02-31"
    );
    for (form, piece) in [(1, "Login failed."), (2, "Invalid Interface Entity")] {
        fault(&handle, json!({"kind": "auth_form", "form": form})).await;
        assert!(read().await.text().contains(piece));
    }
    fault(&handle, json!({"kind": "auth_form", "form": 3})).await;
    assert!(!read().await.text().contains("Result>"));
}

#[tokio::test]
async fn a_spent_quota_is_told_by_headers_alone() {
    let handle = yardi().await;
    let whole = properties(&handle).await;
    let now = chrono::Utc::now().timestamp();
    for (form, remaining, reset, wait) in [
        (1, "x-ratelimit-remaining", "x-ratelimit-reset", 7..=7),
        (
            3,
            "x-rate-limit-remaining",
            "x-rate-limit-reset",
            now + 7..=now + 60,
        ),
    ] {
        let rule = json!({"kind": "quota_spent", "form": form, "retry_after": 7});
        fault(&handle, rule).await;
        let answer = properties(&handle).await;
        assert_eq!((answer.status, &answer.body), (200, &whole.body));
        assert_eq!(answer.header(remaining), Some("0"));
        let reset: i64 = answer.header(reset).unwrap().parse().unwrap();
        assert!(wait.contains(&reset), "{reset}");
        assert_eq!(properties(&handle).await.header(remaining), None);
    }
    let rule = json!({"kind": "quota_spent", "form": 2, "retry_after": 7});
    fault(&handle, rule).await;
    let answer = properties(&handle).await;
    assert_eq!(answer.header("ratelimit"), Some("\"minute\";r=0;t=7"));
    assert_eq!(stats(&handle).await["faults"]["quota_spent"], 3);
}

#[tokio::test]
async fn committed_though_unanswered() {
    let handle = yardi().await;
    let code = records(&handle, "property").await[0]["code"]
        .as_str()
        .unwrap()
        .to_owned();
    let before = records(&handle, "service_request").await.len();
    let inner = format!(
        "{}<YardiPropertyId>{code}</YardiPropertyId><ServiceRequestXml><ServiceRequests><ServiceRequest>\
         <ServiceRequestFullDescription>x</ServiceRequestFullDescription><HasPermissionToEnter>true</HasPermissionToEnter>\
         </ServiceRequest></ServiceRequests></ServiceRequestXml>",
        credentials()
    );
    let operation = "CreateOrEditServiceRequests";
    fault(&handle, json!({"kind": "commit_then_reset"})).await;
    assert!(
        raw_call(&handle, REQUESTS, operation, &inner)
            .await
            .is_none()
    );
    assert_eq!(records(&handle, "service_request").await.len(), before + 1);

    // A timeout holds until the caller gives up; the ledger tells whether it was done.
    for (kind, done) in [
        ("commit_then_timeout", true),
        ("timeout", false),
        ("commit_then_late", true),
    ] {
        fault(&handle, json!({"kind": kind, "delay_ms": 600})).await;
        let seen = ledger(&handle).await.len();
        let hung = tokio::time::timeout(
            std::time::Duration::from_millis(300),
            raw_call(&handle, REQUESTS, operation, &inner),
        )
        .await;
        assert!(hung.is_err(), "{kind}");
        let entries = ledger(&handle).await;
        assert_eq!(entries.len(), seen + 1);
        assert_eq!(entries[seen]["applied"], done, "{kind}");
        let late = kind == "commit_then_late";
        assert_eq!(entries[seen]["status"], if late { 200 } else { 0 });
    }
    assert_eq!(records(&handle, "service_request").await.len(), before + 3);
    // Who waits gets it.
    fault(&handle, json!({"kind": "commit_then_late", "delay_ms": 20})).await;
    let late = raw_call(&handle, REQUESTS, operation, &inner).await;
    assert!(late.is_some());

    fault(&handle, json!({"kind": "lying_success"})).await;
    let answer = raw_call(&handle, REQUESTS, operation, &inner)
        .await
        .unwrap();
    assert_eq!(
        (answer.status, texts(&answer.text(), "ServiceRequestId")),
        (200, vec![String::new()])
    );
    assert_eq!(records(&handle, "service_request").await.len(), before + 4);
}

#[tokio::test]
async fn latency_delays_and_overlapping_writes_are_seen() {
    let handle = yardi().await;
    let request = records(&handle, "service_request").await[0].clone();
    let inner = format!(
        "<YardiPropertyId>{}</YardiPropertyId><ServiceRequestXml><ServiceRequests><ServiceRequest><ServiceRequestId>{}</ServiceRequestId>\
         </ServiceRequest></ServiceRequests></ServiceRequestXml>",
        request["propertyCode"].as_str().unwrap(),
        request["serviceRequestId"].as_str().unwrap()
    );
    fault(
        &handle,
        json!({"kind": "latency", "delay_ms": 200, "count": 2}),
    )
    .await;
    let started = std::time::Instant::now();
    let operation = "CreateOrEditServiceRequests";
    let (a, b) = tokio::join!(
        call(&handle, REQUESTS, operation, &inner),
        call(&handle, REQUESTS, operation, &inner)
    );
    assert!(started.elapsed().as_millis() >= 200);
    assert_eq!((a.status, b.status), (200, 200));
    assert_eq!(stats(&handle).await["overlapping_writes"], 1);
    assert_eq!(stats(&handle).await["in_flight"], 0);
    call(&handle, REQUESTS, operation, &inner).await;
    assert_eq!(stats(&handle).await["overlapping_writes"], 1);
}

#[tokio::test]
async fn rules_are_listed_cleared_and_checked() {
    let handle = yardi().await;
    fault(&handle, json!([{"kind": "reset", "operation": "Nothing", "count": 3, "after": 2}, {"kind": "latency", "rate": 0.5}])).await;
    let list = get(&handle, "/_control/faults").await.json();
    assert_eq!(list["faults"].as_array().unwrap().len(), 2);
    assert_eq!(list["faults"][0]["left"], 3);
    send(handle.addr(), "DELETE", "/_control/faults", &[], b"")
        .await
        .unwrap();
    assert_eq!(
        get(&handle, "/_control/faults").await.json()["faults"],
        json!([])
    );
    for wrong in [
        json!({"kind": "flood"}),
        json!({"kind": "reset", "often": 1}),
        json!({"kind": "reset", "count": 0}),
        json!(1),
    ] {
        assert_eq!(
            post(&handle, "/_control/faults", &wrong).await.status,
            400,
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn the_limit_refuses_and_the_meter_counts() {
    let handle = start(Options {
        limit_per_minute: Some(3),
        records: 100,
        properties: 1,
        ..options(Kind::Yardi)
    })
    .await;
    let statuses = async || {
        let mut all = Vec::new();
        for _ in 0..5 {
            all.push(properties(&handle).await.status);
        }
        all
    };
    assert_eq!(statuses().await, [200, 200, 200, 429, 429]);
    let answer = properties(&handle).await;
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    let stats = stats(&handle).await;
    assert_eq!(stats["limit_violations"], 3);
    assert_eq!(stats["max_calls_per_minute"], 6);
    assert_eq!(stats["operations"][PROPERTIES]["statuses"]["429"], 3);
}

#[tokio::test]
async fn the_ledger_is_bounded_and_can_be_off() {
    let handle = start(Options {
        ledger_entries: 5,
        records: 100,
        properties: 1,
        ..options(Kind::Yardi)
    })
    .await;
    for _ in 0..8 {
        properties(&handle).await;
    }
    let entries = ledger(&handle).await;
    let numbers: Vec<u64> = entries
        .iter()
        .map(|one| one["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [4, 5, 6, 7, 8]);
    let rest = get(&handle, "/_control/ledger?after=6&limit=1")
        .await
        .json();
    assert_eq!(rest["entries"][0]["seq"], 7);
    assert_eq!(stats(&handle).await["calls"], 8);

    let handle = start(Options {
        ledger_entries: 0,
        records: 100,
        properties: 1,
        ..options(Kind::Yardi)
    })
    .await;
    properties(&handle).await;
    assert!(ledger(&handle).await.is_empty());
    assert_eq!(stats(&handle).await["calls"], 1);
}

#[tokio::test]
async fn a_stopped_stand_in_refuses_connections() {
    let handle = yardi().await;
    let addr = handle.addr();
    handle.shutdown().await;
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

//! Failures that both targets have, and what they mean.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_connectors::target::PushOperation;
use sluice_core::ErrorClass;
use sluice_standin::Kind;

use crate::support::{PLACE, item, lessen360_place, one_bodies, setup};

/// O1: a create whose answer was lost is found by the planted reference.
#[tokio::test]
async fn lost_answers_are_timeouts_and_the_records_are_found() {
    for kind in [Kind::One, Kind::Lessen360] {
        let setup = setup(kind, |_| {}).await;
        let body = match kind {
            Kind::One => one_bodies()[0].2.clone(),
            _ => lessen360_place(),
        };
        for fault in ["commit_then_timeout", "commit_then_reset"] {
            let id = format!("{PLACE}-{fault}");
            let mut body = body.clone();
            for key in ["locationNumber", "externalId"] {
                if body.get(key).is_some() {
                    body[key] = json!(id);
                }
            }
            assert_eq!(setup.found("Location", &id).await, None);
            let operation = if kind == Kind::One {
                json!("createLocation")
            } else {
                Value::Null
            };
            setup
                .fault(json!({"kind": fault, "operation": operation}))
                .await;
            let lost = setup
                .push_one(
                    "Location",
                    PushOperation::Create,
                    item(&id, None, 1, body.clone()),
                )
                .await;
            assert!(lost.starts_with("timeout "), "{fault}: {lost}");
            let found = setup.found("Location", &id).await.expect(fault);
            let again = setup
                .push_one("Location", PushOperation::Create, item(&id, None, 1, body))
                .await;
            assert!(again.ends_with(&found), "{fault}: {again}");
        }
    }
}

#[tokio::test]
async fn limits_and_failures_of_both_have_their_classes() {
    for (kind, body) in [
        (Kind::One, one_bodies()[0].2.clone()),
        (Kind::Lessen360, lessen360_place()),
    ] {
        for (fault, class) in [
            ("http_429", ErrorClass::RateLimit),
            ("http_500_fault", ErrorClass::TargetError),
            ("http_502", ErrorClass::TargetError),
            ("http_503", ErrorClass::TargetError),
            ("html_200", ErrorClass::TargetError),
            ("lying_success", ErrorClass::TargetError),
        ] {
            let setup = setup(kind, |_| {}).await;
            let operation = if kind == Kind::One {
                json!("createLocation")
            } else {
                Value::Null
            };
            setup
                .fault(json!({"kind": fault, "operation": operation, "retry_after": 33}))
                .await;
            let items = vec![item(PLACE, None, 1, body.clone())];
            let batch = setup.push("Location", PushOperation::Create, items).await;
            let error = batch.results[0].as_ref().unwrap_err();
            assert_eq!(error.class(), class, "{kind:?} {fault}: {error}");
            if fault == "http_429" {
                assert_eq!(error.wait(), Some(Duration::from_secs(33)));
            }
        }
    }
}

/// O1: a success that does not name what it is about is none, for updates as for creates.
#[tokio::test]
async fn an_update_without_the_id_in_its_answer_has_failed() {
    let setup = setup(Kind::Lessen360, |_| {}).await;
    let push = async |operation, id: Option<&str>, version| {
        let items = vec![item(PLACE, id, version, lessen360_place())];
        let mut batch = setup.push("Location", operation, items).await;
        batch.results.remove(0)
    };
    let made = push(PushOperation::Create, None, 1).await.unwrap();
    let id = Some(&*made.external_id);
    setup.fault(json!({"kind": "lying_success"})).await;
    let error = push(PushOperation::Update, id, 2).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::TargetError, "{error}");
    push(PushOperation::Update, id, 2).await.unwrap();
}

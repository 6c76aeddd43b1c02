//! ONE through its connector.

use serde_json::json;
use sluice_connectors::target::{PushItem, PushOperation};
use sluice_core::ErrorClass;
use sluice_standin::Kind;

use crate::support::{PERSON, item, one_bodies, setup, short};

#[tokio::test]
async fn one_takes_every_entity_through_its_life() {
    let setup = setup(Kind::One, |_| {}).await;
    setup.target.check().await.unwrap();
    for (entity, id, body) in one_bodies() {
        assert_eq!(setup.found(entity, id).await, None, "{entity}");
        let created = setup
            .push_one(
                entity,
                PushOperation::Create,
                item(id, None, 1, body.clone()),
            )
            .await;
        let external_id = setup.found(entity, id).await.expect(entity);
        assert_eq!(created, format!("created {external_id}"));
        let again = setup
            .push_one(
                entity,
                PushOperation::Create,
                item(id, None, 2, body.clone()),
            )
            .await;
        let updated = setup
            .push_one(
                entity,
                PushOperation::Update,
                item(id, Some(&external_id), 3, body),
            )
            .await;
        if entity == "Attachment" {
            assert_eq!(again, format!("linked {external_id}"));
            assert_eq!(updated, format!("skipped {external_id}"));
        } else {
            assert_eq!(again, format!("updated {external_id}"));
            assert_eq!(updated, format!("updated {external_id}"));
        }
    }
    for (entity, id, _) in one_bodies().into_iter().rev() {
        let external_id = setup.found(entity, id).await.unwrap();
        let gone = item(id, Some(&external_id), 4, json!({}));
        let deleted = setup.push_one(entity, PushOperation::Delete, gone).await;
        let word = if entity == "Attachment" {
            "skipped"
        } else {
            "deleted"
        };
        assert_eq!(deleted, format!("{word} {external_id}"));
    }
    let nowhere = item("x", Some("nowhere"), 1, json!({}));
    assert_eq!(
        setup
            .push_one("Location", PushOperation::Delete, nowhere)
            .await,
        "deleted nowhere"
    );
}

#[tokio::test]
async fn one_settles_mixed_batches_and_missing_parents() {
    let setup = setup(Kind::One, |_| {}).await;
    let place = |n: usize| {
        let id = format!("yardi:{n}");
        let mut body = json!({"locationNumber": id, "locationName": "Oak Run", "city": "Elm", "state": "TX", "zipCode": "75001", "status": 1});
        if n % 10 == 3 {
            body.as_object_mut().unwrap().remove("city");
        }
        if n == 7 {
            body["unknownField"] = json!(1);
        }
        item(&id, None, 1, body)
    };
    let batch = setup
        .push(
            "Location",
            PushOperation::Create,
            (0..60).map(place).collect(),
        )
        .await;
    for (n, text) in short(&batch).iter().enumerate() {
        let refused = n % 10 == 3 || n == 7;
        let expected = if refused {
            "validation target_refused"
        } else {
            "created yardi:"
        };
        assert!(text.starts_with(expected), "{n}: {text}");
    }
    assert_eq!(setup.held("location").await, 53);
    let [_, (_, _, resident), ..] = one_bodies();
    let orphan = setup
        .push_one(
            "Resident",
            PushOperation::Create,
            item(PERSON, None, 1, resident),
        )
        .await;
    assert!(
        orphan.starts_with("validation target_parent_missing"),
        "{orphan}"
    );
}

#[tokio::test]
async fn one_renews_its_token_in_the_middle_and_reports_partial_errors() {
    let setup = setup(Kind::One, |_| {}).await;
    let places = |from: usize, to: usize| -> Vec<PushItem> {
        (from..to)
            .map(|n| {
                let id = format!("yardi:{n}");
                let body = json!({"locationNumber": id, "locationName": "Oak Run", "city": "Elm", "state": "TX", "zipCode": "75001", "status": 1});
                item(&id, None, 1, body)
            })
            .collect()
    };
    setup
        .fault(json!({"kind": "token_expiry", "operation": "createLocation", "after": 1}))
        .await;
    let batch = setup
        .push("Location", PushOperation::Create, places(0, 75))
        .await;
    assert!(
        batch.results.iter().all(Result::is_ok),
        "{:?}",
        short(&batch)
    );
    // Two tokens, three batches, one of them twice.
    assert_eq!(batch.calls, 6);
    setup
        .fault(json!({"kind": "partial_errors", "operation": "createLocation"}))
        .await;
    let batch = setup
        .push("Location", PushOperation::Create, places(100, 110))
        .await;
    let failed: Vec<_> = batch
        .results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .collect();
    assert!(
        !failed.is_empty() && failed.len() < 10,
        "{:?}",
        short(&batch)
    );
    for error in failed {
        assert_eq!(error.class(), ErrorClass::TargetError, "{error}");
    }
}

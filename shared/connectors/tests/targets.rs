//! The shipped targets against the stand-ins, which share no code with them.

use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use sluice_connectors::{
    http::{HttpClient, HttpOptions},
    library::Library,
    limiter::Limiter,
    target::{PushBatch, PushItem, PushOperation, Target},
};
use sluice_core::{EntityType, ErrorClass, secret::SecretConfig};
use sluice_standin::{Handle, Kind, Options};

struct Setup {
    standin: Handle,
    target: Target,
}

async fn setup(kind: Kind, change: impl FnOnce(&mut Options)) -> Setup {
    let mut options = Options::new(kind);
    options.limit_per_minute = None;
    change(&mut options);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (name, config) = match kind {
        Kind::One => (
            "one",
            json!({"base_url": url, "client_id": options.one.client_id, "client_secret": options.one.client_secret}),
        ),
        _ => (
            "lessen360",
            json!({"base_url": url, "app_id": options.lessen360.app_id, "app_secret": options.lessen360.secret}),
        ),
    };
    let standin = sluice_standin::serve(options, listener).unwrap();
    let config = SecretConfig::new(config);
    let bounds = HttpOptions {
        timeout: Duration::from_secs(2),
        ..HttpOptions::default()
    };
    let http = HttpClient::new("acme", &config, Limiter::new(&[]), bounds).unwrap();
    let files = Library::new(None).unwrap().get(name).unwrap();
    let target = Target::load(&files, "acme", config, http).unwrap();
    Setup { standin, target }
}

impl Setup {
    async fn fault(&self, rule: Value) {
        let url = format!("{}/_control/faults", self.standin.url());
        let client = reqwest::Client::new();
        let answer = client.post(url).json(&rule).send().await.unwrap();
        assert!(
            answer.status().is_success(),
            "{}",
            answer.text().await.unwrap()
        );
    }

    /// How many records of a kind the stand-in holds.
    async fn held(&self, kind: &str) -> usize {
        let url = format!("{}/_control/records?kind={kind}", self.standin.url());
        let records: Vec<Value> = reqwest::get(url).await.unwrap().json().await.unwrap();
        records.len()
    }

    async fn push(
        &self,
        entity: &str,
        operation: PushOperation,
        items: Vec<PushItem>,
    ) -> PushBatch {
        self.target
            .push(&EntityType::from(entity), operation, items)
            .await
    }

    /// One record; its result as text.
    async fn push_one(&self, entity: &str, operation: PushOperation, item: PushItem) -> String {
        let batch = self.push(entity, operation, vec![item]).await;
        short(&batch).remove(0)
    }

    async fn found(&self, entity: &str, entity_id: &str) -> Option<String> {
        let (found, _) = self
            .target
            .lookup(&EntityType::from(entity), &[entity_id.to_owned()])
            .await;
        let found = found.into_iter().next().unwrap().unwrap();
        found.map(|found| found.external_id)
    }
}

fn short(batch: &PushBatch) -> Vec<String> {
    let results = batch.results.iter();
    results
        .map(|result| match result {
            Ok(receipt) => format!("{} {}", receipt.action.as_str(), receipt.external_id),
            Err(error) => format!("{} {}: {}", error.class(), error.code(), error.message()),
        })
        .collect()
}

fn item(entity_id: &str, external_id: Option<&str>, version: i64, body: Value) -> PushItem {
    PushItem {
        entity_id: entity_id.to_owned(),
        external_id: external_id.map(str::to_owned),
        body,
        idempotency_key: format!("{entity_id}-{version}"),
        version,
    }
}

const PLACE: &str = "yardi:oak run/12&304";
const PERSON: &str = "yardi:t0001";
const REQUEST: &str = "yardi:51877";
const FILE: &str = "yardi:f-1";

fn content() -> String {
    base64::engine::general_purpose::STANDARD.encode(b"\x89PNG not really")
}

fn one_bodies() -> [(&'static str, &'static str, Value); 4] {
    [
        (
            "Location",
            PLACE,
            json!({"locationNumber": PLACE, "locationName": "Oak Run", "city": "Elm", "state": "TX", "zipCode": "75001", "status": 1}),
        ),
        (
            "Resident",
            PERSON,
            json!({"residentNumber": PERSON, "locationNumber": PLACE, "name": "Dana Poe", "isPrimaryResident": true, "status": 1}),
        ),
        (
            "ServiceRequest",
            REQUEST,
            json!({"referWONum": REQUEST, "locationNumber": PLACE, "serviceRequestCategory": "Plumbing", "callTime": "2025-03-05T16:30:00-06:00", "caller": "Dana Poe", "priority": "High"}),
        ),
        (
            "Attachment",
            FILE,
            json!({"attachmentNumber": FILE, "referWONum": REQUEST, "fileName": "sink.png", "contentType": "image/png", "content": content()}),
        ),
    ]
}

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

fn source(version: i64) -> Value {
    json!({"system": "yardi", "id": "x", "version": version})
}

fn lessen360_place() -> Value {
    json!({"externalId": PLACE, "kind": "property", "name": "Oak Run", "active": true, "source": source(1)})
}

#[tokio::test]
async fn lessen360_takes_every_entity_through_its_life() {
    let setup = setup(Kind::Lessen360, |_| {}).await;
    setup.target.check().await.unwrap();
    let create = async |entity: &str, id: &str, body: Value| {
        assert_eq!(setup.found(entity, id).await, None, "{entity}");
        let created = setup
            .push_one(
                entity,
                PushOperation::Create,
                item(id, None, 1, body.clone()),
            )
            .await;
        let external_id = setup
            .found(entity, id)
            .await
            .unwrap_or_else(|| panic!("{created}"));
        assert_eq!(created, format!("created {external_id}"));
        // The same key again: the recorded answer. Another key: the record is there.
        let repeated = item(id, None, 1, body.clone());
        let repeated = setup
            .push_one(entity, PushOperation::Create, repeated)
            .await;
        assert_eq!(repeated, format!("created {external_id}"));
        let again = item(id, None, 2, body);
        let again = setup.push_one(entity, PushOperation::Create, again).await;
        let word = if entity == "Attachment" {
            "linked"
        } else {
            "updated"
        };
        assert_eq!(again, format!("{word} {external_id}"));
        external_id
    };
    let property = create("Location", PLACE, lessen360_place()).await;
    let person = create(
        "Resident",
        PERSON,
        json!({"externalId": PERSON, "propertyId": property, "name": "Dana Poe", "primary": true, "active": true, "source": source(1)}),
    )
    .await;
    let order = create(
        "ServiceRequest",
        REQUEST,
        json!({"externalId": REQUEST, "propertyId": property, "trade": "Plumbing", "priority": "Urgent", "summary": "Sink", "source": source(1)}),
    )
    .await;
    let file = json!({"externalId": FILE, "workOrderId": order, "fileName": "sink \"1\".png", "contentType": "image/png", "content": content()});
    let file = create("Attachment", FILE, file).await;

    let mut newer = lessen360_place();
    newer["source"] = source(5);
    let update = |version: i64, body: Value| item(PLACE, Some(&property), version, body);
    assert_eq!(
        setup
            .push_one("Location", PushOperation::Update, update(5, newer))
            .await,
        format!("updated {property}")
    );
    let stale = setup
        .push_one(
            "Location",
            PushOperation::Update,
            update(4, lessen360_place()),
        )
        .await;
    assert!(stale.starts_with("conflict target_conflict"), "{stale}");

    for (entity, id) in [
        ("Attachment", &file),
        ("ServiceRequest", &order),
        ("Resident", &person),
        ("Location", &property),
    ] {
        let gone = item("x", Some(id), 9, json!({}));
        let deleted = setup.push_one(entity, PushOperation::Delete, gone).await;
        assert_eq!(deleted, format!("deleted {id}"), "{entity}");
    }
    let orphan = json!({"externalId": "yardi:u", "kind": "unit", "parentId": "p_404", "name": "12", "active": true, "source": source(1)});
    let orphan = setup
        .push_one(
            "Location",
            PushOperation::Create,
            item("yardi:u", None, 1, orphan),
        )
        .await;
    assert!(
        orphan.starts_with("validation target_parent_missing"),
        "{orphan}"
    );
    let lost = json!({"externalId": "yardi:f2", "workOrderId": "wo_404", "fileName": "a.png", "contentType": "image/png", "content": content()});
    let lost = setup
        .push_one(
            "Attachment",
            PushOperation::Create,
            item("yardi:f2", None, 1, lost),
        )
        .await;
    assert!(
        lost.starts_with("validation target_parent_missing"),
        "{lost}"
    );
}

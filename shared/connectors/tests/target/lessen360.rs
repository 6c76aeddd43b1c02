//! Lessen360 through its connector.

use serde_json::{Value, json};
use sluice_connectors::target::PushOperation;
use sluice_standin::Kind;

use crate::support::{FILE, PERSON, PLACE, REQUEST, content, item, lessen360_place, setup, source};

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

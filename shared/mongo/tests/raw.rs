//! The raw store's suite against a real MongoDB, a database per case.

use std::{sync::Arc, time::Duration};

use futures::TryStreamExt;
use mongodb::{
    Client,
    bson::{Document, doc},
};
use serde_json::json;
use sluice_core::{ConnectionId, EntityType, ErrorClass, Hash, OrganizationId, Timestamp};
use sluice_mongo::MongoRaw;
use sluice_store::raw::{
    ClaimPending, InboundState, NewPayload, OutboundMark, OutboundState, PayloadId, PayloadKind,
    PutPayload, RawError, RawRecord, RawRecordQuery, RawStore,
};
use sluice_testkit::{Proxy, Weather, wait_until};

fn url() -> String {
    std::env::var("SLUICE_TEST_MONGODB_URL")
        .unwrap_or_else(|_| panic!("set SLUICE_TEST_MONGODB_URL or run `cargo xtask test`"))
}

/// A database of one test's own, dropped with it.
struct TestDatabase(String);

impl TestDatabase {
    fn new() -> Self {
        Self(format!("sluice_test_{}", uuid::Uuid::new_v4().simple()))
    }

    async fn open(&self) -> MongoRaw {
        MongoRaw::connect(&url(), &self.0).await.unwrap()
    }

    async fn driver(&self) -> mongodb::Database {
        let client = Client::with_uri_str(url()).await.unwrap();
        client.database(&self.0)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let name = std::mem::take(&mut self.0);
        // A runtime of its own: the test's cannot be waited for from here.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let client = Client::with_uri_str(url()).await.unwrap();
                client.database(&name).drop().await.unwrap();
            });
        });
        let _ = dropped.join();
    }
}

async fn fresh() -> (Arc<dyn RawStore>, TestDatabase) {
    let database = TestDatabase::new();
    let store = database.open().await;
    store.prepare().await.unwrap();
    (Arc::new(store), database)
}

sluice_store::raw_conformance!(fresh);

fn record(n: usize) -> RawRecord {
    let raw = json!({"id": n, "name": "Unit"});
    RawRecord {
        organization_id: OrganizationId(1),
        connection_id: ConnectionId(7),
        source_system: "Yardi".into(),
        stream: "units".into(),
        entity_type: EntityType::new("Location"),
        source_id: format!("u{n}"),
        hash: Hash::of_json(&raw),
        raw,
        slice: json!({}),
        processed: Some(json!({"name": "Unit"})),
        payload_id: PayloadId("p".into()),
        batch_number: 3,
        sync_date: Timestamp::UNIX_EPOCH,
        version: 1,
        inbound: InboundState::Completed,
        outbound: vec![("ONE".into(), OutboundState::Pending)],
        errors: vec![RawError {
            timestamp: Timestamp::UNIX_EPOCH,
            class: ErrorClass::Validation,
            code: "required".into(),
            error: "/name is missing".into(),
            retry_count: 2,
        }],
        expires_at: Some(Timestamp::UNIX_EPOCH + chrono::TimeDelta::days(365 * 300)),
    }
}

fn payload(body: Vec<u8>) -> NewPayload {
    NewPayload {
        organization_id: OrganizationId(1),
        connection_id: ConnectionId(7),
        source_system: "Yardi".into(),
        kind: PayloadKind::Page,
        stream: "units".into(),
        slice: json!({}),
        content_type: None,
        body: body.into(),
        delivery_id: None,
        run_id: None,
        traceparent: None,
        received_at: Timestamp::UNIX_EPOCH,
        expires_at: Some(Timestamp::UNIX_EPOCH),
    }
}

/// Requirement 002 section 4.2, to the letter.
#[tokio::test]
async fn records_have_the_required_field_names_and_types() {
    let (store, database) = fresh().await;
    store.put_records(&[record(1)]).await.unwrap();
    let stored = database
        .driver()
        .await
        .collection::<Document>("raw_records");
    let stored = stored.find_one(doc! {}).await.unwrap().unwrap();
    stored.get_object_id("_id").unwrap();
    assert_eq!(stored.get_str("sourceSystem").unwrap(), "Yardi");
    assert_eq!(stored.get_str("sourceId").unwrap(), "u1");
    assert_eq!(stored.get_str("entityType").unwrap(), "Location");
    assert_eq!(
        stored.get_document("rawData").unwrap(),
        &doc! {"id": 1, "name": "Unit"}
    );
    assert_eq!(
        stored.get_document("processedData").unwrap(),
        &doc! {"name": "Unit"}
    );
    let metadata = stored.get_document("metadata").unwrap();
    assert_eq!(metadata.get_i64("batchNumber").unwrap(), 3);
    metadata.get_datetime("syncDate").unwrap();
    assert_eq!(metadata.get_str("hash").unwrap().len(), 64);
    assert_eq!(metadata.get_i32("version").unwrap(), 1);
    let status = stored.get_document("syncStatus").unwrap();
    let expected = doc! {"inbound": "completed", "outbound": {"ONE": "pending"}};
    assert_eq!(status, &expected);
    let error = stored.get_array("errorLog").unwrap()[0]
        .as_document()
        .unwrap();
    error.get_datetime("timestamp").unwrap();
    assert_eq!(error.get_str("error").unwrap(), "/name is missing");
    assert_eq!(error.get_i64("retryCount").unwrap(), 2);
    stored.get_datetime("createDate").unwrap();
    stored.get_datetime("expiresAfter").unwrap();
}

/// Every operation of the store on an index, and as few of them as promised.
#[tokio::test]
async fn batches_are_few_operations_and_none_scans_a_collection() {
    let (store, database) = fresh().await;
    let driver = database.driver().await;
    let profile = driver.collection::<Document>("system.profile");
    driver.run_command(doc! {"profile": 2}).await.unwrap();
    let operations = async || {
        let ours = doc! {"ns": {"$regex": "[.]raw_"}, "appName": "sluice"};
        profile.count_documents(ours).await.unwrap()
    };
    let mut records: Vec<_> = (0..500).map(record).collect();
    for (expected, what) in [(2, "new"), (2, "seen again"), (502, "changed")] {
        let before = operations().await;
        store.put_records(&records).await.unwrap();
        let took = operations().await - before;
        // The profiler counts each update of the one command that changes records.
        assert!(took <= expected, "{what}: {took} operations");
        if what == "seen again" {
            records.iter_mut().for_each(|record| record.version = 2);
        }
    }
    let before = operations().await;
    let stored = store
        .put_payload(payload(b"<a/>".to_vec()), Duration::ZERO)
        .await;
    let PutPayload::Stored(id) = stored.unwrap() else {
        panic!("the payload is new");
    };
    assert_eq!(operations().await - before, 1, "one round trip");

    let claim = ClaimPending {
        owner: "test".into(),
        lease: Duration::from_secs(60),
        limit: 10,
    };
    assert_eq!(store.claim_pending(&claim).await.unwrap().len(), 1);
    store
        .payload(OrganizationId(1), &id)
        .await
        .unwrap()
        .unwrap();
    store.finish_payload(&id, None).await.unwrap();
    let mark = OutboundMark {
        organization_id: OrganizationId(1),
        connection_id: ConnectionId(7),
        entity_type: EntityType::new("Location"),
        source_id: "u1".into(),
        target: "ONE".into(),
        state: OutboundState::Synced,
    };
    store.mark_outbound(&[mark]).await.unwrap();
    let everything = RawRecordQuery {
        limit: 10,
        ..RawRecordQuery::default()
    };
    let organization = RawRecordQuery {
        organization_id: Some(OrganizationId(1)),
        ..everything.clone()
    };
    let queries = [
        everything,
        organization.clone(),
        RawRecordQuery {
            inbound: Some(InboundState::Failed),
            newest_only: true,
            ..organization.clone()
        },
        RawRecordQuery {
            connection_id: Some(ConnectionId(7)),
            stream: Some("units".into()),
            ..organization.clone()
        },
        RawRecordQuery {
            connection_id: Some(ConnectionId(7)),
            entity_type: Some(EntityType::new("Location")),
            source_ids: vec!["u1".into(), "u2".into()],
            newest_only: true,
            ..organization
        },
    ];
    for query in &queries {
        store.records(query).await.unwrap();
    }
    assert_eq!(store.expire(Timestamp::UNIX_EPOCH).await.unwrap(), 1);

    let scans = doc! {"ns": {"$regex": "[.]raw_"}, "appName": "sluice", "planSummary": {"$regex": "COLLSCAN"}};
    let scan = profile.find_one(scans).await.unwrap();
    assert_eq!(scan, None);
}

#[tokio::test]
async fn expiry_is_left_to_the_server_too() {
    let (_store, database) = fresh().await;
    let driver = database.driver().await;
    for collection in ["raw_payloads", "raw_records"] {
        let indexes = driver
            .collection::<Document>(collection)
            .list_indexes()
            .await
            .unwrap();
        let indexes: Vec<_> = indexes.try_collect().await.unwrap();
        let expiring = indexes
            .iter()
            .find(|index| index.keys == doc! {"expiresAfter": 1})
            .unwrap();
        let options = expiring.options.as_ref().unwrap();
        assert_eq!(options.expire_after, Some(Duration::ZERO), "{collection}");
    }
}

/// Bodies outside the document go with it, and those a crash left behind go after a day.
#[tokio::test]
async fn large_bodies_leave_nothing_behind() {
    let (store, database) = fresh().await;
    let driver = database.driver().await;
    let files = driver.collection::<Document>("raw_bodies.files");
    let chunks = driver.collection::<Document>("raw_bodies.chunks");
    let large: Vec<u8> = (0..13_u64 << 17)
        .flat_map(|n| {
            n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29)
                .wrapping_mul(n | 1)
                .to_le_bytes()
        })
        .collect();
    let mut racers = Vec::new();
    for _ in 0..4 {
        let (store, new) = (store.clone(), payload(large.clone()));
        racers.push(tokio::spawn(async move {
            store.put_payload(new, Duration::ZERO).await.unwrap()
        }));
    }
    let mut stored = 0;
    for racer in racers {
        stored += usize::from(matches!(racer.await.unwrap(), PutPayload::Stored(_)));
    }
    assert_eq!(stored, 1);
    assert_eq!(
        files.count_documents(doc! {}).await.unwrap(),
        1,
        "losers clean up"
    );

    driver
        .collection::<Document>("raw_payloads")
        .delete_many(doc! {})
        .await
        .unwrap();
    store.expire(Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(
        files.count_documents(doc! {}).await.unwrap(),
        1,
        "too young to be an orphan"
    );
    let in_two_days = chrono::Utc::now() + chrono::TimeDelta::days(2);
    store.expire(in_two_days).await.unwrap();
    assert_eq!(files.count_documents(doc! {}).await.unwrap(), 0);
    assert_eq!(chunks.count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test]
async fn errors_name_the_fault_and_no_password() {
    let away = "mongodb://sluice:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=100";
    let store = MongoRaw::connect(away, "raw").await.unwrap();
    let error = store.ping().await.unwrap_err();
    assert_eq!(
        (error.code(), error.class()),
        ("mongo_unreachable", ErrorClass::Network)
    );
    assert!(!error.chain().contains("hunter2") && !format!("{error:?}").contains("hunter2"));
    for (url, database, code) in [
        ("mongodb://sluice:hunter2@", "raw", "raw_url_invalid"),
        (&url(), "no.database", "raw_database_invalid"),
    ] {
        let error = MongoRaw::connect(url, database).await.err().unwrap();
        assert_eq!(error.code(), code);
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

/// I1: a connection that says nothing any more is given up, and the store works again.
#[tokio::test]
async fn silence_is_bounded() {
    let database = TestDatabase::new();
    let address = url().replace("mongodb://", "");
    let address = address.split(['/', '?']).next().unwrap().to_owned();
    let proxy = Proxy::start(&address).await;
    let through = url().replace(&address, &proxy.address());
    let store = MongoRaw::connect(&through, &database.0)
        .await
        .unwrap()
        .answering_within(Duration::from_millis(500));
    store.ping().await.unwrap();

    proxy.set(Weather::SilentAfter(0));
    let error = store.ping().await.unwrap_err();
    assert_eq!(
        (error.class(), error.code()),
        (ErrorClass::Network, "mongo_silent")
    );

    proxy.set(Weather::Clear);
    wait_until(Duration::from_secs(30), || async {
        store.ping().await.is_ok()
    })
    .await;
}

//! What is special about the embedded SQL store: its file, its URL, its migrations.

use std::path::Path;

use sluice_core::{change::Change, task::PushAction};
use sluice_embedded::EmbeddedSql;
use sluice_store::{
    MasterStore, TaskStore,
    conformance::sql::{
        LONG, catalogue_spec, claim, connection, delivered, ids, location, routes, settlement,
    },
    master::{ApplyBatch, ApplyRecord, MasterQuery},
    task::StageQuota,
};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

fn url(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("sluice.db").display())
}

async fn tamper(url: &str, sql: &'static str) {
    let mut connection = SqliteConnection::connect(url).await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
}

/// One record from its source to its target; returns the changes of applying it twice.
async fn push_one(store: &EmbeddedSql) -> [Change; 2] {
    let catalogue = store.register(&catalogue_spec()).await.unwrap();
    let organization_id = catalogue.organization("acme").unwrap();
    let one = connection(&catalogue, organization_id, "one");
    let record = location("p1", 1, 100);
    let batch = ApplyBatch {
        organization_id,
        connection_id: connection(&catalogue, organization_id, "yardi"),
        connection: "yardi".into(),
        source_system: "yardi".into(),
        run_id: None,
        traceparent: None,
        records: vec![ApplyRecord {
            hash: record.hash(),
            record,
        }],
        routes: routes(one, "one"),
        dry_run: false,
    };
    let first = store.apply(&batch).await.unwrap()[0].change;
    let quota = StageQuota {
        connection_id: one,
        kind: sluice_core::task::TaskKind::Push,
        priorities: sluice_core::QueueClass::Normal.priorities(),
        limit: 10,
    };
    let staged = store.stage(&[quota]).await.unwrap();
    for task in store
        .claim_pushes(&claim(&ids(&staged), LONG))
        .await
        .unwrap()
        .tasks
    {
        let done = settlement(task.lease, delivered(&task, PushAction::Created));
        assert_eq!(store.settle_pushes(&[done]).await.unwrap(), [true]);
    }
    [first, store.apply(&batch).await.unwrap()[0].change]
}

/// For tests and trials: no file at all, and one connection for everything.
#[tokio::test]
async fn a_database_in_memory_does_the_same() {
    let store = EmbeddedSql::open("sqlite::memory:").await.unwrap();
    assert!(store.migrate().await.unwrap() > 0);
    assert!(store.migrations().await.unwrap()[0].applied);
    assert_eq!(push_one(&store).await, [Change::Create, Change::Unchanged]);
    store.ping().await.unwrap();
    // Another one is another database.
    let other = EmbeddedSql::open("sqlite::memory:").await.unwrap();
    assert!(!other.migrations().await.unwrap()[0].applied);
}

/// A restart finds what was committed, also when nobody closed the file.
#[tokio::test]
async fn a_restart_finds_everything() {
    let folder = TempDir::new().unwrap();
    let store = EmbeddedSql::open(&url(folder.path())).await.unwrap();
    store.migrate().await.unwrap();
    push_one(&store).await;
    // As a crash leaves it: file and log, copied while both are open.
    let crashed = TempDir::new().unwrap();
    for name in ["sluice.db", "sluice.db-wal"] {
        std::fs::copy(folder.path().join(name), crashed.path().join(name)).unwrap();
    }
    store.close().await;
    for place in [&folder, &crashed] {
        let store = EmbeddedSql::open(&url(place.path())).await.unwrap();
        assert_eq!(store.migrate().await.unwrap(), 0);
        assert_eq!(
            push_one(&store).await,
            [Change::Unchanged, Change::Unchanged]
        );
    }
}

#[tokio::test]
async fn an_unknown_or_changed_migration_is_refused() {
    let folder = TempDir::new().unwrap();
    let url = url(folder.path());
    let store = EmbeddedSql::open(&url).await.unwrap();
    store.migrate().await.unwrap();
    tamper(&url, "update _sqlx_migrations set checksum = x'00'").await;
    let error = store.migrate().await.unwrap_err();
    assert_eq!(error.code(), "migration_changed");
    tamper(&url, "update _sqlx_migrations set version = version + 9000").await;
    let error = store.migrate().await.unwrap_err();
    assert_eq!(error.code(), "database_is_newer");
}

#[tokio::test]
async fn an_url_that_leads_nowhere_is_an_error() {
    for bad in ["postgres://x/y", "sqlite:/no/such/folder/sluice.db"] {
        assert!(EmbeddedSql::open(bad).await.is_err(), "{bad}");
    }
}

/// A statement that fails says which constraint, never which value.
#[tokio::test]
async fn errors_hold_no_data() {
    let folder = TempDir::new().unwrap();
    let url = url(folder.path());
    let store = EmbeddedSql::open(&url).await.unwrap();
    store.migrate().await.unwrap();
    push_one(&store).await;
    tamper(&url, "update sync_master_data set parents = '[\"secret\"]'").await;
    let all = MasterQuery {
        limit: 10,
        ..MasterQuery::default()
    };
    let error = store.records(&all).await.unwrap_err();
    assert_eq!(error.code(), "stored_value_unreadable");
    assert!(!error.chain().contains("secret"), "{}", error.chain());
}

//! A server that cannot be used says why, and where to look.

use sluice_core::{Error, ErrorClass};
use sluice_postgres::{PoolSettings, PostgresSql};
use sluice_testkit::PostgresDatabase;

async fn refused(url: &str) -> Error {
    let settings = PoolSettings::default();
    PostgresSql::connect(url, settings).await.err().unwrap()
}

#[tokio::test]
async fn an_unknown_database_and_user_are_told_by_name() {
    let database = PostgresDatabase::create().await;
    let (server, _) = database.url().rsplit_once('/').unwrap();
    let error = refused(&format!("{server}/no_such_database")).await;
    assert_eq!(error.code(), "postgres_database_unknown");
    assert!(error.message().contains("`no_such_database`"), "{error}");
    assert!(error.advice().unwrap().contains("createdb"), "{error}");

    let (_, place) = server.rsplit_once('@').unwrap();
    let name = database.url().rsplit('/').next().unwrap();
    let error = refused(&format!("postgres://nobody:pa55word@{place}/{name}")).await;
    assert_eq!(error.code(), "postgres_refused_login");
    assert_eq!(error.class(), ErrorClass::Auth);
    assert!(error.message().contains("`nobody`"), "{error}");
    assert!(!error.chain().contains("pa55word"), "{}", error.chain());
}

#[tokio::test]
async fn where_nobody_listens_is_told_with_the_port() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let error = refused(&format!("postgres://sluice@{place}/sluice")).await;
    assert_eq!(error.code(), "postgres_unreachable");
    assert_eq!(error.class(), ErrorClass::Network);
    assert!(error.chain().contains(&place), "{}", error.chain());
}

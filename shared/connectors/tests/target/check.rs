//! What the check of a target says when its settings are wrong.

use serde_json::json;
use sluice_connectors::{
    http::{HttpClient, HttpOptions},
    library::Library,
    limiter::Limiter,
    target::Target,
};
use sluice_core::{Error, ErrorClass, secret::SecretConfig};
use sluice_standin::{Handle, Kind, Options};

async fn standin(kind: Kind) -> Handle {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    sluice_standin::serve(Options::new(kind), listener).unwrap()
}

/// The error of a check at this address, with the stand-in's own secret or a wrong one.
async fn refused(kind: Kind, url: &str, wrong_secret: bool) -> Error {
    let options = Options::new(kind);
    let secret = |right: &str| if wrong_secret { "wrong" } else { right }.to_owned();
    let config = SecretConfig::new(json!({
        "base_url": url,
        "client_id": options.one.client_id,
        "client_secret": secret(&options.one.client_secret),
        "app_id": options.lessen360.app_id,
        "app_secret": secret(&options.lessen360.secret),
    }));
    let http = HttpClient::new("acme", &config, Limiter::new(&[]), HttpOptions::default()).unwrap();
    let files = Library::new(None).unwrap().get(kind.name()).unwrap();
    let target = Target::load(&files, "acme", config, http).unwrap();
    target.check().await.unwrap_err()
}

#[tokio::test]
async fn wrong_secrets_are_auth() {
    for kind in [Kind::One, Kind::Lessen360] {
        let standin = standin(kind).await;
        let error = refused(kind, &standin.url(), true).await;
        assert_eq!(error.class(), ErrorClass::Auth, "{error}");
    }
}

/// It is not a record that is missing, and the advice is about the address.
#[tokio::test]
async fn a_wrong_address_is_told_as_one() {
    let standin = standin(Kind::Lessen360).await;
    let elsewhere = format!("{}/v0", standin.url());
    let error = refused(Kind::Lessen360, &elsewhere, false).await;
    assert_eq!(error.code(), "target_address_wrong", "{error}");
    assert!(error.advice().unwrap().contains("address"), "{error}");

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let error = refused(Kind::Lessen360, &format!("http://{place}"), false).await;
    assert_eq!(error.class(), ErrorClass::Network, "{error}");
    assert!(error.chain().contains(&place), "{}", error.chain());
    assert!(
        error.chain().contains("check the address"),
        "{}",
        error.chain()
    );
}

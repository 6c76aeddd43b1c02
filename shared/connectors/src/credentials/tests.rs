use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::json;
use sluice_core::{
    OrganizationId, catalogue::Connection, connector::ConnectorFiles, secret::SecretConfig,
};
use tokio::{sync::Notify, task::JoinSet};

use super::*;
use crate::{
    http::HttpClient,
    limiter::local::LocalFleet,
    source::Source,
    target::Target,
    test_server::{Reply, Seen, TestServer},
};

/// What is kept, and whose turn it is until when.
type Row = (Kept, Option<(String, Instant)>);

/// A store that several processes open.
#[derive(Default)]
struct Memory {
    kept: Mutex<BTreeMap<String, Row>>,
    /// Whoever has kept something dies before it hears of it.
    kills: AtomicBool,
    killed: Notify,
}

fn key(name: &CredentialName) -> String {
    format!("{}/{}", name.connection.0, name.name)
}

#[async_trait::async_trait]
impl CredentialStore for Memory {
    async fn begin(
        &self,
        name: &CredentialName,
        owner: &str,
        lease: Duration,
    ) -> Result<(Kept, Turn)> {
        let mut all = self.kept.lock().unwrap();
        let (kept, turn) = all.entry(key(name)).or_default();
        let now = Instant::now();
        match turn {
            Some((other, until)) if other != owner && *until > now => {
                Ok((kept.clone(), Turn::Taken(*until - now)))
            }
            _ => {
                let abandoned = turn.as_ref().is_some_and(|(other, _)| other != owner);
                *turn = Some((owner.to_owned(), now + lease));
                Ok((kept.clone(), Turn::Mine { abandoned }))
            }
        }
    }

    async fn keep(&self, name: &CredentialName, generation: i64, sealed: &[u8]) -> Result<bool> {
        {
            let mut all = self.kept.lock().unwrap();
            let (kept, turn) = all.entry(key(name)).or_default();
            if kept.generation != generation {
                return Ok(false);
            }
            kept.generation += 1;
            kept.sealed = Some(sealed.to_vec());
            *turn = None;
        }
        if self.kills.load(Ordering::SeqCst) {
            self.killed.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(true)
    }

    async fn give_up(&self, name: &CredentialName, owner: &str) -> Result<()> {
        let mut all = self.kept.lock().unwrap();
        let (_, turn) = all.entry(key(name)).or_default();
        turn.take_if(|(other, _)| other == owner);
        Ok(())
    }
}

fn keys() -> SealKeys {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), STANDARD.encode([7; 32])).unwrap();
    SealKeys::from_references(&format!("file:{}", file.path().display()))
        .unwrap()
        .unwrap()
}

/// One process's client.
fn client(store: Option<&Arc<Memory>>, config: &SecretConfig) -> HttpClient {
    let spec = json!({
        "organization": "acme", "name": "acme", "connector": "test", "config": config.expose(),
    });
    let connection = Connection {
        id: ConnectionId(1),
        organization_id: OrganizationId(1),
        spec: serde_json::from_value(spec).unwrap(),
    };
    let fleet = Fleet {
        limits: Arc::new(LocalFleet::default()),
        vault: store.map(|store| Vault::new(store.clone(), keys())),
    };
    HttpClient::for_connection(&connection, config, &fleet).unwrap()
}

fn files(name: &str, text: &str) -> ConnectorFiles {
    ConnectorFiles {
        name: "test".into(),
        files: [(name.to_owned(), text.into())].into(),
    }
}

const MANIFEST: &str = r#"
version: 6.0.0
check: {stream_names: [items]}
streams:
  - name: items
    primary_key: [[id]]
    retriever:
      record_selector: {extractor: {field_path: [items]}}
      requester:
        url_base: "{{ config['url'] }}"
        path: /items
        error_handler:
          type: DefaultErrorHandler
          response_filters:
            - {type: HttpResponseFilter, http_codes: [401], action: REFRESH_TOKEN_THEN_RETRY}
        authenticator:
          type: OAuthAuthenticator
          token_refresh_endpoint: "{{ config['url'] }}/token"
          client_id: acme
          client_secret: "{{ config['secret'] }}"
          refresh_token_updater:
            refresh_token_config_path: [refresh_token]
            access_token_config_path: [access_token]
            token_expiry_date_config_path: [expires]
"#;

fn source(store: Option<&Arc<Memory>>, url: &str, refresh_token: &str) -> Arc<Source> {
    let config = SecretConfig::new(json!({
        "url": url, "secret": "planted", "refresh_token": refresh_token,
        "access_token": "", "expires": "",
    }));
    let http = client(store, &config);
    let manifest = files("manifest.yaml", MANIFEST);
    Arc::new(Source::load(&manifest, "acme", config, http).unwrap())
}

/// A system that changes the refresh token with each use, and knows only the newest of both.
#[derive(Default)]
struct System {
    renewals: Mutex<u32>,
    /// Calls for a new token.
    asked: Mutex<u32>,
    /// Tokens up to this one count no more.
    revoked: Mutex<u32>,
}

impl System {
    fn answer(&self, seen: &Seen) -> Reply {
        let mut renewals = self.renewals.lock().unwrap();
        if seen.path_and_query == "/token" {
            *self.asked.lock().unwrap() += 1;
            let form = String::from_utf8_lossy(&seen.body).into_owned();
            if !form.contains(&format!("refresh_token=renew-{renewals}")) {
                return Reply::json(400, json!({"error": "invalid_grant"}));
            }
            *renewals += 1;
            return Reply::json(
                200,
                json!({
                    "access_token": format!("access-{renewals}"),
                    "refresh_token": format!("renew-{renewals}"),
                    "expires_in": 3600,
                }),
            );
        }
        let good = format!("Bearer access-{renewals}");
        if seen.header("authorization") != good || *self.revoked.lock().unwrap() == *renewals {
            return Reply::json(401, json!({}));
        }
        Reply::json(200, json!({"items": [{"id": 1}]}))
    }

    fn renewals(&self) -> u32 {
        *self.renewals.lock().unwrap()
    }

    /// The newest token ends before its time.
    fn revoke(&self) {
        *self.revoked.lock().unwrap() = self.renewals();
    }
}

async fn start() -> (Arc<System>, TestServer) {
    let system = Arc::new(System::default());
    let server = {
        let system = system.clone();
        TestServer::start(move |seen, _| system.answer(seen)).await
    };
    (system, server)
}

/// However many processes need a token at once, one asks for it; the next one as well, and with
/// the refresh token that the first one got.
#[tokio::test]
async fn one_process_renews_and_all_use_it() {
    let (system, server) = start().await;
    let store = Arc::new(Memory::default());
    let fleet: Vec<_> = (0..3)
        .map(|_| source(Some(&store), &server.url(), "renew-0"))
        .collect();
    for round in 1..=3 {
        let mut calls = JoinSet::new();
        for source in fleet.iter().cycle().take(12) {
            let source = source.clone();
            calls.spawn(async move { source.check().await });
        }
        for ended in calls.join_all().await {
            ended.unwrap();
        }
        assert_eq!(system.renewals(), round);
        system.revoke();
    }
    let kept = format!("{:?}", store.kept.lock().unwrap());
    assert!(
        !kept.contains("renew") && !kept.contains("access"),
        "{kept}"
    );
    for (kept, _) in store.kept.lock().unwrap().values() {
        let sealed = kept.sealed.clone().unwrap();
        assert!(!sealed.windows(5).any(|part| part == b"renew"));
    }
}

/// A process that dies with a new refresh token in hand has kept it already.
#[tokio::test]
async fn a_token_whose_renewer_dies_is_used_by_the_others() {
    let (system, server) = start().await;
    let store = Arc::new(Memory::default());
    let dying = source(Some(&store), &server.url(), "renew-0");
    store.kills.store(true, Ordering::SeqCst);
    let call = tokio::spawn(async move { dying.check().await });
    store.killed.notified().await;
    call.abort();
    store.kills.store(false, Ordering::SeqCst);
    let next = source(Some(&store), &server.url(), "renew-0");
    next.check().await.unwrap();
    assert_eq!(system.renewals(), 1, "it was kept before it was used");
    system.revoke();
    next.check().await.unwrap();
    assert_eq!(system.renewals(), 2, "with the refresh token that was kept");
}

/// New credentials in the settings count more than what was kept for the old ones.
#[tokio::test]
async fn configured_credentials_make_a_new_beginning() {
    let (system, server) = start().await;
    let store = Arc::new(Memory::default());
    let stale = source(Some(&store), &server.url(), "renew-9");
    let error = stale.check().await.unwrap_err();
    assert_eq!(error.code(), "refresh_token_refused");
    // Nobody asks again with what was refused.
    for _ in 0..3 {
        let error = stale.check().await.unwrap_err();
        assert_eq!(error.code(), "refresh_token_refused");
        assert!(error.advice().unwrap().contains("settings"), "{error}");
    }
    assert_eq!(*system.asked.lock().unwrap(), 1);
    let fresh = source(Some(&store), &server.url(), "renew-0");
    fresh.check().await.unwrap();
    *system.renewals.lock().unwrap() = 20;
    let logged_in_again = source(Some(&store), &server.url(), "renew-20");
    logged_in_again.check().await.unwrap();
    assert_eq!(system.renewals(), 21);
}

/// Without a place for the new refresh token the old one is not spent.
#[tokio::test]
async fn without_a_key_nothing_is_renewed() {
    let (system, server) = start().await;
    let alone = source(None, &server.url(), "renew-0");
    let error = alone.check().await.unwrap_err();
    assert_eq!(error.code(), "credentials_not_kept");
    assert_eq!(system.renewals(), 0);
}

const OPERATIONS: &str = r#"
type: DeclarativeTarget
version: 1
defaults:
  url_base: "{{ config['url'] }}"
  http_method: POST
  authenticator:
    type: OAuthAuthenticator
    token_refresh_endpoint: "{{ config['url'] }}/token"
    grant_type: client_credentials
    client_id: acme
    client_secret: "{{ config['secret'] }}"
  error_handler:
    type: DefaultErrorHandler
    response_filters:
      - {type: HttpResponseFilter, http_codes: [401], action: REFRESH_TOKEN_THEN_RETRY}
check: {requester: {path: /ping}}
entities: {}
"#;

/// Targets share their tokens too, and a process that starts finds one.
#[tokio::test]
async fn targets_share_a_token() {
    let fetched = Arc::new(Mutex::new(0));
    let server = {
        let fetched = fetched.clone();
        TestServer::start(move |seen, _| {
            if seen.path_and_query != "/token" {
                return Reply::json(200, json!({}));
            }
            *fetched.lock().unwrap() += 1;
            Reply::json(200, json!({"access_token": "access", "expires_in": 3600}))
        })
        .await
    };
    let store = Arc::new(Memory::default());
    for _ in 0..3 {
        let config = SecretConfig::new(json!({"url": server.url(), "secret": "planted"}));
        let http = client(Some(&store), &config);
        let target =
            Target::load(&files("operations.yaml", OPERATIONS), "acme", config, http).unwrap();
        target.check().await.unwrap();
    }
    assert_eq!(*fetched.lock().unwrap(), 1);
}

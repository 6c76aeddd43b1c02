//! The API on the embedded stores: what holds for every endpoint, and what each one does.

mod access;
mod connections;
mod dead_letters;
mod replays;
mod waiting;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use http_body_util::BodyExt;
use serde_json::Value;
use sluice_core::{ErrorClass, access::Role};
use sluice_embedded::{EmbeddedSql, broker::LocalBroker, raw::SqliteRaw};
use sluice_store::{
    Backends, CredentialStore, FleetStore, MasterStore, TaskStore,
    conformance::sql::{SqlFixture, World, location},
    task::PushNext,
};
use sluice_transform::Schemas;
use tower::ServiceExt;

use super::{Management, Token, Tokens};
use crate::{Api, ConnectionHealth};

const OPERATOR: &str = "operator-of-acme-0123456789abcdef";
const VIEWER: &str = "viewer-of-acme-0123456789abcdef01";
const STRANGER: &str = "operator-of-other-0123456789abcdef";

struct Memory(EmbeddedSql);

#[async_trait]
impl SqlFixture for Memory {
    async fn open(&self) -> (Arc<dyn MasterStore>, Arc<dyn TaskStore>) {
        let store = Arc::new(self.0.clone());
        (store.clone(), store)
    }

    async fn open_fleet(&self) -> Arc<dyn FleetStore> {
        Arc::new(self.0.clone())
    }

    async fn open_credentials(&self) -> Arc<dyn CredentialStore> {
        Arc::new(self.0.clone())
    }

    async fn execute(&self, _: &'static str) -> u64 {
        unreachable!("no statement is run by hand here")
    }

    async fn number(&self, _: &'static str) -> i64 {
        unreachable!("no statement is run by hand here")
    }

    async fn remove(&self) {}
}

/// The API over an embedded database with the organizations `acme` and `other`.
struct Server {
    world: World,
    router: Router,
}

/// An answer: status, headers as text, body.
struct Answer {
    status: StatusCode,
    headers: HashMap<String, String>,
    body: Value,
}

impl Server {
    async fn start() -> Self {
        Self::with(|acme, other| {
            vec![
                Token::new("ann", acme, Role::Operator, OPERATOR).unwrap(),
                Token::new("vic", acme, Role::Viewer, VIEWER).unwrap(),
                Token::new("eve", other, Role::Operator, STRANGER).unwrap(),
            ]
        })
        .await
    }

    async fn with(
        tokens: impl FnOnce(sluice_core::OrganizationId, sluice_core::OrganizationId) -> Vec<Token>,
    ) -> Self {
        let sql = EmbeddedSql::open("sqlite::memory:").await.unwrap();
        let world = World::new(Arc::new(Memory(sql))).await;
        let api = Api {
            backends: Backends {
                raw: Arc::new(SqliteRaw::connect("sqlite::memory:").await.unwrap()),
                master: world.master.clone(),
                tasks: world.tasks.clone(),
                fleet: world.fixture.open_fleet().await,
                credentials: world.fixture.open_credentials().await,
                broker: Arc::new(LocalBroker::default()),
            },
            catalogue: Arc::new(world.master.catalogue().await.unwrap()),
            connections: Arc::new(ConnectionHealth::default()),
            metrics: Arc::new(String::new),
            intake: None,
            management: Some(Arc::new(Management {
                tokens: Tokens(tokens(world.organization, world.other)),
                schemas: Arc::new(Schemas::shipped().unwrap()),
            })),
        };
        Self {
            router: crate::router(api),
            world,
        }
    }

    async fn send(&self, token: &str, method: Method, path: &str, body: &Value) -> Answer {
        let body = match body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string()),
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("x-request-id", "test-1");
        let request = match token {
            "" => request,
            token => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        };
        self.raw(request.body(body).unwrap()).await
    }

    async fn raw(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = |value: &header::HeaderValue| value.to_str().unwrap().to_owned();
        Answer {
            status: parts.status,
            headers: parts
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    async fn get(&self, token: &str, path: &str) -> Answer {
        self.send(token, Method::GET, path, &Value::Null).await
    }

    async fn post(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.send(token, Method::POST, path, body).await
    }

    /// Dead letters of `acme` for `one`: as many, all of this class.
    async fn kill(&self, records: std::ops::Range<i64>, class: ErrorClass) {
        let records = records.map(|n| location(&format!("p{n}"), n, 100));
        self.world.apply(records.collect()).await;
        for task in self.world.claim_all().await {
            assert!(self.world.fail(&task, class, PushNext::Dead).await);
        }
    }
}

impl Answer {
    /// Asserts a problem of this status and code.
    fn refused(&self, status: StatusCode, code: &str) {
        let found = (self.status, self.body["type"].as_str());
        let wanted = format!("urn:sluice:problem:{code}");
        assert_eq!(found, (status, Some(&*wanted)), "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["instance"], self.headers["x-request-id"]);
    }
}

//! A small HTTP server for tests: answers by a function, keeps what it was asked.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use sluice_connectors::{
    http::{HttpClient, HttpOptions},
    limiter::Limiter,
    source::Source,
};
use sluice_core::{Result, connector::ConnectorFiles, secret::SecretConfig};

/// One request as received.
#[derive(Debug, Clone)]
pub struct Asked {
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// Status, headers, body.
pub type Reply = (u16, Vec<(&'static str, String)>, Vec<u8>);

type Answer = dyn Fn(&Asked, usize) -> Reply + Send + Sync;

/// The running server; ends with the test.
pub struct Server {
    pub url: String,
    pub asked: Arc<Mutex<Vec<Asked>>>,
}

#[derive(Clone)]
struct Shared {
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<Answer>,
}

impl Server {
    /// Starts a server; the function gets the request and how many came before it.
    pub async fn start<F>(answer: F) -> Self
    where
        F: Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
    {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let shared = Shared {
            asked: Arc::clone(&asked),
            answer: Arc::new(answer),
        };
        let app = Router::new().fallback(handle).with_state(shared);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn handle(
    State(shared): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request = Asked {
        uri,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let before = {
        let mut asked = shared.asked.lock().unwrap();
        asked.push(request.clone());
        asked.len() - 1
    };
    let (status, headers, body) = (shared.answer)(&request, before);
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// A source from files and settings.
pub fn load(files: &ConnectorFiles, config: Value) -> Result<Source> {
    let config = SecretConfig::new(config);
    let http = HttpClient::new(
        "test",
        &config,
        Limiter::new(&[]),
        HttpOptions::from_config(&config)?,
    )?;
    Source::load(files, "test", config, http)
}

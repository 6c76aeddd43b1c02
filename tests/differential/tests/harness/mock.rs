//! The scripted server: answers by rules, keeps what it was asked.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Value, json};

/// An answer and when it is given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    #[serde(default)]
    pub when: When,
    /// How often it is given; always when missing.
    #[serde(default)]
    pub times: Option<u32>,
    #[serde(default)]
    pub answer: Answer,
}

/// What a request must have; everything named must hold.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    #[serde(default)]
    pub method: Option<String>,
    #[serde(default)]
    pub path: Option<String>,
    /// Null: the parameter is not there.
    #[serde(default)]
    pub query: BTreeMap<String, Option<String>>,
    #[serde(default)]
    pub header: BTreeMap<String, String>,
    /// Part of the body's text.
    #[serde(default)]
    pub body: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    #[serde(default)]
    pub status: Option<u16>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub json: Option<Value>,
    #[serde(default)]
    pub text: Option<String>,
    /// Bytes in hexadecimal.
    #[serde(default)]
    pub hex: Option<String>,
}

/// The running server; ends with the test's runtime.
#[derive(Clone)]
pub struct Mock {
    pub address: String,
    inner: Arc<Inner>,
}

struct Inner {
    rules: Vec<Rule>,
    address: String,
    state: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    used: Vec<u32>,
    requests: Vec<Value>,
}

/// Headers every client adds in its own way.
const UNIMPORTANT: [&str; 6] = [
    "host",
    "user-agent",
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
];

impl Mock {
    pub async fn start(rules: &[Rule]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("its address"));
        let inner = Arc::new(Inner {
            rules: rules.to_vec(),
            address: address.clone(),
            state: Mutex::new(Asked {
                used: vec![0; rules.len()],
                requests: Vec::new(),
            }),
        });
        let app = Router::new()
            .fallback(handle)
            .with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, inner }
    }

    /// What it was asked, in order; its own address is written as `{{mock}}`.
    pub fn requests(&self) -> Vec<Value> {
        self.inner.state.lock().expect("no panic").requests.clone()
    }
}

async fn handle(
    State(inner): State<Arc<Inner>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let query: Vec<(String, String)> =
        url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let text = String::from_utf8_lossy(&body).into_owned();
    let answer = {
        let mut asked = inner.state.lock().expect("no panic");
        let request = describe(&inner.address, &method, &uri, &headers, &query, &text);
        asked.requests.push(request);
        let found = inner.rules.iter().enumerate().find(|(index, rule)| {
            rule.times.is_none_or(|times| asked.used[*index] < times)
                && rule.when.fits(&method, &uri, &headers, &query, &text)
        });
        found.map(|(index, rule)| {
            asked.used[index] += 1;
            rule.answer.clone()
        })
    };
    match answer {
        Some(answer) => answer.response(&inner.address),
        None => (
            StatusCode::NOT_FOUND,
            json!({"error": "no rule"}).to_string(),
        )
            .into_response(),
    }
}

fn describe(
    address: &str,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    query: &[(String, String)],
    text: &str,
) -> Value {
    let own = |text: &str| opened(&text.replace(address, "{{mock}}"));
    let mut query: Vec<String> = query
        .iter()
        .map(|(key, value)| format!("{key}={}", own(value)))
        .collect();
    query.sort();
    let headers: BTreeMap<String, String> = headers
        .iter()
        .filter(|(name, _)| !UNIMPORTANT.contains(&name.as_str()))
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), own(&value))
        })
        .collect();
    // JSON bodies are compared as values: spaces and escapes are free.
    let is_json = headers
        .get("content-type")
        .is_some_and(|kind| kind.contains("json"));
    let body = is_json
        .then(|| serde_json::from_str(text).ok())
        .flatten()
        .unwrap_or_else(|| Value::String(own(text)));
    json!({"method": method.as_str(), "path": uri.path(), "query": query, "headers": headers, "body": body})
}

/// Signed tokens hold the time, and some algorithms sign with chance: what they say is compared
/// instead, with times from the moment they were made.
fn opened(text: &str) -> String {
    let part_of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(part_of_token) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !part_of_token(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        out.push_str(before);
        out.push_str(&claims(word).unwrap_or_else(|| word.to_owned()));
        rest = after;
    }
    out.push_str(rest);
    out
}

fn claims(word: &str) -> Option<String> {
    let mut parts = word.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let read = |part: &str| -> Option<BTreeMap<String, Value>> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let (header, mut payload) = (read(header)?, read(payload)?);
    header.get("alg")?;
    let made = payload.get("iat")?.as_i64()?;
    for name in ["iat", "exp", "nbf"] {
        let time = payload.get(name)?.as_i64()?;
        payload.insert(name.to_owned(), (time - made).into());
    }
    let bytes = URL_SAFE_NO_PAD.decode(signature).ok()?.len();
    Some(json!({"header": header, "payload": payload, "signature bytes": bytes}).to_string())
}

impl When {
    fn fits(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        query: &[(String, String)],
        text: &str,
    ) -> bool {
        let parameter = |name: &str| query.iter().find(|(key, _)| key == name);
        self.method
            .as_ref()
            .is_none_or(|wanted| wanted == method.as_str())
            && self.path.as_ref().is_none_or(|wanted| wanted == uri.path())
            && self
                .query
                .iter()
                .all(|(name, wanted)| match (parameter(name), wanted) {
                    (Some((_, found)), Some(wanted)) => found == wanted,
                    (None, None) => true,
                    _ => false,
                })
            && self.header.iter().all(|(name, wanted)| {
                headers
                    .get(name)
                    .is_some_and(|found| found.as_bytes() == wanted.as_bytes())
            })
            && self.body.as_ref().is_none_or(|part| text.contains(part))
    }
}

impl Answer {
    fn response(&self, address: &str) -> Response {
        let body = match (&self.json, &self.text, &self.hex) {
            (Some(json), _, _) => json.to_string().replace("{{mock}}", address).into_bytes(),
            (None, Some(text), _) => text.replace("{{mock}}", address).into_bytes(),
            (None, None, Some(hex)) => (0..hex.len())
                .step_by(2)
                .filter_map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
                .collect(),
            (None, None, None) => Vec::new(),
        };
        let status = StatusCode::from_u16(self.status.unwrap_or(200)).expect("a status");
        let mut response = (status, body).into_response();
        if self.json.is_some() {
            response
                .headers_mut()
                .insert("content-type", HeaderValue::from_static("application/json"));
        }
        for (name, value) in &self.headers {
            let value = value.replace("{{mock}}", address);
            response.headers_mut().insert(
                HeaderName::try_from(name.as_str()).expect("a header's name"),
                HeaderValue::from_str(&value).expect("a header's value"),
            );
        }
        response
    }
}

//! The stand-ins' control endpoints.

use serde_json::{Value, json};
use sluice_standin::Handle;

/// One stand-in, for looking at it and for breaking it.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    http: &'a reqwest::Client,
    standin: &'a Handle,
}

impl<'a> Control<'a> {
    pub fn new(http: &'a reqwest::Client, standin: &'a Handle) -> Self {
        Self { http, standin }
    }

    fn url(self, what: &str) -> String {
        format!("{}/_control/{what}", self.standin.url())
    }

    pub async fn get(self, what: &str) -> Value {
        let answer = self.http.get(self.url(what)).send().await.unwrap();
        answer.json().await.unwrap()
    }

    pub async fn post(self, what: &str, body: &Value) -> Value {
        let call = self.http.post(self.url(what)).json(body);
        let answer = call.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{what} {body}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    pub async fn clear_faults(self) {
        let answer = self.http.delete(self.url("faults")).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    pub async fn fault(self, fault: Value) {
        self.post("faults", &fault).await;
    }

    /// Calls as they came, oldest first.
    pub async fn ledger(self) -> Vec<Value> {
        list(self.get("ledger?limit=1000000").await["entries"].take())
    }

    /// What it holds, of one kind.
    pub async fn records(self, kind: &str) -> Vec<Value> {
        list(self.get(&format!("records?kind={kind}")).await)
    }

    /// Gives a property another code.
    pub async fn rename(self, property: &str, code: &str) {
        let rename = json!({ "property": property, "code": code });
        self.post("rename", &rename).await;
    }
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        other => panic!("no list: {other}"),
    }
}

//! A MongoDB database and a RabbitMQ virtual host for one test, removed afterwards.

use serde_json::Value;
use sluice_testkit::{mongodb_url, rabbitmq_management_url, rabbitmq_url, unique};

/// A database that the test's processes fill.
pub struct MongoDatabase {
    name: String,
    url: String,
}

impl MongoDatabase {
    pub fn new() -> Self {
        let name = unique("e2e");
        let mut url = url_of(&mongodb_url());
        url.set_path(&name);
        Self {
            url: url.to_string(),
            name,
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn open(&self) -> mongodb::Database {
        mongodb::Client::with_uri_str(&self.url)
            .await
            .unwrap()
            .database(&self.name)
    }
}

impl Drop for MongoDatabase {
    fn drop(&mut self) {
        let (url, name) = (self.url.clone(), self.name.clone());
        blocking(async move {
            let client = mongodb::Client::with_uri_str(&url).await?;
            client.database(&name).drop().await
        });
    }
}

/// A virtual host of the test's own.
pub struct VirtualHost {
    name: String,
    url: String,
}

impl VirtualHost {
    pub async fn create() -> Self {
        let name = unique("e2e");
        let answer = management(reqwest::Method::PUT, &format!("api/vhosts/{name}"), None)
            .await
            .unwrap();
        assert!(
            answer.status().is_success(),
            "virtual host: {}",
            answer.status()
        );
        let broker = url_of(&rabbitmq_url());
        let user = broker.username().to_owned();
        let all = serde_json::json!({ "configure": ".*", "write": ".*", "read": ".*" });
        let path = format!("api/permissions/{name}/{user}");
        let answer = management(reqwest::Method::PUT, &path, Some(all))
            .await
            .unwrap();
        assert!(
            answer.status().is_success(),
            "permissions: {}",
            answer.status()
        );
        let mut url = broker;
        url.set_path(&format!("/{name}"));
        Self {
            name,
            url: url.to_string(),
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Cuts every connection to this virtual host, as an operator or a failing network would.
    /// Returns how many there were.
    pub async fn close_connections(&self) -> usize {
        let path = format!("api/vhosts/{}/connections", self.name);
        let answer = management(reqwest::Method::GET, &path, None).await.unwrap();
        let connections: Vec<Value> = answer.json().await.unwrap_or_default();
        for connection in &connections {
            if let Some(name) = connection["name"].as_str() {
                let name: String = url_escape(name);
                // One that is gone already is closed too.
                let _ = management(
                    reqwest::Method::DELETE,
                    &format!("api/connections/{name}"),
                    None,
                )
                .await;
            }
        }
        connections.len()
    }
}

impl Drop for VirtualHost {
    fn drop(&mut self) {
        let path = format!("api/vhosts/{}", self.name);
        blocking(async move { management(reqwest::Method::DELETE, &path, None).await });
    }
}

async fn management(
    method: reqwest::Method,
    path: &str,
    body: Option<Value>,
) -> reqwest::Result<reqwest::Response> {
    let mut url = url_of(&rabbitmq_management_url());
    let (user, password) = (url.username().to_owned(), url.password().map(str::to_owned));
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let base = url.as_str().trim_end_matches('/').to_owned();
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut request = client
        .request(method, format!("{base}/{path}"))
        .basic_auth(user, password);
    if let Some(body) = body {
        request = request.json(&body);
    }
    request.send().await
}

fn url_of(text: &str) -> reqwest::Url {
    text.parse()
        .unwrap_or_else(|error| panic!("a server address of the tests is no URL: {error}"))
}

fn url_escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// Clean-up where no runtime can be waited for.
fn blocking<T>(work: impl Future<Output = T> + Send + 'static)
where
    T: Send + 'static,
{
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.map(|runtime| runtime.block_on(work))
    });
    // What could not be removed is only a leftover of a test.
    let _ = worker.join();
}

impl VirtualHost {
    /// Messages that wait in the queues of this virtual host, which get them back.
    pub async fn waiting_messages(&self) -> Vec<Value> {
        let path = format!("api/queues/{}", self.name);
        let queues = management(reqwest::Method::GET, &path, None);
        let queues: Vec<Value> = queues.await.unwrap().json().await.unwrap();
        let mut messages = Vec::new();
        for queue in queues {
            let name = queue["name"].as_str().unwrap();
            messages.extend(self.get(name, 2_000, "ack_requeue_true").await);
        }
        messages
    }

    async fn get(&self, queue: &str, count: u32, mode: &str) -> Vec<Value> {
        let path = format!("api/queues/{}/{}/get", self.name, url_escape(queue));
        let body = serde_json::json!({ "count": count, "ackmode": mode, "encoding": "auto" });
        let answer = management(reqwest::Method::POST, &path, Some(body)).await;
        answer.unwrap().json().await.unwrap()
    }
}

/// What a person does in the management screens.
impl VirtualHost {
    /// Messages ready in a queue, at most 2,000. Counted by taking them and giving them back: the
    /// screens' own figures are seconds old.
    pub async fn ready(&self, queue: &str) -> i64 {
        let messages = self.get(queue, 2_000, "ack_requeue_true").await;
        i64::try_from(messages.len()).unwrap()
    }

    /// Takes one message out of a queue for good; returns its payload.
    pub async fn take(&self, queue: &str) -> String {
        let messages = self.get(queue, 1, "ack_requeue_false").await;
        let payload = messages.first().and_then(|one| one["payload"].as_str());
        payload.expect("a message is there").to_owned()
    }

    /// Publishes a payload to a queue, without properties.
    pub async fn publish(&self, queue: &str, payload: &str) {
        let path = format!("api/exchanges/{}/amq.default/publish", self.name);
        let body = serde_json::json!({
            "properties": {}, "routing_key": queue, "payload": payload,
            "payload_encoding": "string",
        });
        let answer = management(reqwest::Method::POST, &path, Some(body));
        let answer: Value = answer.await.unwrap().json().await.unwrap();
        assert_eq!(answer["routed"], true, "{answer}");
    }

    /// Moves all messages of a queue to another, as "Move messages" does: by a shovel that ends with
    /// the messages that are there.
    pub async fn move_messages(&self, from: &str, to: &str) {
        let path = format!("api/parameters/shovel/{}/move", self.name);
        let here = format!("amqp:///{}", self.name);
        let body = serde_json::json!({ "value": {
            "src-uri": here, "src-queue": from, "src-prefetch-count": 1_000,
            "src-delete-after": "queue-length",
            "dest-uri": here, "dest-queue": to,
            "ack-mode": "on-confirm", "add-forward-headers": false,
        }});
        let answer = management(reqwest::Method::PUT, &path, Some(body)).await;
        assert!(answer.unwrap().status().is_success());
    }

    pub async fn purge(&self, queue: &str) {
        let path = format!("api/queues/{}/{}/contents", self.name, url_escape(queue));
        let answer = management(reqwest::Method::DELETE, &path, None);
        assert!(answer.await.unwrap().status().is_success());
    }
}

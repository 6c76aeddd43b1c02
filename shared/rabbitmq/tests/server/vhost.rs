//! A vhost of one test's own, made and removed through the management API.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("set {name} or run `cargo xtask test`"))
}

/// The management API, spoken in the little HTTP a test needs.
pub struct Management {
    host: String,
    user: String,
    password: String,
}

impl Management {
    fn from_env() -> Self {
        let url = setting("SLUICE_TEST_RABBITMQ_MANAGEMENT_URL");
        let rest = url.strip_prefix("http://").expect("an http: URL");
        let (login, host) = rest
            .trim_end_matches('/')
            .rsplit_once('@')
            .expect("a login");
        let (user, password) = login.split_once(':').expect("a password");
        Self {
            host: host.to_owned(),
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    /// Status and body.
    pub fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let login = BASE64_STANDARD.encode(format!("{}:{}", self.user, self.password));
        let request = format!(
            "{method} /api/{path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Basic {login}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len(),
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    pub fn list(&self, path: &str) -> Vec<Value> {
        let (status, body) = self.call("GET", path, "");
        assert_eq!(status, 200, "GET {path}: {body}");
        serde_json::from_str(&body).unwrap()
    }
}

/// A vhost with the test's name in the management screens, removed when dropped.
pub struct Vhost {
    pub name: String,
    pub management: Management,
}

impl Vhost {
    pub fn new() -> Self {
        let name = format!("sluice-test-{}", uuid::Uuid::new_v4().simple());
        let management = Management::from_env();
        let vhost = Self { name, management };
        let everything = r#"{"configure":".*","write":".*","read":".*"}"#;
        let permissions = format!("permissions/{}/{}", vhost.name, vhost.management.user);
        let made = vhost
            .management
            .call("PUT", &format!("vhosts/{}", vhost.name), "{}");
        assert!(matches!(made.0, 201 | 204), "{made:?}");
        let allowed = vhost.management.call("PUT", &permissions, everything);
        assert!(matches!(allowed.0, 201 | 204), "{allowed:?}");
        vhost
    }

    pub fn url(&self) -> String {
        let url = setting("SLUICE_TEST_RABBITMQ_URL");
        let (server, _) = url.rsplit_once('/').expect("a vhost in the URL");
        format!("{server}/{}", self.name)
    }

    /// Host and port of the broker.
    pub fn address(&self) -> String {
        let url = self.url();
        let (server, _) = url.rsplit_once('/').expect("a vhost in the URL");
        server
            .rsplit_once('@')
            .expect("a login in the URL")
            .1
            .to_owned()
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        self.management
            .call("DELETE", &format!("vhosts/{}", self.name), "");
    }
}

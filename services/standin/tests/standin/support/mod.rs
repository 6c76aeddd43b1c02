//! A raw HTTP/1.1 client, so that the tests see what really goes over the wire.

pub mod lessen360;
pub mod one;
pub mod yardi;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use sluice_standin::{Handle, Kind, Options, serve};

/// No answer takes longer than this unless a fault says so.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer; `complete` is false when the connection broke inside the body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub complete: bool,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// A stand-in with a fixed seed and day.
pub fn options(kind: Kind) -> Options {
    Options {
        epoch: chrono::NaiveDate::from_ymd_opt(2025, 6, 1).unwrap(),
        limit_per_minute: None,
        ..Options::new(kind)
    }
}

pub async fn start(options: Options) -> Handle {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    serve(options, listener).unwrap()
}

/// Sends a request and reads until the server closes. `None` means no answer at all.
pub async fn send(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut raw = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut raw))
        .await
        .expect("an answer in time");
    let broken = read.is_err();
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let rest = &raw[end + 4..];
    let mut answer = Answer {
        status,
        headers,
        body: Vec::new(),
        complete: !broken,
    };
    if answer.header("transfer-encoding").is_some() {
        let (body, complete) = unchunk(rest);
        answer.body = body;
        answer.complete &= complete;
    } else {
        let length = answer.header("content-length").and_then(|v| v.parse().ok());
        answer.body = rest.to_vec();
        answer.complete &= length.is_none_or(|length: usize| length == rest.len());
    }
    Some(answer)
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(line) = rest.windows(2).position(|w| w == b"\r\n") else {
            return (body, false);
        };
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        rest = &rest[line + 2..];
        if size == 0 {
            return (body, true);
        }
        if rest.len() < size + 2 {
            body.extend_from_slice(rest);
            return (body, false);
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

pub async fn get(handle: &Handle, path: &str) -> Answer {
    send(handle.addr(), "GET", path, &[], b"").await.unwrap()
}

pub async fn post(handle: &Handle, path: &str, body: &Value) -> Answer {
    let body = body.to_string();
    send(
        handle.addr(),
        "POST",
        path,
        &[("Content-Type", "application/json")],
        body.as_bytes(),
    )
    .await
    .unwrap()
}

pub async fn fault(handle: &Handle, rule: Value) {
    let answer = post(handle, "/_control/faults", &rule).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

pub async fn stats(handle: &Handle) -> Value {
    get(handle, "/_control/stats").await.json()
}

pub async fn ledger(handle: &Handle) -> Vec<Value> {
    let answer = get(handle, "/_control/ledger").await.json();
    answer["entries"].as_array().unwrap().clone()
}

pub async fn records(handle: &Handle, kind: &str) -> Vec<Value> {
    let answer = get(handle, &format!("/_control/records?kind={kind}")).await;
    assert!(answer.complete);
    answer.json().as_array().unwrap().clone()
}

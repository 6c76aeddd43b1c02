use std::{io::Write as _, time::Duration};

use serde_json::json;
use sluice_core::ErrorClass;

use super::*;
use crate::test_server::{Reply, TestServer};

/// A secret planted where careless errors would show it.
const CANARY: &str = "canary-7f3a91";

fn client(url: &str, options: HttpOptions) -> HttpClient {
    let config = SecretConfig::new(json!({"base_url": url, "secret": CANARY}));
    HttpClient::new("acme-one", &config, Limiter::new(&[]), options).unwrap()
}

fn get(url: &str) -> Request {
    let mut url = Url::parse(url).unwrap();
    url.set_query(Some(&format!("key={CANARY}")));
    let mut request = Request::new(Method::GET, url);
    let value = HeaderValue::from_static(CANARY);
    request.headers.insert("x-secret", value);
    request
}

fn assert_no_canary(error: &Error) {
    let everything = format!("{error} {error:?} {}", error.chain());
    assert!(!everything.contains(CANARY), "{everything}");
}

#[tokio::test]
async fn an_answer_is_read_whatever_its_status_and_counted() {
    let server = TestServer::start(|_, _| Reply::text(418, "short and stout")).await;
    let client = client(&server.url(), HttpOptions::default());
    let answer = client.send(get(&server.url())).await.unwrap();
    assert_eq!(answer.status.as_u16(), 418);
    assert_eq!(&answer.body[..], b"short and stout");
    assert_eq!(client.clone().calls(), 1);
    let shown = format!("{client:?} {answer:?} {:?}", get(&server.url()));
    assert!(!shown.contains(CANARY), "{shown}");
}

#[tokio::test]
async fn nobody_there_means_nothing_was_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = client(&url, HttpOptions::default());
    let error = client.send(get(&url)).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Network);
    assert_eq!(error.scope().connection.as_deref(), Some("acme-one"));
    assert_no_canary(&error);
}

#[tokio::test]
async fn silence_after_sending_may_mean_it_was_done() {
    let server = TestServer::start(|_, _| Reply::Silence).await;
    let options = HttpOptions {
        timeout: Duration::from_millis(200),
        ..HttpOptions::default()
    };
    let client = client(&server.url(), options);
    let error = client.send(get(&server.url())).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Timeout);
    assert_eq!(server.seen().len(), 1);
    assert_no_canary(&error);
}

/// A connection that breaks before the answer, after the request was read.
#[tokio::test]
async fn a_reset_after_sending_may_mean_it_was_done_and_is_not_repeated() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let mut connections = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            connections += 1;
            let mut buffer = [0; 1024];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await;
            if connections > 1 {
                break;
            }
        }
        connections
    });
    let client = client(&url, HttpOptions::default());
    let error = client.send(get(&url)).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Timeout);
    assert_no_canary(&error);
    assert_eq!(client.calls(), 1);
    assert!(!server.is_finished(), "the request was sent a second time");
    server.abort();
}

#[tokio::test]
async fn a_large_answer_is_refused_packed_or_not() {
    let server = TestServer::start(|seen, _| {
        let zeros = vec![0_u8; 5_000_000];
        if !seen.path_and_query.starts_with("/packed") {
            return Reply::Answer(200, Vec::new(), zeros);
        }
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(&zeros).unwrap();
        let packed = packer.finish().unwrap();
        assert!(packed.len() < 10_000);
        Reply::Answer(200, vec![("content-encoding", "gzip".into())], packed)
    })
    .await;
    for path in ["/plain", "/packed"] {
        let url = format!("{}{path}", server.url());
        let small = HttpOptions {
            max_response_bytes: 1_000_000,
            ..HttpOptions::default()
        };
        let error = client(&url, small).send(get(&url)).await.unwrap_err();
        assert_eq!(error.code(), "response_too_large", "{path}");
        let answer = client(&url, HttpOptions::default()).send(get(&url)).await;
        assert_eq!(answer.unwrap().body.len(), 5_000_000, "{path}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let server = TestServer::start(|_, _| {
        Reply::text(302, "").header("location", "http://127.0.0.1:1/elsewhere")
    })
    .await;
    let client = client(&server.url(), HttpOptions::default());
    let answer = client.send(get(&server.url())).await.unwrap();
    assert_eq!(answer.status.as_u16(), 302);
}

#[tokio::test]
async fn hosts_from_nowhere_are_not_called_and_take_no_slot() {
    let server = TestServer::start(|_, _| Reply::text(200, "")).await;
    let client = client("https://api.example.test", HttpOptions::default());
    let error = client.send(get(&server.url())).await.unwrap_err();
    assert_eq!(error.code(), "host_not_allowed");
    assert_eq!(client.calls(), 0);
    assert!(server.seen().is_empty());
    assert_no_canary(&error);
}

/// O3: a `Retry-After` stops everybody who shares the limiter.
#[tokio::test]
async fn retry_after_pauses_the_limiter() {
    let server =
        TestServer::start(|_, _| Reply::text(429, "slow down").header("retry-after", "120")).await;
    let client = client(&server.url(), HttpOptions::default());
    client.send(get(&server.url())).await.unwrap();
    let wait = client.clone().limiter().wait();
    assert!(wait > Duration::from_secs(110), "{wait:?}");
}

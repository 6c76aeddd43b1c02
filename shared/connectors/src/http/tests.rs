use std::{
    io::Write as _,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use serde_json::json;
use sluice_core::{
    ConnectionId, ErrorClass,
    catalogue::{BreakerPolicy, RateLimit},
};

use super::*;
use crate::{
    limiter::{LimiterSettings, local::LocalFleet},
    test_server::{Reply, TestServer},
};

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

/// O3: a good answer that says that nothing remains of a quota pauses it as well.
#[tokio::test]
async fn an_empty_quota_pauses_the_limiter() {
    let server = TestServer::start(|_, _| {
        let answer = Reply::text(200, "the last one");
        answer
            .header("x-ratelimit-remaining", "0")
            .header("x-ratelimit-reset", "120")
    })
    .await;
    let client = client(&server.url(), HttpOptions::default());
    client.send(get(&server.url())).await.unwrap();
    let wait = client.clone().limiter().wait();
    assert!(wait > Duration::from_secs(110), "{wait:?}");
}

/// O4: whoever makes the probe of an open breaker hears that it was one, if it fails and only then.
#[tokio::test]
async fn a_failed_probe_tells_of_the_outage() {
    let well = Arc::new(AtomicBool::new(false));
    let server = {
        let well = Arc::clone(&well);
        TestServer::start(move |_, _| {
            let status = if well.load(Ordering::Relaxed) {
                200
            } else {
                503
            };
            Reply::text(status, "")
        })
        .await
    };
    let limiter = Limiter::shared(LimiterSettings {
        fleet: Arc::new(LocalFleet::default()),
        connection: ConnectionId(1),
        name: "acme-one".to_owned(),
        limits: vec![RateLimit::new(1_000, 1)],
        breaker: BreakerPolicy {
            first_wait_ms: 100,
            longest_wait_ms: 150,
            ..BreakerPolicy::default()
        },
        call_lasts: Duration::from_secs(1),
    });
    let config = SecretConfig::new(json!({ "base_url": server.url() }));
    let client = HttpClient::new("acme-one", &config, limiter, HttpOptions::default()).unwrap();
    let call = || Terms::watch_outage(client.send(get(&server.url())));
    let (answer, outage) = call().await;
    assert_eq!((answer.unwrap().status.as_u16(), outage), (503, None));
    let told = wait_for(|| async { call().await.1 }).await;
    assert_eq!(told.next_probe, Duration::from_millis(150));
    let later = wait_for(|| async { call().await.1 }).await;
    assert!(later.lasts > told.lasts, "{later:?} after {told:?}");
    well.store(true, Ordering::Relaxed);
    let outage = wait_for(|| async {
        let (answer, outage) = call().await;
        answer.ok().map(|_| outage)
    });
    assert_eq!(outage.await, None);
}

/// Asks until there is an answer.
async fn wait_for<T, F: Future<Output = Option<T>>>(ask: impl Fn() -> F) -> T {
    let found = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found)
        .await
        .expect("no answer in time")
}

/// Looks at systems come one after the other: none of them waits for long for its turn.
#[tokio::test]
async fn a_probe_waits_a_few_seconds_for_its_turn() {
    let latest = tokio::time::Instant::now() + Duration::from_secs(20);
    let terms = Terms::probing(async { Terms::current() }).await;
    assert!(terms.urgent && terms.begin_by.is_some_and(|by| by < latest));
}

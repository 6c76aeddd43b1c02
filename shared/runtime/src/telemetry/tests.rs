use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use opentelemetry::trace::TracerProvider as _;
use tracing_subscriber::{layer::SubscriberExt, registry::Registry};

use super::*;

fn traced<T>(body: impl FnOnce() -> T) -> T {
    let provider = trace::provider("test").unwrap();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    tracing::subscriber::with_default(Registry::default().with(layer), body)
}

#[test]
fn a_trace_continues_over_a_border_without_any_exporter() {
    let (sent, inner) = traced(|| {
        let outer = tracing::info_span!("page").entered();
        let sent = traceparent().unwrap();
        let inner = tracing::info_span!("apply").in_scope(traceparent).unwrap();
        drop(outer);
        assert_eq!(traceparent(), None);
        (sent, inner)
    });
    let parts: Vec<_> = sent.split('-').collect();
    assert_eq!(parts.len(), 4);
    assert_eq!((parts[0], parts[1].len(), parts[2].len()), ("00", 32, 16));
    assert!(
        inner.contains(parts[1]),
        "{inner} is another trace than {sent}"
    );

    let received = traced(|| {
        let span = tracing::info_span!("push");
        continue_from(&span, Some(&sent));
        span.in_scope(traceparent).unwrap()
    });
    assert!(
        received.contains(parts[1]),
        "{received} left the trace {sent}"
    );
    assert!(!received.contains(parts[2]), "the span id must be new");
}

/// sqlx asks through the `log` crate whether a statement is to be logged, and mostly it is not.
#[test]
fn a_question_of_a_driver_does_not_lose_the_next_span() {
    let provider = trace::provider("test").unwrap();
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("test"))
        .with_filter(our_spans());
    let logs = tracing_subscriber::fmt::layer()
        .with_writer(std::io::sink)
        .with_filter(EnvFilter::new("info"));
    let subscriber = Registry::default().with(spans).with(logs);
    tracing::subscriber::with_default(subscriber, || {
        let statement = tracing::debug_span!(target: "sqlx::query", "statement");
        let statement = statement.metadata().unwrap();
        for _ in 0..2 {
            tracing::dispatcher::get_default(|dispatch| dispatch.enabled(statement));
            let page = tracing::info_span!("page");
            assert!(page.in_scope(traceparent).is_some());
        }
    });
}

#[test]
fn rubbish_is_no_trace() {
    for rubbish in [
        "",
        "00-0-0-00",
        "hunter2",
        "00-00000000000000000000000000000000-0000000000000000-01",
    ] {
        let found = traced(|| {
            let span = tracing::info_span!("push");
            continue_from(&span, Some(rubbish));
            span.in_scope(traceparent).unwrap()
        });
        assert!(
            !found.contains("-00000000000000000000000000000000-"),
            "{found}"
        );
    }
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn log_lines_are_json_with_the_fields_of_spans_and_no_forged_lines() {
    let buffer = Buffer::default();
    let writer = buffer.clone();
    let layer = tracing_subscriber::fmt::layer()
        .fmt_fields(tracing_subscriber::fmt::format::JsonFields::new())
        .event_format(json::JsonLine)
        .with_writer(move || writer.clone());
    tracing::subscriber::with_default(Registry::default().with(layer), || {
        let _span = tracing::info_span!("run", run.id = 7, target_name = "outer").entered();
        tracing::info!(count = 3, target_name = "inner", "two\nlines\u{1b}[31m");
    });
    let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert!(!text.contains('\u{1b}'));
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["message"], "two\nlines\u{1b}[31m");
    assert_eq!((&line["run.id"], &line["count"]), (&7.into(), &3.into()));
    assert_eq!(line["target_name"], "inner");
    assert_eq!(line["level"], "INFO");
}

#[test]
fn human_lines_cannot_be_forged() {
    let buffer = Buffer::default();
    json::OneLine(buffer.clone())
        .write_all(b"INFO a\nERROR forged\r\n")
        .unwrap();
    let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text, "INFO a\\nERROR forged\\r\n");
}

#[test]
fn metrics_are_described_and_histograms_have_our_buckets() {
    let handle = prometheus();
    metrics::counter!(crate::metrics::RETRIES, "queue" => "q", "error_class" => "network")
        .increment(2);
    metrics::histogram!(crate::metrics::PUSH_DURATION, "target" => "one-main").record(0.02);
    metrics::histogram!(crate::metrics::SYNC_LAG, "target" => "one-main").record(100.0);
    let text = handle.render();
    for expected in [
        "# TYPE sluice_retries_total counter",
        "sluice_push_duration_seconds_bucket{target=\"one-main\",le=\"0.025\"} 1",
        "sluice_sync_lag_seconds_bucket{target=\"one-main\",le=\"86400\"} 1",
        "sluice_retries_total{queue=\"q\",error_class=\"network\"} 2",
    ] {
        assert!(text.contains(expected), "{expected} not in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_level_is_refused() {
    let settings = TelemetrySettings {
        log_format: LogFormat::Json,
        log_level: "info,=".into(),
    };
    assert_eq!(
        init(&settings, "test").unwrap_err().code(),
        "telemetry_invalid"
    );
}

/// What one request to a collector brought: its head and its body.
async fn request(listener: tokio::net::TcpListener) -> (String, Vec<u8>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .unwrap()
                .parse()
                .unwrap();
            if bytes.len() >= end + 4 + length {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .await
                    .unwrap();
                return (head, bytes[end + 4..].to_vec());
            }
        }
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "cut off");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_reach_a_collector() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let collector = tokio::spawn(request(listener));
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder()
        .with_resource(trace::resource("test"))
        .with_batch_exporter(trace::exporter(Some(&endpoint)).unwrap())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let sent = tracing::subscriber::with_default(Registry::default().with(layer), || {
        tracing::info_span!("a-page-is-read").in_scope(traceparent)
    });
    assert!(
        sent.unwrap().ends_with("-01"),
        "an exported trace is sampled"
    );
    drop(TelemetryGuard { provider });
    let (head, body) = tokio::time::timeout(std::time::Duration::from_secs(20), collector)
        .await
        .unwrap()
        .unwrap();
    assert!(head.starts_with("post /v1/traces"), "{head}");
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains("a-page-is-read") && text.contains("sluice-test"));
}

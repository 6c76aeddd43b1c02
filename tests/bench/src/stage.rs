//! The source and the target of the benchmarks, in processes of their own: they do as little as
//! possible, so that what is measured is not them.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::header,
    response::IntoResponse,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
};

use crate::{Outcome, workload};

#[derive(Deserialize)]
struct Paging {
    #[serde(default)]
    offset: u64,
}

struct Source {
    pages: Vec<[Arc<str>; 2]>,
    round: AtomicU32,
}

/// Serves pages made beforehand; `POST /round/1` switches to the changed ones.
pub async fn serve_source(records: u64) -> Outcome {
    let pages = (0..=records / workload::PAGE)
        .map(|number| {
            let offset = number * workload::PAGE;
            [0, 1].map(|round| Arc::from(workload::page(offset, records, round)))
        })
        .collect();
    let source = Arc::new(Source {
        pages,
        round: AtomicU32::new(0),
    });
    let router = Router::new()
        .route("/records", get(page))
        .route(
            "/round/1",
            post(|State(source): State<Arc<Source>>| async move {
                source.round.store(1, Ordering::Relaxed);
            }),
        )
        .with_state(source);
    announce_and_serve(router).await
}

async fn page(
    State(source): State<Arc<Source>>,
    Query(paging): Query<Paging>,
) -> impl IntoResponse {
    let number = usize::try_from(paging.offset / workload::PAGE).unwrap_or(usize::MAX);
    let round = usize::from(source.round.load(Ordering::Relaxed) > 0);
    let body = source
        .pages
        .get(number)
        .map_or("{\"records\":[]}", |page| &*page[round])
        .to_owned();
    ([(header::CONTENT_TYPE, "application/json")], body)
}

/// Answers every write at once with an id; `GET /count` tells how many there were.
pub async fn serve_target() -> Outcome {
    let count = Arc::new(AtomicU64::new(0));
    let router = Router::new()
        .route("/records", post(write))
        .route(
            "/count",
            get(|State(count): State<Arc<AtomicU64>>| async move {
                Json(json!({ "count": count.load(Ordering::Relaxed) }))
            }),
        )
        .with_state(count);
    announce_and_serve(router).await
}

async fn write(State(count): State<Arc<AtomicU64>>, _body: axum::body::Bytes) -> Json<Value> {
    let id = count.fetch_add(1, Ordering::Relaxed);
    Json(json!({ "id": format!("t{id}") }))
}

#[expect(clippy::print_stdout, reason = "the parent process reads the address")]
pub async fn announce_and_serve(router: Router) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}

/// A source or target process; ends when dropped.
pub struct Stage {
    _child: Child,
    pub url: String,
}

impl Stage {
    pub async fn source(records: u64) -> Outcome<Self> {
        Self::start(&["serve-source", &records.to_string()]).await
    }

    pub async fn vendor(records: u64) -> Outcome<Self> {
        Self::start(&["serve-vendor", &records.to_string()]).await
    }

    pub async fn target() -> Outcome<Self> {
        Self::start(&["serve-target"]).await
    }

    async fn start(arguments: &[&str]) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no output")?;
        let url = BufReader::new(stdout)
            .lines()
            .next_line()
            .await?
            .ok_or("it ended at once")?;
        Ok(Self { _child: child, url })
    }

    pub async fn post(&self, path: &str) -> Outcome {
        let client = reqwest::Client::builder().no_proxy().build()?;
        client
            .post(format!("{}/{path}", self.url))
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    }
}

//! Which parts run, one child process each, and what is printed.

use std::{path::PathBuf, process::Stdio};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    Backend, Outcome,
    connect::Servers,
    floor_in, floor_out,
    measure::Figures,
    product::{Product, Urls},
    scripts,
};

const DATABASE: &str = "sluice_bench";
const FLOOR_DATABASE: &str = "sluice_bench_floor";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Which {
    FloorIn,
    FloorOut,
    SyncIn,
    SyncInChanged,
    SyncOut,
    Replay,
}

#[derive(Debug, Clone, Args)]
pub struct Part {
    #[arg(value_enum)]
    which: Which,
    #[arg(long)]
    records: u64,
    #[arg(long, value_enum)]
    backend: Backend,
    /// Folder of the embedded stores
    #[arg(long)]
    folder: PathBuf,
    #[command(flatten)]
    urls: Urls,
}

/// Runs one part in this process and prints its figures.
#[expect(clippy::print_stdout, reason = "the parent process reads the figures")]
pub async fn run_part(part: &Part) -> Outcome {
    let figures = match part.which {
        Which::FloorIn => {
            let servers = Servers::reset(FLOOR_DATABASE).await?;
            floor_in::run(&servers, &part.urls.source, part.records).await?
        }
        Which::FloorOut => {
            let servers = Servers::from_environment(FLOOR_DATABASE)?;
            vec![floor_out::run(&servers, &part.urls.target, part.records).await?]
        }
        Which::SyncIn | Which::SyncInChanged | Which::SyncOut | Which::Replay => {
            product(part).await?
        }
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

async fn product(part: &Part) -> Outcome<Vec<Figures>> {
    let servers = match part.backend {
        Backend::Embedded => None,
        Backend::Servers if part.which == Which::SyncIn => Some(Servers::reset(DATABASE).await?),
        Backend::Servers => Some(Servers::from_environment(DATABASE)?),
    };
    let product = Product::open(part.backend, &part.folder, servers.as_ref(), &part.urls).await?;
    let figures = match part.which {
        Which::SyncIn => {
            product.purge().await?;
            product
                .sync_in("sync-in new", part.records, part.records)
                .await?
        }
        // The target has not received anything yet, so the changed records' pushes coalesce.
        Which::SyncInChanged => {
            product
                .sync_in("sync-in 10 % changed", part.records, 0)
                .await?
        }
        Which::Replay => product.replay("replay").await?,
        _ => {
            product
                .sync_out("sync-out", part.records, part.backend)
                .await?
        }
    };
    Ok(vec![figures])
}

/// Every part; prints one JSON document.
#[expect(clippy::print_stdout, reason = "the result")]
pub async fn all(records: u64, backends: &[Backend], script_records: Option<u64>) -> Outcome {
    let mut results = serde_json::Map::new();
    for &backend in backends {
        let folder = tempfile::tempdir()?;
        let source = Stage::start(&["serve-source", &records.to_string()]).await?;
        let target = Stage::start(&["serve-target"]).await?;
        let run = |which| Part {
            which,
            records,
            backend,
            folder: folder.path().to_owned(),
            urls: Urls {
                source: source.url.clone(),
                target: target.url.clone(),
                limit: Some(60_000_000),
            },
        };
        let mut figures = Vec::new();
        if backend == Backend::Servers {
            let floor_source = Stage::start(&["serve-source", &records.to_string()]).await?;
            let mut floor = run(Which::FloorIn);
            floor.urls.source = floor_source.url.clone();
            figures.extend(child(&floor).await?);
            figures.extend(child(&run(Which::FloorOut)).await?);
        }
        figures.extend(child(&run(Which::SyncIn)).await?);
        source.post("round/1").await?;
        figures.extend(child(&run(Which::SyncInChanged)).await?);
        figures.extend(child(&run(Which::SyncOut)).await?);
        if let (Backend::Servers, Some(records)) = (backend, script_records) {
            figures.extend(scripts::run(records).await?);
        }
        let ratios = ratios(&figures);
        results.insert(
            name(backend).to_owned(),
            json!({ "figures": figures, "ratios": ratios }),
        );
    }
    println!("{}", serde_json::to_string_pretty(&Value::Object(results))?);
    Ok(())
}

/// Peak memory of sync-in with few and with many records.
#[expect(clippy::print_stdout, reason = "the result")]
pub async fn memory(backend: Backend) -> Outcome {
    let mut figures = Vec::new();
    for records in [10_000, 500_000] {
        let folder = tempfile::tempdir()?;
        let source = Stage::start(&["serve-source", &records.to_string()]).await?;
        let target = Stage::start(&["serve-target"]).await?;
        let urls = Urls {
            source: source.url.clone(),
            target: target.url.clone(),
            limit: None,
        };
        for which in [Which::SyncIn, Which::SyncOut] {
            let part = Part {
                which,
                records,
                backend,
                folder: folder.path().to_owned(),
                urls: urls.clone(),
            };
            figures.extend(child(&part).await?);
        }
    }
    println!("{}", serde_json::to_string_pretty(&figures)?);
    Ok(())
}

/// Dead letters made of everything a first run wanted delivered, and their replay.
#[expect(clippy::print_stdout, reason = "the result")]
pub async fn replay(records: u64, backend: Backend) -> Outcome {
    let folder = tempfile::tempdir()?;
    let source = Stage::start(&["serve-source", &records.to_string()]).await?;
    let target = Stage::start(&["serve-target"]).await?;
    let mut figures = Vec::new();
    for which in [Which::SyncIn, Which::Replay] {
        let part = Part {
            which,
            records,
            backend,
            folder: folder.path().to_owned(),
            urls: Urls {
                source: source.url.clone(),
                target: target.url.clone(),
                limit: Some(60_000_000),
            },
        };
        figures.extend(child(&part).await?);
    }
    println!("{}", serde_json::to_string_pretty(&figures)?);
    Ok(())
}

/// Product against floor, records per second, in the same run.
fn ratios(figures: &[Figures]) -> Value {
    let speed = |part: &str| {
        figures
            .iter()
            .find(|one| one.part == part)
            .map(|one| one.records_per_second)
    };
    let ratio = |ours: &str, floor: &str| Some(speed(ours)? / speed(floor)?);
    json!({
        "sync-in new / floor": ratio("sync-in new", "floor-in new"),
        "sync-in 10 % changed / floor": ratio("sync-in 10 % changed", "floor-in 10 % changed"),
        "sync-out / floor": ratio("sync-out", "floor-out"),
        "sync-in new / python": ratio("sync-in new", scripts::PYTHON),
        "sync-out / node": ratio("sync-out", scripts::NODE),
    })
}

fn name(backend: Backend) -> &'static str {
    match backend {
        Backend::Embedded => "embedded",
        Backend::Servers => "servers",
    }
}

async fn child(part: &Part) -> Outcome<Vec<Figures>> {
    let which = part
        .which
        .to_possible_value()
        .ok_or("a part without a name")?;
    eprintln!(
        "{} {} {} records",
        name(part.backend),
        which.get_name(),
        part.records
    );
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["part", which.get_name(), "--backend", name(part.backend)])
        .args(["--records", &part.records.to_string()])
        .args(["--source", &part.urls.source, "--target", &part.urls.target])
        .arg("--folder")
        .arg(&part.folder)
        .stderr(Stdio::inherit());
    if let Some(limit) = part.urls.limit {
        command.args(["--limit", &limit.to_string()]);
    }
    let output = command.output().await?;
    if !output.status.success() {
        return Err(format!("{} failed", which.get_name()).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A source or target process; ends when dropped.
pub struct Stage {
    _child: Child,
    pub url: String,
}

impl Stage {
    pub async fn start(arguments: &[&str]) -> Outcome<Self> {
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

    async fn post(&self, path: &str) -> Outcome {
        let client = reqwest::Client::builder().no_proxy().build()?;
        client
            .post(format!("{}/{path}", self.url))
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    }
}

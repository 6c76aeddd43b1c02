//! Which parts run, one child process each, and what is printed.

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::{
    Backend, Outcome,
    connect::{self, RunName},
    measure::Figures,
    part::{Part, Which},
    product::Urls,
    scripts,
    stage::Stage,
};

/// Calls per minute that no part comes near, so that the limiter works and never waits.
const FAR_ABOVE: u32 = 60_000_000;

/// Replicas connect and load their connectors meanwhile; then they begin together.
const SET_UP: TimeDelta = TimeDelta::seconds(3);

/// Runs something under a name of its own, prints its result, and removes what it left on the
/// servers.
#[expect(clippy::print_stdout, reason = "the result")]
pub async fn in_own_place(
    backends: &[Backend],
    work: impl AsyncFnOnce(&RunName) -> Outcome<Value>,
) -> Outcome {
    let name = RunName::unique();
    let outcome = work(&name).await;
    if backends.contains(&Backend::Servers) {
        connect::remove(&name).await?;
    }
    println!("{}", serde_json::to_string_pretty(&outcome?)?);
    Ok(())
}

/// A source, a target, and a folder for embedded stores.
struct Scene {
    backend: Backend,
    name: RunName,
    records: u64,
    folder: tempfile::TempDir,
    source: Stage,
    target: Stage,
}

impl Scene {
    async fn set(backend: Backend, name: &RunName, records: u64) -> Outcome<Self> {
        Ok(Self {
            backend,
            name: name.clone(),
            records,
            folder: tempfile::tempdir()?,
            source: Stage::source(records).await?,
            target: Stage::target().await?,
        })
    }

    fn part(&self, which: Which) -> Part {
        Part {
            begin: None,
            which,
            name: self.name.clone(),
            records: self.records,
            backend: self.backend,
            folder: self.folder.path().to_owned(),
            urls: Urls {
                source: self.source.url.clone(),
                target: self.target.url.clone(),
                limit: Some(FAR_ABOVE),
            },
        }
    }

    async fn figures(&self, which: Which) -> Outcome<Vec<Figures>> {
        self.part(which).figures().await
    }
}

/// Every part but the long ones.
pub async fn all(
    name: &RunName,
    records: u64,
    backends: &[Backend],
    script_records: Option<u64>,
) -> Outcome<Value> {
    let mut results = serde_json::Map::new();
    for &backend in backends {
        let scene = Scene::set(backend, name, records).await?;
        let mut figures = Vec::new();
        if backend == Backend::Servers {
            let mut floor = scene.part(Which::FloorIn);
            let source = Stage::source(records).await?;
            floor.urls.source.clone_from(&source.url);
            figures.extend(floor.figures().await?);
            figures.extend(scene.figures(Which::FloorOut).await?);
        }
        figures.extend(scene.figures(Which::SyncIn).await?);
        scene.source.post("round/1").await?;
        figures.extend(scene.figures(Which::SyncInChanged).await?);
        figures.extend(scene.figures(Which::SyncOut).await?);
        if let (Backend::Servers, Some(records)) = (backend, script_records) {
            figures.extend(scripts::run(name, records).await?);
        }
        let ratios = ratios(&figures);
        results.insert(
            backend.name().to_owned(),
            json!({ "figures": figures, "ratios": ratios }),
        );
    }
    Ok(Value::Object(results))
}

/// Peak memory of sync-in and sync-out with few and with many records.
pub async fn memory(name: &RunName, backend: Backend, records: &[u64]) -> Outcome<Value> {
    let mut figures = Vec::new();
    for &records in records {
        let scene = Scene::set(backend, name, records).await?;
        for which in [Which::SyncIn, Which::SyncOut] {
            figures.extend(scene.figures(which).await?);
        }
    }
    Ok(json!(figures))
}

/// Dead letters made of everything a first run wanted delivered, and their replay.
pub async fn replay(name: &RunName, backend: Backend, records: u64) -> Outcome<Value> {
    let scene = Scene::set(backend, name, records).await?;
    let mut figures = scene.figures(Which::SyncIn).await?;
    figures.extend(scene.figures(Which::Replay).await?);
    Ok(json!(figures))
}

/// Sync-out with and without the limiter, and as two replicas.
pub async fn out(name: &RunName, backend: Backend, records: u64) -> Outcome<Value> {
    let mut figures = Vec::new();
    let mut plan = vec![
        ("sync-out", Some(FAR_ABOVE), 1),
        ("sync-out without a limit", None, 1),
    ];
    if backend == Backend::Servers {
        plan.push(("sync-out, 2 replicas", Some(FAR_ABOVE), 2));
        // Once more, because the first one also warms everything up.
        plan.push(("sync-out again", Some(FAR_ABOVE), 1));
    }
    for (part, limit, replicas) in plan {
        let scene = Scene::set(backend, name, records).await?;
        scene.figures(Which::Fill).await?;
        if backend == Backend::Servers {
            scene.figures(Which::Staging).await?;
        }
        let mut one = scene.part(Which::SyncOut);
        one.urls.limit = limit;
        one.begin = Some((Utc::now() + SET_UP).timestamp_millis());
        let replicas = (0..replicas).map(|_| one.figures());
        let each = futures::future::try_join_all(replicas).await?;
        figures.extend(together(part, each.into_iter().flatten().collect()));
    }
    Ok(json!(figures))
}

/// Replicas that shared one number of records, as one.
fn together(part: &str, replicas: Vec<Figures>) -> Option<Figures> {
    let cpu = replicas.iter().map(|one| one.cpu_seconds_per_100k).sum();
    let peak = replicas.iter().map(|one| one.peak_memory_mib);
    let peak = peak.fold(0.0, f64::max);
    let slowest = replicas
        .into_iter()
        .max_by(|one, other| one.seconds.total_cmp(&other.seconds))?;
    Some(Figures {
        part: part.to_owned(),
        cpu_seconds_per_100k: cpu,
        peak_memory_mib: peak,
        ..slowest
    })
}

/// Tasks that wait in SQL, and their references published.
pub async fn staging(name: &RunName, backend: Backend, records: u64) -> Outcome<Value> {
    let scene = Scene::set(backend, name, 0).await?;
    let mut figures = Vec::new();
    for which in [Which::Fill, Which::Staging] {
        let part = Part {
            records,
            ..scene.part(which)
        };
        figures.extend(part.figures().await?);
    }
    Ok(json!(figures))
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

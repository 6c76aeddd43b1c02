//! The read engine against the reference runtime: the same manifests, the same vendor, a process
//! each, messages on standard output.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::{
    Outcome,
    measure::{children_cpu_seconds, peak_memory_mib_of},
    stage::Stage,
    vendor,
};

/// What the manifests do; the same names as their folders.
const CASES: [&str; 4] = ["offset", "windows", "substreams", "transformed"];
/// How often the start is measured.
const STARTS: usize = 20;
/// How often a running process is looked at.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Serialize)]
struct Reading {
    records: u64,
    seconds: f64,
    cpu_seconds: f64,
    records_per_cpu_second: f64,
    peak_memory_mib: f64,
}

/// Reads each case with both and prints one JSON document.
///
/// # Errors
/// When one of them fails, or when both do not print equally many records.
#[expect(clippy::print_stdout, reason = "the result")]
pub async fn run(records: u64, reference: Option<&Path>) -> Outcome {
    let vendor = Stage::vendor(records).await?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.json");
    let until = vendor::day(records.div_ceil(vendor::PART).saturating_sub(1));
    let settings = json!({ "url": vendor.url, "account": "acme", "until": until });
    std::fs::write(&config, settings.to_string())?;
    let mut results = serde_json::Map::new();
    for case in CASES {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("manifests")
            .join(case);
        eprintln!("{case}: sluice");
        let mut command = Command::new(sluice()?);
        command.args(["connector", "read"]).arg(&manifest);
        let ours = read(command.arg("--config").arg(&config)).await?;
        let mut result = json!({ "sluice": ours });
        if let Some(reference) = reference {
            eprintln!("{case}: reference runtime");
            let catalog = catalog(&manifest, &config, folder.path()).await?;
            let program = reference.with_file_name("source-declarative-manifest");
            let mut command = Command::new(program);
            command.arg("read").arg("--config").arg(&config);
            command.arg("--catalog").arg(catalog);
            command
                .arg("--manifest-path")
                .arg(manifest.join("manifest.yaml"));
            let theirs = read(&mut command).await?;
            if theirs.records != ours.records {
                let told = format!(
                    "{case}: {} records here, {} there",
                    ours.records, theirs.records
                );
                return Err(told.into());
            }
            result["records per CPU second, sluice / reference"] =
                json!(ours.records_per_cpu_second / theirs.records_per_cpu_second);
            result["reference"] = json!(theirs);
        }
        results.insert(case.to_owned(), result);
    }
    results.insert("start_ms".to_owned(), starts().await?);
    println!("{}", serde_json::to_string_pretty(&Value::Object(results))?);
    Ok(())
}

/// Runs it to its end and counts the records it prints.
async fn read(command: &mut Command) -> Outcome<Reading> {
    let cpu = children_cpu_seconds();
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let process = child.id().ok_or("it ended at once")?;
    let stdout = child.stdout.take().ok_or("no output")?;
    let counting = async {
        let mut lines = BufReader::with_capacity(1 << 20, stdout);
        let mut line = Vec::new();
        let mut records = 0;
        while lines.read_until(b'\n', &mut line).await? > 0 {
            // Either writes the kind first.
            records += u64::from(line.starts_with(b"{\"type\":\"RECORD\""));
            line.clear();
        }
        Outcome::Ok(records)
    };
    let mut counting = std::pin::pin!(counting);
    let mut peak = 0.0_f64;
    let records = loop {
        tokio::select! {
            records = &mut counting => break records?,
            () = tokio::time::sleep(LOOK) => peak = peak.max(peak_memory_mib_of(&process.to_string())),
        }
    };
    let status = child.wait().await?;
    if !status.success() {
        return Err(format!("{command:?} failed: {status}").into());
    }
    let cpu = children_cpu_seconds() - cpu;
    Ok(Reading {
        records,
        seconds: began.elapsed().as_secs_f64(),
        cpu_seconds: cpu,
        records_per_cpu_second: records as f64 / cpu,
        peak_memory_mib: peak,
    })
}

/// A configured catalog of every stream that `sluice connector discover` finds.
async fn catalog(manifest: &Path, config: &Path, folder: &Path) -> Outcome<PathBuf> {
    let mut command = Command::new(sluice()?);
    command.args(["connector", "discover"]).arg(manifest);
    let output = command.arg("--config").arg(config).output().await?;
    let message: Value = serde_json::from_slice(&output.stdout)?;
    let streams = message["catalog"]["streams"]
        .as_array()
        .ok_or("no catalog")?;
    let configured: Vec<_> = streams
        .iter()
        .map(|stream| {
            let modes = stream["supported_sync_modes"].as_array();
            let mode = modes.and_then(|modes| modes.last()).cloned();
            json!({ "stream": stream, "sync_mode": mode, "destination_sync_mode": "append" })
        })
        .collect();
    let path = folder.join("catalog.json");
    std::fs::write(&path, json!({ "streams": configured }).to_string())?;
    Ok(path)
}

/// From the start of the process to its end with a manifest read, in milliseconds.
async fn starts() -> Outcome<Value> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/transformed");
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let began = Instant::now();
        let mut command = Command::new(sluice()?);
        command.args(["connector", "spec"]).arg(&manifest);
        let output = command.output().await?;
        if !output.status.success() {
            return Err("`connector spec` failed".into());
        }
        times.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_unstable_by(f64::total_cmp);
    Ok(json!({ "median": times[STARTS / 2], "most": times[STARTS - 1] }))
}

/// The release build beside this program.
fn sluice() -> Outcome<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("sluice");
    if path.is_file() {
        return Ok(path);
    }
    Err("build it first: cargo build --release -p sluice".into())
}

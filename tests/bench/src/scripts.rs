//! The scripts for comparison: a per-row Python script in, a Node worker out.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokio::process::Command;

use crate::{
    Outcome,
    connect::{RunName, Servers, User},
    measure::Figures,
    servers_cpu,
    stage::Stage,
};

pub const PYTHON: &str = "python script in";
pub const NODE: &str = "node worker out";

#[derive(Deserialize)]
struct Printed {
    records: u64,
    seconds: f64,
    cpu_seconds: f64,
}

/// Installs what the scripts need below `target/`, then runs both.
pub async fn run(name: &RunName, records: u64) -> Outcome<Vec<Figures>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tools = here.join("../../target/bench-tools");
    std::fs::create_dir_all(&tools)?;
    let python = python(&tools).await?;
    let node = node(&tools).await?;
    let servers = Servers::reset(name, User::Script).await?;
    let source = Stage::source(records).await?;
    let target = Stage::target().await?;
    let count = records.to_string();
    let queue = name.plain_queue(User::Script);
    eprintln!("servers {PYTHON} {records} records");
    let mut command = Command::new(python);
    command.arg(here.join("scripts/ingest.py")).args([
        &source.url,
        &servers.postgres,
        &servers.mongodb,
        &servers.mongodb_database,
        &servers.rabbitmq,
        &queue,
        &count,
    ]);
    let mut figures = vec![figures(PYTHON, command).await?];
    eprintln!("servers {NODE} {records} records");
    let mut command = Command::new("node");
    command
        .arg(here.join("scripts/push.mjs"))
        .args([
            &target.url,
            &servers.postgres,
            &servers.rabbitmq,
            &queue,
            &count,
        ])
        .env("BENCH_NODE_MODULES", node);
    figures.push(self::figures(NODE, command).await?);
    Ok(figures)
}

async fn python(tools: &Path) -> Outcome<PathBuf> {
    let folder = tools.join("python");
    let interpreter = folder.join("bin/python");
    if !interpreter.is_file() {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&folder)).await?;
        succeed(Command::new(&interpreter).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "pymongo",
            "psycopg[binary]",
            "pika",
        ]))
        .await?;
    }
    Ok(interpreter)
}

async fn node(tools: &Path) -> Outcome<PathBuf> {
    let folder = tools.join("node");
    if !folder.join("node_modules/undici").is_dir() {
        std::fs::create_dir_all(&folder)?;
        succeed(
            Command::new("npm")
                .args([
                    "install",
                    "--silent",
                    "--no-audit",
                    "--no-fund",
                    "amqplib",
                    "undici@7",
                    "pg",
                ])
                .current_dir(&folder),
        )
        .await?;
    }
    Ok(folder)
}

async fn succeed(command: &mut Command) -> Outcome {
    let status = command.status().await?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?} failed").into())
    }
}

async fn figures(part: &str, mut command: Command) -> Outcome<Figures> {
    let before = servers_cpu::now();
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .await?;
    if !output.status.success() {
        return Err(format!("{part} failed").into());
    }
    let printed: Printed = serde_json::from_slice(&output.stdout)?;
    let count = printed.records.max(1) as f64;
    Ok(Figures {
        part: part.to_owned(),
        records: printed.records,
        seconds: printed.seconds,
        records_per_second: count / printed.seconds,
        cpu_seconds_per_100k: printed.cpu_seconds / count * 100_000.0,
        servers_cpu_seconds_per_100k: servers_cpu::per_100k(&before, &servers_cpu::now(), count),
        // Not measured for scripts.
        peak_memory_mib: 0.0,
    })
}

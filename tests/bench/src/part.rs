//! One part, in a process of its own.

use std::{path::PathBuf, process::Stdio};

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use tokio::process::Command;

use crate::{
    Backend, Outcome,
    connect::{RunName, Servers, User},
    floor_in, floor_out,
    measure::Figures,
    product::{Product, Urls},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Which {
    FloorIn,
    FloorOut,
    SyncIn,
    SyncInChanged,
    SyncOut,
    Replay,
    Fill,
    Staging,
}

#[derive(Debug, Clone, Args)]
pub struct Part {
    #[arg(value_enum)]
    pub which: Which,
    /// What its databases and queues are named after
    #[arg(long)]
    pub name: RunName,
    #[arg(long)]
    pub records: u64,
    #[arg(long, value_enum)]
    pub backend: Backend,
    /// Folder of the embedded stores
    #[arg(long)]
    pub folder: PathBuf,
    /// Work begins at this time (milliseconds since 1970), so that replicas begin together, each with
    /// everything set up
    #[arg(long)]
    pub begin: Option<i64>,
    #[command(flatten)]
    pub urls: Urls,
}

/// Runs one part in this process and prints its figures.
#[expect(clippy::print_stdout, reason = "the parent process reads the figures")]
pub async fn run(part: &Part) -> Outcome {
    let queue = part.name.plain_queue(User::Floor);
    let figures = match part.which {
        Which::FloorIn => {
            let servers = Servers::reset(&part.name, User::Floor).await?;
            floor_in::run(&servers, &queue, &part.urls.source, part.records).await?
        }
        Which::FloorOut => {
            let servers = Servers::of(&part.name, User::Floor)?;
            vec![floor_out::run(&servers, &queue, &part.urls.target, part.records).await?]
        }
        _ => vec![product(part).await?],
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

async fn product(part: &Part) -> Outcome<Figures> {
    let first = matches!(part.which, Which::SyncIn | Which::Fill);
    let servers = match part.backend {
        Backend::Embedded => None,
        Backend::Servers if first => Some(Servers::reset(&part.name, User::Product).await?),
        Backend::Servers => Some(Servers::of(&part.name, User::Product)?),
    };
    let product = Product::open(part, servers.as_ref()).await?;
    let records = part.records;
    match part.which {
        Which::SyncIn => {
            product.purge().await?;
            product.sync_in("sync-in new", records, records).await
        }
        // The target has not received anything yet, so the changed records' pushes coalesce.
        Which::SyncInChanged => product.sync_in("sync-in 10 % changed", records, 0).await,
        Which::Replay => product.replay("replay").await,
        Which::Fill => {
            product.purge().await?;
            product.fill("fill", records).await
        }
        Which::Staging => product.staging("staging", records).await,
        _ => {
            let begin = part.begin.and_then(DateTime::from_timestamp_millis);
            let wait = begin.and_then(|begin| (begin - Utc::now()).to_std().ok());
            product
                .sync_out("sync-out", records, part.backend, wait.unwrap_or_default())
                .await
        }
    }
}

impl Part {
    /// Runs the part in a process of its own.
    pub async fn figures(&self) -> Outcome<Vec<Figures>> {
        let which = self
            .which
            .to_possible_value()
            .ok_or("a part without a name")?;
        eprintln!(
            "{} {} {} records",
            self.backend.name(),
            which.get_name(),
            self.records
        );
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["part", which.get_name(), "--backend", self.backend.name()])
            .args(["--name", &self.name.to_string()])
            .args(["--records", &self.records.to_string()])
            .args(["--source", &self.urls.source, "--target", &self.urls.target])
            .arg("--folder")
            .arg(&self.folder)
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if let Some(begin) = self.begin {
            command.args(["--begin", &begin.to_string()]);
        }
        if let Some(limit) = self.urls.limit {
            command.args(["--limit", &limit.to_string()]);
        }
        // Not `output`, which would keep what the part says about a failure.
        let output = command.spawn()?.wait_with_output().await?;
        if !output.status.success() {
            return Err(format!("{} failed", which.get_name()).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

//! `sluice connector list|check|test`; `new` is in `connector_new.rs`, the commands of the standard
//! protocol are in `connector_read.rs`.

use std::path::Path;

use serde::Serialize;
use serde_json::json;
use sluice_connectors::{
    library::{self, Library},
    source::Source,
    target::Target,
};
use sluice_core::{Error, Result, connector::ConnectorFiles};
use sluice_runtime::Settings;
use sluice_transform::{Mapper, fixtures};

use super::{connector_new, connector_read};
use crate::{
    cli::{Cli, ConnectorCommand, OutputFormat},
    connections,
    exit::Exit,
    output,
};

pub async fn run(cli: &Cli, command: &ConnectorCommand) -> Result<Exit> {
    match command {
        ConnectorCommand::Spec { dir } => connector_read::spec(dir),
        ConnectorCommand::Discover { dir, config } => connector_read::discover(dir, config).await,
        ConnectorCommand::Read(args) => connector_read::read(args).await,
        ConnectorCommand::List => list(cli),
        ConnectorCommand::Check { dir, config } => check(cli, dir, config.as_deref()),
        ConnectorCommand::Test { dir } => test(cli, dir),
        ConnectorCommand::New { dir, sides } => connector_new::run(cli, dir, *sides),
    }
}

#[derive(Serialize)]
struct Listed {
    name: String,
    reads: bool,
    writes: bool,
    fingerprint: String,
}

fn list(cli: &Cli) -> Result<Exit> {
    let settings = Settings::load(cli.config.as_deref())?;
    let library = Library::new(settings.connectors.dir.as_deref())?;
    let mut connectors = Vec::new();
    for name in library.names() {
        let files = library.get(name)?;
        connectors.push(Listed {
            name: name.to_owned(),
            reads: connections::can_read(&files),
            writes: connections::can_write(&files),
            fingerprint: files.fingerprint().to_hex(),
        });
    }
    output::list(
        cli.output,
        &connectors,
        &["CONNECTOR", "READS", "WRITES", "FINGERPRINT"],
        "none",
        |row| {
            let yes = |is: bool| if is { "yes" } else { "" }.to_owned();
            vec![
                row.name.clone(),
                yes(row.reads),
                yes(row.writes),
                row.fingerprint.chars().take(12).collect(),
            ]
        },
    )?;
    Ok(Exit::Done)
}

/// Looks at every part of a folder; its parts report their own faults.
fn check(cli: &Cli, dir: &Path, config: Option<&Path>) -> Result<Exit> {
    let files = read(dir)?;
    let mut problems = Vec::new();
    if connections::can_read(&files) {
        problems.extend(Source::faults(&files));
        if let (true, Some(config)) = (problems.is_empty(), config) {
            problems.extend(connector_read::open(dir, config).err());
        }
    }
    if connections::can_write(&files) {
        problems.extend(Target::check_files(&files).err());
    }
    problems.extend(Mapper::load(&files).err());
    if !connections::can_read(&files) && !connections::can_write(&files) {
        problems.push(
            Error::config(
                "connector_empty",
                "the folder has neither manifest.yaml nor operations.yaml",
            )
            .hint("docs/connectors/ describes the files"),
        );
    }
    report(cli, &problems, &format!("{}: no problem found", files.name))
}

fn test(cli: &Cli, dir: &Path) -> Result<Exit> {
    let files = read(dir)?;
    let report = fixtures::run(&files)?;
    match cli.output {
        OutputFormat::Json => output::json(&report)?,
        OutputFormat::Table => {
            for case in &report.cases {
                for difference in &case.differences {
                    eprintln!(
                        "FAILED {} ({}) at {}: expected {}, found {}",
                        case.name,
                        case.file,
                        difference.path,
                        difference.expected,
                        difference.found
                    );
                }
            }
            eprintln!("{} passed, {} failed", report.passed(), report.failed());
        }
    }
    Ok(if report.failed() == 0 {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn read(dir: &Path) -> Result<ConnectorFiles> {
    library::read_folder(dir)
}

fn report(cli: &Cli, problems: &[Error], fine: &str) -> Result<Exit> {
    match cli.output {
        OutputFormat::Json => {
            let rows: Vec<_> = problems
                .iter()
                .map(|error| json!({ "code": error.code(), "message": error.message(), "hint": error.advice() }))
                .collect();
            output::json(&rows)?;
        }
        OutputFormat::Table if problems.is_empty() => eprintln!("{fine}"),
        OutputFormat::Table => {
            for error in problems {
                eprintln!("error: {}", error.chain());
            }
        }
    }
    Ok(if problems.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

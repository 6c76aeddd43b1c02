//! `sluice connector list|check|test`; `new` is in `connector_new.rs`, the commands of the standard
//! protocol are in `connector_read.rs`.

use std::path::{Path, PathBuf};

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
        ConnectorCommand::Check { dirs, config } => check(cli, dirs, config.as_deref()),
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

/// What one folder's check has to tell.
struct Checked {
    name: String,
    problems: Vec<Error>,
}

fn check(cli: &Cli, dirs: &[PathBuf], config: Option<&Path>) -> Result<Exit> {
    let checked: Vec<Checked> = dirs.iter().map(|dir| check_one(dir, config)).collect();
    report(cli, &checked)
}

/// Looks at every part of a folder; its parts report their own faults.
fn check_one(dir: &Path, config: Option<&Path>) -> Checked {
    let files = match read(dir) {
        Ok(files) => files,
        Err(unreadable) => {
            return Checked {
                name: dir.display().to_string(),
                problems: vec![unreadable],
            };
        }
    };
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
    Checked {
        name: files.name,
        problems,
    }
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

fn report(cli: &Cli, checked: &[Checked]) -> Result<Exit> {
    match cli.output {
        OutputFormat::Json => {
            let rows = checked.iter().flat_map(|one| {
                one.problems.iter().map(|error| {
                    json!({ "connector": one.name, "code": error.code(), "message": error.message(), "hint": error.advice() })
                })
            });
            output::json(&rows.collect::<Vec<_>>())?;
        }
        OutputFormat::Table => {
            for one in checked {
                // With one folder it is plain whose problems they are.
                let of = match checked {
                    [_] => String::new(),
                    _ => format!("{}: ", one.name),
                };
                for error in &one.problems {
                    eprintln!("error: {of}{}", error.chain());
                }
                if one.problems.is_empty() {
                    eprintln!("{}: no problem found", one.name);
                }
            }
        }
    }
    Ok(if checked.iter().all(|one| one.problems.is_empty()) {
        Exit::Done
    } else {
        Exit::Failed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_read_is_a_problem_of_its_own() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.ancestors().nth(2).expect("the workspace");
        let shipped = root.join("shared/connectors/systems");
        let good = check_one(&shipped.join("yardi"), None);
        assert_eq!((good.name.as_str(), good.problems.len()), ("yardi", 0));
        let none = check_one(&shipped.join("nowhere"), None);
        assert_eq!(none.problems[0].code(), "connector_dir_unreadable");
    }
}

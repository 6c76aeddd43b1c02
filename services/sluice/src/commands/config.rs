//! `sluice config check|show`.

use serde::Serialize;
use sluice_connectors::library::Library;
use sluice_core::{Error, Result};
use sluice_runtime::Settings;

use crate::{
    checks,
    cli::{Cli, ConfigCommand, OutputFormat},
    exit::Exit,
    output,
};

pub fn run(cli: &Cli, command: &ConfigCommand) -> Result<Exit> {
    match command {
        ConfigCommand::Check => match check(cli) {
            // A program that asked for findings gets this one, too.
            Err(error) if cli.output == OutputFormat::Json => {
                output::json(&[Finding::of("", &error)])?;
                Err(error)
            }
            checked => checked,
        },
        ConfigCommand::Show => {
            let settings = Settings::load(cli.config.as_deref())?;
            match cli.output {
                OutputFormat::Json => output::json(settings.masked())?,
                OutputFormat::Table => output::list(
                    cli.output,
                    settings.origins(),
                    &["SETTING", "VALUE", "FROM"],
                    "no settings",
                    |origin| {
                        vec![
                            origin.key.clone(),
                            origin.value.to_string(),
                            origin.source.clone(),
                        ]
                    },
                )?,
            }
            Ok(Exit::Done)
        }
    }
}

#[derive(Serialize)]
struct Finding {
    connection: String,
    code: &'static str,
    problem: String,
}

impl Finding {
    fn of(connection: impl Into<String>, error: &Error) -> Self {
        Self {
            connection: connection.into(),
            code: error.code(),
            problem: error.chain(),
        }
    }
}

/// Settings are checked by loading them; what is left are secrets and connector files.
fn check(cli: &Cli) -> Result<Exit> {
    let settings = Settings::load(cli.config.as_deref())?;
    let library = Library::new(settings.connectors.dir.as_deref())?;
    let catalogue = settings.catalogue()?;
    let mut findings = Vec::new();
    for spec in &catalogue.connections {
        for error in checks::connection(&library, &catalogue, spec) {
            let connection = format!("{}/{}", spec.organization, spec.name);
            findings.push(Finding::of(connection, &error));
        }
    }
    for token in &settings.api_tokens {
        if let Err(error) = checks::api_token(token) {
            findings.push(Finding::of(format!("api_tokens/{}", token.name), &error));
        }
    }
    if findings.is_empty() {
        eprintln!(
            "{} organizations, {} connections, {} flows: no problem found",
            catalogue.organizations.len(),
            catalogue.connections.len(),
            catalogue.flows.len()
        );
        if cli.output == OutputFormat::Json {
            output::json(&findings)?;
        }
        return Ok(Exit::Done);
    }
    output::list(
        cli.output,
        &findings,
        &["CONNECTION", "CODE", "PROBLEM"],
        "",
        |finding| {
            vec![
                finding.connection.clone(),
                finding.code.to_owned(),
                finding.problem.clone(),
            ]
        },
    )?;
    Ok(Exit::Failed)
}

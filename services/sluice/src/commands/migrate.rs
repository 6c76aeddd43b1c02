//! `sluice migrate up|status`.

use serde_json::json;
use sluice_core::Result;
use sluice_runtime::Settings;

use crate::{
    backends,
    cli::{Cli, MigrateCommand, OutputFormat},
    exit::Exit,
    output,
};

pub async fn run(cli: &Cli, command: &Option<MigrateCommand>) -> Result<Exit> {
    let settings = Settings::load(cli.config.as_deref())?;
    let (master, ..) = backends::open_sql(&settings.store).await?;
    match command {
        None | Some(MigrateCommand::Up) => {
            let applied = master.migrate().await?;
            match cli.output {
                OutputFormat::Json => output::json(&json!({ "applied": applied }))?,
                OutputFormat::Table => eprintln!("{applied} migrations applied"),
            }
        }
        Some(MigrateCommand::Status) => {
            let migrations = master.migrations().await?;
            output::list(
                cli.output,
                &migrations,
                &["VERSION", "DESCRIPTION", "STATE"],
                "no migrations",
                |row| {
                    let state = if row.applied { "applied" } else { "pending" };
                    vec![
                        row.version.to_string(),
                        row.description.clone(),
                        state.to_owned(),
                    ]
                },
            )?;
        }
    }
    Ok(Exit::Done)
}

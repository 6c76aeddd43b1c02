//! `sluice queue`: what waits, by connection, kind, class and state.

use sluice_core::Result;

use crate::{cli::Cli, context::Context, exit::Exit, output};

pub async fn run(cli: &Cli) -> Result<Exit> {
    let context = Context::open(cli).await?;
    let organization = context.organization(cli)?;
    let mut backlog = context.backends.tasks.backlog().await?;
    backlog.retain(|row| row.organization_id == organization);
    output::list(
        cli.output,
        &backlog,
        &["CONNECTION", "KIND", "CLASS", "STATE", "TASKS", "OLDEST"],
        "nothing waits",
        |row| {
            let connection = context
                .catalogue
                .connection_by_id(row.connection_id)
                .map_or_else(
                    || row.connection_id.to_string(),
                    |connection| connection.spec.name.clone(),
                );
            vec![
                connection,
                row.kind.as_str().to_owned(),
                row.class.as_str().to_owned(),
                row.state.as_str().to_owned(),
                row.count.to_string(),
                row.oldest.map(|at| at.to_rfc3339()).unwrap_or_default(),
            ]
        },
    )?;
    Ok(Exit::Done)
}

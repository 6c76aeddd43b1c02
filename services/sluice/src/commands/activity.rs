//! `sluice activity`: the audit of what people change.

use sluice_core::Result;

use crate::{cli::Cli, context::Context, exit::Exit, output};

pub async fn run(cli: &Cli, after: Option<i64>, limit: u32) -> Result<Exit> {
    let context = Context::open(cli).await?;
    let organization = context.organization(cli)?;
    let tasks = &context.backends.tasks;
    let changes = tasks.changes(organization, after, limit).await?;
    output::list(
        cli.output,
        &changes,
        &["ID", "AT", "ACTOR", "EVENT", "DETAIL"],
        "nobody has changed anything",
        |change| {
            vec![
                change.id.to_string(),
                change.at.to_rfc3339(),
                change.actor.clone(),
                change.event.clone(),
                change.detail.clone(),
            ]
        },
    )?;
    Ok(Exit::Done)
}

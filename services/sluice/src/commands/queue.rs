//! `sluice queue`: what waits, by connection, kind, class and state; and what blocks it.

use sluice_core::Result;
use sluice_store::dependency::{self, BlockerQuery};

use crate::{
    cli::{Cli, QueueCommand},
    context::Context,
    exit::Exit,
    output,
};

pub async fn run(cli: &Cli, command: Option<&QueueCommand>) -> Result<Exit> {
    let context = Context::open(cli).await?;
    match command {
        None => backlog(cli, &context).await,
        Some(QueueCommand::Blocked { target, limit }) => {
            blocked(cli, &context, target.as_deref(), *limit).await
        }
    }
}

async fn blocked(cli: &Cli, context: &Context, target: Option<&str>, limit: u32) -> Result<Exit> {
    let organization_id = context.organization(cli)?;
    let connection_id = match target {
        Some(name) => Some(context.connection(organization_id, name)?.id),
        None => None,
    };
    let query = BlockerQuery {
        organization_id,
        connection_id,
        limit,
    };
    let blockers = context.backends.tasks.blockers(&query).await?;
    output::list(
        cli.output,
        &blockers,
        &["TARGET", "RECORD", "BLOCKS", "SINCE", "REASON", "CODE"],
        "nothing is blocked",
        |one| {
            vec![
                one.target.clone(),
                dependency::in_words(&one.record),
                one.waiting.to_string(),
                one.since.to_rfc3339(),
                one.reason.as_str().to_owned(),
                one.error_code.clone().unwrap_or_default(),
            ]
        },
    )?;
    Ok(Exit::Done)
}

async fn backlog(cli: &Cli, context: &Context) -> Result<Exit> {
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

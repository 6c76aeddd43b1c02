//! `sluice targets`: what each target received, and what is still on its way.

use sluice_core::Result;

use crate::{cli::Cli, context::Context, exit::Exit, output};

pub async fn run(cli: &Cli) -> Result<Exit> {
    let context = Context::open(cli).await?;
    let organization = context.organization(cli)?;
    let targets = context.backends.tasks.target_summary(organization).await?;
    output::list(
        cli.output,
        &targets,
        &[
            "TARGET", "CREATED", "UPDATED", "DELETED", "LINKED", "SKIPPED", "CALLS", "RETRIES",
            "OPEN", "BLOCKED", "DEAD",
        ],
        "nothing was sent yet",
        |target| {
            let mut row = vec![target.connection.clone()];
            row.extend(
                [
                    target.created,
                    target.updated,
                    target.deleted,
                    target.linked,
                    target.skipped,
                    target.calls,
                    target.retries,
                    target.open,
                    target.blocked,
                    target.dead,
                ]
                .map(|number| number.to_string()),
            );
            row
        },
    )?;
    Ok(Exit::Done)
}

//! `sluice targets`: what each target received, what is still on its way, and whether it may be
//! called.

use serde::Serialize;
use sluice_connectors::limiter::state::{self, CallState};
use sluice_core::Result;
use sluice_store::task::TargetSummary;

use super::connection;
use crate::{cli::Cli, context::Context, exit::Exit, output};

#[derive(Serialize)]
struct Target {
    #[serde(flatten)]
    summary: TargetSummary,
    /// Limits in force, breaker and pause, as all processes see them.
    calls_now: Option<CallState>,
}

pub async fn run(cli: &Cli) -> Result<Exit> {
    let context = Context::open(cli).await?;
    let organization = context.organization(cli)?;
    let summaries = context.backends.tasks.target_summary(organization).await?;
    let fleet = &*context.backends.fleet;
    let mut connections = state::of_organization(fleet, &context.catalogue, organization).await?;
    let targets: Vec<_> = summaries
        .into_iter()
        .map(|summary| {
            let at = connections
                .iter()
                .position(|shown| shown.connection == summary.connection);
            Target {
                calls_now: at.map(|at| connections.swap_remove(at)),
                summary,
            }
        })
        .collect();
    output::list(
        cli.output,
        &targets,
        &[
            "TARGET",
            "CREATED",
            "UPDATED",
            "DELETED",
            "LINKED",
            "SKIPPED",
            "CALLS",
            "RETRIES",
            "OPEN",
            "BLOCKED",
            "DEAD",
            "LIMITS",
            "BREAKER",
            "PAUSED UNTIL",
        ],
        "nothing was sent yet",
        |target| {
            let summary = &target.summary;
            let mut row = vec![summary.connection.clone()];
            row.extend(
                [
                    summary.created,
                    summary.updated,
                    summary.deleted,
                    summary.linked,
                    summary.skipped,
                    summary.calls,
                    summary.retries,
                    summary.open,
                    summary.blocked,
                    summary.dead,
                ]
                .map(|number| number.to_string()),
            );
            let cells = target.calls_now.as_ref().map(|now| {
                let paused = connection::time(now.paused_until);
                [connection::limits(now), now.breaker.to_owned(), paused]
            });
            row.extend(cells.unwrap_or_default());
            row
        },
    )?;
    Ok(Exit::Done)
}

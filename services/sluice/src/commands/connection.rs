//! `sluice connection`: limits in force, pauses and breakers; live changes to them.

use chrono::{DateTime, Utc};
use clap::Subcommand;
use sluice_connectors::limiter::{
    manage::{self, Wanted},
    state::{self, CallState},
};
use sluice_core::{Result, catalogue::RateLimit};

use super::actor;
use crate::{cli::Cli, context::Context, exit::Exit, output};

#[derive(Debug, Subcommand)]
pub enum ConnectionCommand {
    /// Limits, breaker and pause of each connection, as all processes see them
    List,
    /// Change the limits at once, in every process, until the configuration changes
    Limit {
        name: String,
        /// CALLS/SECONDS, such as 60/60; more after commas: `reserve=20` (percent), `path=/search`
        #[arg(required_unless_present = "configured", num_args = 1..=16, value_parser = parse_limit)]
        limits: Vec<RateLimit>,
        /// Back to the limits of the configuration
        #[arg(long, conflicts_with = "limits")]
        configured: bool,
        /// Kept in the activity log, with who did it
        #[arg(long)]
        reason: Option<String>,
    },
    /// Close the breaker and end a pause
    Resume {
        name: String,
        /// Kept in the activity log, with who did it
        #[arg(long)]
        reason: Option<String>,
    },
}

pub async fn run(cli: &Cli, command: &ConnectionCommand) -> Result<Exit> {
    let context = Context::open(cli).await?;
    let organization = context.organization(cli)?;
    let fleet = &*context.backends.fleet;
    match command {
        ConnectionCommand::List => {}
        ConnectionCommand::Limit {
            name,
            limits,
            configured,
            reason,
        } => {
            let connection = context.connection(organization, name)?;
            let wanted = if *configured {
                Wanted::Configured
            } else {
                Wanted::These(limits.clone())
            };
            let reason = reason.as_deref();
            manage::set_limits(fleet, connection, &wanted, &actor(), reason).await?;
        }
        ConnectionCommand::Resume { name, reason } => {
            let connection = context.connection(organization, name)?;
            manage::resume(fleet, connection, &actor(), reason.as_deref()).await?;
        }
    }
    let connections = state::of_organization(fleet, &context.catalogue, organization).await?;
    output::list(
        cli.output,
        &connections,
        &[
            "CONNECTION",
            "LIMITS",
            "BREAKER",
            "REASON",
            "LAST FAILURE",
            "NEXT PROBE",
            "PAUSED UNTIL",
        ],
        "no connection is configured",
        |row| {
            vec![
                row.connection.clone(),
                limits(row),
                row.breaker.to_owned(),
                row.reason.unwrap_or_default().to_owned(),
                row.cause
                    .as_ref()
                    .map(|cause| cause.code.clone())
                    .unwrap_or_default(),
                time(row.next_probe),
                time(row.paused_until),
            ]
        },
    )?;
    Ok(Exit::Done)
}

/// Limits in force, and whether somebody set them by hand.
pub(super) fn limits(state: &CallState) -> String {
    let shown = manage::shown(&state.limits);
    if state.limits_by_hand {
        format!("{shown} (by hand)")
    } else {
        shown
    }
}

pub(super) fn time(at: Option<DateTime<Utc>>) -> String {
    at.map(|at| at.to_rfc3339()).unwrap_or_default()
}

/// The form only; whether the numbers are allowed is looked at with all of them.
fn parse_limit(text: &str) -> Result<RateLimit, String> {
    let wrong = || "write it as CALLS/SECONDS[,reserve=PERCENT][,path=PREFIX]".to_owned();
    let mut parts = text.split(',');
    let (calls, seconds) = parts
        .next()
        .and_then(|part| part.split_once('/'))
        .ok_or_else(wrong)?;
    let count = |text: &str| text.parse().map_err(|_| wrong());
    let mut limit = RateLimit::new(count(calls)?, count(seconds)?);
    for part in parts {
        match part.split_once('=') {
            Some(("reserve", percent)) => limit.reserve = percent.parse().map_err(|_| wrong())?,
            Some(("path", path)) => limit.paths.push(path.to_owned()),
            _ => return Err(wrong()),
        }
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_refused() {
        let limit = parse_limit("60/60,reserve=20,path=/a,path=/b").unwrap();
        assert_eq!(
            (limit.calls, limit.per_seconds, limit.reserve),
            (60, 60, 20)
        );
        assert_eq!(limit.paths, ["/a", "/b"]);
        assert_eq!(limit.to_string(), "60/60,reserve=20,path=/a,path=/b");
        for wrong in ["", "60", "-1/60", "60/x", "60/60,reserve=300", "60/60,x=1"] {
            assert!(parse_limit(wrong).is_err(), "{wrong}");
        }
    }
}

//! `sluice connection`: limits in force, pauses and breakers; live changes to them.

use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde::Serialize;
use sluice_connectors::limiter::manage;
use sluice_core::{
    OrganizationId, Result,
    catalogue::{Connection, RateLimit},
    traffic::{Nanos, Traffic},
};

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
        #[arg(required = true, num_args = 1..=16, value_parser = parse_limit)]
        limits: Vec<RateLimit>,
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

/// A connection as it is called now.
#[derive(Serialize)]
pub(super) struct Shown {
    pub(super) connection: String,
    limits: Vec<RateLimit>,
    breaker: &'static str,
    reason: Option<&'static str>,
    open_since: Option<DateTime<Utc>>,
    next_probe: Option<DateTime<Utc>>,
    paused_until: Option<DateTime<Utc>>,
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
            reason,
        } => {
            let connection = context.connection(organization, name)?;
            let reason = reason.as_deref();
            manage::set_limits(fleet, connection, limits, &actor(), reason).await?;
        }
        ConnectionCommand::Resume { name, reason } => {
            let connection = context.connection(organization, name)?;
            manage::resume(fleet, connection, &actor(), reason.as_deref()).await?;
        }
    }
    let connections = all(&context, organization).await?;
    output::list(
        cli.output,
        &connections,
        &[
            "CONNECTION",
            "LIMITS",
            "BREAKER",
            "REASON",
            "NEXT PROBE",
            "PAUSED UNTIL",
        ],
        "no connection is configured",
        |row| {
            let mut cells = vec![row.connection.clone()];
            cells.extend(row.cells());
            cells
        },
    )?;
    Ok(Exit::Done)
}

/// How the connections of an organization are called now.
pub(super) async fn all(context: &Context, organization: OrganizationId) -> Result<Vec<Shown>> {
    let (known, now) = manage::look(&*context.backends.fleet).await?;
    Ok(context
        .catalogue
        .connections
        .iter()
        .filter(|connection| connection.organization_id == organization)
        .map(|connection| {
            let traffic = known.iter().find(|(id, _)| *id == connection.id);
            shown(connection, traffic.map(|(_, traffic)| traffic), now)
        })
        .collect())
}

impl Shown {
    /// Limits, breaker, its reason, its next probe, and until when calls are paused.
    pub(super) fn cells(&self) -> [String; 5] {
        let time = |at: Option<DateTime<Utc>>| at.map(|at| at.to_rfc3339()).unwrap_or_default();
        [
            manage::shown(&self.limits),
            self.breaker.to_owned(),
            self.reason.unwrap_or_default().to_owned(),
            time(self.next_probe),
            time(self.paused_until),
        ]
    }
}

fn shown(connection: &Connection, traffic: Option<&Traffic>, now: Nanos) -> Shown {
    let fresh;
    let traffic = match traffic {
        Some(traffic) => traffic,
        None => {
            fresh = Traffic::new(&connection.spec.limits);
            &fresh
        }
    };
    let look = traffic.breaker.look(now);
    Shown {
        connection: connection.spec.name.clone(),
        limits: traffic.pace.limits().to_vec(),
        breaker: look.state,
        reason: look.reason.map(|reason| reason.as_str()),
        open_since: look.open_since.map(DateTime::from_timestamp_nanos),
        next_probe: look.next_probe.map(DateTime::from_timestamp_nanos),
        paused_until: Some(traffic.pace.paused_until())
            .filter(|until| *until > now)
            .map(DateTime::from_timestamp_nanos),
    }
}

fn parse_limit(text: &str) -> Result<RateLimit, String> {
    let wrong = || "write it as CALLS/SECONDS[,reserve=PERCENT][,path=PREFIX]".to_owned();
    let mut parts = text.split(',');
    let (calls, seconds) = parts
        .next()
        .and_then(|part| part.split_once('/'))
        .ok_or_else(wrong)?;
    let count = |text: &str| {
        text.parse()
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(wrong)
    };
    let mut limit = RateLimit::new(count(calls)?, count(seconds)?);
    for part in parts {
        match part.split_once('=') {
            Some(("reserve", percent)) => {
                limit.reserve = percent
                    .parse()
                    .ok()
                    .filter(|percent| *percent <= 90)
                    .ok_or_else(wrong)?;
            }
            Some(("path", path)) if path.starts_with('/') => limit.paths.push(path.to_owned()),
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
        for wrong in [
            "",
            "60",
            "0/60",
            "60/0",
            "-1/60",
            "60/60,reserve=91",
            "60/60,path=a",
            "60/60,x=1",
        ] {
            assert!(parse_limit(wrong).is_err(), "{wrong}");
        }
    }
}

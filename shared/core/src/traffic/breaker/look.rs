//! A breaker as people see it.

use super::{Breaker, Cause, Reason, State};
use crate::traffic::Nanos;

/// The state now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub state: &'static str,
    pub reason: Option<Reason>,
    /// What the last failed call failed with.
    pub cause: Option<Cause>,
    pub open_since: Option<Nanos>,
    pub next_probe: Option<Nanos>,
    pub prober: Option<String>,
}

impl Breaker {
    pub fn look(&self, now: Nanos) -> Look {
        let closed = Look {
            state: "closed",
            reason: None,
            cause: None,
            open_since: None,
            next_probe: None,
            prober: None,
        };
        match &self.state {
            State::Open {
                reason,
                since,
                until,
                probe,
                ..
            } => Look {
                state: if now < *until { "open" } else { "probing" },
                reason: Some(*reason),
                cause: self.cause.clone(),
                open_since: Some(*since),
                next_probe: Some(*until),
                prober: probe.as_ref().map(|probe| probe.owner.clone()),
            },
            State::Ramp { .. } if self.is_guarded(now) => Look {
                state: "ramp",
                ..closed
            },
            _ => closed,
        }
    }
}

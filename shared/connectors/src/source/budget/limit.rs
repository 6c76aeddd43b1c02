//! What a policy allows, and what was used of it.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sluice_core::{Error, Result};
use tokio::time::Instant;

use crate::source::template::{Scope, Template};

#[derive(Debug)]
pub(super) enum Limit {
    Unlimited,
    Moving {
        rates: Vec<(Template, Duration)>,
        /// When calls were made, oldest first; a call of weight n is there n times.
        made: Mutex<VecDeque<Instant>>,
    },
    Fixed {
        calls: Template,
        period: Duration,
        window: Mutex<Option<Window>>,
    },
}

#[derive(Debug)]
pub(super) struct Window {
    ends: Instant,
    used: u64,
}

fn number(template: &Template, scope: &Scope<'_>) -> Result<u64> {
    let value = template.value(scope)?;
    value
        .as_u64()
        .or_else(|| value.as_str()?.trim().parse().ok())
        .ok_or_else(|| Error::config("budget_invalid", "a call limit is no whole number"))
}

fn never(weight: u64) -> Error {
    Error::config(
        "budget_too_small",
        format!("a call of weight {weight} is more than the budget ever allows"),
    )
}

impl Limit {
    pub(super) fn take(
        &self,
        weight: u64,
        now: Instant,
        scope: &Scope<'_>,
    ) -> Result<Option<Duration>> {
        match self {
            Self::Unlimited => Ok(None),
            Self::Moving { rates, made } => {
                let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                let longest = rates.iter().map(|(_, interval)| *interval).max();
                while let (Some(first), Some(longest)) = (made.front(), longest)
                    && now.duration_since(*first) > longest
                {
                    made.pop_front();
                }
                let mut wait = None;
                for (limit, interval) in rates {
                    let limit = number(limit, scope)?;
                    if weight > limit {
                        return Err(never(weight));
                    }
                    // The call that has to be over before this one fits in.
                    let at = made.len() as u64 + weight;
                    let blocking = at
                        .checked_sub(limit + 1)
                        .and_then(|index| made.get(usize::try_from(index).ok()?));
                    if let Some(blocking) = blocking {
                        let over = *blocking + *interval;
                        if over >= now {
                            let needed = over.duration_since(now) + Duration::from_millis(1);
                            wait = wait.max(Some(needed));
                        }
                    }
                }
                if wait.is_none() {
                    made.extend((0..weight).map(|_| now));
                }
                Ok(wait)
            }
            Self::Fixed {
                calls,
                period,
                window,
            } => {
                let calls = number(calls, scope)?;
                if weight > calls {
                    return Err(never(weight));
                }
                let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
                let window = current(&mut window, *period, now);
                if window.used + weight > calls {
                    return Ok(Some(
                        window.ends.duration_since(now) + Duration::from_millis(1),
                    ));
                }
                window.used += weight;
                Ok(None)
            }
        }
    }

    pub(super) fn learn(
        &self,
        left: Option<u64>,
        resets: Option<Instant>,
        now: Instant,
        scope: &Scope<'_>,
    ) -> Result<()> {
        match self {
            Self::Unlimited => {}
            Self::Moving { rates, made } => {
                // Without a time of reset only "nothing is left" can be told.
                if left == Some(0) && resets.is_none() {
                    let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                    let mut free: Option<u64> = None;
                    for (limit, interval) in rates {
                        let within = made
                            .iter()
                            .filter(|at| now.duration_since(**at) <= *interval)
                            .count() as u64;
                        let left = number(limit, scope)?.saturating_sub(within);
                        free = Some(free.map_or(left, |free| free.min(left)));
                    }
                    made.extend((0..free.unwrap_or(0)).map(|_| now));
                }
            }
            Self::Fixed {
                calls,
                period,
                window,
            } => {
                let calls = number(calls, scope)?;
                let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
                let window = current(&mut window, *period, now);
                if let Some(left) = left {
                    window.used = window.used.max(calls.saturating_sub(left));
                }
                if let Some(resets) = resets {
                    window.ends = resets;
                }
            }
        }
        Ok(())
    }
}

/// The window that holds `now`; the first one begins with the first call.
fn current(window: &mut Option<Window>, period: Duration, now: Instant) -> &mut Window {
    let fresh = Window {
        ends: now + period,
        used: 0,
    };
    match window {
        Some(known) if now <= known.ends => {}
        _ => *window = Some(fresh),
    }
    window.get_or_insert(Window {
        ends: now + period,
        used: 0,
    })
}

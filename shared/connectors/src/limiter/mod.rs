//! When a call may be made: the limits, pauses and the breaker of one connection, shared by every
//! process that has the same store (promises O3, O4).
//!
//! The decisions are [`sluice_core::traffic`]'s. Here callers wait in line, and one task per
//! connection and process, running only while it is needed, asks the store for slots ahead of
//! time. Taking a slot that is at hand takes a lock for less than a microsecond and no round trip.
//! While the store is away nobody calls.

mod asking;
pub(crate) mod local;
pub mod manage;
mod permit;
pub mod state;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sluice_core::{
    ConnectionId, Error, ErrorClass, Result,
    catalogue::{BreakerPolicy, RateLimit},
    traffic::{Leave, Nanos, Share, Take, breaker::Ended, pace::Kind},
};
use sluice_runtime::metrics as names;
use sluice_store::FleetStore;
use tokio::{sync::Notify, time::Instant};

use crate::http::{Calls, Terms};

pub use permit::Permit;

/// Name of the document in the store.
pub const DOCUMENT: &str = "traffic";
/// When to come back after the store could not be asked.
const AWAY_WAIT: Duration = Duration::from_secs(5);

/// Where limits come from, and with whom they are shared.
#[derive(Clone)]
pub struct LimiterSettings {
    pub fleet: Arc<dyn FleetStore>,
    pub connection: ConnectionId,
    /// Name of the connection, for logs and metrics.
    pub name: String,
    /// In force until the store knows better.
    pub limits: Vec<RateLimit>,
    pub breaker: BreakerPolicy,
    /// The longest a call takes.
    pub call_lasts: Duration,
}

/// The gate before every call to one connection. Clones share it. Callers of one kind are served
/// in the order they came; one that gives up uses no slot.
#[derive(Clone)]
pub struct Limiter {
    inner: Arc<Inner>,
}

struct Inner {
    settings: LimiterSettings,
    origin: Instant,
    state: Mutex<State>,
    /// Wakes the task that asks the store.
    work: Notify,
}

struct State {
    share: Share,
    lines: BTreeMap<Kind, Arc<Line>>,
    /// Whether the task that asks the store runs.
    asking: bool,
}

/// Callers of one kind, in line.
#[derive(Default)]
struct Line {
    /// Held by the first one; tokio's mutex is fair.
    first: tokio::sync::Mutex<()>,
    /// Tells the first one that there is something new.
    news: Notify,
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter")
            .field("connection", &self.inner.settings.name)
            .finish_non_exhaustive()
    }
}

/// A caller in line, until dropped.
struct Waiting<'a> {
    inner: &'a Inner,
    kind: Kind,
    epoch: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        state.share.wait_ended(self.kind, self.epoch);
    }
}

impl Limiter {
    /// The limiter of a connection, shared by every process with the same store.
    pub fn shared(settings: LimiterSettings) -> Self {
        let call_lasts = nanos(settings.call_lasts);
        let owner = uuid::Uuid::new_v4().simple().to_string();
        Self {
            inner: Arc::new(Inner {
                state: Mutex::new(State {
                    share: Share::new(owner, &settings.limits, call_lasts),
                    lines: BTreeMap::new(),
                    asking: false,
                }),
                origin: Instant::now(),
                work: Notify::new(),
                settings,
            }),
        }
    }

    /// A limiter that nobody shares: for tools that work without a store.
    pub fn new(limits: &[RateLimit]) -> Self {
        Self::shared(LimiterSettings {
            fleet: Arc::new(local::LocalFleet::default()),
            connection: ConnectionId(0),
            name: String::new(),
            limits: limits.to_vec(),
            breaker: BreakerPolicy::default(),
            call_lasts: Duration::from_secs(120),
        })
    }

    /// Waits until a call to this path may be made. Every HTTP call takes its own leave, token
    /// refreshes and look-ups too.
    ///
    /// # Errors
    /// Of class RateLimit, which costs no attempt: `breaker_open`; `no_slot_in_time` when the terms
    /// say by when to begin; `no_turn_soon` when they say how long to wait for a limit of single paths;
    /// `limits_unreachable` when the store is away.
    pub async fn acquire(&self, path: &str, terms: &Terms) -> Result<Permit> {
        let started = Instant::now();
        let permit = match self.inner.take_at_once(path, terms.urgent) {
            Some(permit) => permit,
            None => self.wait_in_line(path, terms).await?,
        };
        metrics::histogram!(
            names::LIMITER_WAIT,
            "target" => self.inner.settings.name.clone()
        )
        .record(started.elapsed());
        Ok(permit)
    }

    async fn wait_in_line(&self, path: &str, terms: &Terms) -> Result<Permit> {
        if let Some(wait) = self.inner.send_away(path, terms) {
            let error = held_back(
                "no_turn_soon",
                "the limit of these paths allows no call soon",
            );
            return Err(error.retry_after(wait));
        }
        let turn = self.inner.take_in_line(path, terms.urgent);
        match terms.begin_by {
            None => turn.await,
            Some(by) => tokio::time::timeout_at(by, turn).await.unwrap_or_else(|_| {
                Err(held_back("no_slot_in_time", "no call was allowed in time")
                    .hint("`sluice connection list` shows limits and pauses")
                    .retry_after(self.wait()))
            }),
        }
    }

    /// Nobody calls for this long, in no process, for instance because of a `Retry-After`. A
    /// shorter pause never shortens a longer one.
    pub fn pause(&self, wait: Duration) {
        let mut state = self.inner.state();
        let until = self.inner.now().saturating_add(nanos(wait));
        state.share.pause_until(until);
        self.inner.ask_if_due(&mut state);
    }

    /// How long the next caller would wait if it were alone: for its turn, for the end of a pause,
    /// or for the breaker.
    pub fn wait(&self) -> Duration {
        let mut state = self.inner.state();
        let wait = state.share.wait(self.inner.now());
        self.inner.ask_if_due(&mut state);
        Duration::from_nanos(u64::try_from(wait).unwrap_or(0))
    }

    /// Whether these are the limits in force, as far as this process knows.
    pub fn keeps(&self, limits: &[RateLimit]) -> bool {
        self.inner.state().share.limits() == limits
    }

    /// The limits in force, as far as this process knows.
    pub fn limits(&self) -> Vec<RateLimit> {
        self.inner.state().share.limits().to_vec()
    }

    /// Whether the breaker lets only some calls through, so that little should be begun.
    pub fn is_guarded(&self) -> bool {
        self.inner.state().share.is_guarded()
    }
}

fn held_back(code: &'static str, message: &str) -> Error {
    Error::new(ErrorClass::RateLimit, code, message)
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Nanos {
        nanos(self.origin.elapsed())
    }

    fn at(&self, time: Nanos) -> Instant {
        self.origin + Duration::from_nanos(u64::try_from(time).unwrap_or(0))
    }

    /// Takes what is at hand when nobody waits for it.
    fn take_at_once(self: &Arc<Self>, path: &str, urgent: bool) -> Option<Permit> {
        let mut state = self.state();
        let kind = state.share.kind(path, urgent);
        if state.share.has_waiting(kind) {
            return None;
        }
        let Take::Now(leave) = state.share.take(kind, self.now()) else {
            return None;
        };
        self.ask_if_due(&mut state);
        drop(state);
        Some(Permit::new(self, leave))
    }

    /// How long the caller should stay away instead of waiting in line.
    fn send_away(&self, path: &str, terms: &Terms) -> Option<Duration> {
        let patience = nanos(terms.patience?);
        let mut state = self.state();
        let kind = state.share.kind(path, terms.urgent);
        let wait = state.share.send_away(kind, patience, self.now())?;
        Some(Duration::from_nanos(u64::try_from(wait).unwrap_or(0)))
    }

    async fn take_in_line(self: &Arc<Self>, path: &str, urgent: bool) -> Result<Permit> {
        let (mut waiting, line) = self.line_up(path, urgent);
        let steps_aside = self.state().share.is_of_paths(waiting.kind);
        if steps_aside {
            Calls::step_aside();
        }
        let _first = line.first.lock().await;
        loop {
            if steps_aside {
                Calls::step_in().await;
            }
            let news = line.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let take = {
                let mut state = self.state();
                let kind = state.share.kind(path, urgent);
                if kind != waiting.kind || !state.share.is_waiting_since(waiting.epoch) {
                    // The limits have changed; the rest of this line follows one by one.
                    state.share.wait_ended(waiting.kind, waiting.epoch);
                    waiting.kind = kind;
                    waiting.epoch = state.share.wait_begins(kind);
                }
                let take = state.share.take(kind, self.now());
                self.ask_if_due(&mut state);
                take
            };
            if steps_aside && matches!(take, Take::At(_) | Take::Ask) {
                Calls::step_aside();
            }
            match take {
                Take::Now(leave) => return Ok(Permit::new(self, leave)),
                Take::At(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(self.at(at)) => {}
                        () = news => {}
                    }
                }
                Take::Ask => news.await,
                Take::Open(wait) => {
                    return Err(held_back(
                        "breaker_open",
                        "the breaker is open: recent calls failed",
                    )
                    .hint("`sluice connection list` tells why; it closes by itself")
                    .retry_after(Duration::from_nanos(u64::try_from(wait).unwrap_or(0))));
                }
                Take::Away => {
                    return Err(held_back(
                        "limits_unreachable",
                        "the store that shares the limits cannot be reached, so no call is made",
                    )
                    .retry_after(AWAY_WAIT));
                }
            }
        }
    }

    fn line_up(&self, path: &str, urgent: bool) -> (Waiting<'_>, Arc<Line>) {
        let mut state = self.state();
        let kind = state.share.kind(path, urgent);
        let epoch = state.share.wait_begins(kind);
        let line = Arc::clone(state.lines.entry(kind).or_default());
        let waiting = Waiting {
            inner: self,
            kind,
            epoch,
        };
        (waiting, line)
    }

    fn answered(self: &Arc<Self>, leave: Leave) {
        let mut state = self.state();
        state.share.answered(leave, self.now());
        self.ask_if_due(&mut state);
    }

    fn ended(self: &Arc<Self>, leave: Leave, ended: Ended) {
        let mut state = self.state();
        state.share.ended(leave, ended, self.now());
        self.ask_if_due(&mut state);
    }
}

fn nanos(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX / 4)
}

#[cfg(test)]
mod tests;

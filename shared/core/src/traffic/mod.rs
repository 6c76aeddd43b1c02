//! The calls to one connection, made by any number of processes: how many, how fast, and whether
//! at all (promises O3, O4). Pure decisions.
//!
//! [`Traffic`] is what the fleet agrees on: one small document per connection in the SQL store,
//! changed by one process at a time. A process keeps a [`Share`] of it: slots for its next calls,
//! handed out ahead of time so that a call needs no round trip, but at most [`AHEAD`], so that a
//! pause, a new limit and an open breaker reach everybody soon.
//!
//! Times are nanoseconds since 1970 by the store's clock, or since some moment of its own by a
//! process's monotonic clock; [`clock`] holds the two together.

pub mod breaker;
pub mod clock;
pub mod congestion;
pub mod pace;
pub mod share;
#[cfg(test)]
mod simulation;

use serde::{Deserialize, Serialize};

use self::{
    breaker::{Admission, Breaker, Cause, Event, ProbeBegin, ProbeEnd, Report},
    pace::{Kind, Pace, Told},
};
use crate::catalogue::{BreakerPolicy, RateLimit};

pub use self::share::{Leave, Share, Take};

/// Nanoseconds.
pub type Nanos = i64;

pub const MILLISECOND: Nanos = 1_000_000;
pub const SECOND: Nanos = 1_000 * MILLISECOND;

/// Slots are handed out at most this far ahead of their time, and as much further as the way to the
/// process that asked takes, at most [`LONGEST_TRIP`].
pub const AHEAD: Nanos = 250 * MILLISECOND;
/// Slower stores are not made up for.
pub const LONGEST_TRIP: Nanos = 750 * MILLISECOND;
/// A slot is used at most this long after its time, or not at all; sooner under short windows.
pub const LATE: Nanos = SECOND;
/// After this nobody calls on the word of an older state. A second and a quarter when the store is
/// fast; half a second under windows of a second.
pub const FORGOTTEN: Nanos = AHEAD + LONGEST_TRIP + LATE;
/// Slots handed out at once to one process.
pub const MOST: u32 = 1_000;

/// The store's clock as read during a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreClock {
    pub now: Nanos,
    /// Tells one server from another, and from itself after a restart: then clocks may differ and
    /// the last changes may be lost.
    pub server: i64,
}

/// What the fleet agrees on about the calls to one connection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// [`StoreClock::server`] of the last change; 0 before the first.
    server: i64,
    pub pace: Pace,
    pub breaker: Breaker,
}

/// What a process asks for, and what it has to tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ask {
    /// Names the process.
    pub owner: String,
    /// The revision of the limits it knows.
    pub revision: u64,
    /// Slots wanted, by kind of call.
    pub wants: Vec<(Kind, u32)>,
    /// What became of slots of this revision.
    pub told: Vec<Told>,
    /// The other side asked for a pause until this long from now.
    pub pause: Nanos,
    /// The store's clock has jumped since the process last asked.
    pub jumped: bool,
    /// Calls that ended since then.
    pub report: Report,
    /// What the last failed one of them failed with.
    pub cause: Option<Cause>,
    /// How a probe ended.
    pub probe: Option<ProbeEnd>,
    /// The longest a call takes.
    pub call_lasts: Nanos,
    /// How long a round trip to the store takes this process.
    pub trip: Nanos,
}

/// What a process gets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grant {
    pub now: Nanos,
    pub revision: u64,
    /// The limits in force, when the process knows others; then it gets no slots yet.
    pub limits: Option<Vec<RateLimit>>,
    pub lanes: Vec<Granted>,
    pub paused_until: Nanos,
    /// Nobody calls before this time; 0 when the breaker is closed.
    pub open_until: Nanos,
    /// The breaker is not fully closed: claim little.
    pub guarded: bool,
}

/// What a process gets for one kind of call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Granted {
    pub kind: Kind,
    /// Times of its slots, ascending.
    pub slots: Vec<Nanos>,
    /// Its one slot is for this probe.
    pub probe: Option<ProbeBegin>,
    /// How late a slot may be used.
    pub late: Nanos,
    /// No slots are needed until then, since nothing limits calls of this kind.
    pub free_until: Nanos,
    /// When it got less than it asked for: the earliest slot of the rest, as things stand.
    pub next_at: Option<Nanos>,
}

impl Traffic {
    /// The state before the first call.
    pub fn new(limits: &[RateLimit]) -> Self {
        Self {
            pace: Pace::new(limits),
            ..Self::default()
        }
    }

    /// Hears what a process has to tell and hands out what there is.
    pub fn serve(
        &mut self,
        clock: StoreClock,
        ask: &Ask,
        policy: &BreakerPolicy,
    ) -> (Grant, Option<Event>) {
        let now = clock.now;
        let other_server = self.server != 0 && self.server != clock.server;
        if other_server || ask.jumped || !self.pace.is_whole() {
            self.pace.restart(now);
            self.breaker.restart(now, policy);
        }
        self.server = clock.server;
        self.pace.count_past(now);
        let ended = u64::from(ask.report.answered) + u64::from(ask.report.failed);
        self.pace.ended(now, ended);
        if ask.pause > 0 {
            self.pace.pause_until(now.saturating_add(ask.pause));
        }
        if let Some(cause) = &ask.cause {
            self.breaker.blame(cause);
        }
        let event = self.breaker.hear(now, ask.report, ask.probe, policy);
        let stale = ask.revision != self.pace.revision();
        let lanes = if stale {
            Vec::new()
        } else {
            for told in &ask.told {
                self.pace.hear(now, *told);
            }
            let mut admission = self.breaker.admission(now);
            ask.wants
                .iter()
                .map(|(kind, count)| self.hand_out(now, *kind, *count, ask, &mut admission, policy))
                .collect()
        };
        let grant = Grant {
            now,
            revision: self.pace.revision(),
            limits: stale.then(|| self.pace.limits().to_vec()),
            lanes,
            paused_until: self.pace.paused_until(),
            open_until: self.breaker.open_until(now),
            guarded: self.breaker.is_guarded(now),
        };
        (grant, event)
    }

    fn hand_out(
        &mut self,
        now: Nanos,
        kind: Kind,
        count: u32,
        ask: &Ask,
        admission: &mut Admission,
        policy: &BreakerPolicy,
    ) -> Granted {
        let count = count.min(MOST);
        let ahead = AHEAD + ask.trip.clamp(0, LONGEST_TRIP);
        let mut granted = Granted {
            kind,
            late: self.pace.late(kind),
            ..Granted::default()
        };
        let allowed = match *admission {
            Admission::All if kind.is_free() => {
                if self.pace.paused_until() <= now {
                    granted.free_until = now + ahead;
                    self.pace.freed(now + ahead);
                } else {
                    granted.next_at = Some(self.pace.paused_until());
                }
                return granted;
            }
            Admission::All => count,
            Admission::Some(most) => count.min(most),
            Admission::Probe => count.min(1),
            Admission::None => 0,
        };
        granted.slots = self.pace.take(now, kind, allowed, ahead);
        let given = u32::try_from(granted.slots.len()).unwrap_or(u32::MAX);
        match admission {
            Admission::Some(most) => {
                *most -= given;
                self.breaker.gave(now, given);
            }
            Admission::Probe if given > 0 => {
                let begin = self
                    .breaker
                    .begin_probe(now, &ask.owner, ask.call_lasts, policy);
                granted.probe = Some(begin);
                *admission = Admission::None;
            }
            _ => {}
        }
        if given < count {
            let at = self.pace.next_at(now, kind);
            // Not the pace but the breaker held it back: look again soon.
            granted.next_at = Some(if given < allowed {
                at
            } else {
                at.max(now + AHEAD + AHEAD / 2)
            });
        }
        granted
    }
}

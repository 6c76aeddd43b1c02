//! What one process holds of a connection's [`Traffic`](super::Traffic), and when it asks for more.
//!
//! Times are the process's own; [`Clock`] translates. A slot may be used from the moment at which
//! the store has certainly reached its time, and no later than its lateness allows at most. What
//! became of it is told with the next ask; when that fails, nobody hears of it, and the slot counts
//! as used at the last moment. A call is told when its answer shows how late it can have arrived.

mod away;
mod flights;

use std::collections::{BTreeMap, VecDeque};

use self::flights::{Flight, Flights};
use super::{
    AHEAD, Ask, Grant, Granted, MILLISECOND, MOST, Nanos, SECOND,
    breaker::{Cause, Ended, ProbeBegin, ProbeEnd, Report},
    clock::Clock,
    pace::{Kind, Told},
};
use crate::catalogue::RateLimit;

/// Time over which use is counted, to ask for as much again before it is needed.
const USE: Nanos = 50 * MILLISECOND;
/// Wait after the store could not be asked.
const AFTER_FAILURE: Nanos = 250 * MILLISECOND;
/// While calls are held back, somebody who wants to call hears within this time that they are not
/// any more, for instance because a person closed the breaker or raised a limit.
const LOOK: Nanos = 2 * SECOND;
/// What became of more slots is not told.
const MOST_TOLD: usize = 4 * MOST as usize;
/// A store that cannot be asked for this long is away: callers are told so.
const AWAY: Nanos = 2 * SECOND;

/// The answer to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Call now, and tell [`Share::answered`] and [`Share::ended`].
    Now(Leave),
    /// Nothing before this time.
    At(Nanos),
    /// Nothing in hand: more has to be asked for.
    Ask,
    /// The breaker is open; worth another try after this long.
    Open(Nanos),
    /// The store cannot be asked, so nobody knows whether calling is allowed.
    Away,
}

/// Names a call that was allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leave {
    /// The probe this call is.
    pub probe: Option<ProbeBegin>,
    /// Its number among the calls that some limit counts.
    flight: Option<u64>,
}

/// One process's share.
#[derive(Debug, Default)]
pub struct Share {
    owner: String,
    clock: Clock,
    call_lasts: Nanos,
    revision: u64,
    limits: Vec<RateLimit>,
    /// Counts the times that lanes were made anew.
    epoch: u64,
    lanes: BTreeMap<Kind, Lane>,
    flights: Flights,
    paused_until: Nanos,
    open_until: Nanos,
    guarded: bool,
    /// To be told with the next ask.
    told: Vec<Told>,
    pause_until: Nanos,
    jumped: bool,
    report: Report,
    cause: Option<Cause>,
    probe: Option<ProbeEnd>,
    /// When somebody last asked how long to wait, or was sent away.
    looked_at: Option<Nanos>,
    /// How long a round trip took lately, at most.
    trip: Nanos,
    answered_at: Nanos,
    failing_since: Option<Nanos>,
    retry_at: Nanos,
}

/// What there is for one kind of call.
#[derive(Debug, Default)]
struct Lane {
    slots: VecDeque<Slot>,
    free_until: Nanos,
    /// Callers that wait.
    waiting: u32,
    used: Used,
    /// More is asked for no sooner.
    ask_at: Nanos,
    /// When the next slot is thought to come, while there is none.
    next_at: Nanos,
    /// Turns until then were given to callers that were sent away.
    booked_until: Nanos,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Its time by the store's clock.
    at: Nanos,
    /// The last moment at which it counts as used.
    latest: Nanos,
    from: Nanos,
    until: Nanos,
    probe: Option<ProbeBegin>,
}

/// Calls in the present and in the last [`USE`].
#[derive(Debug, Default)]
struct Used {
    since: Nanos,
    now: u32,
    before: u32,
}

impl Used {
    fn one(&mut self, now: Nanos) {
        self.turn(now);
        self.now += 1;
    }

    fn turn(&mut self, now: Nanos) {
        if now - self.since >= 2 * USE {
            (self.since, self.before, self.now) = (now, 0, 0);
        } else if now - self.since >= USE {
            (self.since, self.before, self.now) = (self.since + USE, self.now, 0);
        }
    }

    fn recently(&self, now: Nanos) -> u32 {
        match (now - self.since) / USE {
            0 => self.now.max(self.before),
            1 => self.now,
            _ => 0,
        }
    }
}

impl Share {
    /// A share of nothing yet. `limits` are those it believes in until it has asked; `call_lasts`
    /// is the longest a call takes.
    pub fn new(owner: String, limits: &[RateLimit], call_lasts: Nanos) -> Self {
        Self {
            owner,
            call_lasts,
            limits: limits.to_vec(),
            ..Self::default()
        }
    }

    /// The limits it knows.
    pub fn limits(&self) -> &[RateLimit] {
        &self.limits
    }

    /// The kind of a call, by the limits it knows.
    pub fn kind(&self, path: &str, urgent: bool) -> Kind {
        Kind::of(&self.limits, path, urgent)
    }

    /// A caller begins to wait; tell [`Self::wait_ended`] what this returns.
    pub fn wait_begins(&mut self, kind: Kind) -> u64 {
        self.lanes.entry(kind).or_default().waiting += 1;
        self.epoch
    }

    /// Whether callers that began to wait then are still known.
    pub fn is_waiting_since(&self, epoch: u64) -> bool {
        epoch == self.epoch
    }

    /// A caller waits no more.
    pub fn wait_ended(&mut self, kind: Kind, epoch: u64) {
        if epoch == self.epoch
            && let Some(lane) = self.lanes.get_mut(&kind)
        {
            lane.waiting = lane.waiting.saturating_sub(1);
            if lane.waiting == 0 {
                self.give_back_probe(kind);
            }
        }
    }

    /// Nobody here makes the probe: somebody else may.
    fn give_back_probe(&mut self, kind: Kind) {
        let slots = self.lanes.get_mut(&kind).map(|lane| &mut lane.slots);
        let probe = slots.and_then(|slots| slots.pop_front_if(|slot| slot.probe.is_some()));
        if let Some(ProbeBegin { id, .. }) = probe.and_then(|slot| slot.probe) {
            let ended = Ended::Unknown;
            self.probe = Some(ProbeEnd { id, ended });
        }
    }

    /// Whether somebody waits already, who comes first.
    pub fn has_waiting(&self, kind: Kind) -> bool {
        self.lanes.get(&kind).is_some_and(|lane| lane.waiting > 0)
    }

    /// Takes a slot of this kind.
    pub fn take(&mut self, kind: Kind, now: Nanos) -> Take {
        if now < self.paused_until {
            return Take::At(self.paused_until);
        }
        let lane = self.lanes.entry(kind).or_default();
        while let Some(slot) = lane.slots.pop_front_if(|slot| slot.until < now) {
            self.told.push(unused(kind, slot));
            if let Some(ProbeBegin { id, .. }) = slot.probe {
                let ended = Ended::Unknown;
                self.probe = Some(ProbeEnd { id, ended });
            }
        }
        match lane.slots.front().copied() {
            Some(slot) if slot.from > now => return Take::At(slot.from),
            Some(slot) => {
                lane.slots.pop_front();
                lane.used.one(now);
                let used = self.clock.at_most(now).clamp(slot.at, slot.latest);
                let flight = self.flights.begin(Flight {
                    kind,
                    made: now,
                    used,
                    latest: slot.latest,
                    most: slot.latest - slot.at,
                });
                return Take::Now(Leave {
                    probe: slot.probe,
                    flight: Some(flight),
                });
            }
            None => {}
        }
        if now < lane.free_until {
            lane.used.one(now);
            return Take::Now(Leave::default());
        }
        if now < self.open_until {
            return Take::Open(self.open_until - now);
        }
        match self.failing_since {
            Some(since) if now - since >= AWAY => {
                // Who hears this waits no more, and the store is asked all the same.
                self.looked_at = Some(now);
                Take::Away
            }
            _ => Take::Ask,
        }
    }

    /// The answer to a call begins.
    pub fn answered(&mut self, leave: Leave, now: Nanos) {
        let flight = leave.flight.into_iter();
        let told = flight.filter_map(|number| self.flights.answered(number, &self.limits, now));
        self.told.extend(told);
    }

    /// A call has ended.
    pub fn ended(&mut self, leave: Leave, ended: Ended, now: Nanos) {
        let flight = leave.flight.into_iter();
        let told = flight.filter_map(|number| self.flights.lost(number, &self.limits, now));
        self.told.extend(told);
        match leave.probe {
            Some(ProbeBegin { id, .. }) => self.probe = Some(ProbeEnd { id, ended }),
            None => self.report.add(ended),
        }
    }

    /// What a call failed with; how it ended is told besides.
    pub fn blame(&mut self, cause: Cause) {
        self.cause = Some(cause);
    }

    /// Nobody calls until then; a shorter pause never shortens a longer one.
    pub fn pause_until(&mut self, until: Nanos) {
        if until > self.paused_until {
            self.paused_until = until;
            self.pause_until = until;
        }
    }

    /// How long a caller with nothing special about it would wait if it were alone, as far as is
    /// known. Asking keeps the answer fresh.
    pub fn wait(&mut self, now: Nanos) -> Nanos {
        self.looked_at = Some(now);
        let lane = self.lanes.get(&Kind::of(&self.limits, "", false));
        let turn = lane.map_or(0, |lane| {
            let usable = lane.slots.iter().find(|slot| slot.until >= now);
            usable.map_or(lane.next_at, |slot| slot.from)
        });
        (turn.max(self.paused_until).max(self.open_until) - now).max(0)
    }

    /// The breaker is not fully closed.
    pub fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// When to ask the store; `None` while there is nothing to ask or to tell.
    pub fn next_ask(&self, now: Nanos) -> Option<Nanos> {
        let urgent = self.probe.is_some() || self.report.failed > 0 || self.pause_until > now;
        let lanes = self
            .lanes
            .values()
            .filter(|lane| lane.wanted(now, self.trip, self.guarded) > 0);
        let held = (self.paused_until - AHEAD / 2).max(self.open_until);
        let look = self.answered_at + LOOK;
        let looked = self.looked_at.is_some_and(|at| now - at < LOOK);
        let turns = self.lanes.values().map(|lane| lane.next_at);
        let curious = turns.fold(held, Nanos::max) > now && looked;
        let lost = self.failing_since.is_some() && looked;
        lanes
            .map(|lane| lane.ask_at.max(held).min(look))
            .chain((urgent || lost).then_some(now))
            .chain(curious.then_some(look))
            .min()
            .map(|at| at.max(self.retry_at).max(now))
    }

    /// What to ask for now.
    pub fn ask(&mut self, now: Nanos) -> Ask {
        self.give_back_idle(now);
        self.told.extend(self.flights.overdue(&self.limits, now));
        let wants = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.ask_at <= now)
            .map(|(kind, lane)| (*kind, lane.wanted(now, self.trip, self.guarded).min(MOST)))
            .filter(|(_, count)| *count > 0)
            .collect();
        Ask {
            owner: self.owner.clone(),
            revision: self.revision,
            wants,
            told: self.told.drain(..).take(MOST_TOLD).collect(),
            pause: (std::mem::take(&mut self.pause_until) - now).max(0),
            jumped: self.jumped,
            report: std::mem::take(&mut self.report),
            cause: self.cause.take(),
            probe: self.probe.take(),
            call_lasts: self.call_lasts,
            trip: self.trip,
        }
    }

    /// Slots that nobody here waits for are for others.
    fn give_back_idle(&mut self, now: Nanos) {
        for (kind, lane) in &mut self.lanes {
            if lane.waiting == 0 && lane.used.recently(now) == 0 {
                while let Some(slot) = lane.slots.pop_front_if(|slot| slot.probe.is_none()) {
                    self.told.push(unused(*kind, slot));
                }
            }
        }
    }

    /// The store could not be asked.
    pub fn failed(&mut self, now: Nanos, ask: Ask) {
        self.failing_since.get_or_insert(now);
        self.retry_at = now + AFTER_FAILURE;
        self.report = ask.report.and_then(self.report);
        self.cause = self.cause.take().or(ask.cause);
        self.probe = self.probe.or(ask.probe);
        if ask.pause > 0 {
            self.pause_until = self.pause_until.max(now + ask.pause);
        }
    }

    /// What is in hand counts no more, and nothing is told about it.
    fn forget_slots(&mut self) {
        self.told.clear();
        self.flights.clear();
        self.lanes.values_mut().for_each(Lane::clear);
    }

    /// The store was asked at `asked` and had answered at `now`. `chance`, from 0 to 1, keeps
    /// processes out of step.
    pub fn granted(&mut self, asked: Nanos, now: Nanos, grant: &Grant, chance: f64) {
        self.failing_since = None;
        self.retry_at = 0;
        self.answered_at = now;
        self.trip = (now - asked).max(self.trip - self.trip / 8);
        self.jumped = !self.clock.observe(asked, now, grant.now);
        if self.jumped {
            // Times of before mean nothing any more: ask again, and say why.
            self.forget_slots();
            return;
        }
        self.paused_until = self.clock.reached(grant.paused_until).max(self.pause_until);
        self.open_until = if grant.open_until == 0 {
            0
        } else {
            self.clock.reached(grant.open_until)
        };
        self.guarded = grant.guarded;
        if let Some(limits) = &grant.limits {
            self.revision = grant.revision;
            self.forget_slots();
            if self.limits != *limits {
                self.limits.clone_from(limits);
                self.lanes.clear();
                self.epoch += 1;
            }
        }
        for granted in &grant.lanes {
            let lane = self.lanes.entry(granted.kind).or_default();
            lane.add(granted, &self.clock, now, self.trip, chance);
            if lane.waiting == 0 {
                self.give_back_probe(granted.kind);
            }
        }
    }
}

fn unused(kind: Kind, slot: Slot) -> Told {
    Told {
        kind,
        counted: slot.latest,
        used: None,
    }
}

impl Lane {
    fn clear(&mut self) {
        self.slots.clear();
        self.free_until = 0;
        self.ask_at = 0;
        self.next_at = 0;
    }

    /// Slots worth asking for: for those who wait, and as many as were used recently. Asks for
    /// nothing while half of that is at hand, and for nothing ahead while the breaker lets only
    /// some calls through.
    fn wanted(&self, now: Nanos, trip: Nanos, guarded: bool) -> u32 {
        let used = if guarded { 0 } else { self.used.recently(now) };
        let want = self.waiting.saturating_add(used);
        if want == 0 || now < self.free_until - AHEAD / 2 - trip {
            return 0;
        }
        let have = self.slots.iter().filter(|slot| slot.until >= now).count();
        let have = u32::try_from(have).unwrap_or(u32::MAX);
        if have < self.waiting || have < want.div_ceil(2) {
            want - have.min(want)
        } else {
            0
        }
    }

    fn add(&mut self, granted: &Granted, clock: &Clock, now: Nanos, trip: Nanos, chance: f64) {
        for slot in &granted.slots {
            self.slots.push_back(Slot {
                at: *slot,
                latest: slot + granted.late,
                from: clock.reached(*slot),
                until: clock.not_over(slot + granted.late),
                probe: granted.probe,
            });
        }
        if granted.free_until > 0 {
            self.free_until = clock.not_over(granted.free_until);
        }
        self.next_at = granted.next_at.map_or(0, |at| clock.reached(at));
        self.ask_at = match granted.next_at {
            None => 0,
            // Not as soon as the next slot can be had, but when there are some: processes that
            // compete get blocks, not single slots. Early enough for the way there and back.
            Some(_) => {
                let early = trip + (AHEAD as f64 * (0.5 + chance / 3.0)) as Nanos;
                (self.next_at - early).max(now + MILLISECOND)
            }
        };
    }
}

#[cfg(test)]
mod tests;

//! Calls on their way, and how late they may have reached the other side.
//!
//! Nobody sees a call arrive. But no answer can come sooner than the fastest of late, so a call that
//! took longer than that arrived later than usual by at most the difference. Half of the slack is for
//! ways that differ a little and for a fastest answer that was not the fastest possible; what goes
//! beyond the other half is added to the time of the call, up to as much as a slot may be used late.
//!
//! A call that arrived in time and took long to be answered looks the same. So of a limit with a short
//! window a little stays unused at a target whose answers take now short, now long; but no window is
//! ever over-full.

use std::collections::BTreeMap;

use super::{Nanos, SECOND};
use crate::{
    catalogue::RateLimit,
    traffic::pace::{Kind, Told, slack},
};

/// Answers over which the fastest is remembered, and as many again.
const ANSWERS: u32 = 128;

/// The calls of one process to one connection of which nothing is told yet.
#[derive(Debug, Default)]
pub(super) struct Flights {
    calls: BTreeMap<u64, Flight>,
    number: u64,
    fastest: Fastest,
}

/// A call on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) kind: Kind,
    /// By the own clock.
    pub(super) made: Nanos,
    /// The same by the store's clock, at the latest.
    pub(super) used: Nanos,
    /// When it counts as made until it is told.
    pub(super) latest: Nanos,
    /// The most that is added to its time.
    pub(super) most: Nanos,
}

impl Flight {
    fn told(&self, late: Nanos) -> Told {
        Told {
            kind: self.kind,
            counted: self.latest,
            used: Some(self.used + late.clamp(0, self.most)),
        }
    }
}

/// The shortest time until an answer among the last ones.
#[derive(Debug, Default)]
struct Fastest {
    now: Option<Nanos>,
    before: Option<Nanos>,
    answers: u32,
}

impl Fastest {
    fn add(&mut self, took: Nanos) {
        if self.answers == ANSWERS {
            (self.before, self.now, self.answers) = (self.now, None, 0);
        }
        self.answers += 1;
        self.now = Some(self.now.map_or(took, |now| now.min(took)));
    }

    /// 0 before the first answer, as if every call had just arrived.
    fn get(&self) -> Nanos {
        self.now.into_iter().chain(self.before).min().unwrap_or(0)
    }
}

impl Flights {
    /// Returns the call's number.
    pub(super) fn begin(&mut self, flight: Flight) -> u64 {
        self.number += 1;
        self.calls.insert(self.number, flight);
        self.number
    }

    /// The answer begins; what to tell, unless that was told.
    pub(super) fn answered(
        &mut self,
        number: u64,
        limits: &[RateLimit],
        now: Nanos,
    ) -> Option<Told> {
        let flight = self.calls.remove(&number)?;
        let took = now - flight.made;
        let told = flight.told(self.late(limits, took));
        self.fastest.add(took);
        Some(told)
    }

    /// There is no answer, so it may have arrived as late as now.
    pub(super) fn lost(&mut self, number: u64, limits: &[RateLimit], now: Nanos) -> Option<Told> {
        let flight = self.calls.remove(&number)?;
        Some(flight.told(self.late(limits, now - flight.made)))
    }

    /// By how much a call may have been late that took so long, or has until now.
    fn late(&self, limits: &[RateLimit], took: Nanos) -> Nanos {
        let slack = limits.iter().map(slack).min().unwrap_or_default();
        took - self.fastest.get() - slack / 2
    }

    /// What to tell of calls that have been on their way for half of the shortest window: waiting
    /// longer for their answers would keep others from calling in the next one.
    pub(super) fn overdue(&mut self, limits: &[RateLimit], now: Nanos) -> Vec<Told> {
        let seconds = limits.iter().map(|limit| limit.per_seconds.max(1)).min();
        let patience = Nanos::from(seconds.unwrap_or(1)) * SECOND / 2;
        let overdue: Vec<u64> = self
            .calls
            .iter()
            .take_while(|(_, flight)| now - flight.made >= patience)
            .map(|(number, _)| *number)
            .collect();
        let told = overdue.into_iter();
        told.filter_map(|number| self.lost(number, limits, now))
            .collect()
    }

    /// What is told about these calls counts no more.
    pub(super) fn clear(&mut self) {
        self.calls.clear();
    }
}

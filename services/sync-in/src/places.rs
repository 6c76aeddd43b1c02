//! Who pulls next: the places of one process, shared fairly (promise O8).
//!
//! A pull holds a place. A free place goes to the waiting pull whose organization, and then whose
//! connection, holds the fewest. When somebody with fewer waits, a pull that has had its turn
//! gives its place back at the next page border, where its progress is stored.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sluice_core::{ConnectionId, OrganizationId};
use tokio::{sync::oneshot, time::Instant};

/// For whom a pull works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Who {
    pub(crate) organization: OrganizationId,
    pub(crate) connection: ConnectionId,
}

/// The places of a process.
#[derive(Debug)]
pub(crate) struct Places(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    free: usize,
    held: Held,
    waiting: Vec<(Who, oneshot::Sender<Place>)>,
    /// Places that will be given back at the next page border.
    yielding: usize,
}

/// Places held now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    organizations: HashMap<OrganizationId, usize>,
    connections: HashMap<ConnectionId, usize>,
}

impl Held {
    fn add(&mut self, who: Who) {
        *self.organizations.entry(who.organization).or_default() += 1;
        *self.connections.entry(who.connection).or_default() += 1;
    }

    fn remove(&mut self, who: Who) {
        take_one(&mut self.organizations, who.organization);
        take_one(&mut self.connections, who.connection);
    }

    /// The smaller, the sooner.
    fn of(&self, who: Who) -> (usize, usize) {
        let organization = self.organizations.get(&who.organization);
        let connection = self.connections.get(&who.connection);
        (
            organization.copied().unwrap_or_default(),
            connection.copied().unwrap_or_default(),
        )
    }

    /// Whose turn it is, of those who wait, as a position; of equals the first.
    fn next(&self, waiting: impl Iterator<Item = Who>) -> Option<usize> {
        waiting
            .enumerate()
            .min_by_key(|(position, who)| (self.of(*who), *position))
            .map(|(position, _)| position)
    }

    /// Whether a place would be better with the one who waits than with the one who holds it:
    /// afterwards the one who waits does not hold more than the other did.
    fn is_owed(&self, waits: Who, holds: Who) -> bool {
        waits.connection != holds.connection && self.of(waits) < self.of(holds)
    }
}

fn take_one<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

impl Places {
    pub(crate) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            free: places.max(1),
            ..State::default()
        })))
    }

    /// Waits for a place. Cancel-safe.
    pub(crate) async fn take(self: &Arc<Self>, who: Who) -> Option<Place> {
        let place = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                state.held.add(who);
                return Some(self.place(who));
            }
            let (sender, place) = oneshot::channel();
            state.waiting.push((who, sender));
            place
        };
        place.await.ok()
    }

    fn place(self: &Arc<Self>, who: Who) -> Place {
        Place {
            places: Arc::clone(self),
            who,
            since: Instant::now(),
            yielding: false.into(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a free place on, or keeps it for whoever comes.
    fn hand_on(self: &Arc<Self>) {
        let (who, sender) = {
            let mut state = self.state();
            state.waiting.retain(|(_, sender)| !sender.is_closed());
            let next = state.held.next(state.waiting.iter().map(|(who, _)| *who));
            let Some(next) = next else {
                state.free += 1;
                return;
            };
            let (who, sender) = state.waiting.remove(next);
            state.held.add(who);
            (who, sender)
        };
        // Who has just stopped waiting drops the place, which hands it on.
        let _ = sender.send(self.place(who));
    }
}

/// A place, until dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    who: Who,
    since: Instant,
    /// Others count on it.
    yielding: AtomicBool,
}

impl Place {
    /// Whether the place should be given back now: it was held for a `turn`, and somebody waits
    /// who holds fewer. Whoever is told so once is told so again.
    pub(crate) fn is_due(&self, turn: Duration) -> bool {
        if self.yielding.load(Ordering::Relaxed) {
            return true;
        }
        if self.since.elapsed() < turn {
            return false;
        }
        let mut state = self.places.state();
        let owed = state
            .waiting
            .iter()
            .filter(|(who, sender)| !sender.is_closed() && state.held.is_owed(*who, self.who))
            .count();
        if owed <= state.yielding {
            return false;
        }
        state.yielding += 1;
        self.yielding.store(true, Ordering::Relaxed);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut state = self.places.state();
            state.held.remove(self.who);
            if *self.yielding.get_mut() {
                state.yielding = state.yielding.saturating_sub(1);
            }
        }
        self.places.hand_on();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    /// One that nobody of a test has had, and one that everybody has.
    const LONG: Duration = Duration::from_secs(3_600);
    const OVER: Duration = Duration::ZERO;

    fn who(organization: i64, connection: i64) -> Who {
        Who {
            organization: OrganizationId(organization),
            connection: ConnectionId(connection),
        }
    }

    async fn now(places: &Arc<Places>, who: Who) -> Place {
        places
            .take(who)
            .now_or_never()
            .flatten()
            .expect("a place is free")
    }

    /// O8: four slow pulls of one organization keep nobody out for longer than a turn, and give
    /// back as many places as others wait for, no more.
    #[tokio::test]
    async fn a_slow_organization_gives_places_back_after_its_turn() {
        let places = Places::new(4);
        let mut slow = Vec::new();
        for _ in 0..4 {
            slow.push(now(&places, who(1, 1)).await);
        }
        assert!(slow.iter().all(|place| !place.is_due(OVER)), "nobody waits");
        let waits = tokio::spawn({
            let places = places.clone();
            async move { places.take(who(2, 2)).await }
        });
        tokio::task::yield_now().await;
        assert!(slow.iter().all(|place| !place.is_due(LONG)), "too early");
        let due = slow.iter().filter(|place| place.is_due(OVER)).count();
        assert_eq!(due, 1);
        let position = slow.iter().position(|place| place.is_due(OVER)).unwrap();
        drop(slow.remove(position));
        let theirs = waits.await.unwrap().unwrap();
        assert_eq!(theirs.who, who(2, 2));
        assert!(!theirs.is_due(LONG), "its own turn has just begun");
        // Its own next pull waits for its own places.
        let _same = tokio::spawn({
            let places = places.clone();
            async move { places.take(who(1, 1)).await }
        });
        tokio::task::yield_now().await;
        assert!(slow.iter().all(|place| !place.is_due(OVER)));
    }

    /// A waiter that gives up takes no place with it.
    #[tokio::test]
    async fn an_abandoned_wait_loses_no_place() {
        let places = Places::new(1);
        let first = now(&places, who(1, 1)).await;
        let waits = places.take(who(2, 2)).now_or_never();
        assert!(waits.is_none());
        drop(first);
        let second = now(&places, who(3, 3)).await;
        drop(second);
        assert_eq!(places.state().free, 1);
        assert_eq!(places.state().held, Held::default());
    }

    proptest! {
        /// O8: a free place goes to one of those who hold the fewest; and giving one up never
        /// leaves the giver with less than the taker would have without it.
        #[test]
        fn places_go_to_those_with_the_fewest(
            held in proptest::collection::vec((0_i64..3, 0_i64..3), 0..12),
            waiting in proptest::collection::vec((0_i64..3, 0_i64..3), 1..12),
        ) {
            // A connection belongs to one organization.
            let who = |(organization, connection)| who(organization, organization * 10 + connection);
            let mut counts = Held::default();
            held.iter().for_each(|one| counts.add(who(*one)));
            let waiting: Vec<_> = waiting.into_iter().map(who).collect();
            let next = counts.next(waiting.iter().copied()).unwrap();
            let fewest = waiting.iter().map(|one| counts.of(*one)).min().unwrap();
            prop_assert_eq!(counts.of(waiting[next]), fewest);
            for holder in held.iter().map(|one| who(*one)) {
                for waiter in &waiting {
                    if counts.is_owed(*waiter, holder) {
                        prop_assert!(counts.of(*waiter) < counts.of(holder));
                    }
                }
            }
            held.iter().for_each(|one| counts.remove(who(*one)));
            prop_assert_eq!(counts, Held::default());
        }
    }
}

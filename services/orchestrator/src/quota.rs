//! How much may wait in each queue: pure decisions.

use sluice_core::{
    ConnectionId, QueueClass,
    catalogue::{Catalogue, Connection, RateLimit},
    message::{QueueKind, QueueName},
    task::TaskKind,
};
use sluice_store::task::StageQuota;

/// Pull tasks that may wait in one queue. Each is a page sequence of minutes, not a call.
const PULL_DEPTH: u32 = 100;
/// Seconds of a connection's limit that may wait in one queue.
const SECONDS_OF_LIMIT: f64 = 60.0;
/// Fewer would leave a worker that sends batches without work between two looks.
const LEAST_DEPTH: u32 = 50;

/// One work queue: what may wait in it, and what is thought to wait there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    pub connection_id: ConnectionId,
    pub kind: TaskKind,
    pub class: QueueClass,
    pub queue: QueueName,
    /// References that may wait in the queue.
    pub limit: u32,
    /// References thought to wait there; `None` when nobody has looked yet.
    pub waiting: Option<u64>,
    /// Whose turn it is to be preferred among the less urgent; see [`Lane::quotas`].
    pub patience: Patience,
}

/// One in this many references of a lane is staged least urgent first.
const PATIENT: u32 = 8;

/// What is owed to the less urgent work of a lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Patience {
    /// In parts of [`PATIENT`].
    owed: u32,
    /// Counts up; each less urgent priority has its turn.
    turn: u8,
}

impl Patience {
    /// Of `limit` places, how many go to the less urgent, and from which priority on.
    fn share(&mut self, limit: u32, (first, last): (u8, u8)) -> (u32, u8) {
        self.owed = self.owed.saturating_add(limit);
        let share = self.owed / PATIENT;
        self.owed %= PATIENT;
        let from = first + 1 + self.turn % (last - first).max(1);
        if share > 0 {
            self.turn = self.turn.wrapping_add(1);
        }
        (share.min(limit), from)
    }
}

impl Lane {
    /// How many more references fit.
    pub fn room(&self) -> u32 {
        let waiting = self.waiting.unwrap_or(u64::from(self.limit));
        u32::try_from(u64::from(self.limit).saturating_sub(waiting)).unwrap_or(self.limit)
    }

    /// The connection's limits are these by now.
    pub fn follow(&mut self, limits: &[RateLimit], queue_depth: u32) {
        if self.kind == TaskKind::Push {
            self.limit = depth(limits, queue_depth);
        }
    }

    /// Whether the queue should be looked at before the next staging: the first time, and when
    /// the guess leaves less than half of the room. A queue that is thought to be empty is not
    /// asked about, so that idle connections cost nothing.
    pub fn needs_look(&self) -> bool {
        self.waiting
            .is_none_or(|waiting| waiting * 2 > u64::from(self.limit))
    }

    /// What may be staged now, at most `most`; nothing when the queue is full. Most of it is the
    /// most urgent first; an eighth is kept for the less urgent priorities of the class in turn,
    /// so that an endless stream of more urgent work cannot hold them up (promise O8).
    pub fn quotas(&mut self, most: u32) -> Vec<StageQuota> {
        let limit = self.room().min(most);
        let (first, last) = self.class.priorities();
        let (share, from) = self.patience.share(limit, (first, last));
        [((first, last), limit - share), ((from, last), share)]
            .into_iter()
            .filter(|(_, limit)| *limit > 0)
            .map(|(priorities, limit)| StageQuota {
                connection_id: self.connection_id,
                kind: self.kind,
                priorities,
                limit,
            })
            .collect()
    }
}

/// References that may wait for a connection: `depth`, or what its tightest limit of all calls
/// allows in a minute. A worker drains the queue in that time, so that urgent work never stands behind more,
/// and a message is not thought lost while it only waits.
pub fn depth(limits: &[RateLimit], depth: u32) -> u32 {
    limits
        .iter()
        .filter(|limit| limit.counts_all())
        .map(|limit| {
            let per_second = f64::from(limit.calls) / f64::from(limit.per_seconds.max(1));
            (per_second * SECONDS_OF_LIMIT).min(f64::from(depth)) as u32
        })
        .min()
        .map_or(depth, |allowed| allowed.max(LEAST_DEPTH.min(depth)))
}

/// All work queues, in an order that staging keeps: urgent classes first.
pub fn lanes(catalogue: &Catalogue, queue_depth: u32) -> Vec<Lane> {
    let pulls = catalogue.sources().into_iter().map(|c| (TaskKind::Pull, c));
    let pushes = catalogue.targets().into_iter().map(|c| (TaskKind::Push, c));
    let all: Vec<_> = pulls.chain(pushes).collect();
    QueueClass::ALL
        .into_iter()
        .flat_map(|class| all.iter().map(move |(kind, c)| (class, *kind, *c)))
        .filter_map(|(class, kind, connection)| {
            Some(Lane {
                connection_id: connection.id,
                kind,
                class,
                queue: queue(catalogue, connection, QueueKind::work(kind, class))?,
                limit: match kind {
                    TaskKind::Pull => PULL_DEPTH.min(queue_depth),
                    TaskKind::Push => depth(&connection.spec.limits, queue_depth),
                },
                waiting: None,
                patience: Patience::default(),
            })
        })
        .collect()
}

/// All queues that must exist: work queues, and a dead-letter queue for each target.
pub fn queues(catalogue: &Catalogue) -> Vec<QueueName> {
    let dead = catalogue
        .targets()
        .into_iter()
        .filter_map(|connection| queue(catalogue, connection, QueueKind::Dead));
    lanes(catalogue, 1)
        .into_iter()
        .map(|lane| lane.queue)
        .chain(dead)
        .collect()
}

/// The queue of a connection; `None` when its organization is not in the catalogue.
pub fn queue(catalogue: &Catalogue, connection: &Connection, kind: QueueKind) -> Option<QueueName> {
    Some(QueueName {
        kind,
        organization: catalogue
            .organization_slug(connection.organization_id)?
            .to_owned(),
        connection: connection.spec.name.clone(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use sluice_core::{
        OrganizationId,
        catalogue::{Flow, FlowSpec, FlowTarget, OrganizationSpec},
    };

    use super::*;

    fn limit(calls: u32, per_seconds: u32) -> RateLimit {
        RateLimit::new(calls, per_seconds)
    }

    fn lane(limit: u32, waiting: Option<u64>) -> Lane {
        Lane {
            connection_id: ConnectionId(1),
            kind: TaskKind::Push,
            class: QueueClass::High,
            queue: QueueName {
                kind: QueueKind::Push(QueueClass::High),
                organization: "acme".into(),
                connection: "one".into(),
            },
            limit,
            waiting,
            patience: Patience::default(),
        }
    }

    #[test]
    fn a_minute_of_the_tightest_limit_waits_and_never_more_than_the_setting() {
        assert_eq!(depth(&[], 2_000), 2_000);
        assert_eq!(depth(&[limit(10, 1)], 2_000), 600);
        assert_eq!(depth(&[limit(10, 1), limit(3_600, 3_600)], 2_000), 60);
        assert_eq!(depth(&[limit(1, 60)], 2_000), LEAST_DEPTH);
        assert_eq!(depth(&[limit(1_000, 1)], 2_000), 2_000);
        assert_eq!(depth(&[limit(1, 60)], 10), 10);
    }

    proptest! {
        /// O8: what is staged never exceeds what may wait, however wrong the guess was.
        #[test]
        fn staging_stays_within_the_limit(max in 0_u32..5_000, waiting in proptest::option::of(0_u64..10_000), most in 1_u32..2_000) {
            let mut lane = lane(max, waiting);
            let staged: u32 = lane.quotas(most).iter().map(|quota| quota.limit).sum();
            prop_assert!(staged <= most);
            prop_assert!(u64::from(staged) + waiting.unwrap_or(u64::from(max)).min(u64::from(max)) <= u64::from(max));
        }
    }

    proptest! {
        /// O8: whatever the room is from look to look, about an eighth is kept for the less urgent,
        /// and each of their priorities is the first of them in turn.
        #[test]
        fn the_less_urgent_have_their_share(rooms in proptest::collection::vec(1_u32..40, 200..300)) {
            let mut lane = lane(1_000, Some(0));
            lane.class = QueueClass::Low;
            let (mut all, mut kept, mut first) = (0, 0, [0_u32; 11]);
            for room in rooms {
                for quota in lane.quotas(room) {
                    all += quota.limit;
                    if quota.priorities != QueueClass::Low.priorities() {
                        kept += quota.limit;
                        first[usize::from(quota.priorities.0)] += 1;
                    }
                }
            }
            prop_assert!(kept * PATIENT <= all && (kept + 1) * PATIENT > all);
            prop_assert!(first[9].abs_diff(first[10]) <= 1);
            prop_assert!(first[10] > 0);
        }
    }

    /// O3, O8: a limit changed by hand changes what may wait for pushes; pulls are no calls.
    #[test]
    fn lanes_follow_the_limits_in_force() {
        let mut push = lane(100, None);
        push.follow(&[limit(10, 1)], 2_000);
        assert_eq!(push.limit, 600);
        let mut pull = Lane {
            kind: TaskKind::Pull,
            ..lane(100, None)
        };
        pull.follow(&[limit(10, 1)], 2_000);
        assert_eq!(pull.limit, 100);
    }

    #[test]
    fn nothing_is_staged_before_the_first_look_and_empty_queues_are_not_asked_about() {
        assert!(lane(100, None).quotas(50).is_empty());
        assert!(lane(100, None).needs_look());
        assert!(!lane(100, Some(0)).needs_look());
        assert!(lane(100, Some(51)).needs_look());
    }

    #[test]
    fn every_source_and_target_has_its_queues() {
        let connection = |id, name: &str| Connection {
            id: ConnectionId(id),
            organization_id: OrganizationId(1),
            spec: serde_json::from_value(json!({
                "organization": "acme", "name": name, "connector": name, "config": {}
            }))
            .unwrap(),
        };
        let catalogue = Catalogue {
            organizations: vec![(
                OrganizationId(1),
                OrganizationSpec {
                    slug: "acme".into(),
                    name: "Acme".into(),
                },
            )],
            connections: vec![connection(1, "yardi"), connection(2, "one")],
            flows: vec![Flow {
                organization_id: OrganizationId(1),
                source: ConnectionId(1),
                spec: FlowSpec {
                    organization: "acme".into(),
                    name: "main".into(),
                    source: "yardi".into(),
                    streams: Vec::new(),
                    targets: vec![FlowTarget {
                        connection: "one".into(),
                        entities: Vec::new(),
                        priority: sluice_core::Priority::DEFAULT,
                    }],
                },
            }],
        };
        let names: Vec<_> = queues(&catalogue).iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "sluice.pull.acme.yardi.high",
                "sluice.push.acme.one.high",
                "sluice.pull.acme.yardi.normal",
                "sluice.push.acme.one.normal",
                "sluice.pull.acme.yardi.low",
                "sluice.push.acme.one.low",
                "sluice.dead.acme.one",
            ]
        );
    }
}

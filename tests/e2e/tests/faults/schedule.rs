//! Which faults, in which order, after how much work: all of it follows from a seed.

use std::time::Duration;

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sluice_runtime::failpoint::Point;
use sluice_testkit::Weather;

use super::world::{Backend, Link, Vendor};

/// One thing that goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// kill -9 of one of a role's processes.
    Kill {
        role: &'static str,
        which: usize,
    },
    /// The Nth time a process reaches this point, it is killed there.
    FailPoint {
        point: Point,
        hit: u32,
    },
    /// A worker stands still for longer than its lease, then goes on.
    Stop {
        role: &'static str,
    },
    BrokerRestart,
    BrokerKill,
    BrokerConnectionsClosed,
    BrokerChannelsKilled,
    MemoryAlarm,
    DiskAlarm,
    QueueDeleted {
        which: usize,
    },
    PostgresRestart,
    BackendsTerminated,
    MongoKill,
    /// A network breaks until so many more calls were made, or for this long.
    Network {
        link: Link,
        weather: Weather,
        calls: u64,
        at_most: Duration,
    },
    /// Open connections break.
    Cut {
        link: Link,
    },
    /// From now on a record kills every worker that maps it.
    Poison,
    /// What targets refused is replayed, with faults behind it.
    Replay,
    /// A record that a webhook told of is told gone by another one.
    Deletion,
}

/// What happens before a fault, and the fault.
#[derive(Debug, Clone)]
pub struct Step {
    /// Edits at the source.
    pub edits: usize,
    /// Work goes on for so many calls before the fault.
    pub after_calls: u64,
    /// How stand-ins misbehave from then on, until each rule is used up.
    pub rules: Vec<(Vendor, Value)>,
    pub fault: Fault,
}

/// So many rounds of faults, ordered by the seed: each round all fail points, all faults of servers,
/// network and services, and everything that vendors do, which goes on beside the others.
pub fn schedule(backend: Backend, seed: u64, rounds: usize) -> Vec<Step> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut steps = Vec::new();
    for _ in 0..rounds {
        let mut deck = deck(backend, &mut random);
        deck.shuffle(&mut random);
        let mut round: Vec<_> = deck
            .into_iter()
            .map(|fault| Step {
                edits: random.random_range(4..16),
                after_calls: random.random_range(1..30),
                rules: Vec::new(),
                fault,
            })
            .collect();
        let mut rules = misbehaviour(&mut random);
        rules.shuffle(&mut random);
        // Spread evenly, so that none stands behind many others.
        let count = rules.len();
        for (number, rule) in rules.into_iter().enumerate() {
            let place = number * round.len() / count;
            round[place].rules.push(rule);
        }
        steps.extend(round);
    }
    steps
}

fn deck(backend: Backend, random: &mut ChaCha8Rng) -> Vec<Fault> {
    let mut deck: Vec<_> = Point::ALL
        .iter()
        .map(|point| Fault::FailPoint {
            point: *point,
            hit: random.random_range(1..3),
        })
        .collect();
    deck.extend([
        Fault::Poison,
        Fault::Replay,
        Fault::Deletion,
        Fault::Deletion,
    ]);
    let mut links = vec![
        Link::Vendor(Vendor::Yardi),
        Link::Vendor(Vendor::One),
        Link::Vendor(Vendor::Lessen360),
    ];
    match backend {
        Backend::Embedded => {
            deck.push(Fault::Kill {
                role: "up",
                which: 0,
            });
            deck.push(Fault::Stop { role: "up" });
        }
        Backend::Servers => {
            for role in ["sync-in", "sync-out", "orchestrator", "api"] {
                let which = random.random_range(0..2);
                deck.push(Fault::Kill { role, which });
            }
            deck.extend(["sync-in", "sync-out"].map(|role| Fault::Stop { role }));
            deck.extend([
                Fault::BrokerRestart,
                Fault::BrokerKill,
                Fault::BrokerConnectionsClosed,
                Fault::BrokerChannelsKilled,
                Fault::MemoryAlarm,
                Fault::DiskAlarm,
                Fault::QueueDeleted {
                    which: random.random_range(0..100),
                },
                Fault::PostgresRestart,
                Fault::BackendsTerminated,
                Fault::MongoKill,
            ]);
            links.extend([Link::Postgres, Link::MongoDb, Link::RabbitMq]);
        }
    }
    for link in &links {
        deck.push(Fault::Cut { link: *link });
    }
    for (link, weather) in weathers(links, random) {
        deck.push(Fault::Network {
            link,
            weather,
            calls: random.random_range(5..60),
            at_most: Duration::from_millis(random.random_range(300..3_000)),
        });
    }
    deck
}

/// Every weather comes over some link, and every link has one at least.
fn weathers(mut links: Vec<Link>, random: &mut ChaCha8Rng) -> Vec<(Link, Weather)> {
    links.shuffle(random);
    let mut all = vec![
        Weather::Frozen,
        Weather::Slow(Duration::from_millis(random.random_range(5..200))),
        Weather::Down,
        Weather::HalfClosed,
        Weather::SilentAfter(random.random_range(0..4_000)),
    ];
    all.shuffle(random);
    // Only vendors can be answered twice over: a server's client would take it for somebody else's.
    let vendor = links
        .iter()
        .position(|link| matches!(link, Link::Vendor(_)));
    all.insert(vendor.unwrap_or_default(), Weather::Doubled);
    links.into_iter().cycle().zip(all).collect()
}

/// Each way of each vendor once.
fn misbehaviour(random: &mut ChaCha8Rng) -> Vec<(Vendor, Value)> {
    let mut rules = Vec::new();
    let mut add = |vendor, rule| rules.push((vendor, rule));
    for vendor in [Vendor::One, Vendor::Lessen360] {
        for kind in [
            "commit_then_reset",
            "commit_then_timeout",
            "commit_then_late",
            "lying_success",
            "timeout",
            "truncated_body",
            "html_200",
            "http_503",
            "http_500_fault",
        ] {
            let count = match kind {
                // An outage of some seconds.
                "http_503" => random.random_range(4..12),
                // Each costs a call's longest wait.
                "commit_then_timeout" | "commit_then_late" | "timeout" => 1,
                _ => random.random_range(1..4),
            };
            // Later than callers wait, before and after their leases end.
            let delay = random.random_range(4_200..6_500);
            add(
                vendor,
                json!({ "kind": kind, "count": count, "delay_ms": delay }),
            );
        }
        let storm = random.random_range(4..12);
        let rule = json!({ "kind": "http_429", "count": storm, "retry_after": 1 });
        add(vendor, rule);
    }
    add(Vendor::One, json!({ "kind": "token_expiry" }));
    for kind in [
        "reset",
        "truncated_body",
        "http_503",
        "http_500_fault",
        "cut_document",
    ] {
        let count = random.random_range(1..4);
        add(Vendor::Yardi, json!({ "kind": kind, "count": count }));
    }
    rules
}

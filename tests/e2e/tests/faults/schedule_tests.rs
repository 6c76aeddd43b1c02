//! What a run covers, by name, whatever its seed.

use std::collections::BTreeSet;

use sluice_runtime::failpoint::Point;
use sluice_testkit::Weather;

use super::{
    schedule::{Fault, Step, schedule},
    world::{Backend, Link},
};

/// Of each target.
const TARGET_RULES: [&str; 10] = [
    "commit_then_reset",
    "commit_then_timeout",
    "commit_then_late",
    "lying_success",
    "timeout",
    "truncated_body",
    "html_200",
    "http_503",
    "http_500_fault",
    "http_429",
];

const SOURCE_RULES: [&str; 5] = [
    "reset",
    "truncated_body",
    "http_503",
    "http_500_fault",
    "cut_document",
];

const WEATHERS: [&str; 6] = ["doubled", "down", "frozen", "half-closed", "silent", "slow"];

/// One round, as the test command runs it.
fn rounds() -> impl Iterator<Item = (Backend, Vec<Step>)> {
    let backends = [Backend::Servers, Backend::Embedded];
    backends
        .into_iter()
        .flat_map(|backend| (1..=100).map(move |seed| (backend, schedule(backend, seed, 1))))
}

#[test]
fn a_round_covers_every_fail_point() {
    let all: BTreeSet<_> = Point::ALL.iter().map(|point| point.name()).collect();
    for (backend, steps) in rounds() {
        let covered = steps.iter().filter_map(|step| match &step.fault {
            Fault::FailPoint { point, .. } => Some(point.name()),
            _ => None,
        });
        assert_eq!(covered.collect::<BTreeSet<_>>(), all, "{backend:?}");
    }
}

#[test]
fn a_round_covers_everything_that_vendors_do() {
    let of = |vendor: &str, rules: &[&str]| -> Vec<_> {
        rules
            .iter()
            .map(|rule| format!("{vendor} {rule}"))
            .collect()
    };
    let all: BTreeSet<_> = [
        of("one", &TARGET_RULES),
        of("one", &["token_expiry"]),
        of("lessen360", &TARGET_RULES),
        of("yardi", &SOURCE_RULES),
    ]
    .concat()
    .into_iter()
    .collect();
    for (backend, steps) in rounds() {
        let rules = steps.iter().flat_map(|step| &step.rules);
        let covered: BTreeSet<_> = rules
            .map(|(vendor, rule)| format!("{} {}", vendor.name(), rule["kind"].as_str().unwrap()))
            .collect();
        assert_eq!(covered, all, "{backend:?}");
    }
}

#[test]
fn a_round_covers_every_weather_and_every_way() {
    for (backend, steps) in rounds() {
        let mut weathers = BTreeSet::new();
        let mut links = Vec::new();
        for step in &steps {
            if let Fault::Network { link, weather, .. } = &step.fault {
                let at_server = !matches!(link, Link::Vendor(_));
                assert!(!(at_server && *weather == Weather::Doubled), "{link:?}");
                weathers.extend(name(*weather));
                if !links.contains(link) {
                    links.push(*link);
                }
            }
        }
        assert_eq!(weathers.into_iter().collect::<Vec<_>>(), WEATHERS);
        let ways = match backend {
            Backend::Servers => 6,
            Backend::Embedded => 3,
        };
        assert_eq!(links.len(), ways, "{links:?}");
    }
}

fn name(weather: Weather) -> Option<&'static str> {
    Some(match weather {
        Weather::Clear => return None,
        Weather::Frozen => "frozen",
        Weather::Slow(_) => "slow",
        Weather::Down => "down",
        Weather::HalfClosed => "half-closed",
        Weather::SilentAfter(_) => "silent",
        Weather::Doubled => "doubled",
    })
}

/// Every kind of fault of servers and services, by the name it has in the code.
#[test]
fn a_round_on_the_servers_covers_every_kind_of_fault() {
    let steps = schedule(Backend::Servers, 1, 1);
    let covered: BTreeSet<_> = steps
        .iter()
        .map(|step| {
            let text = format!("{:?}", step.fault);
            let end = text.find(|letter: char| !letter.is_alphanumeric());
            text[..end.unwrap_or(text.len())].to_owned()
        })
        .collect();
    let all = [
        "BackendsTerminated",
        "BrokerChannelsKilled",
        "BrokerConnectionsClosed",
        "BrokerKill",
        "BrokerRestart",
        "Cut",
        "Deletion",
        "DiskAlarm",
        "FailPoint",
        "Kill",
        "MemoryAlarm",
        "MongoKill",
        "Network",
        "Poison",
        "PostgresRestart",
        "QueueDeleted",
        "Replay",
        "Stop",
    ];
    assert_eq!(covered.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn a_seed_repeats_its_schedule() {
    let text = |seed| format!("{:?}", schedule(Backend::Servers, seed, 2));
    assert_eq!(text(7), text(7));
    assert_ne!(text(7), text(8));
}

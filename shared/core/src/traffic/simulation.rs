//! A fleet in virtual time: one store, one to eight processes, and a seed that decides everything.
//!
//! The parts are the real decisions ([`Traffic`], [`Share`]); what surrounds them is played: how
//! long a round trip takes, when a process stops for a while or dies, what the network does within
//! its share of the slack, when a limit changes, when a pause is asked for, and when the other side
//! fails. A failing seed is printed; run it again with `SLUICE_SIMULATION_SEED`.

mod world;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use self::world::{Plan, World};
use super::{FORGOTTEN, MILLISECOND, Nanos, SECOND};
use crate::catalogue::RateLimit;

/// Seeds per test run; `SLUICE_SIMULATION_SEEDS` says how many instead.
const SEEDS: u64 = 2_000;

/// Runs a scenario for one of so many parts of the seeds; names the seed that fails.
fn for_seeds(part: u64, scenario: impl Fn(u64, &mut StdRng)) {
    let chosen = std::env::var("SLUICE_SIMULATION_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let count = std::env::var("SLUICE_SIMULATION_SEEDS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(SEEDS)
        / part;
    let base: u64 = rand::random();
    let seeds: Vec<u64> = match chosen {
        Some(seed) => vec![seed],
        None => (0..count).map(|number| base.wrapping_add(number)).collect(),
    };
    for seed in seeds {
        let run = std::panic::AssertUnwindSafe(|| scenario(seed, &mut StdRng::seed_from_u64(seed)));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("failed with SLUICE_SIMULATION_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn some_limits(rng: &mut StdRng) -> Vec<RateLimit> {
    match rng.random_range(0..4) {
        0 => vec![RateLimit::new(rng.random_range(1..120), 60)],
        1 => vec![RateLimit::new(rng.random_range(1..60), 1)],
        2 => vec![RateLimit::new(rng.random_range(5..60), 10)],
        _ => vec![
            RateLimit::new(rng.random_range(1..10), 1),
            RateLimit::new(rng.random_range(30..120), 60),
        ],
    }
}

/// O3: whatever happens to processes, store and clocks, no window is ever over-full.
#[test]
fn no_window_is_overfull_whatever_happens() {
    for_seeds(1, |seed, rng| {
        let limits = some_limits(rng);
        let processes = rng.random_range(1..=8);
        let mut world = World::new(seed, limits, processes);
        let plan = Plan {
            disturbances: true,
            limit_changes: rng.random_bool(0.5),
            pauses: rng.random_bool(0.3),
            outages: rng.random_bool(0.2),
            store_restarts: rng.random_bool(0.3),
        };
        world.run(rng.random_range(20..90) * SECOND, plan);
        world.check_windows();
    });
}

/// O3: under backlog and undisturbed, at least 95 % of the limit is used, and every process gets
/// its turn.
#[test]
fn an_undisturbed_backlog_uses_the_limit_and_starves_nobody() {
    for_seeds(4, |seed, rng| {
        let limit = if rng.random_bool(0.3) {
            RateLimit::new(rng.random_range(30..120), 60)
        } else {
            RateLimit::new(rng.random_range(20..60), 1)
        };
        let processes = rng.random_range(1..=8);
        let mut world = World::new(seed, vec![limit.clone()], processes);
        // Slow stores are made up for, as far as the window allows, and so are processes that wake
        // up late, on machines that have other things to do.
        let slowest = if limit.per_seconds == 1 { 4 } else { 100 };
        world.trip = rng.random_range(1..=slowest) * MILLISECOND;
        world.wakes = (rng.random_range(1..=15) * MILLISECOND, 150 * MILLISECOND);
        // The start is no backlog yet.
        world.run(5 * SECOND, Plan::default());
        let before = world.arrivals.len();
        let shares: Vec<u64> = world.processes.iter().map(|p| p.calls).collect();
        let seconds = 10 * limit.per_seconds.max(10);
        world.run(Nanos::from(seconds) * SECOND, Plan::default());
        let made = (world.arrivals.len() - before) as u64;
        let allowed = u64::from(limit.calls) * u64::from(seconds) / u64::from(limit.per_seconds);
        assert!(
            made * 100 >= allowed * 95 - 100,
            "{made} of {allowed} with {limit:?} and {processes} processes"
        );
        for (process, before) in world.processes.iter().zip(shares) {
            let calls = process.calls - before;
            let fair = made / processes as u64;
            assert!(
                calls * 5 >= fair,
                "{calls} calls, fair would be {fair} of {made}"
            );
        }
        world.check_windows();
    });
}

/// O3: soon after one was told, nobody calls while a pause lasts.
#[test]
fn a_pause_holds_for_everybody() {
    for_seeds(4, |seed, rng| {
        let limits = if rng.random_bool(0.5) {
            Vec::new()
        } else {
            some_limits(rng)
        };
        let mut world = World::new(seed, limits, rng.random_range(1..=8));
        let plan = Plan {
            pauses: true,
            ..Plan::default()
        };
        world.run(30 * SECOND, plan);
        // With the slowest round trip, and the way to the other side.
        let told = FORGOTTEN + 200 * MILLISECOND + world.slack();
        for (from, until) in &world.pauses {
            let calls = world
                .arrivals
                .iter()
                .filter(|(at, _)| at > &(from + told) && at < until);
            assert_eq!(calls.count(), 0, "pause from {from} to {until}");
        }
    });
}

/// O4: an outage opens the breaker; then there is at most one probe at a time in the whole fleet
/// and nothing else; afterwards it closes and everything flows again.
#[test]
fn an_open_breaker_means_one_probe() {
    for_seeds(4, |seed, rng| {
        let limits = if rng.random_bool(0.5) {
            Vec::new()
        } else {
            vec![RateLimit::new(50, 1)]
        };
        let mut world = World::new(seed, limits, rng.random_range(1..=8));
        world.policy.longest_wait_ms = 20_000;
        let plan = Plan {
            outages: true,
            ..Plan::default()
        };
        world.run(60 * SECOND, plan);
        world.run(60 * SECOND, Plan::default());
        assert!(world.opened >= 1);
        assert_eq!(world.opened, world.closed, "it closes again");
        assert!(
            world.most_probes <= 1,
            "{} probes at once",
            world.most_probes
        );
        assert_eq!(world.while_open, 0, "calls that were no probes");
        let end = world.now;
        let late = world
            .arrivals
            .iter()
            .filter(|(at, _)| at > &(end - 5 * SECOND));
        assert!(late.count() > 100, "calls flow again");
    });
}

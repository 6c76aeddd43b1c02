//! Workers in virtual time over one store, and a seed that decides everything (promises O2, C2).
//!
//! What a settlement does, when a lease counts, how long a worker may call and what follows a death
//! are the real decisions ([`settle`], [`Held::is_leased_by`], [`lease`], [`after_crash`]); claims
//! and the healing timer are played as both SQL backends write them. Workers stop for a while, die
//! with everything in hand, and have clocks that drift; messages get lost and doubled; answers of
//! the store come late. A failing seed is printed; `SLUICE_SIMULATION_SEED` repeats it.

mod world;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use self::world::{Plan, World};

/// Seeds per test run; `SLUICE_SIMULATION_SEEDS` says how many instead.
const SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// O2, C2: whatever happens to workers, no two calls for one record are under way at once, no older
/// version follows a newer one, a settlement without the lease in force changes nothing, and every
/// task comes to its end.
#[test]
fn one_call_at_a_time_and_no_task_is_lost() {
    let chosen = number("SLUICE_SIMULATION_SEED");
    let count = number("SLUICE_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let base: u64 = rand::random();
    let seeds = match chosen {
        Some(seed) => vec![seed],
        None => (0..count).map(|number| base.wrapping_add(number)).collect(),
    };
    let (mut fenced, mut given_up, mut healed) = (0, 0, 0);
    for seed in &seeds {
        let run = std::panic::AssertUnwindSafe(|| {
            let mut rng = StdRng::seed_from_u64(*seed);
            let plan = Plan {
                workers: rng.random_range(1..=8),
                tasks: rng.random_range(1..=12),
                poison: rng.random_bool(0.2),
                deaths: rng.random_bool(0.7),
                stops: rng.random_bool(0.7),
            };
            let mut world = World::new(*seed, plan);
            world.run();
            world.check();
            (world.fenced, world.given_up, world.healed)
        });
        match std::panic::catch_unwind(run) {
            Ok(counts) => {
                fenced += counts.0;
                given_up += counts.1;
                healed += counts.2;
            }
            Err(panic) => {
                eprintln!("failed with SLUICE_SIMULATION_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    // What is to be shown has happened.
    if chosen.is_none() {
        assert!(fenced > 0 && given_up > 0 && healed > 0);
    }
}

//! Every fault we know of, over a running system with live edits at its source, in an order that a
//! seed decides; then a checker compares what every place noted (M1, M2, O1, O2, O3, O6, O7, I1,
//! I2, C2). docs/faults.md tells how to run it longer and how to repeat a seed.

mod checker;
mod checker_tests;
mod gather;
#[path = "../harness/mod.rs"]
mod harness;
mod history;
mod inject;
mod schedule;
mod schedule_tests;
mod settings;
mod sql;
mod webhook;
mod world;

use harness::Setup;
use settings::Settings;
use sluice_testkit::wait_until;
use webhook::Hook;
use world::{Backend, PATIENCE, TARGET_LIMIT, World};

/// One seed: a full sync, all faults, a last look at the source, then the checker.
async fn run(backend: Backend, seed: u64, rounds: usize) {
    let setup = Setup {
        records: 300,
        seed,
        // No outage of the schedule may use up a task's attempts.
        retries: 100,
        limits: Some([TARGET_LIMIT.setting(), TARGET_LIMIT.setting()]),
        ..Setup::default()
    };
    let began = std::time::Instant::now();
    let mut world = World::start(backend, setup).await;
    world.run(true).await;
    let steps = schedule::schedule(backend, seed, rounds);
    for (number, step) in steps.iter().enumerate() {
        eprintln!(
            "[{:5.1} s] {} of {}: {:?}",
            began.elapsed().as_secs_f64(),
            number + 1,
            steps.len(),
            step
        );
        world.edit(step.edits, &[]).await;
        if world.is_quiet().await {
            world.run(false).await;
        }
        world.advance(step.after_calls).await;
        for (vendor, rule) in &step.rules {
            world.order(*vendor, rule).await;
        }
        world.inject(&step.fault).await;
        world.count_deserters().await;
    }
    world.until_orders_are_met().await;
    world.clear_faults().await;
    world.until_poison_is_dead().await;
    world.poison(None).await;
    let told = world.hooks.iter().map(|code| Hook::new(code));
    for hook in told.chain(world.gone.iter().map(|code| Hook::gone(code))) {
        // A sender delivers until it is heard; what arrived before changes nothing any more.
        wait_until(PATIENCE, || hook.send(&world)).await;
    }
    wait_for_rest(&world).await;
    // What the last run of the schedule was too early for.
    world.run(false).await;
    wait_for_rest(&world).await;
    eprintln!("[{:5.1} s] quiet", began.elapsed().as_secs_f64());
    judge(&world, backend, seed).await;
    world.replay(&["--wait"]).await;
    wait_for_rest(&world).await;
    eprintln!("[{:5.1} s] replayed", began.elapsed().as_secs_f64());
    let dead = "select count(*) from sync_queue where kind = 'push' and state = 'dead'";
    assert_eq!(world.sql.number(dead).await, 0, "replayed, and dead again");
    judge(&world, backend, seed).await;
}

async fn judge(world: &World, backend: Backend, seed: u64) {
    let accusations = checker::check(&world.history().await);
    for accusation in accusations.iter().take(10) {
        eprintln!(
            "{} {}: {}\n    {}",
            accusation.promise, accusation.about, accusation.problem, accusation.history
        );
    }
    assert!(
        accusations.is_empty() && world.deserters.is_empty(),
        "{backend:?}, seed {seed}: {} accusations, {:#?}",
        accusations.len(),
        world.deserters
    );
}

/// Until nothing is owed any more; what does not come to rest is the checker's to accuse.
async fn wait_for_rest(world: &World) {
    let quiet = async {
        wait_until(PATIENCE * 2, || async {
            if !world.is_quiet().await {
                return false;
            }
            let history = world.history().await;
            let pending = history.payloads.iter().any(|one| one.state == "pending");
            let mut letters = history.letters.iter();
            let unmirrored = letters.any(|one| (one.state == "open") != one.mirrored);
            !pending && !unmirrored && checker::queues_are_at_rest(&history)
        })
        .await;
    };
    if tokio::time::timeout(PATIENCE, quiet).await.is_err() {
        eprintln!("the system does not come to rest");
    }
}

/// People find each point, with what it means, where fail points are explained.
#[test]
fn the_documentation_lists_every_fail_point() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/faults.md");
    let page = std::fs::read_to_string(page).unwrap();
    for point in sluice_runtime::failpoint::Point::ALL {
        let row = format!("| `{}` |", point.name());
        assert!(page.contains(&row), "{row} is missing");
    }
}

async fn run_seeds(backend: Backend) {
    let settings = Settings::read();
    for seed in settings.seeds() {
        eprintln!(
            "{backend:?}: SLUICE_FAULT_SEED={seed} SLUICE_FAULT_ROUNDS={}",
            settings.rounds
        );
        run(backend, seed, settings.rounds).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_on_the_servers() {
    run_seeds(Backend::Servers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_on_the_embedded_backend() {
    run_seeds(Backend::Embedded).await;
}

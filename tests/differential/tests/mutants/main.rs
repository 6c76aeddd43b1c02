//! Manifests, templates and answers that nobody would write: the loader and the engine answer with
//! records or errors, never with a panic, and never stick in one step or fill the memory.
//!
//! Mutants are made of the differential cases and of the shipped manifests. `SLUICE_FUZZ_SEED` is the
//! first mutant's number, `SLUICE_FUZZ_SECONDS` goes on for so long instead of a fixed number of
//! mutants.

#[path = "../harness/mod.rs"]
mod harness;
mod mutate;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use harness::{
    case::{self, Case},
    mock::Mock,
    ours,
};
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use sluice_connectors::{library::Library, source::Source};
use sluice_core::connector::ConnectorFiles;

/// Mutants of a run without `SLUICE_FUZZ_SECONDS`.
const MUTANTS: u64 = 1_000;
/// A mutant may ask for very many windows or pages; it is called off after this time.
const CALLED_OFF: Duration = Duration::from_secs(2);
/// Being called off takes effect at the next step; none takes so long, even in debug builds.
const STUCK: Duration = Duration::from_secs(20);
/// Most memory the process may ever hold, in KiB.
const MEMORY: u64 = 1024 * 1024;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The differential cases, and the shipped manifests without a scene.
fn corpus() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut cases: Vec<Case> = case::load(&folder).into_values().collect();
    let library = Library::new(None).unwrap();
    let names: Vec<String> = library.names().map(str::to_owned).collect();
    for name in names {
        let files = library.get(&name).unwrap();
        if let Some(manifest) = files.get("manifest.yaml") {
            let mut case = cases[0].clone();
            case.manifest = manifest.to_owned();
            case.name = name;
            cases.push(case);
        }
    }
    cases
}

fn mutant(number: u64, corpus: &[Case]) -> Case {
    let mut random = ChaCha8Rng::seed_from_u64(number);
    let mut case = corpus.choose(&mut random).unwrap().clone();
    let other = corpus.choose(&mut random).unwrap();
    let changes = random.random_range(1..4);
    if random.random_bool(0.15) {
        for _ in 0..changes {
            case.manifest = mutate::changed_text(&mut random, &case.manifest);
        }
    } else if let (Ok(mut manifest), Ok(lent)) = (
        yaml_serde::from_str::<Value>(&case.manifest),
        yaml_serde::from_str::<Value>(&other.manifest),
    ) {
        for _ in 0..changes {
            mutate::tree(&mut random, &mut manifest, &lent);
        }
        case.manifest = manifest.to_string();
    }
    if random.random_bool(0.3) {
        for rule in &mut case.scene.mock {
            let lent = Value::String("x".repeat(10_000));
            if let Some(json) = &mut rule.answer.json {
                mutate::tree(&mut random, json, &lent);
            }
            if let Some(text) = &mut rule.answer.text {
                *text = mutate::changed_text(&mut random, text);
            }
        }
    }
    if random.random_bool(0.1) {
        let mut state = Value::Object(case.scene.state.clone());
        mutate::tree(&mut random, &mut state, &Value::Null);
        if let Value::Object(state) = state {
            case.scene.state = state;
        }
    }
    case
}

async fn survive(number: u64, case: Case) {
    let text = format!(
        "mutant {number} of {}:\nconfig {}\nstate {}\n{}",
        case.name,
        case.scene.config,
        Value::Object(case.scene.state.clone()),
        case.manifest
    );
    let mut attempt = tokio::spawn(async move {
        let mock = Mock::start(&case.scene.mock).await;
        let files = ConnectorFiles {
            name: case.name.clone(),
            files: BTreeMap::from([("manifest.yaml".into(), Arc::from(case.manifest.as_str()))]),
        };
        for fault in Source::faults(&files) {
            assert!(!fault.message().is_empty());
        }
        drop(ours::run(&case, &mock.address).await);
    });
    let ended = match tokio::time::timeout(CALLED_OFF, &mut attempt).await {
        Ok(ended) => ended,
        Err(_) => {
            attempt.abort();
            tokio::time::timeout(STUCK, attempt)
                .await
                .unwrap_or_else(|_| panic!("stuck in one step: {text}"))
        }
    };
    if let Err(error) = ended {
        assert!(error.is_cancelled(), "a panic: {text}");
    }
    let peak = peak_memory();
    assert!(peak < MEMORY, "{peak} KiB resident: {text}");
}

/// Most memory that was ever resident, in KiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let text = line.unwrap().trim().trim_end_matches(" kB");
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_mutant_panics_sticks_or_fills_the_memory() {
    let corpus = corpus();
    let first = variable("SLUICE_FUZZ_SEED").unwrap_or(1);
    let until = variable("SLUICE_FUZZ_SECONDS")
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut number = first;
    while until.map_or(number < first + MUTANTS, |until| Instant::now() < until) {
        survive(number, mutant(number, &corpus)).await;
        number += 1;
    }
    eprintln!(
        "{} mutants, {} KiB at the most",
        number - first,
        peak_memory()
    );
}

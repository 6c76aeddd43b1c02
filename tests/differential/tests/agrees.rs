//! Every case behaves alike in the reference runtime and in ours, except for the differences
//! that `differences.yaml` lists with their reasons.

mod harness;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
};

use harness::{
    case::{self, Case},
    compare::{Difference, Outcome, differences},
    mock::Mock,
    ours,
    reference::Reference,
};
use serde::Deserialize;

/// Python processes that work at the same time.
const PROCESSES: usize = 2;

/// A wanted difference and the cases that show it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    reason: String,
    aspects: BTreeSet<String>,
    cases: BTreeSet<String>,
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Case to the aspects in which it is meant to differ.
fn listed() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(folder().join("differences.yaml")).expect("the list");
    let all: Vec<Listed> = yaml_serde::from_str(&text).expect("the list is well-formed");
    let mut by_case: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for listed in all {
        assert!(!listed.reason.is_empty(), "every difference has a reason");
        for case in listed.cases {
            let aspects = by_case.entry(case).or_default();
            aspects.extend(listed.aspects.iter().cloned());
        }
    }
    by_case
}

/// Runs the cases in `PROCESSES` processes of the reference runtime. `SLUICE_TEST_CASES` names a
/// part of the names of those to be run, while one works on them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runtimes_agree() {
    let cases = case::load(&folder().join("cases"));
    let listed = listed();
    for name in listed.keys() {
        assert!(cases.contains_key(name), "{name} is listed but no case");
    }
    let only = std::env::var("SLUICE_TEST_CASES").unwrap_or_default();
    let queue: Vec<Case> = cases
        .into_values()
        .filter(|case| case.name.contains(&only))
        .rev()
        .collect();
    assert!(!queue.is_empty(), "no case is named so");
    let count = queue.len();
    let queue = Arc::new(Mutex::new(queue));
    let mut workers = Vec::new();
    for _ in 0..PROCESSES.min(count) {
        workers.push(tokio::spawn(work(Arc::clone(&queue))));
    }
    let mut found: BTreeMap<String, (Case, Vec<Difference>, String)> = BTreeMap::new();
    for worker in workers {
        for (case, differences, detail) in worker.await.expect("a worker ends well") {
            found.insert(case.name.clone(), (case, differences, detail));
        }
    }
    assert_eq!(found.len(), count);
    let mut complaints = Vec::new();
    for (name, (case, differences, detail)) in &found {
        let wanted = listed.get(name).cloned().unwrap_or_default();
        let seen: BTreeSet<String> = differences
            .iter()
            .map(|difference| difference.aspect.to_owned())
            .collect();
        for difference in differences {
            if !wanted.contains(difference.aspect) {
                complaints.push(format!(
                    "{name} ({}): {} differ\n  reference:\n{}\n  ours:\n{}\n{detail}",
                    case.scene.about,
                    difference.aspect,
                    indented(&difference.reference),
                    indented(&difference.ours),
                ));
            }
        }
        for aspect in wanted.difference(&seen) {
            complaints.push(format!(
                "{name}: the listed difference in {aspect} does not occur any more"
            ));
        }
    }
    assert!(
        complaints.is_empty(),
        "{} of {count} cases complain\n\n{}",
        complaints.len(),
        complaints.join("\n\n")
    );
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

async fn work(queue: Arc<Mutex<Vec<Case>>>) -> Vec<(Case, Vec<Difference>, String)> {
    let mut reference = tokio::task::spawn_blocking(Reference::start)
        .await
        .expect("it starts");
    let mut done = Vec::new();
    loop {
        let Some(case) = queue.lock().expect("no panic").pop() else {
            return done;
        };
        let theirs = Mock::start(&case.scene.mock).await;
        let mine = Mock::start(&case.scene.mock).await;
        let address = theirs.address.clone();
        let (back, case, mut expected) = tokio::task::spawn_blocking(move || {
            let outcome = reference.run(&case, &address);
            (reference, case, outcome)
        })
        .await
        .expect("the reference runtime answers");
        reference = back;
        expected.requests = theirs.requests();
        let mut found = ours::run(&case, &mine.address).await;
        found.requests = mine.requests();
        let detail = format!(
            "  reference said: {}\n  we said: {}",
            expected.detail, found.detail
        );
        let mut expected = expected;
        // Addresses in records differ by their port.
        unify(&mut expected, &theirs.address);
        unify(&mut found, &mine.address);
        let differences = differences(&case, &expected, &found);
        done.push((case, differences, detail));
    }
}

fn unify(outcome: &mut Outcome, address: &str) {
    let values = outcome.records.values_mut().flatten();
    for value in values.chain(&mut outcome.others) {
        let text = value.to_string().replace(address, "{{mock}}");
        *value = serde_json::from_str(&text).expect("JSON stays JSON");
    }
}

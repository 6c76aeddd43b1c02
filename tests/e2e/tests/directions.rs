//! Keeps ARCHITECTURE.md's table of allowed dependencies true, and each driver in its own crate.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const SERVICES: &[&str] = &["core", "store", "transform", "connectors", "runtime"];

/// Crate, and the Sluice crates it may use outside its tests.
const ALLOWED: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("store", &["core"]),
    ("transform", &["core"]),
    ("connectors", &["core", "runtime", "store"]),
    ("runtime", &["core"]),
    ("embedded", &["core", "store"]),
    ("postgres", &["core", "store"]),
    ("mongo", &["core", "store"]),
    ("rabbitmq", &["core", "store"]),
    ("testkit", &["core", "store"]),
    ("sync-in", SERVICES),
    ("sync-out", SERVICES),
    ("orchestrator", SERVICES),
    (
        "api",
        &[
            "core",
            "store",
            "transform",
            "connectors",
            "runtime",
            "sync-in",
            "orchestrator",
        ],
    ),
    // Shares no code with what it imitates systems for.
    ("standin", &[]),
    ("servers", &[]),
    ("xtask", &["servers"]),
    ("e2e", &[]),
    ("differential", &[]),
];

/// Library, and the only crates that may use it outside their tests.
const FENCED: &[(&str, &[&str])] = &[
    ("sqlx", &["embedded", "postgres", "testkit", "bench"]),
    ("mongodb", &["mongo", "bench"]),
    ("lapin", &["rabbitmq", "bench"]),
    ("reqwest", &["connectors", "runtime", "sluice", "bench"]),
    ("governor", &["connectors"]),
    ("vrl", &["transform"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Crate name without prefix -> (dependencies, dependencies of its tests), as package names.
fn manifests() -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let mut found = BTreeMap::new();
    for folder in ["services", "shared", "tests"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path().join("Cargo.toml");
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let manifest: toml::Table = text.parse().unwrap();
            let name = manifest["package"]["name"].as_str().unwrap();
            let names = |section: &str| {
                manifest
                    .get(section)
                    .and_then(toml::Value::as_table)
                    .map(|table| table.keys().cloned().collect::<BTreeSet<_>>())
                    .unwrap_or_default()
            };
            let short = name.strip_prefix("sluice-").unwrap_or(name).to_owned();
            found.insert(short, (names("dependencies"), names("dev-dependencies")));
        }
    }
    found
}

#[test]
fn crates_depend_only_in_the_allowed_directions() {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, (dependencies, _)) in manifests() {
        // The binary and the benchmarks wire everything together.
        if name == "sluice" || name == "bench" {
            continue;
        }
        let Some(may) = allowed.get(name.as_str()) else {
            wrong.push(format!("{name} is not in the table"));
            continue;
        };
        for dependency in dependencies {
            if let Some(other) = dependency.strip_prefix("sluice-")
                && !may.contains(&other)
            {
                wrong.push(format!("{name} uses {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_crate_of_the_table_exists() {
    let found = manifests();
    for (name, _) in ALLOWED {
        assert!(found.contains_key(*name), "{name} has gone");
    }
}

#[test]
fn drivers_stay_in_their_crates() {
    let mut wrong = Vec::new();
    for (name, (dependencies, _)) in manifests() {
        for (library, may) in FENCED {
            if dependencies.contains(*library) && !may.contains(&name.as_str()) {
                wrong.push(format!("{name} uses {library}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

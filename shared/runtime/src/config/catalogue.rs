//! Organizations, connections and flows: their lists in the settings, and the rules over them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use sluice_core::{
    ErrorClass,
    catalogue::{
        BreakerPolicy, CatalogueSpec, ConnectionSpec, FlowSpec, FlowTarget, OrganizationSpec,
        RateLimit, limit_problems,
    },
    retry::{ClassPolicy, RetryPolicy},
};

use super::{problems::Problems, read, units};
use crate::secret;

/// The lists of tables at the top of the settings.
pub(super) const LISTS: [&str; 4] = ["organizations", "connections", "flows", "api_tokens"];

/// Longest slug. It is part of queue names, which brokers bound to 255 bytes.
const SLUG_LENGTH: usize = 40;

/// Endings of setting names whose values are secrets and must therefore be references.
const SECRET_ENDINGS: [&str; 7] = [
    "password",
    "secret",
    "api_key",
    "private_key",
    "access_token",
    "refresh_token",
    "license",
];

/// One table of a list. Every key has a default, so that each can be checked alone; what must be
/// there is checked by [`check`].
pub(super) trait Entry: DeserializeOwned {
    const KEYS: &'static [&'static str];
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Organization {
    slug: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(default)]
pub(super) struct Connection {
    organization: String,
    name: String,
    connector: String,
    #[serde(deserialize_with = "tree")]
    config: serde_json::Value,
    limits: Vec<RateLimit>,
    retry: Retry,
    breaker: Breaker,
    concurrency: u32,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Retry {
    max_retries: u32,
    #[serde(deserialize_with = "units::duration")]
    base_delay: Duration,
    #[serde(deserialize_with = "units::duration")]
    max_delay: Duration,
    #[serde(deserialize_with = "units::duration")]
    max_limited: Duration,
    #[serde(deserialize_with = "units::duration")]
    max_outage: Duration,
    classes: BTreeMap<ErrorClass, ClassRetry>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ClassRetry {
    max_retries: Option<u32>,
    #[serde(deserialize_with = "units::duration_option")]
    base_delay: Option<Duration>,
    #[serde(deserialize_with = "units::duration_option")]
    max_delay: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Breaker {
    failures_in_a_row: u32,
    failed_percent: u32,
    least_calls: u32,
    #[serde(deserialize_with = "units::duration")]
    first_wait: Duration,
    #[serde(deserialize_with = "units::duration")]
    longest_wait: Duration,
    good_probes: u32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Flow {
    organization: String,
    name: String,
    source: String,
    streams: Vec<String>,
    targets: Vec<FlowTarget>,
}

impl Entry for Organization {
    const KEYS: &'static [&'static str] = &["slug", "name"];
}

impl Entry for Connection {
    const KEYS: &'static [&'static str] = &[
        "organization",
        "name",
        "connector",
        "config",
        "limits",
        "retry",
        "breaker",
        "concurrency",
    ];
}

impl Entry for Flow {
    const KEYS: &'static [&'static str] = &["organization", "name", "source", "streams", "targets"];
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            organization: String::new(),
            name: String::new(),
            connector: String::new(),
            config: serde_json::Value::Object(serde_json::Map::new()),
            limits: Vec::new(),
            retry: Retry::default(),
            breaker: Breaker::default(),
            concurrency: 4,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        let policy = RetryPolicy::default();
        Self {
            max_retries: policy.max_retries,
            base_delay: Duration::from_millis(policy.base_delay_ms),
            max_delay: Duration::from_millis(policy.max_delay_ms),
            max_limited: Duration::from_millis(policy.max_limited_ms),
            max_outage: Duration::from_millis(policy.max_outage_ms),
            classes: BTreeMap::new(),
        }
    }
}

impl From<Retry> for RetryPolicy {
    fn from(retry: Retry) -> Self {
        let classes = retry.classes.into_iter().map(|(class, own)| {
            let own = ClassPolicy {
                max_retries: own.max_retries,
                base_delay_ms: own.base_delay.map(milliseconds),
                max_delay_ms: own.max_delay.map(milliseconds),
            };
            (class, own)
        });
        Self {
            max_retries: retry.max_retries,
            base_delay_ms: milliseconds(retry.base_delay),
            max_delay_ms: milliseconds(retry.max_delay),
            max_limited_ms: milliseconds(retry.max_limited),
            max_outage_ms: milliseconds(retry.max_outage),
            classes: classes.collect(),
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        let policy = BreakerPolicy::default();
        Self {
            failures_in_a_row: policy.failures_in_a_row,
            failed_percent: policy.failed_percent,
            least_calls: policy.least_calls,
            first_wait: Duration::from_millis(policy.first_wait_ms),
            longest_wait: Duration::from_millis(policy.longest_wait_ms),
            good_probes: policy.good_probes,
        }
    }
}

fn tree<'de, D: Deserializer<'de>>(deserializer: D) -> Result<serde_json::Value, D::Error> {
    config::Value::deserialize(deserializer).map(|value| read::json(&value))
}

/// Checks names and references, and fills in the limits of connectors.
pub(super) fn check(
    organizations: Vec<(String, Organization)>,
    connections: Vec<(String, Connection)>,
    flows: Vec<(String, Flow)>,
    limits: &BTreeMap<String, Vec<RateLimit>>,
    problems: &mut Problems,
) -> CatalogueSpec {
    for (connector, limits) in limits {
        self::limits(&format!("connectors.limits.{connector}"), limits, problems);
    }
    let mut names = Names::default();
    for (place, entry) in &organizations {
        slug(place, "slug", &entry.slug, problems);
        if !names.organizations.insert(entry.slug.clone()) {
            problems.add(place, format!("the slug `{}` is taken", entry.slug));
        }
    }
    for (place, entry) in &connections {
        names.organization(place, &entry.organization, problems);
        slug(place, "name", &entry.name, problems);
        if !names
            .connections
            .insert((entry.organization.clone(), entry.name.clone()))
        {
            problems.add(place, format!("the name `{}` is taken", entry.name));
        }
        connection(place, entry, problems);
    }
    let mut flow_names = BTreeSet::new();
    for (place, entry) in &flows {
        names.organization(place, &entry.organization, problems);
        slug(place, "name", &entry.name, problems);
        if !flow_names.insert((&entry.organization, &entry.name)) {
            problems.add(place, format!("the name `{}` is taken", entry.name));
        }
        flow(place, entry, &names, problems);
    }
    CatalogueSpec {
        organizations: organizations
            .into_iter()
            .map(|(_, entry)| OrganizationSpec {
                name: if entry.name.is_empty() {
                    entry.slug.clone()
                } else {
                    entry.name
                },
                slug: entry.slug,
            })
            .collect(),
        connections: connections
            .into_iter()
            .map(|(_, entry)| entry.into_spec(limits))
            .collect(),
        flows: flows
            .into_iter()
            .map(|(_, entry)| FlowSpec {
                organization: entry.organization,
                name: entry.name,
                source: entry.source,
                streams: entry.streams,
                targets: entry.targets,
            })
            .collect(),
    }
}

impl Connection {
    fn into_spec(self, limits: &BTreeMap<String, Vec<RateLimit>>) -> ConnectionSpec {
        let limits = if self.limits.is_empty() {
            limits.get(&self.connector).cloned().unwrap_or_default()
        } else {
            self.limits
        };
        ConnectionSpec {
            organization: self.organization,
            name: self.name,
            connector: self.connector,
            config: self.config,
            limits,
            retry: self.retry.into(),
            breaker: BreakerPolicy {
                failures_in_a_row: self.breaker.failures_in_a_row,
                failed_percent: self.breaker.failed_percent,
                least_calls: self.breaker.least_calls,
                first_wait_ms: milliseconds(self.breaker.first_wait),
                longest_wait_ms: milliseconds(self.breaker.longest_wait),
                good_probes: self.breaker.good_probes,
            },
            concurrency: self.concurrency,
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Default)]
struct Names {
    organizations: BTreeSet<String>,
    connections: BTreeSet<(String, String)>,
}

impl Names {
    fn organization(&self, place: &str, slug: &str, problems: &mut Problems) {
        if !self.organizations.contains(slug) {
            problems.add(
                place,
                missing("organization", slug, self.organizations.iter()),
            );
        }
    }

    fn connection(&self, place: &str, organization: &str, name: &str, problems: &mut Problems) {
        let key = (organization.to_owned(), name.to_owned());
        if !self.connections.contains(&key) {
            let known = self
                .connections
                .iter()
                .filter(|(of, _)| of == organization)
                .map(|(_, name)| name);
            problems.add(place, missing("connection", name, known));
        }
    }
}

fn missing<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a String>) -> String {
    if name.is_empty() {
        return format!("`{what}` is missing");
    }
    match super::problems::nearest(name, known.map(String::as_str)) {
        Some(near) => format!("there is no {what} `{name}`, did you mean `{near}`?"),
        None => format!("there is no {what} `{name}`"),
    }
}

pub(super) fn slug(place: &str, key: &str, text: &str, problems: &mut Problems) {
    let sound = (1..=SLUG_LENGTH).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if !sound {
        problems.add(
            &format!("{place}.{key}"),
            format!("must be 1 to {SLUG_LENGTH} of a-z, 0-9 and -"),
        );
    }
}

fn connection(place: &str, entry: &Connection, problems: &mut Problems) {
    if entry.connector.is_empty() {
        problems.add(&format!("{place}.connector"), "is missing");
    }
    if entry.concurrency == 0 {
        problems.add(&format!("{place}.concurrency"), "must be at least 1");
    }
    if !entry.config.is_object() {
        problems.add(&format!("{place}.config"), "expected a table");
    }
    limits(&format!("{place}.limits"), &entry.limits, problems);
    if entry.retry.base_delay > entry.retry.max_delay {
        problems.add(
            &format!("{place}.retry"),
            "base_delay must not be longer than max_delay",
        );
    }
    breaker(&format!("{place}.breaker"), &entry.breaker, problems);
    secrets(&format!("{place}.config"), &entry.config, problems);
}

fn limits(place: &str, limits: &[RateLimit], problems: &mut Problems) {
    for problem in limit_problems(limits) {
        problems.add(place, problem);
    }
}

fn breaker(place: &str, breaker: &Breaker, problems: &mut Problems) {
    let counts = [
        breaker.failures_in_a_row,
        breaker.least_calls,
        breaker.good_probes,
    ];
    if counts.contains(&0) || !(1..=100).contains(&breaker.failed_percent) {
        problems.add(
            place,
            "counts must be at least 1, failed_percent must be 1 to 100",
        );
    }
    if breaker.first_wait > breaker.longest_wait {
        problems.add(place, "first_wait must not be longer than longest_wait");
    }
}

/// Secrets must be references: the catalogue is stored and shown as it is written.
fn secrets(place: &str, value: &serde_json::Value, problems: &mut Problems) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                let key = format!("{place}.{name}");
                if let Some(text) = value.as_str()
                    && names_a_secret(name)
                    && !text.is_empty()
                    && !secret::is_reference(text)
                {
                    problems.add(&key, "is a secret: write env:NAME or file:PATH instead");
                }
                secrets(&key, value, problems);
            }
        }
        serde_json::Value::Array(items) => {
            for item in items {
                secrets(place, item, problems);
            }
        }
        _ => {}
    }
}

/// Whether a setting of this name holds a secret.
pub(super) fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

fn flow(place: &str, entry: &Flow, names: &Names, problems: &mut Problems) {
    let source = format!("{place}.source");
    names.connection(&source, &entry.organization, &entry.source, problems);
    if entry.targets.is_empty() {
        problems.add(&format!("{place}.targets"), "needs at least one target");
    }
    let mut seen = BTreeSet::new();
    for (index, target) in entry.targets.iter().enumerate() {
        let place = format!("{place}.targets[{index}]");
        names.connection(&place, &entry.organization, &target.connection, problems);
        if target.connection == entry.source {
            problems.add(&place, "a flow cannot feed its own source");
        }
        if !seen.insert(&target.connection) {
            problems.add(&place, format!("`{}` is listed twice", target.connection));
        }
    }
}

//! The whole system as a user runs it: the `sluice` binary as separate processes, on the real
//! MongoDB, PostgreSQL and RabbitMQ, between stand-in vendors.

#![allow(dead_code, reason = "each test file uses its own part of the harness")]

mod configuration;
mod control;
pub mod process;
mod servers;
pub mod webhook;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::FutureExt;
use serde_json::Value;
use sluice_standin::{Handle, Kind, Options, compare};
use sluice_testkit::{PostgresDatabase, wait_until};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{Mutex, MutexGuard},
};

pub use configuration::{Places, environment, write};
pub use control::Control;
pub use process::Process;
pub use servers::{MongoDatabase, VirtualHost};

pub const ORGANIZATION: &str = "acme";
pub const FLOW: &str = "residential";

/// Signs the webhooks of the source connection.
pub const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Seals the tokens that the fleet shares.
pub const CREDENTIAL_KEY: &str = "c2x1aWNlIHRlc3RzIHNlYWwgdG9rZW5zIHNvISEhISE=";

/// Opens the management API, as an operator.
pub const API_TOKEN: &str = "operator-of-the-tests-0123456789abcdef";

/// The processes of a whole system.
pub const ROLES: [&str; 6] = [
    "sync-in",
    "sync-in",
    "sync-out",
    "sync-out",
    "orchestrator",
    "api",
];

/// What a test may change about its system.
pub struct Setup {
    pub records: usize,
    pub seed: u64,
    /// Calls per minute the stand-in targets allow, which the connections are told.
    pub target_limit: u32,
    /// Limits the connections to ONE and Lessen360 are told instead, `[{calls, per_seconds}]`:
    /// the stand-ins then only watch.
    pub limits: Option<[Value; 2]>,
    /// Retries of a failed push or pull.
    pub retries: u32,
    /// An outage that lasts longer costs attempts.
    pub outage: &'static str,
    /// Leases run out this soon, so that a killed process's work comes back soon.
    pub lease: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            records: 800,
            seed: 11,
            target_limit: 600_000,
            limits: None,
            retries: 5,
            outage: "5s",
            lease: "5s",
        }
    }
}

/// Stand-ins, databases of this test's own, and the configuration that ties them together.
pub struct System {
    pub yardi: Handle,
    pub one: Handle,
    pub lessen360: Handle,
    pub postgres: PostgresDatabase,
    pub mongo: MongoDatabase,
    pub rabbit: VirtualHost,
    pub folder: TempDir,
    pub http: reqwest::Client,
    /// Looks into the system's own database: a process per look would take longer than the work.
    pub sql: PgPool,
    /// Last, so that the next system starts when this one is gone.
    _turn: MutexGuard<'static, ()>,
}

/// One system at a time: two processors carry no more, and slow is not wrong.
static TURN: Mutex<()> = Mutex::const_new(());

impl System {
    pub async fn start(setup: Setup) -> Self {
        let turn = TURN.lock().await;
        install_tls();
        let source = Options {
            records: setup.records,
            seed: setup.seed,
            ..Options::new(Kind::Yardi)
        };
        let target = |kind| Options {
            limit_per_minute: Some(setup.target_limit),
            ledger_entries: 1_000_000,
            ..Options::new(kind)
        };
        let postgres = PostgresDatabase::create().await;
        let sql = PgPoolOptions::new()
            .max_connections(2)
            .connect(postgres.url())
            .await
            .unwrap();
        let system = Self {
            yardi: serve(source).await,
            one: serve(target(Kind::One)).await,
            lessen360: serve(target(Kind::Lessen360)).await,
            postgres,
            sql,
            _turn: turn,
            mongo: MongoDatabase::new(),
            rabbit: VirtualHost::create().await,
            folder: tempfile::tempdir().unwrap(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        };
        system.write_configuration(&setup);
        system
    }

    /// Writes the settings, for processes that start from now on.
    pub fn write_configuration(&self, setup: &Setup) {
        let places = Places {
            raw: self.mongo.url().to_owned(),
            master: self.postgres.url().to_owned(),
            broker: self.rabbit.url().to_owned(),
            yardi: self.yardi.url(),
            one: self.one.url(),
            lessen360: self.lessen360.url(),
            connectors: None,
        };
        write(&self.configuration(), setup, &places);
    }

    pub fn configuration(&self) -> PathBuf {
        self.folder.path().join("sluice.toml")
    }

    /// Environment of every process of this system.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        environment(&self.configuration())
    }

    /// Starts a role as its own process and waits until it serves.
    pub async fn spawn(&self, role: &'static str) -> Process {
        Process::start(role, self.environment(), self.folder.path()).await
    }

    /// Starts every role, the workers twice.
    pub async fn start_roles(&self) -> Vec<Process> {
        futures::future::join_all(ROLES.map(|role| self.spawn(role))).await
    }

    /// Runs a command to its end; returns its status and JSON output.
    pub async fn command(&self, arguments: &[&str]) -> (i32, Value) {
        process::command(arguments, self.environment(), self.folder.path()).await
    }

    /// The same with other variables.
    pub async fn command_with(
        &self,
        arguments: &[&str],
        variables: &[(&'static str, &str)],
    ) -> (i32, Value) {
        let mut environment = self.environment();
        environment.extend(
            variables
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        process::command(arguments, environment, self.folder.path()).await
    }

    /// A run as the command line shows it.
    pub async fn show(&self, run: i64) -> Value {
        let (status, answer) = self
            .command(&["run", "show", &run.to_string(), "--output", "json"])
            .await;
        assert_eq!(status, 0, "{answer}");
        answer
    }

    /// Starts a run and returns its id.
    pub async fn start_run(&self, arguments: &[&str]) -> i64 {
        let mut all = vec!["run", "start", FLOW, "--output", "json"];
        all.extend(arguments);
        let (status, answer) = self.command(&all).await;
        assert_eq!(status, 0, "{answer}");
        answer["run"].as_i64().unwrap()
    }

    /// State of a run, and how many records it has read.
    pub async fn progress(&self, run: i64) -> (String, i64) {
        sqlx::query_as("select state, read_count from sync_orchestration where id = $1")
            .bind(run)
            .fetch_one(&self.sql)
            .await
            .unwrap()
    }

    /// A single number from the database.
    pub async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.sql).await.unwrap()
    }

    /// Whether a run still reads, or pushes are on their way.
    pub async fn is_busy(&self, run: i64) -> bool {
        !is_over(&self.progress(run).await.0) || self.open_pushes().await > 0
    }

    /// Waits until a run is over and no push is on its way any more, those apart that wait for a
    /// parent. Returns the run's state.
    pub async fn until_quiet(&self, run: i64, patience: Duration) -> String {
        self.until(patience, || async { !self.is_busy(run).await })
            .await;
        self.progress(run).await.0
    }

    pub async fn until_over(&self, run: i64, patience: Duration) -> String {
        self.until(patience, || async { is_over(&self.progress(run).await.0) })
            .await;
        self.progress(run).await.0
    }

    /// Waits for a condition; says where the system stands when it does not come.
    pub async fn until<F, C>(&self, patience: Duration, condition: F)
    where
        F: FnMut() -> C,
        C: Future<Output = bool>,
    {
        let waited = std::panic::AssertUnwindSafe(wait_until(patience, condition))
            .catch_unwind()
            .await;
        if let Err(panic) = waited {
            eprintln!("{}", self.standing().await);
            std::panic::resume_unwind(panic);
        }
    }

    /// Runs, tasks by state, and the newest errors.
    pub async fn standing(&self) -> String {
        let lines: Vec<(String,)> = sqlx::query_as(
            "select format('run %s %s read %s error %s', id, state, read_count, error_message)
             from sync_orchestration
             union all
             select format('%s %s %s blocked %s error %s: %s tasks', kind, target_system, state,
                           blocked_on is not null, error_code, count(*))
             from sync_queue group by kind, target_system, state, blocked_on is not null, error_code
             union all
             select format('%s: %s', error_code, max(error_message)) from sync_queue
             where error_code is not null group by error_code",
        )
        .fetch_all(&self.sql)
        .await
        .unwrap();
        let lines: Vec<String> = lines.into_iter().map(|(line,)| line).collect();
        lines.join("\n")
    }

    /// Pushes on their way, over all targets; not those that wait for a parent.
    pub async fn open_pushes(&self) -> i64 {
        self.number(
            "select count(*) from sync_queue where kind = 'push' and blocked_on is null
             and state in ('pending', 'staged', 'running', 'waiting', 'unknown')",
        )
        .await
    }

    pub fn control<'a>(&'a self, standin: &'a Handle) -> Control<'a> {
        Control::new(&self.http, standin)
    }

    /// Makes edits at the source.
    pub async fn edit(&self, request: Value) -> Value {
        self.control(&self.yardi).post("edits", &request).await
    }

    /// Gives a property of the source another code.
    pub async fn rename(&self, property: &str, code: &str) {
        self.control(&self.yardi).rename(property, code).await;
    }

    /// Puts a fault on a stand-in.
    pub async fn fault(&self, standin: &Handle, fault: Value) {
        self.control(standin).fault(fault).await;
    }

    pub async fn clear_faults(&self, standin: &Handle) {
        self.control(standin).clear_faults().await;
    }

    /// What a stand-in holds, of one kind.
    pub async fn records(&self, standin: &Handle, kind: &str) -> Vec<Value> {
        self.control(standin).records(kind).await
    }

    pub async fn stats(&self, standin: &Handle) -> Value {
        self.control(standin).get("stats").await
    }

    /// Calls to a stand-in, oldest first.
    pub async fn ledger(&self, standin: &Handle) -> Vec<Value> {
        self.control(standin).ledger().await
    }
}

fn is_over(state: &str) -> bool {
    ["done", "partial", "failed", "cancelled"].contains(&state)
}

pub async fn serve(options: Options) -> Handle {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    sluice_standin::serve(options, listener).unwrap()
}

/// Copies a folder with all that is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub fn install_tls() {
    // A second test in the same process finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl System {
    /// All records of the named kinds that a stand-in holds.
    pub async fn truth(&self, standin: &Handle, kinds: &[&str]) -> BTreeMap<String, Vec<Value>> {
        let mut truth = BTreeMap::new();
        for kind in kinds {
            truth.insert((*kind).to_owned(), self.records(standin, kind).await);
        }
        truth
    }

    /// The newest version of every master record, straight from PostgreSQL.
    pub async fn master(&self) -> Vec<compare::Master> {
        let rows: Vec<(String, String, bool, String)> = sqlx::query_as(
            "select m.entity_type, m.source_id, m.deleted, v.data_snapshot::text
             from sync_master_data m
             join data_versions v on v.master_data_id = m.id and v.version_number = m.current_version",
        )
        .fetch_all(&self.sql)
        .await
        .unwrap();
        rows.into_iter()
            .map(|(entity_type, source_id, deleted, data)| compare::Master {
                entity_type,
                source_id,
                deleted,
                data: serde_json::from_str(&data).unwrap(),
            })
            .collect()
    }
}

impl System {
    /// Source, master data and both targets, record by record, from what each holds now.
    pub async fn assert_agreement(&self) {
        let comparison = compare::compare(&compare::Places {
            source: "yardi",
            yardi: &self.truth(&self.yardi, compare::YARDI_KINDS).await,
            one: &self.truth(&self.one, compare::ONE_KINDS).await,
            lessen360: &self.truth(&self.lessen360, compare::LESSEN360_KINDS).await,
            master: &self.master().await,
        });
        assert!(comparison.compared > 0);
        assert!(
            comparison.mismatches.is_empty(),
            "{} of {} differ, such as {:#?}\n{}",
            comparison.mismatches.len(),
            comparison.compared,
            &comparison.mismatches[..comparison.mismatches.len().min(5)],
            self.standing().await
        );
    }

    /// No limit broken, nothing created twice, no two calls for one record at once (O1, O2, O3).
    pub async fn assert_targets_were_treated_well(&self) {
        for standin in [&self.one, &self.lessen360] {
            let stats = self.stats(standin).await;
            assert_eq!(stats["duplicates_created"], 0, "{stats}");
            assert_eq!(stats["limit_violations"], 0, "{stats}");
            assert_eq!(stats["overlapping_writes"], 0, "{stats}");
        }
    }
}

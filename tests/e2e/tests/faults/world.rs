//! A running system whose every part can be broken: services as processes, servers of its own,
//! stand-ins, and a network between them.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use sluice_servers::{MONGODB, Needs, POSTGRES, RABBITMQ, Servers};
use sluice_standin::{Handle, Kind, Options, compare::EDITS_WITHOUT_DELETION};
use sluice_testkit::Proxy;
use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    harness::{
        FLOW, Places, Process, Setup, environment, install_tls, process::command, serve, write,
    },
    history::Limit,
    sql::Sql,
};

/// Longest wait for anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// Which backends the system has, and with them which processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Servers,
    Embedded,
}

impl Backend {
    /// The services, each a process.
    fn roles(self) -> &'static [&'static str] {
        match self {
            Self::Servers => &[
                "sync-in",
                "sync-in",
                "sync-out",
                "sync-out",
                "orchestrator",
                "api",
            ],
            Self::Embedded => &["up"],
        }
    }
}

/// The external systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    Yardi,
    One,
    Lessen360,
}

impl Vendor {
    pub const ALL: [Self; 3] = [Self::Yardi, Self::One, Self::Lessen360];

    /// Name of the connection and of the stand-in.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yardi => "yardi",
            Self::One => "one",
            Self::Lessen360 => "lessen360",
        }
    }
}

/// Something services talk to over a network of the test's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Postgres,
    MongoDb,
    RabbitMq,
    Vendor(Vendor),
}

struct Stand {
    handle: Handle,
    proxy: Proxy,
}

/// Private servers and the ways to them.
pub struct Stores {
    pub servers: Servers,
    postgres: Proxy,
    mongo: Proxy,
    rabbit: Proxy,
}

pub struct World {
    pub backend: Backend,
    pub sql: Sql,
    /// Services in the order of [`Backend::roles`].
    services: Vec<Process>,
    /// What ended without being told to: role, and the end of its log.
    pub deserters: Vec<String>,
    pub stores: Option<Stores>,
    vendors: Vec<Stand>,
    /// Services that a fault keeps away for the moment.
    pub away: Vec<usize>,
    /// The record that kills its workers.
    poison: Option<String>,
    /// Every record that ever did.
    pub poisoned: Vec<String>,
    /// Codes of the properties that webhooks told of.
    pub hooks: Vec<String>,
    pub http: reqwest::Client,
    // Last: processes write into it until they are gone.
    folder: TempDir,
}

impl World {
    /// Starts servers, stand-ins and services. Call it from a thread that outlives the servers.
    pub async fn start(backend: Backend, setup: Setup) -> Self {
        install_tls();
        let mut vendors = Vec::new();
        for vendor in Vendor::ALL {
            let handle = serve(options(vendor, &setup)).await;
            let proxy = Proxy::start(&handle.addr().to_string()).await;
            vendors.push(Stand { handle, proxy });
        }
        let folder = tempfile::tempdir().unwrap();
        let vendor_url = |place: usize| format!("http://{}", vendors[place].proxy.address());
        let mut places = Places {
            yardi: vendor_url(0),
            one: vendor_url(1),
            lessen360: vendor_url(2),
            ..Places::default()
        };
        let (stores, sql) = match backend {
            Backend::Servers => {
                let stores = Stores::start().await;
                let url = |name| stores.servers.url(name).unwrap();
                places.master = through(url(POSTGRES), &stores.postgres);
                places.raw = format!("{}/sluice", through(url(MONGODB), &stores.mongo));
                places.broker = through(url(RABBITMQ), &stores.rabbit);
                let sql = Sql::postgres(url(POSTGRES));
                (Some(stores), sql)
            }
            Backend::Embedded => {
                let file = folder.path().join(".sluice").join("master.db");
                (None, Sql::sqlite(&file))
            }
        };
        write(&folder.path().join("sluice.toml"), &setup, &places);
        let mut world = Self {
            backend,
            sql,
            services: Vec::new(),
            deserters: Vec::new(),
            stores,
            vendors,
            away: Vec::new(),
            poison: None,
            poisoned: Vec::new(),
            hooks: Vec::new(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            folder,
        };
        for role in backend.roles() {
            let process = world.spawn(role, None).await;
            world.services.push(process);
        }
        world
    }

    fn configuration(&self) -> PathBuf {
        self.folder.path().join("sluice.toml")
    }

    /// The embedded raw store.
    pub fn raw_file(&self) -> PathBuf {
        self.folder.path().join(".sluice").join("raw.db")
    }

    async fn spawn(&self, role: &'static str, fail_points: Option<&str>) -> Process {
        let mut environment = environment(&self.configuration());
        let poison = self.poison.as_ref().filter(|_| delivers(role));
        let poison = poison.map(|record| format!("{POISONED}@{record}=kill"));
        let rules: Vec<_> = poison
            .iter()
            .map(String::as_str)
            .chain(fail_points)
            .collect();
        if !rules.is_empty() {
            environment.push(("SLUICE_FAIL_POINTS", rules.join(";")));
        }
        Process::start(role, environment, self.folder.path()).await
    }

    /// The places of a role's services.
    pub fn places(&self, role: &str) -> Vec<usize> {
        let services = self.services.iter().enumerate();
        services
            .filter(|(_, service)| service.role == role)
            .map(|(place, _)| place)
            .collect()
    }

    pub fn service(&mut self, place: usize) -> &mut Process {
        &mut self.services[place]
    }

    pub fn url(&self, role: &str) -> String {
        self.services[self.places(role)[0]].url.clone()
    }

    /// kill -9, then a new process, with fail points if any are named.
    pub async fn restart(&mut self, place: usize, fail_points: Option<&str>) {
        let role = self.services[place].role;
        if self.services[place].is_running() {
            self.services[place].signal("KILL");
        }
        // The new one is there before the old one's value, and with it the old process, is gone.
        self.services[place] = self.spawn(role, fail_points).await;
    }

    /// From now on the record kills every worker that maps it; without one, none does.
    pub async fn poison(&mut self, record: Option<String>) {
        self.poisoned.extend(record.clone());
        self.poison = record;
        for place in 0..self.services.len() {
            if delivers(self.services[place].role) {
                self.restart(place, None).await;
            }
        }
    }

    /// Until the poison is a dead letter at every target.
    pub async fn until_poison_is_dead(&mut self) {
        let Some(record) = self.poison.clone() else {
            return;
        };
        let alive = format!(
            "select count(*) from sync_queue q join sync_master_data m on m.id = q.master_data_id
             where m.entity_id = '{record}' and q.state <> 'dead'"
        );
        let known = format!("select count(*) from sync_master_data where entity_id = '{record}'");
        let dead = async |world: &Self| {
            if world.sql.number(&known).await == 1 {
                return world.sql.number(&alive).await == 0;
            }
            // The run that was under way when it appeared may have read its list before.
            if world.is_quiet().await {
                world.run(false).await;
            }
            false
        };
        self.until("the poison is given up", dead).await;
    }

    /// Notes services that ended although nobody ended them, and starts them anew, as it does with
    /// those that the poison killed.
    pub async fn count_deserters(&mut self) {
        for place in 0..self.services.len() {
            if self.away.contains(&place) {
                continue;
            }
            if self.died_of(place, POISONED) {
                self.restart(place, None).await;
            } else if !self.services[place].is_running() {
                let text = self.services[place].text();
                let tail: Vec<_> = text.lines().rev().take(5).collect();
                let role = self.services[place].role;
                self.deserters
                    .push(format!("{role} ended by itself:\n{}", tail.join("\n")));
                self.restart(place, None).await;
            }
        }
    }

    /// Whether a service is gone because a fail point killed it.
    pub fn died_of(&mut self, place: usize, point: &str) -> bool {
        let killed = format!("fail point {point}: killed");
        !self.services[place].is_running() && self.services[place].text().contains(&killed)
    }

    /// Runs a command of the binary until it succeeds; returns what it said.
    pub async fn command(&self, arguments: &[&str]) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let variables = environment(&self.configuration());
            let (status, answer) = command(arguments, variables, self.folder.path()).await;
            if status == 0 {
                return answer;
            }
            assert!(Instant::now() < deadline, "{arguments:?}: {answer}");
        }
    }

    /// Starts a run of everything that changed, or of everything, unless one is under way.
    pub async fn run(&self, full: bool) {
        if self.open_runs().await > 0 {
            return;
        }
        let mut arguments = vec!["run", "start", FLOW, "--output", "json"];
        if full {
            arguments.push("--full");
        }
        self.command(&arguments).await;
    }

    /// The code of a property that a webhook is to tell of.
    pub fn next_hook(&mut self) -> String {
        let code = format!("HOOK{}", self.hooks.len());
        self.hooks.push(code.clone());
        code
    }

    pub fn proxy(&self, link: Link) -> &Proxy {
        let stores = self.stores.as_ref();
        match link {
            Link::Vendor(vendor) => &self.vendors[vendor as usize].proxy,
            Link::Postgres => &stores.expect("servers").postgres,
            Link::MongoDb => &stores.expect("servers").mongo,
            Link::RabbitMq => &stores.expect("servers").rabbit,
        }
    }

    pub fn servers(&mut self) -> &mut Servers {
        &mut self.stores.as_mut().expect("servers").servers
    }

    /// Asks a stand-in's control endpoint.
    pub async fn ask(&self, vendor: Vendor, what: &str) -> Value {
        let url = format!(
            "{}/_control/{what}",
            self.vendors[vendor as usize].handle.url()
        );
        self.http
            .get(url)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    pub async fn tell(&self, vendor: Vendor, what: &str, body: Value) -> Value {
        let url = format!(
            "{}/_control/{what}",
            self.vendors[vendor as usize].handle.url()
        );
        let answer = self.http.post(url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{what} {body}");
        answer.json().await.unwrap()
    }

    pub async fn clear_faults(&self) {
        for stand in &self.vendors {
            let url = format!("{}/_control/faults", stand.handle.url());
            self.http.delete(url).send().await.unwrap();
        }
    }

    /// People at the source change records: in these ways, or in all that every place can agree on
    /// afterwards. Returns what they did.
    pub async fn edit(&self, count: usize, only: &[&str]) -> Value {
        let only = match only {
            [] => EDITS_WITHOUT_DELETION,
            only => only,
        };
        let request = json!({ "count": count, "only": only });
        self.tell(Vendor::Yardi, "edits", request).await
    }

    /// Calls that arrived at all stand-ins together: how far the work has come.
    pub async fn calls(&self) -> u64 {
        let mut calls = 0;
        for vendor in Vendor::ALL {
            calls += self.ask(vendor, "stats").await["calls"].as_u64().unwrap();
        }
        calls
    }

    /// Whether nothing is left to do.
    pub async fn is_quiet(&self) -> bool {
        let owed = "select count(*) from sync_queue where blocked_on is null
                    and state in ('pending', 'staged', 'running', 'waiting', 'unknown')";
        self.sql.number(owed).await == 0 && self.open_runs().await == 0
    }

    async fn open_runs(&self) -> i64 {
        let open = "select count(*) from sync_orchestration
                    where state in ('queued', 'running', 'paused')";
        self.sql.number(open).await
    }

    /// Waits for work to come this many calls further, or to its end.
    pub async fn advance(&mut self, calls: u64) {
        let goal = self.calls().await + calls;
        let further = async |world: &Self| world.calls().await >= goal || world.is_quiet().await;
        self.until("work goes on", further).await;
    }

    /// Waits for a condition; when it does not come, says where the system stands. Services that
    /// die meanwhile come back.
    pub async fn until(&mut self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self).await {
            if Instant::now() > deadline {
                panic!("{what}: not within {PATIENCE:?}\n{}", self.standing().await);
            }
            self.count_deserters().await;
            pause().await;
        }
    }

    /// Open runs, tasks by state and owner, and the end of each service's log.
    async fn standing(&self) -> String {
        let rows: Vec<(String, String, i64)> = self
            .sql
            .rows(
                "select state, coalesce(flow, ''), cast(id as bigint) from sync_orchestration
                 where state in ('queued', 'running', 'paused')
                 union all
                 select state, kind || ' ' || coalesce(target_system, '') || ' ' || coalesce(lease_owner, '')
                    || ' ' || coalesce(error_code, '')
                    || case when blocked_on is null then '' else ' blocked' end,
                    cast(count(*) as bigint)
                 from sync_queue where state not in ('completed', 'cancelled')
                 group by state, kind, target_system, lease_owner, error_code, blocked_on is null",
            )
            .await;
        let mut lines: Vec<_> = rows.iter().map(|row| format!("{row:?}")).collect();
        for service in &self.services {
            lines.push(format!("{}:", service.role));
            let text = service.text();
            let tail: Vec<_> = text.lines().rev().take(4).collect();
            lines.extend(tail.into_iter().rev().map(str::to_owned));
        }
        lines.join("\n")
    }
}

impl Stores {
    async fn start() -> Self {
        let mut servers = Servers::private();
        servers.start(Needs::All).unwrap();
        let address = |name| host(servers.url(name).unwrap()).to_owned();
        let (postgres, mongo, rabbit) = (address(POSTGRES), address(MONGODB), address(RABBITMQ));
        Self {
            postgres: Proxy::start(&postgres).await,
            mongo: Proxy::start(&mongo).await,
            rabbit: Proxy::start(&rabbit).await,
            servers,
        }
    }
}

/// Of each target: low enough that what piles up in an outage runs into it.
pub const TARGET_LIMIT: Limit = Limit {
    calls: 75,
    seconds: 5,
};

/// The fail point of poison records.
const POISONED: &str = "sync_out.mapped";

/// Whether processes of this role deliver records.
fn delivers(role: &str) -> bool {
    ["sync-out", "up"].contains(&role)
}

/// Between two looks.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// Host and port in a URL.
fn host(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap();
    let authority = rest.split('/').next().unwrap();
    authority.rsplit('@').next().unwrap()
}

/// The same URL by way of a proxy.
fn through(url: &str, proxy: &Proxy) -> String {
    url.replace(host(url), &proxy.address())
}

fn options(vendor: Vendor, setup: &Setup) -> Options {
    let kind = match vendor {
        Vendor::Yardi => {
            return Options {
                records: setup.records,
                seed: setup.seed,
                ledger_entries: 1_000_000,
                ..Options::new(Kind::Yardi)
            };
        }
        Vendor::One => Kind::One,
        Vendor::Lessen360 => Kind::Lessen360,
    };
    Options {
        limit_per_minute: Some(setup.target_limit),
        ledger_entries: 1_000_000,
        ..Options::new(kind)
    }
}

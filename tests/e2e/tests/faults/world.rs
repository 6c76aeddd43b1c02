//! A running system whose every part can be broken: services as processes, servers of its own,
//! stand-ins, and a network between them.

mod connectors;
mod vendors;
mod waiting;

use std::{path::PathBuf, time::Duration};

use serde_json::Value;
use sluice_servers::{MONGODB, Needs, POSTGRES, RABBITMQ, Servers};
use sluice_testkit::Proxy;
use tempfile::TempDir;
use tokio::time::Instant;

use self::vendors::Stand;
use super::{
    harness::{FLOW, Places, Process, Setup, environment, install_tls, process::command, write},
    history::Alarm,
    sql::Sql,
};

pub use vendors::{TARGET_LIMIT, Vendor};
pub use waiting::{PATIENCE, pause};

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
                "orchestrator",
                "api",
            ],
            Self::Embedded => &["up"],
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
    /// How vendors were told to misbehave.
    orders: Vec<(Vendor, String)>,
    /// Alarms that the broker raised.
    pub alarms: Vec<Alarm>,
    /// Codes of the properties that webhooks told of.
    pub hooks: Vec<String>,
    /// Those of them that other webhooks told gone.
    pub gone: Vec<String>,
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
            vendors.push(Stand::start(vendor, &setup).await);
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
        let connectors = folder.path().join("connectors");
        connectors::write(&connectors);
        places.connectors = Some(connectors);
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
            orders: Vec::new(),
            alarms: Vec::new(),
            hooks: Vec::new(),
            gone: Vec::new(),
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
                let mut tail: Vec<_> = text.lines().rev().take(30).collect();
                tail.reverse();
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
        self.ending(arguments, &[0]).await
    }

    /// Replays dead letters; that there are none is fine, too.
    pub async fn replay(&self, which: &[&str]) {
        let arguments = [&["dlq", "replay", "--yes"][..], which].concat();
        self.ending(&arguments, &[0, NOT_FOUND]).await;
    }

    /// A command's answer, tried until it ends in one of these ways.
    async fn ending(&self, arguments: &[&str], ends: &[i32]) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let variables = environment(&self.configuration());
            let (status, answer) = command(arguments, variables, self.folder.path()).await;
            if ends.contains(&status) {
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

/// Exit status of a command that found nothing of the kind.
const NOT_FOUND: i32 = 3;

/// The fail point of poison records.
const POISONED: &str = "sync_out.mapped";

/// Whether processes of this role deliver records.
fn delivers(role: &str) -> bool {
    ["sync-out", "up"].contains(&role)
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

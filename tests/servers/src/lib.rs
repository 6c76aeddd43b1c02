//! Private PostgreSQL, MongoDB and RabbitMQ: free ports, data in a temporary folder, gone at the end.
//! Each can be ended as roughly as a test likes and started again with the same data and port.

#![expect(
    clippy::print_stdout,
    reason = "people wait for installations and servers, and want to know for which"
)]

pub mod install;
pub mod process;

mod mongodb;
mod postgres;
mod rabbitmq;

use std::{
    env, fs,
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

/// What failed, in words for the person at the terminal.
pub type Outcome<T = ()> = Result<T, String>;

pub const POSTGRES: &str = "SLUICE_TEST_POSTGRES_URL";
pub const MONGODB: &str = "SLUICE_TEST_MONGODB_URL";
pub const RABBITMQ: &str = "SLUICE_TEST_RABBITMQ_URL";
pub const RABBITMQ_MANAGEMENT: &str = "SLUICE_TEST_RABBITMQ_MANAGEMENT_URL";

/// Long enough for a busy two-core machine; readiness ends the wait.
const START_PATIENCE: Duration = Duration::from_secs(120);
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// Which servers a step needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    Postgres,
    All,
}

/// Where free ports are looked for: below the usual range of outgoing connections.
const FIRST_PORT: u16 = 18_000;
const PORTS: u16 = 14_000;

/// A started server, how it was started, and what to run when it has ended.
struct Server {
    name: &'static str,
    command: Command,
    child: Child,
    cleanup: Option<Command>,
}

/// The servers of this process; dropping it stops those that it started.
#[derive(Default)]
pub struct Servers {
    running: Vec<Server>,
    environment: Vec<(&'static str, String)>,
    /// Servers that the environment names are left alone.
    private: bool,
    // Dropped after `drop` has stopped the servers that write into it.
    folder: Option<TempDir>,
}

impl Servers {
    /// Servers that nobody else uses, whatever the environment names.
    pub fn private() -> Self {
        let mut servers = Self::default();
        servers.private = true;
        servers
    }

    /// Starts those needed that do not run yet. A server that the environment names is not started.
    pub fn start(&mut self, needs: Needs) -> Outcome {
        if needs == Needs::Nothing {
            return Ok(());
        }
        if self.take_from_environment(&[POSTGRES])? {
            let bin = crate::install::postgres()?;
            let (server, url) = postgres::start(&bin, &self.folder()?.join("postgres"))?;
            self.add(server, vec![(POSTGRES, url)]);
        }
        if needs == Needs::Postgres {
            return self.ready(&[POSTGRES]);
        }
        if self.take_from_environment(&[MONGODB])? {
            let program = crate::install::mongod()?;
            let (server, url) = mongodb::start(&program, &self.folder()?.join("mongodb"))?;
            self.add(server, vec![(MONGODB, url)]);
        }
        if self.take_from_environment(&[RABBITMQ, RABBITMQ_MANAGEMENT])? {
            let script = crate::install::rabbitmq()?;
            let (server, amqp, http) = rabbitmq::start(&script, &self.folder()?.join("rabbitmq"))?;
            self.add(server, vec![(RABBITMQ, amqp), (RABBITMQ_MANAGEMENT, http)]);
        }
        self.ready(&[POSTGRES, MONGODB, RABBITMQ])
    }

    /// What tests read: `SLUICE_TEST_*`.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.environment.iter().cloned()
    }

    pub fn url(&self, name: &str) -> Outcome<&str> {
        self.environment
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, url)| url.as_str())
            .ok_or_else(|| format!("{name} is not known: its server was not started"))
    }

    /// Leaves the servers running.
    pub fn keep(mut self) {
        print!("{}", self.exports());
        for server in self.running.drain(..) {
            println!("# {}: kill -TERM -- -{}", server.name, server.child.id());
        }
        if let Some(folder) = self.folder.take() {
            println!("# data: {}", folder.keep().display());
        }
    }

    /// The addresses as lines for a shell.
    pub fn exports(&self) -> String {
        self.environment
            .iter()
            .map(|(name, url)| format!("export {name}={url}\n"))
            .collect()
    }

    /// `true` when a server is still to be started for these names.
    fn take_from_environment(&mut self, names: &[&'static str]) -> Outcome<bool> {
        if names.iter().all(|name| self.url(name).is_ok()) {
            return Ok(false);
        }
        if self.private {
            return Ok(true);
        }
        let given: Vec<_> = names
            .iter()
            .filter_map(|name| env::var(name).ok().map(|url| (*name, url)))
            .collect();
        if given.is_empty() {
            return Ok(true);
        }
        if given.len() < names.len() {
            return Err(format!("set all of {} or none", names.join(", ")));
        }
        self.environment.extend(given);
        Ok(false)
    }

    fn add(&mut self, server: Server, urls: Vec<(&'static str, String)>) {
        self.running.push(server);
        self.environment.extend(urls);
    }

    /// Ends a server with a signal, such as `TERM` or `KILL`, and waits until it is gone.
    ///
    /// # Errors
    /// When it was not started here, or outlives 30 s.
    pub fn end(&mut self, variable: &str, signal: &str) -> Outcome {
        let server = self.server(variable)?;
        process::signal_group(&server.child, signal);
        let child = &mut server.child;
        let gone = process::wait_until(STOP_PATIENCE, || matches!(child.try_wait(), Ok(Some(_))));
        if gone {
            Ok(())
        } else {
            Err(format!("{} does not end after {signal}", server.name))
        }
    }

    /// Starts a server that was ended, with the same data and port, and waits until it answers.
    /// The calling thread must outlive the server.
    ///
    /// # Errors
    /// When it does not get ready; the text is the end of its log.
    pub fn start_again(&mut self, variable: &str) -> Outcome {
        let server = self.server(variable)?;
        let name = server.name;
        server.child = server
            .command
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        self.ready(&[variable])
    }

    /// Runs `rabbitmqctl` for our RabbitMQ; returns what it printed.
    ///
    /// # Errors
    /// When RabbitMQ was not started here, or refuses.
    pub fn rabbitmqctl(&self, arguments: &[&str]) -> Outcome<String> {
        let server = self
            .running
            .iter()
            .find(|server| Some(server.name) == server_of(RABBITMQ))
            .ok_or("RabbitMQ was not started here")?;
        process::output(rabbitmq::control(&server.command).args(arguments))
    }

    fn server(&mut self, variable: &str) -> Outcome<&mut Server> {
        let name = server_of(variable);
        self.running
            .iter_mut()
            .find(|server| Some(server.name) == name)
            .ok_or_else(|| format!("the server of {variable} was not started here"))
    }

    /// Waits until each server that we started answers.
    fn ready(&mut self, names: &[&str]) -> Outcome {
        for name in names {
            let url = self.url(name)?.to_owned();
            let management = self.url(RABBITMQ_MANAGEMENT).map(str::to_owned).ok();
            let Ok(server) = self.server(name) else {
                continue;
            };
            let mut ended = None;
            let ready = process::wait_until(START_PATIENCE, || {
                ended = server.child.try_wait().ok().flatten();
                ended.is_some()
                    || match server.name {
                        postgres::NAME => postgres::answers(&url),
                        mongodb::NAME => listens(&url),
                        _ => listens(&url) && management.as_deref().is_some_and(rabbitmq::manages),
                    }
            });
            if ended.is_some() || !ready {
                let log = self
                    .folder()?
                    .join(server_of(name).unwrap_or_default())
                    .with_extension("log");
                let text = fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<_> = text.lines().rev().take(20).collect();
                let tail: Vec<_> = tail.into_iter().rev().collect();
                return Err(format!(
                    "the server of {name} did not get ready:\n{}",
                    tail.join("\n")
                ));
            }
        }
        Ok(())
    }

    /// The folder of all data, which other accounts may pass through.
    fn folder(&mut self) -> Outcome<&Path> {
        if self.folder.is_none() {
            let folder = tempfile::Builder::new()
                .prefix("sluice-servers-")
                .tempdir()
                .map_err(|error| format!("cannot make a temporary folder: {error}"))?;
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))
                .map_err(|error| format!("cannot open {:?}: {error}", folder.path()))?;
            self.folder = Some(folder);
        }
        self.folder
            .as_ref()
            .map(TempDir::path)
            .ok_or_else(|| "no temporary folder".into())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for server in &mut self.running {
            process::end_group(&mut server.child, STOP_PATIENCE);
            if let Some(command) = &mut server.cleanup {
                process::succeeds(command);
            }
        }
    }
}

/// The workspace's folder, whatever the current one is.
pub fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path.pop();
    path
}

fn server_of(variable: &str) -> Option<&'static str> {
    match variable {
        POSTGRES => Some(postgres::NAME),
        MONGODB => Some(mongodb::NAME),
        RABBITMQ => Some(rabbitmq::NAME),
        _ => None,
    }
}

/// Starts a server in a process group of its own, with its output in `<folder>.log`. It ends with
/// us even when we are killed.
fn spawn(name: &'static str, mut command: Command, folder: &Path) -> Outcome<Server> {
    println!("starting {name}");
    let log = folder.with_extension("log");
    let file = fs::File::create(&log).map_err(|error| format!("cannot write {log:?}: {error}"))?;
    let errors = file
        .try_clone()
        .map_err(|error| format!("cannot write {log:?}: {error}"))?;
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors);
    let child = command
        .spawn()
        .map_err(|error| format!("cannot start {name}: {error}"))?;
    Ok(Server {
        name,
        command,
        child,
        cleanup: None,
    })
}

/// A port that nobody listens at. Not of those that the system gives to outgoing connections, one
/// of which could take it before the server does.
fn free_port() -> Outcome<u16> {
    let random = RandomState::new();
    (0..1_000_u64)
        .map(|tries| FIRST_PORT + (random.hash_one(tries) % u64::from(PORTS)) as u16)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| format!("no free port from {FIRST_PORT} on"))
}

/// Whether something listens at the URL's address; our URLs all name 127.0.0.1.
fn listens(url: &str) -> bool {
    connect(url).is_some()
}

fn connect(url: &str) -> Option<TcpStream> {
    let (_, rest) = url.split_once("127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    TcpStream::connect((Ipv4Addr::LOCALHOST, port.parse().ok()?)).ok()
}

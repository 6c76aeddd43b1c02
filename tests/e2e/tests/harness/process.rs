//! `sluice` as a child process.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use serde_json::Value;
use sluice_testkit::wait_until;
use tokio::process::Child;

/// A running role. Killed when dropped.
pub struct Process {
    pub role: &'static str,
    child: Child,
    /// Where it serves health and metrics.
    pub url: String,
    /// Standard error: all it logged.
    pub log: PathBuf,
}

impl Process {
    pub async fn start(
        role: &'static str,
        environment: Vec<(&'static str, String)>,
        folder: &Path,
    ) -> Self {
        let log = folder.join(format!("{role}-{}.log", sluice_testkit::unique("log")));
        let file = std::fs::File::create(&log).unwrap();
        let child = tokio::process::Command::new(binary())
            .arg(role)
            .envs(environment)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut process = Self {
            role,
            child,
            url: String::new(),
            log,
        };
        process.url = process.address().await;
        process
    }

    /// Where it says that it listens.
    async fn address(&mut self) -> String {
        let (log, mut ended) = (self.log.clone(), None);
        let child = &mut self.child;
        wait_until(Duration::from_secs(60), || {
            ended = child.try_wait().unwrap();
            let done = ended.is_some() || listening(&log).is_some();
            async move { done }
        })
        .await;
        listening(&log)
            .unwrap_or_else(|| panic!("{} ended at once ({ended:?}):\n{}", self.role, self.text()))
    }

    /// All it logged so far.
    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// kill -9.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// The number by which leases name it.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success(), "{name} for {}", self.role);
    }

    /// SIGTERM, then waits for the end; returns the exit status.
    pub async fn terminate(&mut self, patience: Duration) -> Option<i32> {
        self.signal("TERM");
        let ended = tokio::time::timeout(patience, self.child.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("{} did not stop:\n{}", self.role, self.text()))
            .unwrap()
            .code()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub async fn until_ready(&self, http: &reqwest::Client) {
        wait_until(Duration::from_secs(30), || async {
            let answer = http.get(format!("{}/readyz", self.url)).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }
}

/// The address in a log, once its line is complete.
fn listening(log: &Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    let (_, rest) = text.split_once("listening on ")?;
    let (url, _) = rest.split_once('\n')?;
    Some(url.to_owned())
}

/// Runs a command of the binary; returns its exit status and its standard output as JSON.
pub async fn command(
    arguments: &[&str],
    environment: Vec<(&'static str, String)>,
    folder: &Path,
) -> (i32, Value) {
    let output = tokio::process::Command::new(binary())
        .args(arguments)
        .envs(environment)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let status = output.status.code().unwrap_or(-1);
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text).unwrap_or_else(|_| {
        Value::String(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    });
    (status, value)
}

/// The built `sluice`: the one `SLUICE_TEST_BINARY` names, else it is built now, so that a test
/// never runs an old one.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let path = match std::env::var_os("SLUICE_TEST_BINARY") {
            Some(path) => PathBuf::from(path),
            None => build(),
        };
        assert!(path.is_file(), "{} is missing", path.display());
        path
    })
}

fn build() -> PathBuf {
    let built = sluice_servers::process::cargo()
        .args(["build", "--quiet", "--package", "sluice"])
        .status();
    assert!(built.unwrap().success(), "sluice does not build");
    let test = std::env::current_exe().unwrap();
    // target/<profile>/deps/<test>
    test.parent().and_then(Path::parent).unwrap().join("sluice")
}

//! The compose file, read by an implementation that users run.

use std::{fs, path::Path, process::Command};

use sluice_servers::{Outcome, install, process};

/// Checks the compose file with `docker compose config`, or, where there is no Docker, with
/// Debian's `docker-compose`. Neither needs a running Docker.
pub fn check(root: &Path) -> Outcome {
    let file = root.join("docker-compose.yml");
    let mut plugin = Command::new("docker");
    plugin.arg("compose");
    if process::succeeds(plugin.arg("version")) {
        let mut command = Command::new("docker");
        return process::run(command.args(["compose", "--file"]).arg(&file).args(CHECK));
    }
    install::debian(&["docker-compose"], &[], || {
        process::succeeds(Command::new("docker-compose").arg("version"))
    })?;
    // Debian's is from before the specification had a project name at the top level.
    let text =
        fs::read_to_string(&file).map_err(|error| format!("cannot read {file:?}: {error}"))?;
    let older: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("name:"))
        .collect();
    let folder =
        tempfile::tempdir().map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let copy = folder.path().join("docker-compose.yml");
    fs::write(&copy, older.join("\n"))
        .map_err(|error| format!("cannot write {copy:?}: {error}"))?;
    let mut command = Command::new("docker-compose");
    command.arg("--project-directory").arg(root);
    process::run(command.arg("--file").arg(&copy).args(CHECK))
}

const CHECK: [&str; 2] = ["config", "--quiet"];

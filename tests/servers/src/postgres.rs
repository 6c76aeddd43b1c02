//! A private PostgreSQL.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Server, free_port, spawn};
use crate::{Outcome, install, process};

pub const NAME: &str = "postgres";

/// Starts it with one superuser and a database `scratch`; returns the URL of that database.
pub fn start(bin: &Path, folder: &Path) -> Outcome<(Server, String)> {
    fs::create_dir(folder).map_err(|error| format!("cannot make {folder:?}: {error}"))?;
    let as_root = install::is_root();
    if as_root {
        let uid = process::output(Command::new("id").args(["-u", "postgres"]))?;
        let uid = uid
            .parse()
            .map_err(|error| format!("user postgres has no number: {error}"))?;
        chown(folder, Some(uid), None)
            .map_err(|error| format!("cannot give {folder:?} to postgres: {error}"))?;
    }
    let data = folder.join("data");
    process::output(
        unprivileged(as_root, bin.join("initdb"))
            .args(["--auth=trust", "--username=sluice", "--encoding=UTF8"])
            .args(["--locale=C.UTF-8", "--no-sync", "--pgdata"])
            .arg(&data),
    )?;
    let port = free_port()?;
    let mut command = unprivileged(as_root, bin.join("postgres"));
    command.arg("-D").arg(&data).arg("-k").arg(folder);
    command.args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
    // The data is thrown away; what is committed only needs to survive our own crashes.
    for setting in ["max_connections=300", "fsync=off", "full_page_writes=off"] {
        command.args(["-c", setting]);
    }
    let server = spawn(NAME, command, folder)?;
    Ok((
        server,
        format!("postgres://sluice@127.0.0.1:{port}/scratch"),
    ))
}

/// Whether it answers queries; makes the database `scratch` the first time.
pub fn answers(url: &str) -> bool {
    let Some((base, _)) = url.rsplit_once('/') else {
        return false;
    };
    let query = |database: &str, sql: &str| {
        process::succeeds(
            Command::new("psql")
                .args(["--no-psqlrc", "--quiet", "-c", sql, "-d"])
                .arg(format!("{base}/{database}")),
        )
    };
    query("scratch", "select 1")
        || (query("postgres", "create database scratch") && query("scratch", "select 1"))
}

/// PostgreSQL refuses to run as root.
fn unprivileged(as_root: bool, program: PathBuf) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if as_root {
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    }
    command.arg("--").arg(program);
    // The starting folder may be closed to that account.
    command.current_dir("/");
    command
}

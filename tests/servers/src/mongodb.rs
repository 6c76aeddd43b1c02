//! A private MongoDB.

use std::{fs, path::Path, process::Command};

use super::{Server, free_port, spawn};
use crate::Outcome;

pub const NAME: &str = "mongodb";

pub fn start(program: &Path, folder: &Path) -> Outcome<(Server, String)> {
    fs::create_dir(folder).map_err(|error| format!("cannot make {folder:?}: {error}"))?;
    let port = free_port()?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.arg("--dbpath").arg(folder);
    command.args(["--port", &port.to_string(), "--bind_ip", "127.0.0.1"]);
    command.args(["--nounixsocket", "--wiredTigerCacheSizeGB", "0.5"]);
    let server = spawn(NAME, command, folder)?;
    Ok((server, format!("mongodb://127.0.0.1:{port}")))
}

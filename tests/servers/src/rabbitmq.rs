//! A private RabbitMQ with its management API.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    process::Command,
    time::Duration,
};

use super::{Server, connect, free_port, spawn};
use crate::Outcome;

pub const NAME: &str = "rabbitmq";

/// Returns the server, its AMQP URL and the URL of its management API.
pub fn start(script: &Path, folder: &Path) -> Outcome<(Server, String, String)> {
    let write = |name: &str, text: &str| {
        fs::write(folder.join(name), text)
            .map_err(|error| format!("cannot write {name} in {folder:?}: {error}"))
    };
    fs::create_dir(folder).map_err(|error| format!("cannot make {folder:?}: {error}"))?;
    let (amqp, http, distribution, epmd) = (free_port()?, free_port()?, free_port()?, free_port()?);
    // The shovel is what the management screens' "Move messages" uses.
    write(
        "enabled_plugins",
        "[rabbitmq_management,rabbitmq_shovel,rabbitmq_shovel_management].\n",
    )?;
    write(
        "rabbitmq.conf",
        &format!(
            "listeners.tcp.default = 127.0.0.1:{amqp}\n\
             management.tcp.ip = 127.0.0.1\n\
             management.tcp.port = {http}\n\
             disk_free_limit.absolute = 50MB\n\
             log.file.level = warning\n"
        ),
    )?;
    let epmd = epmd.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(script);
    command
        .env("HOME", folder)
        .env("ERL_EPMD_PORT", &epmd)
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODENAME", "sluice-test@localhost")
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", folder.join("log"))
        .env(
            "RABBITMQ_ENABLED_PLUGINS_FILE",
            folder.join("enabled_plugins"),
        )
        .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq"))
        // Keeps files of an installed system server out of it.
        .env("RABBITMQ_CONF_ENV_FILE", folder.join("none"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", folder.join("none.config"))
        .env("RABBITMQ_PID_FILE", folder.join("pid"));
    let mut server = spawn(NAME, command, folder)?;
    // Erlang's port mapper detaches itself from the process group.
    let mut cleanup = Command::new("epmd");
    cleanup
        .args(["-port", &epmd, "-kill"])
        .env("ERL_EPMD_RELAXED_COMMAND_CHECK", "1");
    server.cleanup = Some(cleanup);
    Ok((
        server,
        format!("amqp://guest:guest@127.0.0.1:{amqp}/%2f"),
        format!("http://guest:guest@127.0.0.1:{http}"),
    ))
}

/// `rabbitmqctl` for the node that this command starts.
pub fn control(server: &Command) -> Command {
    let mut command = Command::new("/usr/lib/rabbitmq/bin/rabbitmqctl");
    for (name, value) in server.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command
}

/// Whether the management API answers the default account.
pub fn manages(url: &str) -> bool {
    let Some(mut stream) = connect(url) else {
        return false;
    };
    let mut answer = [0; 12];
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .is_ok()
        && stream
            .write_all(
                b"GET /api/overview HTTP/1.1\r\nHost: localhost\r\n\
                  Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nConnection: close\r\n\r\n",
            )
            .is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && &answer == b"HTTP/1.1 200"
}

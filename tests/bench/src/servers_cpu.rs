//! CPU time of the servers, found as the processes that listen at their ports on this machine.

use std::{collections::BTreeMap, fs, path::Path};

use crate::connect;

/// Seconds of CPU time by server. A server on another machine is missing.
pub type ServersCpu = BTreeMap<String, f64>;

/// What the servers of the SLUICE_TEST_* variables have used so far.
pub fn now() -> ServersCpu {
    let servers = [
        ("postgres", "SLUICE_TEST_POSTGRES_URL", 5432),
        ("mongodb", "SLUICE_TEST_MONGODB_URL", 27017),
        ("rabbitmq", "SLUICE_TEST_RABBITMQ_URL", 5672),
    ];
    servers
        .into_iter()
        .filter_map(|(name, variable, usual)| {
            let port = port(&connect::server(variable).ok()?).unwrap_or(usual);
            Some((name.to_owned(), family_seconds(listener(port)?)?))
        })
        .collect()
}

/// What they used since `before`, per 100,000 of `count` records.
pub fn per_100k(before: &ServersCpu, after: &ServersCpu, count: f64) -> ServersCpu {
    let used = |(name, seconds): (&String, &f64)| {
        let used = seconds - before.get(name)?;
        Some((name.clone(), used / count * 100_000.0))
    };
    after.iter().filter_map(used).collect()
}

fn port(url: &str) -> Option<u16> {
    let (_, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?']).next()?;
    host.rsplit_once(':')?.1.parse().ok()
}

/// The process that listens at a TCP port (proc(5): /proc/net/tcp, state 0A).
fn listener(port: u16) -> Option<u32> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| {
            table.lines().skip(1).find_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let (_, here) = fields.get(1)?.rsplit_once(':')?;
                let ours = u16::from_str_radix(here, 16).ok()? == port;
                (ours && *fields.get(3)? == "0A")
                    .then(|| fields.get(9).copied())?
                    .map(str::to_owned)
            })
        })?;
    let socket = format!("socket:[{inode}]");
    processes().into_iter().find(|pid| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        files
            .filter_map(Result::ok)
            .any(|file| fs::read_link(file.path()).is_ok_and(|target| target == Path::new(&socket)))
    })
}

fn processes() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut all: Vec<u32> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    // A parent before the children that share its sockets.
    all.sort_unstable();
    all
}

/// User and system time of a process with its ended and its living children (one server process
/// per client is PostgreSQL's way).
fn family_seconds(root: u32) -> Option<f64> {
    let (_, own, ended) = stat(root)?;
    let living: f64 = processes()
        .into_iter()
        .filter_map(stat)
        .filter(|(parent, ..)| *parent == root)
        .map(|(_, own, ended)| own + ended)
        .sum();
    Some(own + ended + living)
}

/// Parent, own CPU seconds, and those of ended children (proc(5): fields 4 and 14 to 17 of stat,
/// in hundredths).
fn stat(pid: u32) -> Option<(u32, f64, f64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |place: usize| fields.get(place)?.parse::<f64>().ok();
    Some((
        fields.get(1)?.parse().ok()?,
        (ticks(11)? + ticks(12)?) / 100.0,
        (ticks(13)? + ticks(14)?) / 100.0,
    ))
}

//! What a part cost: wall time, this process's CPU time, its peak memory.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::servers_cpu::{self, ServersCpu};

/// The figures of one part. Stand-ins run in processes of their own and do not count.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    pub part: String,
    pub records: u64,
    pub seconds: f64,
    pub records_per_second: f64,
    pub cpu_seconds_per_100k: f64,
    /// The same of each server that runs on this machine.
    #[serde(default, skip_serializing_if = "ServersCpu::is_empty")]
    pub servers_cpu_seconds_per_100k: ServersCpu,
    /// Most memory resident at any time, in MiB (VmHWM).
    pub peak_memory_mib: f64,
}

/// A running measurement.
pub struct Stopwatch {
    started: Instant,
    cpu: f64,
    servers: ServersCpu,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self {
            servers: servers_cpu::now(),
            cpu: cpu_seconds(),
            started: Instant::now(),
        }
    }

    pub fn stop(self, part: &str, records: u64) -> Figures {
        let seconds = self.started.elapsed().as_secs_f64();
        let cpu = cpu_seconds() - self.cpu;
        let count = records.max(1) as f64;
        let servers = servers_cpu::per_100k(&self.servers, &servers_cpu::now(), count);
        Figures {
            part: part.to_owned(),
            records,
            seconds,
            records_per_second: count / seconds,
            cpu_seconds_per_100k: cpu / count * 100_000.0,
            servers_cpu_seconds_per_100k: servers,
            peak_memory_mib: peak_memory_mib(),
        }
    }
}

/// User and system time of this process (proc(5): fields 14 and 15 of stat, in hundredths).
fn cpu_seconds() -> f64 {
    stat_seconds(11)
}

/// The same of its children that have ended and were waited for (fields 16 and 17).
pub fn children_cpu_seconds() -> f64 {
    stat_seconds(13)
}

/// Two neighbouring times of stat, counted from behind the process's name.
fn stat_seconds(first: usize) -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: Vec<f64> = after_name
        .split_whitespace()
        .skip(first)
        .take(2)
        .filter_map(|t| t.parse().ok())
        .collect();
    ticks.iter().sum::<f64>() / 100.0
}

fn peak_memory_mib() -> f64 {
    peak_memory_mib_of("self")
}

/// Most memory a process, named as below `/proc`, ever had resident; 0 when it is gone.
pub fn peak_memory_mib_of(process: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1024.0
}

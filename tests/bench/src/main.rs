//! Measures sync-in and sync-out against a floor that does only the unavoidable I/O, and against
//! the scripts a team would write instead. See docs/benchmarks.md.
//!
//! ```text
//! cargo run --release -p sluice-bench -- all --records 100000
//! ```
//!
//! Each part runs in a process of its own, so that its CPU time and memory are its own. Servers
//! are named by the SLUICE_TEST_* variables (`cargo xtask servers` prints them).

mod connect;
mod floor_in;
mod floor_out;
mod measure;
mod part;
mod product;
mod read;
mod replay;
mod scripts;
mod servers_cpu;
mod stage;
mod staging;
mod suite;
mod vendor;
mod workload;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// The product's own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Anything that stops a benchmark.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
pub type Outcome<T = ()> = Result<T, Failure>;

#[derive(Parser)]
#[command(name = "sluice-bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    Embedded,
    Servers,
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Servers => "servers",
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Every part, one after the other; prints one JSON document
    All {
        #[arg(long, default_value_t = 100_000)]
        records: u64,
        /// Only these backends
        #[arg(long, value_enum, default_values_t = [Backend::Embedded, Backend::Servers])]
        backend: Vec<Backend>,
        /// Leave out the Python and Node scripts
        #[arg(long)]
        no_scripts: bool,
        /// Records for the scripts, which are slow
        #[arg(long, default_value_t = 20_000)]
        script_records: u64,
    },
    /// Sync-in with 10,000 and with 500,000 records: memory must stay flat
    Memory {
        /// How many, one run each
        #[arg(long, value_delimiter = ',', default_values_t = [10_000, 500_000])]
        records: Vec<u64>,
        #[arg(long, value_enum, default_value_t = Backend::Servers)]
        backend: Backend,
    },
    /// Sync-out with the limiter and without, and as two replicas
    Out {
        #[arg(long, default_value_t = 100_000)]
        records: u64,
        #[arg(long, value_enum, default_value_t = Backend::Servers)]
        backend: Backend,
    },
    /// Waiting tasks staged and published
    Staging {
        #[arg(long, default_value_t = 1_000_000)]
        records: u64,
        #[arg(long, value_enum, default_value_t = Backend::Servers)]
        backend: Backend,
    },
    /// Dead letters replayed: from the order to the last settled row
    Replay {
        #[arg(long, default_value_t = 100_000)]
        records: u64,
        #[arg(long, value_enum, default_value_t = Backend::Servers)]
        backend: Backend,
    },
    /// `sluice connector read` against the reference runtime, on the same manifests
    Read {
        #[arg(long, default_value_t = 100_000)]
        records: u64,
        /// The reference runtime's interpreter (`cargo xtask reference` installs and names it);
        /// without one, only Sluice is measured
        #[arg(long, env = "SLUICE_TEST_REFERENCE")]
        reference: Option<PathBuf>,
    },
    #[command(hide = true)]
    ServeVendor { records: u64 },
    #[command(hide = true)]
    ServeSource { records: u64 },
    #[command(hide = true)]
    ServeTarget,
    /// One part, in this process; prints its figures
    #[command(hide = true)]
    Part(part::Part),
}

fn main() -> Outcome {
    // The process's one TLS provider; a second call would be refused.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(Cli::parse().command))
}

async fn run(command: Command) -> Outcome {
    match command {
        Command::All {
            records,
            backend,
            no_scripts,
            script_records,
        } => {
            let scripts = (!no_scripts).then_some(script_records);
            suite::in_own_place(&backend, async |name| {
                suite::all(name, records, &backend, scripts).await
            })
            .await
        }
        Command::Memory { records, backend } => {
            suite::in_own_place(&[backend], async |name| {
                suite::memory(name, backend, &records).await
            })
            .await
        }
        Command::Out { records, backend } => {
            suite::in_own_place(&[backend], async |name| {
                suite::out(name, backend, records).await
            })
            .await
        }
        Command::Staging { records, backend } => {
            suite::in_own_place(&[backend], async |name| {
                suite::staging(name, backend, records).await
            })
            .await
        }
        Command::Replay { records, backend } => {
            suite::in_own_place(&[backend], async |name| {
                suite::replay(name, backend, records).await
            })
            .await
        }
        Command::Read { records, reference } => read::run(records, reference.as_deref()).await,
        Command::ServeVendor { records } => vendor::serve(records).await,
        Command::ServeSource { records } => stage::serve_source(records).await,
        Command::ServeTarget => stage::serve_target().await,
        Command::Part(part) => part::run(&part).await,
    }
}

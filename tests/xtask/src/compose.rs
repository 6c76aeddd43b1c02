//! The compose files in `deploy`, read by an implementation that users run.

use std::{fs, path::Path, process::Command};

use crate::{Outcome, install, process};

/// Checks every compose file in the folder with `docker compose config`.
pub fn check(folder: &Path) -> Outcome {
    let mut files: Vec<_> = fs::read_dir(folder)
        .map_err(|error| format!("cannot read {folder:?}: {error}"))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.contains("compose") && name.ends_with(".yaml"))
        })
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(format!("no compose file in {folder:?}"));
    }
    let plugin = || {
        let mut command = Command::new("docker");
        command.arg("compose");
        command
    };
    let program = || Command::new("docker-compose");
    let has_plugin = process::succeeds(plugin().arg("version"));
    if !has_plugin {
        install::debian(&["docker-compose"], &[], || {
            process::succeeds(program().arg("version"))
        })?;
    }
    for file in files {
        let mut command = if has_plugin { plugin() } else { program() };
        process::run(command.arg("--file").arg(&file).args(["config", "--quiet"]))?;
        println!("{}: valid", file.display());
    }
    Ok(())
}

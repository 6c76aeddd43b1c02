//! `sluice connector new`: a folder that checks and tests well from its first moment, to be changed
//! step by step. Its files are in `scaffold/`.

use std::path::{Path, PathBuf};

use include_dir::{Dir, DirEntry, include_dir};
use serde_json::json;
use sluice_core::{Error, Result};

use crate::{
    cli::{Cli, ConnectorSides, OutputFormat},
    exit::Exit,
    output,
};

static SOURCE: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/scaffold/source");
static TARGET: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/scaffold/target");

/// Writes the files of the chosen sides into a folder that is empty or not there yet.
pub fn run(cli: &Cli, dir: &Path, sides: ConnectorSides) -> Result<Exit> {
    let is_empty = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(unwritable(dir, error)),
    };
    if !is_empty {
        return Err(Error::config(
            "connector_dir_not_empty",
            format!("{} holds something already", dir.display()),
        )
        .hint("name a folder that is empty or does not exist"));
    }
    let mut written = Vec::new();
    let sides = match sides {
        ConnectorSides::Source => vec![&SOURCE],
        ConnectorSides::Target => vec![&TARGET],
        ConnectorSides::Both => vec![&SOURCE, &TARGET],
    };
    for side in sides {
        write(side, dir, &mut written)?;
    }
    match cli.output {
        OutputFormat::Json => output::json(&json!({ "folder": dir, "files": written }))?,
        OutputFormat::Table => {
            for file in &written {
                eprintln!("{}", dir.join(file).display());
            }
            let folder = dir.display();
            eprintln!(
                "Change them, then: sluice connector check {folder}; sluice connector test {folder}"
            );
        }
    }
    Ok(Exit::Done)
}

/// All files of a folder and of those inside it; notes their paths.
fn write(folder: &Dir<'static>, dir: &Path, written: &mut Vec<PathBuf>) -> Result<()> {
    let here = dir.join(folder.path());
    std::fs::create_dir_all(&here).map_err(|error| unwritable(&here, error))?;
    for entry in folder.entries() {
        match entry {
            DirEntry::Dir(inner) => write(inner, dir, written)?,
            DirEntry::File(file) => {
                let path = dir.join(file.path());
                std::fs::write(&path, file.contents()).map_err(|error| unwritable(&path, error))?;
                written.push(file.path().to_owned());
            }
        }
    }
    Ok(())
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::config(
        "connector_dir_unwritable",
        format!("{} cannot be written", path.display()),
    )
    .caused_by(error)
}

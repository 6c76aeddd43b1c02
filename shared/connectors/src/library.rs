//! Where connector folders come from: compiled in, or a directory that adds and overrides.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use include_dir::{Dir, include_dir};
use sluice_core::{Error, ErrorClass, Result, connector::ConnectorFiles};

static SHIPPED: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/systems");

/// Largest file read from a connector directory.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Folders within folders, counted from the connector's own.
const MAX_DEPTH: usize = 6;

/// All connectors known to this process, by name.
#[derive(Debug, Clone)]
pub struct Library {
    connectors: BTreeMap<String, Arc<ConnectorFiles>>,
}

impl Library {
    /// The shipped connectors, plus those in `dir`: each folder there is a connector. One with a
    /// shipped connector's name replaces it as a whole, so that no file of an older release is
    /// mixed with a newer one's. Names that begin with a dot are left out, and so are files that
    /// are no UTF-8 text.
    ///
    /// # Errors
    /// `connector_dir_unreadable` names the path; `connector_file_too_large` the file.
    pub fn new(dir: Option<&Path>) -> Result<Self> {
        let mut connectors = BTreeMap::new();
        for folder in SHIPPED.dirs() {
            let name = name_of(folder.path());
            let mut files = BTreeMap::new();
            collect_shipped(folder, folder.path(), &mut files);
            connectors.insert(name.clone(), Arc::new(ConnectorFiles { name, files }));
        }
        for folder in dir.map(subfolders).transpose()?.unwrap_or_default() {
            let name = name_of(&folder);
            let mut files = BTreeMap::new();
            collect(&folder, &folder, MAX_DEPTH, &mut files)?;
            connectors.insert(name.clone(), Arc::new(ConnectorFiles { name, files }));
        }
        Ok(Self { connectors })
    }

    /// The connector of this name.
    ///
    /// # Errors
    /// `connector_unknown`, with the nearest names as a hint.
    pub fn get(&self, name: &str) -> Result<Arc<ConnectorFiles>> {
        self.connectors.get(name).cloned().ok_or_else(|| {
            let nearest = self
                .names()
                .max_by(|a, b| similarity(a, name).total_cmp(&similarity(b, name)));
            let error = Error::config(
                "connector_unknown",
                format!("there is no connector named \"{name}\""),
            );
            match nearest {
                Some(known) if similarity(known, name) > 0.7 => {
                    error.hint(format!("did you mean \"{known}\"?"))
                }
                _ => error.hint(format!(
                    "known connectors: {}",
                    self.names().collect::<Vec<_>>().join(", ")
                )),
            }
        })
    }

    /// Names in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.connectors.keys().map(String::as_str)
    }
}

/// One folder as a connector of the folder's name.
///
/// # Errors
/// As [`Library::new`].
pub fn read_folder(folder: &Path) -> Result<ConnectorFiles> {
    // Named by where it is, not by how it was written: `.` has no name.
    let folder = folder.canonicalize().map_err(|error| {
        Error::config(
            "connector_dir_unreadable",
            format!("the connector folder {} cannot be read", folder.display()),
        )
        .caused_by(error)
    })?;
    let mut files = BTreeMap::new();
    collect(&folder, &folder, MAX_DEPTH, &mut files)?;
    Ok(ConnectorFiles {
        name: name_of(&folder),
        files,
    })
}

fn similarity(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(a, &b.to_lowercase())
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn collect_shipped(folder: &Dir<'_>, root: &Path, files: &mut BTreeMap<String, Arc<str>>) {
    for file in folder.files() {
        if let (Some(text), Some(path)) = (file.contents_utf8(), inner_path(file.path(), root)) {
            files.insert(path, text.into());
        }
    }
    for inner in folder.dirs() {
        collect_shipped(inner, root, files);
    }
}

/// The path below the connector's folder, with `/` on every system.
fn inner_path(path: &Path, root: &Path) -> Option<String> {
    let parts: Vec<_> = path
        .strip_prefix(root)
        .ok()?
        .components()
        .map(|part| part.as_os_str().to_string_lossy())
        .collect();
    Some(parts.join("/"))
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::new(
        ErrorClass::Config,
        "connector_dir_unreadable",
        format!("cannot read {}", path.display()),
    )
    .caused_by(error)
}

/// Entries that are not hidden, in order of name. Links are followed: mounted configuration
/// consists of them.
fn entries(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        if !name_of(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn subfolders(dir: &Path) -> Result<Vec<std::path::PathBuf>> {
    Ok(entries(dir)?
        .into_iter()
        .filter(|path| path.is_dir())
        .collect())
}

fn collect(
    folder: &Path,
    root: &Path,
    depth: usize,
    files: &mut BTreeMap<String, Arc<str>>,
) -> Result<()> {
    for path in entries(folder)? {
        if path.is_dir() {
            if depth > 0 {
                collect(&path, root, depth - 1, files)?;
            }
            continue;
        }
        let size = std::fs::metadata(&path)
            .map_err(|error| unreadable(&path, error))?
            .len();
        if size > MAX_FILE_BYTES {
            return Err(Error::config(
                "connector_file_too_large",
                format!(
                    "{} has {size} bytes; a connector's file may have {MAX_FILE_BYTES}",
                    path.display()
                ),
            ));
        }
        let bytes = std::fs::read(&path).map_err(|error| unreadable(&path, error))?;
        if let (Ok(text), Some(inner)) = (String::from_utf8(bytes), inner_path(&path, root)) {
            files.insert(inner, text.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_connectors_are_there_with_inner_paths() {
        let library = Library::new(None).unwrap();
        let one = library.get("one").unwrap();
        assert!(
            one.get("operations.yaml").is_some(),
            "{:?}",
            one.files.keys()
        );
    }

    #[test]
    fn a_directory_adds_and_replaces_whole_connectors() {
        let dir = std::env::temp_dir().join(format!("sluice-library-{}", uuid::Uuid::new_v4()));
        let write = |path: &str, bytes: &[u8]| {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        write("one/manifest.yaml", b"mine");
        write("acme/to_canonical/units.vrl", b".");
        write("acme/.hidden", b"x");
        write("acme/logo.png", &[0xff, 0xfe]);
        let library = Library::new(Some(&dir)).unwrap();
        let keys = |name: &str| -> Vec<String> {
            library.get(name).unwrap().files.keys().cloned().collect()
        };
        assert_eq!(keys("one"), ["manifest.yaml"]);
        assert_eq!(keys("acme"), ["to_canonical/units.vrl"]);
        std::fs::remove_dir_all(&dir).unwrap();
        let error = Library::new(Some(&dir)).unwrap_err();
        assert_eq!(error.code(), "connector_dir_unreadable");
    }

    #[test]
    fn an_unknown_name_gets_the_nearest_as_a_hint() {
        let error = Library::new(None).unwrap().get("lesen360").unwrap_err();
        assert_eq!(error.code(), "connector_unknown");
        assert!(error.advice().unwrap().contains("lessen360"), "{error}");
    }
}

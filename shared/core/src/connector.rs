//! A connector as files: what an integration engineer edits.

use std::{collections::BTreeMap, sync::Arc};

use crate::Hash;

/// One system's folder: path within the folder to text. For example `manifest.yaml` (how to
/// read), `operations.yaml` (how to write), `to_canonical/units.vrl`, `from_canonical/Location.vrl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorFiles {
    pub name: String,
    pub files: BTreeMap<String, Arc<str>>,
}

impl ConnectorFiles {
    /// The file at a path within the folder.
    pub fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(|text| &**text)
    }

    /// Files directly in a sub-folder with an ending, as (name without folder and ending, text).
    pub fn in_folder<'a>(
        &'a self,
        folder: &'a str,
        ending: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files.iter().filter_map(move |(path, text)| {
            let name = path
                .strip_prefix(folder)?
                .strip_prefix('/')?
                .strip_suffix(ending)?;
            (!name.contains('/')).then_some((name, &**text))
        })
    }

    /// Changes whenever a file does.
    pub fn fingerprint(&self) -> Hash {
        let mut all = Vec::new();
        for (path, text) in &self.files {
            all.extend_from_slice(Hash::of_bytes(path.as_bytes()).to_hex().as_bytes());
            all.extend_from_slice(Hash::of_bytes(text.as_bytes()).to_hex().as_bytes());
        }
        Hash::of_bytes(&all)
    }
}

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::*;

/// A shipped connector, read from its folder.
pub(crate) fn shipped(name: &str) -> ConnectorFiles {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../connectors/systems")
        .join(name);
    let mut files = BTreeMap::new();
    for folder in ["to_canonical", "from_canonical"] {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            let text: Arc<str> = std::fs::read_to_string(&path).unwrap().into();
            files.insert(format!("{folder}/{file}"), text);
        }
    }
    ConnectorFiles {
        name: name.to_owned(),
        files,
    }
}

#[test]
fn shipped_rules_compile() {
    for name in ["yardi", "one", "lessen360"] {
        if let Err(error) = Mapper::load(&shipped(name)) {
            panic!("{error}");
        }
    }
}

//! The source's connector as shipped, but webhooks can tell that a property is gone: Yardi itself
//! has no such mark.

use std::{fs, path::Path};

use super::super::webhook::DELETED;

/// Writes it into a folder that overrides what is shipped.
pub fn write(folder: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let shipped = root.unwrap().join("shared/connectors/systems/yardi");
    copy(&shipped, &folder.join("yardi"));
    let rules = folder.join("yardi/to_canonical/properties.vrl");
    let text = fs::read_to_string(&rules).unwrap();
    let place = "  \"source_id\": property_id,\n";
    assert!(text.contains(place), "the rules have changed");
    let marked = format!("{place}  \"deleted\": .{DELETED} == true,\n");
    fs::write(&rules, text.replace(place, &marked)).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

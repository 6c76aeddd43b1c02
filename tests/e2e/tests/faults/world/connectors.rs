//! The source's connector as shipped, but webhooks can tell that a property is gone: Yardi itself
//! has no such mark.

use std::{fs, path::Path};

use crate::{harness::copy_folder, webhook::DELETED};

/// Writes it into a folder that overrides what is shipped.
pub fn write(folder: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let shipped = root.unwrap().join("shared/connectors/systems/yardi");
    copy_folder(&shipped, &folder.join("yardi"));
    let rules = folder.join("yardi/to_canonical/properties.vrl");
    let text = fs::read_to_string(&rules).unwrap();
    let place = "  \"source_id\": property_id,\n";
    assert!(text.contains(place), "the rules have changed");
    let marked = format!("{place}  \"deleted\": .{DELETED} == true,\n");
    fs::write(&rules, text.replace(place, &marked)).unwrap();
}

//! From the text of `manifest.yaml` to components with types and parameters.

mod component;
mod conform;
mod lines;
mod propagate;
pub(crate) mod references;
mod shape;
mod vocabulary;
pub(crate) mod yaml;

use serde_json::Value;
use sluice_core::Result;

pub use component::Component;
pub use conform::{faults_of_frame, faults_of_stream};
pub use lines::Lines;
pub use propagate::falsy;
pub use vocabulary::unknown_fields;

/// Parses and resolves references: what manifests and `operations.yaml` have in common.
/// `root` is what error texts call the document.
pub fn parse(text: &str, root: &'static str) -> Result<Value> {
    references::resolve(&yaml::parse(text)?, root)
}

/// Parses, resolves references, fills in types and parameters.
pub fn load(text: &str) -> Result<Value> {
    Ok(propagate::propagate(parse(text, "manifest")?))
}

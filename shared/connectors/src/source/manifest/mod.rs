//! From the text of `manifest.yaml` to components with types and parameters.

mod component;
mod lines;
mod propagate;
pub(crate) mod references;
mod vocabulary;
pub(crate) mod yaml;

use serde_json::Value;
use sluice_core::Result;

pub use component::Component;
pub use lines::Lines;
pub use propagate::falsy;
pub use vocabulary::unknown_fields;

/// Parses and resolves references: what manifests and `operations.yaml` have in common.
pub fn parse(text: &str) -> Result<Value> {
    references::resolve(&yaml::parse(text)?)
}

/// Parses, resolves references, fills in types and parameters.
pub fn load(text: &str) -> Result<Value> {
    Ok(propagate::propagate(parse(text)?))
}

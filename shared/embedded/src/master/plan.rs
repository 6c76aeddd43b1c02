//! What a batch does: decided alike by both SQL backends.

pub(super) use sluice_store::plan::{Decided, Stored, check, plan};

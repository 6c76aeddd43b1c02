//! The [`sluice_store::MasterStore`] part.

pub(crate) mod apply;
pub(crate) mod catalogue;
pub(crate) mod migrate;
pub(crate) mod query;
mod read;
pub(crate) mod status;
mod wants;
mod write;

pub(crate) use read::lock;

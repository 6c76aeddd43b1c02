//! The [`sluice_store::TaskStore`] part about tasks.

pub(crate) mod attempts;
#[cfg(test)]
mod by_key;
pub(crate) mod claim;
mod crash;
pub(crate) mod dependency;
pub(crate) mod lease;
pub(crate) mod pull;
pub(crate) mod rescue;
pub(crate) mod settle;
mod settle_write;
pub(crate) mod stage;
pub(crate) mod unknown;

//! Numeric identities given by the SQL store.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A tenant. Every row, document, message and call belongs to exactly one.
    OrganizationId
);
id!(
    /// One organization's account at a system.
    ConnectionId
);
id!(
    /// One row of `sync_master_data`.
    MasterId
);
id!(
    /// One row of `sync_queue`.
    TaskId
);
id!(
    /// One row of `sync_orchestration`.
    RunId
);

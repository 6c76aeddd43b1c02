//! What an inbound record means for the master record (design: "one record", step 4).

use serde::{Deserialize, Serialize};

use crate::{Hash, Timestamp};

/// What the store knows about the master record and about its link to the source connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Hash of the newest version.
    pub master_hash: Hash,
    /// The newest version is a deletion.
    pub master_deleted: bool,
    /// Hash this connection last showed us; `None` when it never has.
    pub last_seen_hash: Option<Hash>,
    /// Modification time that came with it.
    pub last_seen_modified_at: Option<Timestamp>,
    /// Hash both sides last agreed on (the base); `None` when they never have.
    pub base_hash: Option<Hash>,
}

/// What the connection says now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    pub hash: Hash,
    pub deleted: bool,
    pub modified_at: Option<Timestamp>,
}

/// The decision for one inbound record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// No master record yet: version 1.
    Create,
    /// Changed there only: a new version.
    Update,
    /// Deleted there: a version that marks the deletion.
    Delete,
    /// Was deleted and is back: a new version.
    Restore,
    /// Nothing new: no version, no push.
    Unchanged,
    /// Older than what this connection already showed us: ignored (promise I6).
    Stale,
    /// Both sides changed since they last agreed: neither is overwritten.
    Conflict,
}

impl Change {
    /// Whether this decision makes a new version.
    pub fn makes_version(self) -> bool {
        matches!(
            self,
            Self::Create | Self::Update | Self::Delete | Self::Restore
        )
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Restore => "restore",
            Self::Unchanged => "unchanged",
            Self::Stale => "stale",
            Self::Conflict => "conflict",
        }
    }
}

/// Decides. The order of the questions matters: agreement first (the same content again is never
/// a conflict), then age, then who changed.
pub fn decide(known: Option<&Known>, inbound: &Inbound) -> Change {
    let Some(known) = known else {
        // A deletion of something never seen leaves nothing to delete.
        return if inbound.deleted {
            Change::Unchanged
        } else {
            Change::Create
        };
    };
    if inbound.hash == known.master_hash && inbound.deleted == known.master_deleted {
        return Change::Unchanged;
    }
    if let (Some(now), Some(seen)) = (inbound.modified_at, known.last_seen_modified_at)
        && now < seen
    {
        return Change::Stale;
    }
    let changed_there =
        known.last_seen_hash != Some(inbound.hash) || inbound.deleted != known.master_deleted;
    if !changed_there {
        return Change::Unchanged;
    }
    let changed_here = known
        .base_hash
        .is_some_and(|base| base != known.master_hash);
    if changed_here {
        return Change::Conflict;
    }
    match (inbound.deleted, known.master_deleted) {
        (true, false) => Change::Delete,
        (false, true) => Change::Restore,
        // Both deleted: only the content differs, which nobody needs to hear about.
        (true, true) => Change::Unchanged,
        (false, false) => Change::Update,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u8) -> Hash {
        Hash::of_bytes(&[n])
    }

    fn at(second: i64) -> Option<Timestamp> {
        Timestamp::from_timestamp(second, 0)
    }

    fn known(master: u8, seen: u8, base: u8) -> Known {
        Known {
            master_hash: hash(master),
            master_deleted: false,
            last_seen_hash: Some(hash(seen)),
            last_seen_modified_at: at(100),
            base_hash: Some(hash(base)),
        }
    }

    fn inbound(content: u8) -> Inbound {
        Inbound {
            hash: hash(content),
            deleted: false,
            modified_at: at(200),
        }
    }

    #[test]
    fn a_new_record_is_created_and_an_unknown_deletion_ignored() {
        assert_eq!(decide(None, &inbound(1)), Change::Create);
        assert_eq!(
            decide(
                None,
                &Inbound {
                    deleted: true,
                    ..inbound(1)
                }
            ),
            Change::Unchanged
        );
    }

    /// I2: the same payload again changes nothing, whatever its time says.
    #[test]
    fn the_same_content_is_unchanged_even_with_an_older_time() {
        let old = Inbound {
            modified_at: at(1),
            ..inbound(1)
        };
        assert_eq!(decide(Some(&known(1, 1, 1)), &old), Change::Unchanged);
    }

    /// I6: a late copy never replaces newer master data.
    #[test]
    fn an_older_copy_is_stale_and_an_equal_time_is_not() {
        let older = Inbound {
            modified_at: at(99),
            ..inbound(2)
        };
        let same_time = Inbound {
            modified_at: at(100),
            ..inbound(2)
        };
        assert_eq!(decide(Some(&known(1, 1, 1)), &older), Change::Stale);
        assert_eq!(decide(Some(&known(1, 1, 1)), &same_time), Change::Update);
    }

    /// S2, the rows of the truth table that need no deletion.
    #[test]
    fn who_changed_decides() {
        assert_eq!(decide(Some(&known(1, 1, 1)), &inbound(2)), Change::Update);
        assert_eq!(
            decide(Some(&known(2, 1, 1)), &inbound(1)),
            Change::Unchanged
        );
        assert_eq!(decide(Some(&known(2, 1, 1)), &inbound(3)), Change::Conflict);
        assert_eq!(
            decide(Some(&known(2, 1, 1)), &inbound(2)),
            Change::Unchanged
        );
    }

    /// S2, the rows with deletions; I5: a record that reappears is restored.
    #[test]
    fn deletions_are_versions_and_reappearing_restores() {
        let gone = Inbound {
            deleted: true,
            ..inbound(9)
        };
        assert_eq!(decide(Some(&known(1, 1, 1)), &gone), Change::Delete);
        assert_eq!(decide(Some(&known(2, 1, 1)), &gone), Change::Conflict);
        let deleted = Known {
            master_deleted: true,
            ..known(9, 9, 9)
        };
        assert_eq!(decide(Some(&deleted), &inbound(1)), Change::Restore);
        assert_eq!(decide(Some(&deleted), &gone), Change::Unchanged);
    }
}

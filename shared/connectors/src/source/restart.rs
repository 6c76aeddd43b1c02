//! `PaginationReset`: a window is read again from its first page, because the system wants it so or
//! gives no more than so many records for one question.

use serde::{Deserialize, Serialize};
use sluice_core::{Error, ErrorClass, Result};

use super::{
    cursor::{Cursor, Mark, Window},
    manifest::Component,
    slice::Progress,
};

/// When and how a window is begun again.
#[derive(Debug, Default)]
pub struct Restart {
    /// From the highest cursor value seen, not from the window's start.
    by_cursor: bool,
    /// As soon as one run through the pages has given so many records.
    limit: Option<u64>,
}

/// What is known about the window's earlier runs; stored as progress between pages.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Runs {
    /// Where the window begins now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Mark>,
    /// Records of this run.
    #[serde(default)]
    records: u64,
    /// How often it was begun again at the same place.
    #[serde(default)]
    repeated: u32,
}

impl Restart {
    pub fn build(retriever: &Component<'_>) -> Result<Self> {
        let Some(component) = retriever.child("pagination_reset")? else {
            return Ok(Self::default());
        };
        let by_cursor = match component.text("action") {
            Some("RESET") => false,
            Some("SPLIT_USING_CURSOR") => true,
            _ => return Err(component.invalid("action", "must be RESET or SPLIT_USING_CURSOR")),
        };
        let limits = component.child("limits")?;
        let limit = limits.and_then(|limits| limits.integer("number_of_records"));
        let limit = limit.map(|limit| {
            u64::try_from(limit)
                .ok()
                .filter(|limit| *limit > 0)
                .ok_or_else(|| component.invalid("limits.number_of_records", "must be above 0"))
        });
        Ok(Self {
            by_cursor,
            limit: limit.transpose()?,
        })
    }

    /// Counts a page's records; whether the run has given all it can.
    pub fn counts(&self, runs: &mut Runs, records: usize) -> bool {
        runs.records = runs.records.saturating_add(records as u64);
        self.limit.is_some_and(|limit| runs.records >= limit)
    }

    /// The progress at the window's first page again.
    ///
    /// # Errors
    /// `pagination_reset_in_vain` when nothing would be different from the run before.
    pub fn again(
        &self,
        progress: &Progress,
        cursor: Option<&Cursor>,
        window: Option<&Window>,
    ) -> Result<Progress> {
        let (from, repeats, allowed) = match (cursor, window) {
            (Some(cursor), Some(window)) if self.by_cursor => {
                let before = progress.runs.from.unwrap_or(window.start);
                let seen = progress.highest.filter(|seen| *seen >= window.start);
                // As requests have it: what they do not tell makes no difference.
                let place = |mark: Mark| cursor.output(mark);
                let repeats = place(seen.unwrap_or(window.start)) == place(before);
                (seen, repeats, 1)
            }
            // For the time being only: once more may help.
            _ => (None, true, 2),
        };
        let repeated = if repeats {
            progress.runs.repeated + 1
        } else {
            0
        };
        if repeats && repeated >= allowed {
            return Err(Error::new(
                ErrorClass::Validation,
                "pagination_reset_in_vain",
                "reading from the first page again would give the same pages",
            )
            .hint("look at `pagination_reset` of the connector's manifest"));
        }
        Ok(Progress {
            page: None,
            runs: Runs {
                from,
                records: 0,
                repeated,
            },
            ..progress.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_window_is_begun_again_once_without_a_cursor() {
        let restart = Restart::default();
        let first = restart.again(&Progress::default(), None, None).unwrap();
        assert_eq!(first.page, None);
        let error = restart.again(&first, None, None).unwrap_err();
        assert_eq!(error.code(), "pagination_reset_in_vain");
    }

    #[test]
    fn records_are_counted_over_the_pages_of_a_run() {
        let restart = Restart {
            by_cursor: true,
            limit: Some(5),
        };
        let mut runs = Runs::default();
        assert!(!restart.counts(&mut runs, 4));
        assert!(restart.counts(&mut runs, 1));
        assert!(!Restart::default().counts(&mut runs, 1_000_000));
    }

    #[test]
    fn wrong_resets_are_refused() {
        for wrong in [
            json!({"pagination_reset": {}}),
            json!({"pagination_reset": {"action": "DANCE"}}),
            json!({"pagination_reset": {"action": "RESET", "limits": {"number_of_records": 0}}}),
        ] {
            let component = Component::new(&wrong, "manifest.r").unwrap();
            let error = Restart::build(&component).unwrap_err();
            assert!(
                error.message().starts_with("manifest.r.pagination_reset."),
                "{error}"
            );
        }
    }
}

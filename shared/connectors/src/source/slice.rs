//! Slices and progress as they are stored: self-contained JSON.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sluice_core::{Error, Result, fingerprint};

use super::{
    cursor::{Mark, Range, Window},
    paginate::Position,
    partition::Partition,
    restart::Runs,
};

/// One unit of reading: a partition and, with a cursor, its range.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Missing for what nobody asked the source for: the body of a file or a webhook.
    #[serde(default)]
    pub partition: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Range>,
    /// It is of the stream that is read while there is no state.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first: bool,
    /// The JSON of its first page, if that came with its parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    /// Only this record is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
}

impl Slice {
    pub fn from_json(value: &Value) -> Result<Self> {
        Self::deserialize(value).map_err(|_| {
            Error::internal(
                "slice_invalid",
                "a stored slice does not have a slice's form",
            )
            .hint("the task was made by another version; start the run again")
        })
    }

    pub fn to_json(&self) -> Result<Value> {
        serde_json::to_value(self)
            .map_err(|_| Error::internal("slice_unprintable", "a slice cannot be written"))
    }

    pub fn part(&self) -> Partition {
        Partition {
            values: self.partition.clone(),
            extra: self.extra.clone(),
            page: None,
        }
    }

    /// Canonical JSON of the partition, the key of its state.
    pub fn partition_key(&self) -> String {
        fingerprint::canonical_json(&Value::Object(self.partition.clone()))
    }

    /// The first page, while nothing was read and unless it is to be read again.
    pub fn first_page(&self, progress: &Progress) -> Option<&str> {
        let begun = progress.page.is_some() || !is_untouched(&progress.runs);
        self.page.as_deref().filter(|_| !begun)
    }

    /// The whole range as one window.
    pub fn whole(&self) -> Option<Window> {
        self.cursor.as_ref().map(|range| Window {
            start: range.start,
            end: range.end,
            next: None,
        })
    }
}

/// How far a slice has been read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Start of the window being read; `None` for the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Mark>,
    /// The page to be read next in that window; `None` for its first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Position>,
    /// Highest cursor value seen in the slice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest: Option<Mark>,
    /// The window was begun again, or may be.
    #[serde(default, skip_serializing_if = "is_untouched")]
    pub runs: Runs,
    /// Nothing is left to read.
    #[serde(default)]
    pub done: bool,
}

impl Progress {
    pub fn from_json(value: Option<Value>) -> Result<Self> {
        match value {
            None | Some(Value::Null) => Ok(Self::default()),
            Some(value) => serde_json::from_value(value).map_err(|_| {
                Error::internal("progress_invalid", "stored progress does not have its form")
                    .hint("the task was made by another version; start the run again")
            }),
        }
    }

    pub fn to_json(&self) -> Result<Value> {
        serde_json::to_value(self)
            .map_err(|_| Error::internal("progress_unprintable", "progress cannot be written"))
    }
}

fn is_untouched(runs: &Runs) -> bool {
    *runs == Runs::default()
}

//! Priorities and the queue classes they fall into.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorClass};

/// Urgency of a task: 1 is the highest, 10 the lowest, 5 the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Priority(u8);

impl Priority {
    pub const HIGHEST: Self = Self(1);
    pub const DEFAULT: Self = Self(5);
    pub const LOWEST: Self = Self(10);

    /// The queue class that carries this priority: 1-3 high, 4-7 normal, 8-10 low.
    pub fn class(self) -> QueueClass {
        match self.0 {
            ..=3 => QueueClass::High,
            4..=7 => QueueClass::Normal,
            _ => QueueClass::Low,
        }
    }

    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl TryFrom<u8> for Priority {
    type Error = Error;

    fn try_from(value: u8) -> Result<Self, Error> {
        if (1..=10).contains(&value) {
            Ok(Self(value))
        } else {
            Err(Error::new(
                ErrorClass::Validation,
                "priority_out_of_range",
                format!("priority {value} is outside 1 (highest) to 10 (lowest)"),
            ))
        }
    }
}

impl From<Priority> for u8 {
    fn from(value: Priority) -> Self {
        value.0
    }
}

/// One of the three work queues of a connection. RabbitMQ 3.10 and 4.x treat priorities inside a
/// quorum queue differently, so each class has a queue of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueClass {
    High,
    Normal,
    Low,
}

impl QueueClass {
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// The inclusive range of priorities in this class.
    pub fn priorities(self) -> (u8, u8) {
        match self {
            Self::High => (1, 3),
            Self::Normal => (4, 7),
            Self::Low => (8, 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_priority_falls_into_the_class_that_lists_it() {
        for value in 1..=10 {
            let class = Priority::try_from(value).unwrap().class();
            let (from, to) = class.priorities();
            assert!((from..=to).contains(&value), "{value} in {class:?}");
        }
        assert!(Priority::try_from(0).is_err());
        assert!(Priority::try_from(11).is_err());
    }
}

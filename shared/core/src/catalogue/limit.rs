//! How many calls a connection allows.

use serde::{Deserialize, Serialize};

use crate::traffic::pace::MAX_LIMITS;

/// Longest window of a limit: 31 days.
pub(crate) const MAX_SECONDS: u32 = 31 * 24 * 3_600;
/// Paths of one limit, and bytes of each.
const MAX_PATHS: usize = 16;
const MAX_PATH: usize = 200;
/// Percent that may be reserved.
const MAX_RESERVE: u8 = 90;

/// At most `calls` in any window of `per_seconds`, made by all processes together (promise O3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    pub calls: u32,
    pub per_seconds: u32,
    /// Only calls whose URL's path begins with one of these count; empty: every call does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Percent of the calls that only urgent ones may make (priorities 1 to 3). Default 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reserve: u8,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_zero(percent: &u8) -> bool {
    *percent == 0
}

impl RateLimit {
    /// A limit of all calls, with no reserve.
    pub fn new(calls: u32, per_seconds: u32) -> Self {
        Self {
            calls,
            per_seconds,
            paths: Vec::new(),
            reserve: 0,
        }
    }

    /// Whether every call counts, whatever its path.
    pub fn counts_all(&self) -> bool {
        self.paths.is_empty()
    }
}

/// As the command line takes it: `60/60,reserve=20,path=/a`.
impl std::fmt::Display for RateLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.calls, self.per_seconds)?;
        if self.reserve > 0 {
            write!(f, ",reserve={}", self.reserve)?;
        }
        self.paths
            .iter()
            .try_for_each(|path| write!(f, ",path={path}"))
    }
}

impl RateLimit {
    fn problem(&self) -> Option<String> {
        let path_fits = |path: &String| path.starts_with('/') && path.len() <= MAX_PATH;
        if self.calls == 0 || self.per_seconds == 0 {
            Some("calls and per_seconds must be at least 1".to_owned())
        } else if self.per_seconds > MAX_SECONDS {
            Some(format!(
                "per_seconds must be at most {MAX_SECONDS}, 31 days"
            ))
        } else if self.reserve > MAX_RESERVE {
            Some(format!("reserve must be 0 to {MAX_RESERVE} percent"))
        } else if self.paths.len() > MAX_PATHS || !self.paths.iter().all(path_fits) {
            Some(format!(
                "paths are at most {MAX_PATHS}, each begins with / and has at most {MAX_PATH} bytes"
            ))
        } else {
            None
        }
    }
}

/// What is wrong with the limits of one connection, wherever they come from.
pub fn limit_problems(limits: &[RateLimit]) -> Vec<String> {
    let too_many =
        (limits.len() > MAX_LIMITS).then(|| format!("at most {MAX_LIMITS} limits are possible"));
    let mut problems: Vec<_> = limits.iter().filter_map(RateLimit::problem).collect();
    problems.dedup();
    problems.extend(too_many);
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_within_the_bounds_are_taken_and_others_are_not() {
        let sound = RateLimit {
            paths: vec!["/a".into()],
            reserve: MAX_RESERVE,
            ..RateLimit::new(1, MAX_SECONDS)
        };
        assert_eq!(limit_problems(&[]), [""; 0]);
        assert_eq!(limit_problems(&vec![sound.clone(); MAX_LIMITS]), [""; 0]);
        let many = vec![sound.clone(); MAX_LIMITS + 1];
        assert_eq!(limit_problems(&many).len(), 1);
        for wrong in [
            RateLimit::new(0, 1),
            RateLimit::new(1, 0),
            RateLimit::new(1, MAX_SECONDS + 1),
            RateLimit {
                reserve: MAX_RESERVE + 1,
                ..sound.clone()
            },
            RateLimit {
                paths: vec!["a".into()],
                ..sound.clone()
            },
            RateLimit {
                paths: vec![format!("/{}", "a".repeat(MAX_PATH))],
                ..sound.clone()
            },
            RateLimit {
                paths: vec!["/a".into(); MAX_PATHS + 1],
                ..sound.clone()
            },
        ] {
            assert_eq!(
                limit_problems(&[sound.clone(), wrong.clone()]).len(),
                1,
                "{wrong}"
            );
        }
    }
}

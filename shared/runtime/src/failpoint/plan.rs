//! The rules of a process: read once, counted at each point.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::Point;

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Kill,
    Pause(Duration),
}

#[derive(Debug)]
struct Rule {
    point: Point,
    /// Only this record; any when absent.
    subject: Option<String>,
    action: Action,
    /// Only this hit, from 1; each when absent.
    only: Option<u64>,
    hits: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Plan(Vec<Rule>);

impl Plan {
    /// Reads `POINT[@SUBJECT]=ACTION[@N]`, separated by `;`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        text.split(';')
            .map(str::trim)
            .filter(|rule| !rule.is_empty())
            .map(rule)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Counts a hit in every rule about it; the first one whose turn it is says what happens.
    pub(super) fn hit(&self, point: Point, subject: &str) -> Option<Action> {
        let mut action = None;
        for rule in &self.0 {
            let about = rule.subject.as_deref().is_none_or(|only| only == subject);
            if rule.point != point || !about {
                continue;
            }
            let hit = rule.hits.fetch_add(1, Ordering::Relaxed) + 1;
            if rule.only.is_none_or(|only| only == hit) {
                action = action.or(Some(rule.action));
            }
        }
        action
    }
}

fn rule(text: &str) -> Result<Rule, String> {
    // The last one: a subject may hold any sign, an action none.
    let (place, action) = text
        .rsplit_once('=')
        .ok_or_else(|| format!("`{text}` has no `=`"))?;
    let (name, subject) = match place.split_once('@') {
        Some((name, subject)) => (name, Some(subject.to_owned())),
        None => (place, None),
    };
    let point = *Point::ALL
        .iter()
        .find(|point| point.name() == name)
        .ok_or_else(|| format!("no point is called `{name}`"))?;
    let (action, only) = match action.split_once('@') {
        Some((action, number)) => {
            let number = number.parse().ok().filter(|number| *number > 0);
            let number = number.ok_or_else(|| format!("`{text}` counts hits from 1"))?;
            (action, Some(number))
        }
        None => (action, None),
    };
    let action = match action.split_once(':') {
        None if action == "kill" => Action::Kill,
        Some(("pause", time)) => Action::Pause(
            humantime::parse_duration(time).map_err(|error| format!("`{text}`: {error}"))?,
        ),
        _ => return Err(format!("`{text}` is neither `kill` nor `pause:DURATION`")),
    };
    Ok(Rule {
        point,
        subject,
        action,
        only,
        hits: AtomicU64::new(0),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn only_the_named_hit_of_the_named_point_acts() {
        let rules =
            "sync_out.answered=pause:1s@1; sync_out.answered=kill@3; sync_in.kept=pause:250ms";
        let plan = Plan::parse(rules).unwrap();
        let answered: Vec<_> = (0..4)
            .map(|_| plan.hit(Point::SyncOutAnswered, ""))
            .collect();
        let first = Some(Action::Pause(Duration::from_secs(1)));
        assert_eq!(answered, [first, None, Some(Action::Kill), None]);
        let pause = Some(Action::Pause(Duration::from_millis(250)));
        assert_eq!(plan.hit(Point::SyncInKept, ""), pause);
        assert_eq!(plan.hit(Point::SyncInKept, ""), pause);
        assert_eq!(plan.hit(Point::SyncOutSettled, ""), None);
    }

    #[test]
    fn a_subject_restricts_a_rule_to_one_record() {
        let plan = Plan::parse("sync_out.mapped@yardi:a=1@x=kill@2").unwrap();
        assert_eq!(plan.hit(Point::SyncOutMapped, "yardi:b"), None);
        assert_eq!(plan.hit(Point::SyncOutMapped, "yardi:a=1@x"), None);
        let second = plan.hit(Point::SyncOutMapped, "yardi:a=1@x");
        assert_eq!(second, Some(Action::Kill));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for text in [
            "sync_out.answered",
            "sync_out.answred=kill",
            "sync_out.answered=explode",
            "sync_out.answered=kill@0",
            "sync_out.answered=pause:soon",
        ] {
            let problem = Plan::parse(text).unwrap_err();
            assert!(problem.contains('`'), "{problem}");
        }
    }

    #[test]
    fn every_point_has_a_name_of_its_own() {
        let names: BTreeSet<_> = Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
    }
}

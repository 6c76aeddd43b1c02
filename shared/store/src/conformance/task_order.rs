//! Cases of [`crate::TaskStore`]: order and coalescing (promise O2).

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;
use sluice_core::{record::CanonicalRecord, task::PushAction};

use super::sql::{LOCATION, SqlFixture, World, delivered, gone, location};
use crate::task::{PushNext, PushTask};

/// The cases of this file.
#[macro_export]
macro_rules! task_order_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            task_order,
            [every_order_of_edits_and_deletes_ends_in_one_call_with_the_last]
        );
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    Edit,
    Delete,
}

/// What a record should be, and how often that changed.
#[derive(Debug, Clone, Copy)]
struct Model {
    content: i64,
    deleted: bool,
    version: i32,
}

impl Model {
    /// Takes a step, and gives the record as its source then shows it.
    fn step(&mut self, name: &str, step: Step, time: i64) -> Option<CanonicalRecord> {
        match step {
            Step::Nothing => return None,
            Step::Delete if self.deleted => {}
            Step::Delete => {
                self.deleted = true;
                self.version += 1;
            }
            Step::Edit => {
                self.content = time;
                self.deleted = false;
                self.version += 1;
            }
        }
        let record = location(name, self.content, time);
        Some(if self.deleted { gone(record) } else { record })
    }
}

/// Every pair of steps.
fn pairs() -> Vec<[Step; 2]> {
    let steps = [Step::Nothing, Step::Edit, Step::Delete];
    steps
        .iter()
        .flat_map(|first| steps.map(|second| [*first, second]))
        .collect()
}

/// As a worker would: a deletion of what was never there needs no call.
fn outcome(task: &PushTask) -> PushNext {
    let linked = task
        .link
        .as_ref()
        .is_some_and(|link| link.external_id.is_some());
    match (task.deleted, linked) {
        (false, false) => delivered(task, PushAction::Created),
        (false, true) => delivered(task, PushAction::Updated),
        (true, true) => delivered(task, PushAction::Deleted),
        (true, false) => PushNext::Delivered {
            action: PushAction::Skipped,
            version: task.version,
            hash: None,
            external_id: None,
        },
    }
}

fn check(models: &BTreeMap<String, Model>, task: &PushTask) {
    let name = &task.source_id;
    let model = models[name];
    assert_eq!(
        (task.version, task.deleted),
        (model.version, model.deleted),
        "{name}"
    );
    assert_eq!(task.data["content"], json!(model.content), "{name}");
    assert_eq!(task.unsettled_version, None, "{name}");
}

/// Two steps while the push waits, two while it is on its way; all 81 ways. Deletes are kept, and
/// what came back is there.
pub async fn every_order_of_edits_and_deletes_ends_in_one_call_with_the_last(
    fixture: Arc<dyn SqlFixture>,
) {
    let w = World::new(fixture).await;
    let names: Vec<_> = pairs()
        .into_iter()
        .flat_map(|before| pairs().into_iter().map(move |during| (before, during)))
        .map(|(before, during)| (format!("{before:?} {during:?}"), before, during))
        .collect();
    let mut models = BTreeMap::new();
    for (name, ..) in &names {
        let new = Model {
            content: 1,
            deleted: false,
            version: 1,
        };
        models.insert(name.clone(), new);
    }
    w.apply(models.keys().map(|name| location(name, 1, 1)).collect())
        .await;
    for place in 0..2 {
        let time = 100 + place as i64;
        let steps = names.iter().filter_map(|(name, before, _)| {
            models
                .get_mut(name)
                .unwrap()
                .step(name, before[place], time)
        });
        w.apply(steps.collect()).await;
    }
    let sent = w.claim_all().await;
    assert_eq!(sent.len(), names.len());
    sent.iter().for_each(|task| check(&models, task));
    for place in 0..2 {
        let time = 200 + place as i64;
        let steps = names.iter().filter_map(|(name, _, during)| {
            models
                .get_mut(name)
                .unwrap()
                .step(name, during[place], time)
        });
        w.apply(steps.collect()).await;
    }
    assert!(w.claim_all().await.is_empty(), "one call at a time");
    for task in &sent {
        assert!(w.settle(task, outcome(task)).await);
    }
    let changed = sent
        .iter()
        .filter(|task| models[&task.source_id].version > task.version)
        .count();
    let again = w.claim_all().await;
    assert_eq!(again.len(), changed);
    for task in &again {
        check(&models, task);
        assert!(w.settle(task, outcome(task)).await);
    }
    assert!(w.claim_all().await.is_empty());
    for (name, model) in &models {
        let history = w.history(LOCATION, name).await;
        let link = history.links.iter().find(|link| link.connection == "one");
        let there = link.is_some_and(|link| link.external_id.is_some());
        assert_eq!(there, !model.deleted, "{name}");
    }
}

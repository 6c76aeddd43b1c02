//! What the broker holds at rest, and whether its alarms did what they were raised for.

use std::collections::BTreeMap;

use super::Court;

/// Queues of dead letters are named after it, the organization and the connection.
const DEAD: &str = "sluice.dead.";

impl Court<'_> {
    /// At rest no reference is left but those of open dead letters, each in its connection's queue.
    pub(super) fn queues(&mut self) {
        let targets: BTreeMap<_, _> = self
            .history
            .tasks
            .iter()
            .map(|task| (task.id, task.target.as_deref().unwrap_or_default()))
            .collect();
        let mut open: BTreeMap<&str, i64> = BTreeMap::new();
        let mut left_over = Vec::new();
        for letter in &self.history.letters {
            let target = targets.get(&letter.task).copied().unwrap_or_default();
            if letter.state == "open" {
                *open.entry(target).or_default() += 1;
            } else if letter.mirrored {
                left_over.push(format!("dead letter {}", letter.id));
            }
        }
        for about in left_over {
            self.accuse("O6", about, "is closed, and its message is still there");
        }
        if self.history.queues.is_empty() {
            return;
        }
        for (queue, messages) in &self.history.queues {
            let Some(name) = queue.strip_prefix(DEAD) else {
                if *messages > 0 {
                    let problem = format!("holds {messages} messages at rest");
                    self.accuse("M2", queue, problem);
                }
                continue;
            };
            let connection = name.split('.').next_back().unwrap_or_default();
            let open = open.remove(connection).unwrap_or_default();
            if open != *messages {
                let problem = format!("holds {messages} messages for {open} open dead letters");
                self.accuse("O6", queue, problem);
            }
        }
        for (target, open) in open {
            let problem = format!("has {open} open dead letters and no queue for them");
            self.accuse("O6", target, problem);
        }
    }

    /// M2 under an alarm is shown only by one that held publishers up.
    pub(super) fn alarms(&mut self) {
        for alarm in &self.history.alarms {
            if !alarm.blocked {
                self.accuse("M2", alarm.name, "was raised, and no publisher had to wait");
            }
        }
    }
}

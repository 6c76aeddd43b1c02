//! Judges a history: which promise was broken, for which record, and how it came about. Pure.

mod order;
mod queues;
mod targets;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::history::{History, Task};

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accusation {
    pub promise: &'static str,
    /// The record, task or run, and where.
    pub about: String,
    pub problem: String,
    /// What both sides noted.
    pub history: String,
}

/// All accusations; none means that every promise was kept.
pub fn check(history: &History) -> Vec<Accusation> {
    let mut court = Court {
        history,
        accusations: Vec::new(),
    };
    court.raw_store();
    court.webhooks();
    court.versions();
    court.runs();
    court.tasks();
    court.attempts();
    court.poison();
    court.dead_letters();
    for (name, vendor) in &history.vendors {
        court.order(name, vendor);
        court.calls(name, vendor);
        court.limits(name, vendor);
    }
    court.queues();
    court.alarms();
    court.contents();
    court.deletions();
    court.accusations
}

/// The cause of a task that was given up because its workers died of it.
const WORKER_DIED: &str = "worker_died";

/// Whether the broker holds nothing but what it should at rest.
pub fn queues_are_at_rest(history: &History) -> bool {
    let mut court = Court {
        history,
        accusations: Vec::new(),
    };
    court.queues();
    court.accusations.is_empty()
}

struct Court<'a> {
    history: &'a History,
    accusations: Vec<Accusation>,
}

impl Court<'_> {
    fn accuse(
        &mut self,
        promise: &'static str,
        about: impl Into<String>,
        problem: impl Into<String>,
    ) {
        self.accusations.push(Accusation {
            promise,
            about: about.into(),
            problem: problem.into(),
            history: String::new(),
        });
    }

    fn accuse_task(&mut self, promise: &'static str, task: &Task, problem: impl Into<String>) {
        let master = task.master.unwrap_or_default();
        let target = task.target.clone().unwrap_or_default();
        let record = self.history.masters.iter().find(|one| one.id == master);
        let name = record.map_or_else(
            || format!("{} task {}", task.kind, task.id),
            |one| format!("{} {} at {target}", one.entity_type, one.entity_id),
        );
        self.accusations.push(Accusation {
            promise,
            about: name,
            problem: problem.into(),
            history: self.history.about(master, &target),
        });
    }

    /// I1, I2: what came in is dealt with, and what became data was kept before.
    fn raw_store(&mut self) {
        for payload in &self.history.payloads {
            if payload.state == "pending" {
                self.accuse("I1", format!("payload {}", payload.id), "is still pending");
            }
        }
        let known: BTreeSet<_> = self
            .history
            .masters
            .iter()
            .map(|one| one.source_id.as_str())
            .collect();
        let mut kept = BTreeSet::new();
        for record in &self.history.records {
            kept.extend(record.made.iter().map(String::as_str));
            let about = format!("raw {} {}", record.entity_type, record.source_id);
            match record.state.as_str() {
                "completed" => {
                    let lost = record.made.iter().find(|id| !known.contains(id.as_str()));
                    if let Some(id) = lost {
                        self.accuse(
                            "I1",
                            about,
                            format!("was accepted, and {id} is no master record"),
                        );
                    }
                }
                "failed" if record.errors > 0 => {}
                "failed" => self.accuse("I1", about, "was rejected without a reason"),
                state => self.accuse("I1", about, format!("is left as {state}")),
            }
        }
        let unkept = self.history.masters.iter();
        let unkept: Vec<_> = unkept
            .filter(|one| !kept.contains(one.source_id.as_str()))
            .map(|one| format!("{} {}", one.entity_type, one.source_id))
            .collect();
        for name in unkept {
            self.accuse("I1", name, "is a master record that no raw record tells of");
        }
    }

    /// I1: what a webhook was answered for is there.
    fn webhooks(&mut self) {
        for hook in &self.history.hooks {
            let masters = self.history.masters.iter();
            let found = masters.filter(|one| one.source_id == *hook).count();
            if found != 1 {
                let problem = format!("was delivered and is {found} master records");
                self.accuse("I1", format!("webhook {hook}"), problem);
            }
        }
    }

    /// M1: versions count from 1 without gaps, one for each change.
    fn versions(&mut self) {
        let mut by_master: HashMap<i64, Vec<_>> = HashMap::new();
        for version in &self.history.versions {
            by_master.entry(version.master).or_default().push(version);
        }
        for master in &self.history.masters {
            let mut versions = by_master.remove(&master.id).unwrap_or_default();
            versions.sort_by_key(|version| version.number);
            let about = format!("{} {}", master.entity_type, master.entity_id);
            let numbers: Vec<_> = versions.iter().map(|version| version.number).collect();
            if numbers != (1..=master.version).collect::<Vec<_>>() {
                let problem = format!("has versions {numbers:?} and is at {}", master.version);
                self.accuse("M1", &about, problem);
            }
            if versions.last().is_some_and(|last| last.hash != master.hash) {
                self.accuse("M1", &about, "differs from its newest version");
            }
            for pair in versions.windows(2) {
                let said_change = ["delete", "restore"].contains(&pair[1].change.as_str());
                if pair[0].hash == pair[1].hash && !said_change {
                    let problem = format!("version {} changes nothing", pair[1].number);
                    self.accuse("I2", &about, problem);
                }
            }
        }
        for (master, _) in by_master {
            self.accuse("M1", format!("master {master}"), "has versions and no row");
        }
    }

    /// C1: every run came to an end, and not to a bad one; where workers of one pull died again and
    /// again, the run says so, and the last run made up for it.
    fn runs(&mut self) {
        let newest = self.history.runs.iter().map(|run| run.id).max();
        for run in &self.history.runs {
            let worn_out = self.history.tasks.iter().any(|task| {
                task.run == Some(run.id) && task.error_code.as_deref() == Some(WORKER_DIED)
            });
            let failed = run.state == "failed" && worn_out && Some(run.id) != newest;
            if !failed && !["done", "partial"].contains(&run.state.as_str()) {
                let problem = format!("ended as {}: {:?}", run.state, run.error);
                self.accuse("C1", format!("run {}", run.id), problem);
            }
        }
    }

    /// M2, O7, C2: at rest, every push is delivered, dead with a cause, or waits for a parent that
    /// is not there; nothing is in anybody's hands.
    fn tasks(&mut self) {
        let versions: HashMap<_, _> = self
            .history
            .masters
            .iter()
            .map(|one| (one.id, one.version))
            .collect();
        let open: BTreeSet<_> = self
            .history
            .letters
            .iter()
            .filter(|letter| letter.state == "open")
            .map(|letter| letter.task)
            .collect();
        for task in &self.history.tasks {
            if task.leased {
                self.accuse_task("C2", task, "is still leased");
            }
            let at_rest = match task.state.as_str() {
                "completed" | "cancelled" => true,
                "dead" if task.kind == "push" => {
                    if !open.contains(&task.id) {
                        self.accuse_task("O6", task, "is dead without an open dead letter");
                    }
                    true
                }
                "dead" => true,
                "waiting" if task.blocked_on.is_some() => {
                    if self.parent_is_there(task) {
                        self.accuse_task("O7", task, "waits for a parent that is linked");
                    }
                    true
                }
                _ => false,
            };
            if !at_rest {
                self.accuse_task("M2", task, format!("is stuck as {}", task.state));
            }
            if task.kind != "push" || task.state != "completed" {
                continue;
            }
            let newest = task
                .master
                .and_then(|master| versions.get(&master))
                .copied();
            if task.wanted != newest || task.delivered != newest {
                let problem = format!(
                    "is done with version {:?} of {:?}, wanted {:?}",
                    task.delivered, newest, task.wanted
                );
                self.accuse_task("M2", task, problem);
            }
            if task.intent.is_some() || task.unsettled.is_some() {
                self.accuse_task("O1", task, "is done with an intent left over");
            }
        }
    }

    fn parent_is_there(&self, task: &Task) -> bool {
        let history = self.history;
        let waiting_for = task.blocked_on.as_deref().unwrap_or_default();
        let parent = history
            .masters
            .iter()
            .find(|one| waiting_for.ends_with(&format!("/{}/{}", one.entity_type, one.source_id)));
        parent.is_some_and(|parent| {
            history.links.iter().any(|link| {
                link.master == parent.id
                    && Some(&link.connection) == task.target.as_ref()
                    && link.external_id.is_some()
            })
        })
    }

    /// O8: only a record that kills its workers is given up for that.
    fn poison(&mut self) {
        let poisoned: BTreeSet<_> = self
            .history
            .masters
            .iter()
            .filter(|one| self.history.poisoned.contains(&one.entity_id))
            .map(|one| Some(one.id))
            .collect();
        for task in self.history.tasks.iter().filter(|task| task.kind == "push") {
            let given_up = task.state == "dead" && task.error_code.as_deref() == Some(WORKER_DIED);
            if given_up && !poisoned.contains(&task.master) {
                self.accuse_task("O8", task, "was given up for what another record did");
            }
        }
    }

    /// O1, O2: attempts are numbered without gaps, each had an intent, versions never fall.
    fn attempts(&mut self) {
        let mut by_task: HashMap<i64, Vec<_>> = HashMap::new();
        for attempt in &self.history.attempts {
            by_task.entry(attempt.task).or_default().push(attempt);
        }
        let pushes = self.history.tasks.iter().filter(|task| task.kind == "push");
        for task in pushes {
            let mut attempts = by_task.remove(&task.id).unwrap_or_default();
            attempts.sort_by_key(|attempt| attempt.number);
            let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.number).collect();
            if !numbers.iter().copied().eq(1..=numbers.len() as i64) {
                self.accuse_task("O5", task, format!("has attempts {numbers:?}"));
            }
            if let Some(blind) = attempts.iter().find(|attempt| attempt.version.is_none()) {
                let problem = format!("attempt {} had no intent", blind.number);
                self.accuse_task("O1", task, problem);
            }
            let versions: Vec<_> = attempts
                .iter()
                .filter(|attempt| attempt.outcome == "completed")
                .filter_map(|attempt| attempt.version)
                .collect();
            if !versions.is_sorted() {
                let problem = format!("versions were delivered as {versions:?}");
                self.accuse_task("O2", task, problem);
            }
            if task.state == "completed" && versions.last().copied() != task.delivered {
                let problem = format!("no attempt tells of version {:?}", task.delivered);
                self.accuse_task("M2", task, problem);
            }
        }
    }

    /// O6: one open letter per dead task, with a cause, shown in the broker; none of others.
    fn dead_letters(&mut self) {
        let dead: BTreeMap<_, _> = self
            .history
            .tasks
            .iter()
            .map(|task| (task.id, task))
            .collect();
        let mut open = BTreeSet::new();
        for letter in &self.history.letters {
            let about = format!("dead letter {}", letter.id);
            if letter.error_code.is_empty() {
                self.accuse("O6", &about, "has no cause");
            }
            if letter.state != "open" {
                continue;
            }
            if !open.insert(letter.task) {
                self.accuse("O6", &about, "is the second open one of its task");
            }
            if !letter.mirrored {
                self.accuse("O6", &about, "is not in the broker's queue");
            }
            match dead.get(&letter.task) {
                Some(task) if task.state == "dead" => {}
                Some(task) => {
                    let problem = format!("has an open dead letter and is {}", task.state);
                    self.accuse_task("O6", task, problem);
                }
                None => self.accuse("O6", &about, "is of no task"),
            }
        }
    }

    /// I1, M2: source, master data and targets say the same, dead letters and what hangs on them
    /// apart.
    fn contents(&mut self) {
        let excused = self.excused();
        let differences: Vec<_> = self
            .history
            .differences
            .iter()
            .filter(|(_, reference, _)| !is_hooked(reference, &self.history.hooks))
            .filter(|(place, reference, _)| !excused.contains(&(place.clone(), reference.clone())))
            .cloned()
            .collect();
        for (place, reference, problem) in differences {
            self.accuse_record("M2", &place, &reference, problem);
        }
    }

    /// O2, I6: what was told gone is gone everywhere, whatever came late or again.
    fn deletions(&mut self) {
        let excused = self.excused();
        for (place, reference) in self.history.undeleted.clone() {
            if !excused.contains(&(place.clone(), reference.clone())) {
                let promise = if place == "master" { "I6" } else { "O2" };
                self.accuse_record(
                    promise,
                    &place,
                    &reference,
                    "is there although it was deleted".to_owned(),
                );
            }
        }
    }

    /// Target and reference of records whose push is dead, and of those that wait for them.
    fn excused(&self) -> BTreeSet<(String, String)> {
        let references: HashMap<_, _> = self
            .history
            .masters
            .iter()
            .map(|one| (one.id, one))
            .collect();
        let mut excused = BTreeSet::new();
        let mut names = BTreeSet::new();
        for task in self
            .history
            .tasks
            .iter()
            .filter(|task| task.state == "dead")
        {
            let master = task.master.and_then(|master| references.get(&master));
            if let (Some(master), Some(target)) = (master, &task.target) {
                excused.insert((target.clone(), master.entity_id.clone()));
                let name = format!("{}/{}", master.entity_type, master.source_id);
                names.insert((target.clone(), name));
            }
        }
        // Children of children, until nothing is added.
        loop {
            let before = excused.len();
            for task in self
                .history
                .tasks
                .iter()
                .filter(|task| task.blocked_on.is_some())
            {
                let master = task.master.and_then(|master| references.get(&master));
                let (Some(master), Some(target)) = (master, &task.target) else {
                    continue;
                };
                let hangs = master
                    .parents
                    .iter()
                    .any(|parent| names.contains(&(target.clone(), parent.clone())));
                if hangs {
                    excused.insert((target.clone(), master.entity_id.clone()));
                    let name = format!("{}/{}", master.entity_type, master.source_id);
                    names.insert((target.clone(), name));
                }
            }
            if excused.len() == before {
                return excused;
            }
        }
    }
}

/// Whether a webhook told of it, and no listing of the source does.
fn is_hooked(reference: &str, hooks: &[String]) -> bool {
    let code = reference.rsplit([':', '/']).next().unwrap_or(reference);
    hooks.iter().any(|hook| hook == code)
}

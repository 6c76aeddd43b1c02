//! The checker accuses each doctored history of what was done to it, and nothing else.

use std::collections::BTreeMap;

use super::{
    checker::check,
    history::{
        Alarm, Attempt, Call, DeadLetter, History, Limit, Link, Master, Raw, Run, Task, Vendor,
        Version,
    },
};

const TARGET: &str = "lessen360";

fn call(sequence: u64, content: &str, version: i64) -> Call {
    Call {
        sequence,
        arrived: i64::try_from(sequence).unwrap() * 1_000_000,
        keys: vec!["property:yardi:A".into()],
        contents: vec![content.into()],
        idempotency_key: Some(format!("1-2-{version}")),
        applied: true,
        ..Call::default()
    }
}

fn attempt(number: i64, version: i64) -> Attempt {
    Attempt {
        task: 9,
        number,
        version: Some(version),
        outcome: "completed".into(),
        ..Attempt::default()
    }
}

fn version(number: i64) -> Version {
    Version {
        master: 1,
        number,
        hash: format!("h{number}"),
        change: "update".into(),
        created: number * 1_000_000 - 500_000,
    }
}

/// One record of two versions, both delivered.
fn good() -> History {
    let raw = Raw {
        id: "r".into(),
        entity_type: "Location".into(),
        source_id: "A".into(),
        state: "completed".into(),
        made: vec!["A".into()],
        ..Raw::default()
    };
    let vendor = Vendor {
        calls: vec![call(1, "c1", 1), call(2, "c2", 2)],
        limits: vec![Limit {
            calls: 2,
            seconds: 60,
        }],
        ..Vendor::default()
    };
    History {
        masters: vec![Master {
            id: 1,
            entity_type: "Location".into(),
            entity_id: "yardi:A".into(),
            source_id: "A".into(),
            hash: "h2".into(),
            version: 2,
            ..Master::default()
        }],
        versions: vec![version(1), version(2)],
        links: vec![Link {
            master: 1,
            connection: TARGET.into(),
            external_id: Some("x".into()),
        }],
        tasks: vec![Task {
            id: 9,
            kind: "push".into(),
            master: Some(1),
            target: Some(TARGET.into()),
            state: "completed".into(),
            wanted: Some(2),
            delivered: Some(2),
            ..Task::default()
        }],
        attempts: vec![attempt(1, 1), attempt(2, 2)],
        runs: vec![Run {
            id: 3,
            state: "done".into(),
            error: None,
        }],
        payloads: vec![raw.clone()],
        records: vec![raw],
        vendors: BTreeMap::from([(TARGET.to_owned(), vendor)]),
        queues: BTreeMap::from([
            ("sluice.push.acme.one.normal".to_owned(), 0),
            ("sluice.dead.acme.one".to_owned(), 0),
            ("sluice.dead.acme.lessen360".to_owned(), 0),
        ]),
        ..History::default()
    }
}

/// Promises broken by a history that was changed like this.
fn accused(doctor: impl FnOnce(&mut History)) -> Vec<&'static str> {
    let mut history = good();
    doctor(&mut history);
    let mut promises: Vec<_> = check(&history)
        .iter()
        .map(|accusation| accusation.promise)
        .collect();
    promises.dedup();
    promises
}

fn vendor(history: &mut History) -> &mut Vendor {
    history.vendors.get_mut(TARGET).unwrap()
}

fn die(history: &mut History) {
    history.tasks[0].state = "dead".into();
    history.letters.push(DeadLetter {
        id: 1,
        task: 9,
        state: "open".into(),
        error_code: "refused".into(),
        mirrored: true,
    });
    history
        .queues
        .insert("sluice.dead.acme.lessen360".into(), 1);
}

#[test]
fn a_good_history_is_not_accused() {
    assert_eq!(check(&good()), []);
    assert!(accused(die).is_empty());
    let child = |history: &mut History| {
        history.tasks[0].state = "waiting".into();
        history.tasks[0].blocked_on = Some("yardi/Location/B".into());
    };
    assert!(accused(child).is_empty());
}

#[test]
fn raw_records_and_payloads_are_accounted_for() {
    assert_eq!(accused(|h| h.payloads[0].state = "pending".into()), ["I1"]);
    assert_eq!(accused(|h| h.records.clear()), ["I1"]);
    assert_eq!(accused(|h| h.records[0].state = "failed".into()), ["I1"]);
    let vanished = |h: &mut History| {
        let mut other = h.records[0].clone();
        other.made = vec!["B".into()];
        h.records.push(other);
    };
    assert_eq!(accused(vanished), ["I1"]);
    assert_eq!(accused(|h| h.hooks.push("B".into())), ["I1"]);
}

#[test]
fn what_was_deleted_is_gone() {
    let undeleted = |place: &str| {
        let entry = (place.to_owned(), "yardi:A".to_owned());
        accused(|h| h.undeleted.push(entry.clone()))
    };
    assert_eq!(undeleted("master"), ["I6"]);
    assert_eq!(undeleted(TARGET), ["O2"]);
}

#[test]
fn versions_are_gapless_and_each_is_a_change() {
    assert_eq!(accused(|h| h.versions.truncate(1)), ["M1"]);
    assert_eq!(accused(|h| h.masters[0].hash = "h9".into()), ["M1"]);
    let same = |h: &mut History| h.versions[0].hash = "h2".into();
    assert_eq!(accused(same), ["I2"]);
}

#[test]
fn what_is_owed_or_held_at_rest_is_accused() {
    for state in ["pending", "staged", "running", "waiting", "unknown"] {
        assert_eq!(accused(|h| h.tasks[0].state = state.into()), ["M2"]);
    }
    assert_eq!(accused(|h| h.tasks[0].leased = true), ["C2"]);
    assert_eq!(accused(|h| h.tasks[0].intent = Some(2)), ["O1"]);
    assert_eq!(accused(|h| h.tasks[0].wanted = Some(1)), ["M2"]);
    let full = |h: &mut History| {
        h.queues.insert("sluice.push.acme.one.normal".into(), 1);
    };
    assert_eq!(accused(full), ["M2"]);
    assert_eq!(accused(|h| h.runs[0].state = "running".into()), ["C1"]);
    let forgotten = |h: &mut History| {
        h.tasks[0].state = "waiting".into();
        h.tasks[0].blocked_on = Some("yardi/Location/A".into());
    };
    assert_eq!(accused(forgotten), ["O7"]);
}

#[test]
fn attempts_have_intents_and_never_go_back() {
    assert_eq!(accused(|h| h.attempts[1].number = 3), ["O5"]);
    assert_eq!(accused(|h| h.attempts[0].version = None), ["O1"]);
    let back = |h: &mut History| {
        h.attempts[0].version = Some(3);
        h.masters[0].version = 3;
        h.versions.push(version(3));
        h.masters[0].hash = "h3".into();
        (h.tasks[0].wanted, h.tasks[0].delivered) = (Some(3), Some(3));
    };
    assert_eq!(accused(back), ["O2", "M2"]);
}

#[test]
fn dead_letters_are_one_each_with_a_cause() {
    assert_eq!(accused(|h| h.tasks[0].state = "dead".into()), ["O6"]);
    let second = |h: &mut History| {
        die(h);
        let letter = DeadLetter {
            id: 2,
            ..h.letters[0].clone()
        };
        h.letters.push(letter);
        h.queues.insert("sluice.dead.acme.lessen360".into(), 2);
    };
    assert_eq!(accused(second), ["O6"]);
    let changes: [fn(&mut History); 4] = [
        |h| h.letters[0].error_code.clear(),
        |h| h.letters[0].mirrored = false,
        |h| h.tasks[0].state = "completed".into(),
        |h| h.queues.clear(),
    ];
    for (place, change) in changes.into_iter().enumerate() {
        let promises = accused(|h| {
            die(h);
            change(h);
            h.queues.entry("sluice.dead.acme.one".into()).or_insert(0);
        });
        assert_eq!(promises, ["O6"], "change {place}");
    }
}

/// O6: each queue holds what is open at its connection, and nothing else.
#[test]
fn dead_letter_queues_hold_what_is_open() {
    let close = |h: &mut History| {
        die(h);
        h.tasks[0].state = "completed".into();
        h.letters[0].state = "replayed".into();
        h.letters[0].mirrored = false;
    };
    let empty = |h: &mut History| {
        close(h);
        h.queues.insert("sluice.dead.acme.lessen360".into(), 0);
    };
    assert!(accused(empty).is_empty());
    assert_eq!(accused(close), ["O6"], "a message of a closed letter");
    let marked = |h: &mut History| {
        empty(h);
        h.letters[0].mirrored = true;
    };
    assert_eq!(accused(marked), ["O6"], "the store says that it is there");
    let elsewhere = |h: &mut History| {
        die(h);
        h.queues.insert("sluice.dead.acme.lessen360".into(), 0);
        h.queues.insert("sluice.dead.acme.one".into(), 1);
    };
    assert_eq!(accused(elsewhere), ["O6"], "in another connection's queue");
    let twice = |h: &mut History| {
        die(h);
        h.queues.insert("sluice.dead.acme.lessen360".into(), 2);
    };
    assert_eq!(accused(twice), ["O6"], "twice");
}

/// M2: an alarm that held nobody up shows nothing.
#[test]
fn alarms_hold_publishers_up() {
    let alarm = |blocked| {
        let name = "the disk alarm";
        accused(|h| h.alarms.push(Alarm { name, blocked }))
    };
    assert!(alarm(true).is_empty());
    assert_eq!(alarm(false), ["M2"]);
}

/// A record of four versions at a target whose calls name none, each delivered but the third.
fn keyless(history: &mut History) {
    let attempted = |number: i64, version: i64| Attempt {
        started: version * 1_000_000 - 100_000,
        ended: version * 1_000_000 + 100_000,
        ..attempt(number, version)
    };
    history.masters[0].version = 4;
    history.masters[0].hash = "h4".into();
    history.versions = (1..=4).map(version).collect();
    history.attempts = vec![attempted(1, 1), attempted(2, 2), attempted(3, 4)];
    (history.tasks[0].wanted, history.tasks[0].delivered) = (Some(4), Some(4));
    let calls = [(1, "c1"), (2, "c2"), (4, "c4")];
    vendor(history).calls = calls
        .map(|(sequence, content)| said(sequence, content))
        .into();
    vendor(history).limits.clear();
}

fn said(sequence: u64, content: &str) -> Call {
    Call {
        idempotency_key: None,
        ..call(sequence, content, 0)
    }
}

/// O2 where calls do not name the version they write.
#[test]
fn an_older_content_comes_again_only_with_a_newer_version() {
    assert!(accused(keyless).is_empty());
    // Of a worker that slept for long; then the newest once more, so that the end looks well.
    for old in ["c1", "c2"] {
        let late = |h: &mut History| {
            keyless(h);
            vendor(h).calls.extend([said(5, old), said(6, "c4")]);
        };
        assert_eq!(accused(late), ["O2"], "{old}");
    }
    // During the attempt of the newest.
    let meanwhile = |h: &mut History| {
        keyless(h);
        let mut late = said(3, "c1");
        late.arrived = 3_950_000;
        h.versions[2].created = 3_960_000;
        vendor(h).calls.insert(2, late);
    };
    assert_eq!(accused(meanwhile), ["O2"]);
    // The third version may have been like the first, and its worker may have died ..
    let returned = |h: &mut History| {
        keyless(h);
        vendor(h).calls.insert(2, said(3, "c1"));
    };
    assert!(accused(returned).is_empty());
    // .. but not before there was a third.
    let too_early = |h: &mut History| {
        keyless(h);
        h.versions[2].created = 3_500_000;
        vendor(h).calls.insert(2, said(3, "c1"));
    };
    assert_eq!(accused(too_early), ["O2"]);
    // An attempt that says so itself is believed.
    let told = |h: &mut History| {
        keyless(h);
        vendor(h).calls[2] = said(4, "c1");
    };
    assert!(accused(told).is_empty());
    // The same again and again is no harm.
    let repeated = |h: &mut History| {
        keyless(h);
        vendor(h).calls.push(said(5, "c4"));
    };
    assert!(accused(repeated).is_empty());
}

#[test]
fn a_target_sees_each_record_once_and_in_order() {
    assert_eq!(accused(|h| vendor(h).duplicates_created = 1), ["O1"]);
    assert_eq!(accused(|h| vendor(h).overlapping_writes = 1), ["O2"]);
    let again = |h: &mut History| {
        vendor(h).calls.push(call(100, "c1", 2));
    };
    assert_eq!(accused(again), ["O2"]);
    let older = |h: &mut History| {
        vendor(h).calls.push(call(100, "c3", 1));
    };
    assert_eq!(accused(older), ["O2"]);
    let strange = |h: &mut History| {
        let mut call = call(100, "c", 1);
        call.keys = vec!["property:yardi:Z".into()];
        vendor(h).calls.push(call);
    };
    assert_eq!(accused(strange), ["M1"]);
}

#[test]
fn windows_slide() {
    assert_eq!(accused(|h| vendor(h).limit_violations = 1), ["O3"]);
    assert_eq!(accused(|h| vendor(h).limits[0].calls = 1), ["O3"]);
    // The window's end is not in it.
    let apart = |h: &mut History| {
        vendor(h).limits[0].calls = 1;
        vendor(h).calls[1].arrived = vendor(h).calls[0].arrived + 60_000_000;
    };
    assert!(accused(apart).is_empty());
}

#[test]
fn contents_must_agree_where_nothing_died() {
    let differ = |h: &mut History| {
        let difference = (TARGET.into(), "yardi:A".into(), "/name differs".into());
        h.differences.push(difference);
    };
    assert_eq!(accused(differ), ["M2"]);
    let dead = |h: &mut History| {
        die(h);
        differ(h);
    };
    assert!(accused(dead).is_empty());
}

#[test]
fn poison_kills_only_itself_and_runs_recover() {
    let died = |h: &mut History| {
        die(h);
        h.tasks[0].error_code = Some("worker_died".into());
    };
    assert_eq!(accused(died), ["O8"]);
    let own_fault = |h: &mut History| {
        died(h);
        h.poisoned.push("yardi:A".into());
    };
    assert!(accused(own_fault).is_empty());
    let failed = |h: &mut History| h.runs[0].state = "failed".into();
    assert_eq!(accused(failed), ["C1"]);
    let worn_out = |h: &mut History| {
        failed(h);
        h.tasks.push(Task {
            kind: "pull".into(),
            state: "dead".into(),
            run: Some(3),
            error_code: Some("worker_died".into()),
            ..Task::default()
        });
    };
    assert_eq!(accused(worn_out), ["C1"], "no later run");
    let made_up = |h: &mut History| {
        worn_out(h);
        h.runs.push(Run {
            id: 4,
            state: "done".into(),
            error: None,
        });
    };
    assert!(accused(made_up).is_empty());
}

/// An accusation tells what both sides noted.
#[test]
fn an_accusation_shows_the_history() {
    let mut history = good();
    history.tasks[0].leased = true;
    let accusations = check(&history);
    let text = &accusations[0].history;
    for part in ["yardi:A", "Version", "Attempt", "Task", "Call"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

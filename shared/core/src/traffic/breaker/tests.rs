use super::*;

const NOW: Nanos = 1_000_000 * SECOND;

fn policy() -> BreakerPolicy {
    BreakerPolicy::default()
}

fn report(answered: u32, failed: u32, in_a_row: u32) -> Report {
    Report {
        answered,
        failed,
        in_a_row,
    }
}

fn opened() -> Breaker {
    let mut breaker = Breaker::default();
    let event = breaker.hear(NOW, report(0, 5, 5), None, &policy());
    assert!(matches!(event, Some(Event::Opened { .. })), "{event:?}");
    breaker
}

fn probe(breaker: &mut Breaker, now: Nanos, ended: Ended) -> Option<Event> {
    assert_eq!(breaker.admission(now), Admission::Probe);
    let id = breaker.begin_probe(now, "me", SECOND, &policy()).id;
    assert_eq!(
        breaker.admission(now + SECOND),
        Admission::None,
        "one at a time"
    );
    breaker.hear(
        now,
        Report::default(),
        Some(ProbeEnd { id, ended }),
        &policy(),
    )
}

/// O4: failures in a row are counted over all processes, and one answer ends the row.
#[test]
fn failures_in_a_row_open_it() {
    let mut breaker = Breaker::default();
    assert_eq!(breaker.hear(NOW, report(0, 4, 4), None, &policy()), None);
    assert_eq!(breaker.hear(NOW, report(1, 2, 2), None, &policy()), None);
    let event = breaker.hear(NOW, report(0, 3, 3), None, &policy());
    let reason = Reason::FailuresInARow;
    assert_eq!(
        event,
        Some(Event::Opened {
            reason,
            wait_ms: 5_000
        })
    );
}

/// O4: half of the last 30 seconds' calls, when there are enough of them.
#[test]
fn many_failures_open_it() {
    let mut breaker = Breaker::default();
    assert_eq!(breaker.hear(NOW, report(5, 4, 0), None, &policy()), None);
    let event = breaker.hear(NOW + SECOND, report(0, 1, 1), None, &policy());
    assert!(
        matches!(
            event,
            Some(Event::Opened {
                reason: Reason::ManyFailed,
                ..
            })
        ),
        "{event:?}"
    );
    let mut breaker = Breaker::default();
    breaker.hear(NOW, report(0, 4, 0), None, &policy());
    let later = NOW + 31 * SECOND;
    assert_eq!(breaker.hear(later, report(6, 4, 0), None, &policy()), None);
}

/// O4: one probe at a time; each bad one doubles the wait, up to the longest.
#[test]
fn bad_probes_wait_longer_and_longer() {
    let mut breaker = opened();
    assert_eq!(breaker.admission(NOW + 4 * SECOND), Admission::None);
    let mut now = NOW + 5 * SECOND;
    for wait in [10, 20, 40, 80, 160, 320, 600, 600] {
        let event = probe(&mut breaker, now, Ended::Failed);
        assert_eq!(
            event,
            Some(Event::StillOpen {
                wait_ms: wait * 1_000
            })
        );
        assert_eq!(
            breaker.admission(now + (wait - 1) * SECOND),
            Admission::None
        );
        now += wait * SECOND;
    }
}

/// O4: three good probes close it, and calls come back step by step.
#[test]
fn good_probes_close_it_and_a_ramp_follows() {
    let mut breaker = opened();
    let now = NOW + 5 * SECOND;
    assert_eq!(probe(&mut breaker, now, Ended::Answered), None);
    assert_eq!(probe(&mut breaker, now, Ended::Unknown), None);
    assert_eq!(probe(&mut breaker, now, Ended::Answered), None);
    assert_eq!(
        probe(&mut breaker, now, Ended::Answered),
        Some(Event::Closed)
    );
    for step in 0..RAMP {
        let at = now + step * AHEAD;
        assert_eq!(breaker.admission(at), Admission::Some(1 << step));
        breaker.gave(at, 1 << step);
        assert_eq!(breaker.admission(at), Admission::Some(0));
        assert!(breaker.is_guarded(at));
    }
    assert_eq!(breaker.admission(now + RAMP * AHEAD), Admission::All);
    assert!(!breaker.is_guarded(now + RAMP * AHEAD));
}

/// O4: a dead prober is replaced after the longest call, and is not believed afterwards.
#[test]
fn a_dead_prober_is_replaced() {
    let mut breaker = opened();
    let now = NOW + 5 * SECOND;
    let dead = breaker.begin_probe(now, "dead", 30 * SECOND, &policy()).id;
    assert_eq!(breaker.admission(now + 40 * SECOND), Admission::None);
    let later = now + 41 * SECOND;
    assert_eq!(probe(&mut breaker, later, Ended::Answered), None);
    let late = ProbeEnd {
        id: dead,
        ended: Ended::Failed,
    };
    assert_eq!(
        breaker.hear(later, Report::default(), Some(late), &policy()),
        None
    );
    assert_eq!(breaker.admission(later), Admission::Probe);
}

/// A relapse during the ramp waits longer than the outage before; a hand that closes lets calls come
/// back step by step.
#[test]
fn a_relapse_waits_longer_and_a_hand_closes() {
    let mut breaker = opened();
    let now = NOW + 5 * SECOND;
    for _ in 0..3 {
        probe(&mut breaker, now, Ended::Answered);
    }
    let event = breaker.hear(now, report(0, 5, 5), None, &policy());
    assert!(
        matches!(
            event,
            Some(Event::Opened {
                wait_ms: 10_000,
                ..
            })
        ),
        "{event:?}"
    );
    breaker.close(now);
    assert_eq!(breaker.look(now).state, "ramp");
    assert_eq!(breaker.admission(now), Admission::Some(1));
    assert_eq!(breaker.admission(now + RAMP * AHEAD), Admission::All);
}

/// Whoever closes it again while calls come back step by step wants them all.
#[test]
fn a_hand_ends_the_ramp() {
    let mut breaker = opened();
    for _ in 0..2 {
        breaker.close(NOW);
    }
    assert_eq!(breaker.admission(NOW), Admission::All);
    assert_eq!(breaker.look(NOW).state, "closed");
}

/// O4: people hear what the last failed call failed with, until it is over.
#[test]
fn an_open_breaker_knows_its_cause() {
    let cause = |code| Cause::new(crate::ErrorClass::Network, code, "nobody there");
    let mut breaker = Breaker::default();
    breaker.blame(&cause("first"));
    assert_eq!(breaker.look(NOW).cause, None, "it is closed");
    breaker.hear(NOW, report(0, 5, 5), None, &policy());
    assert_eq!(breaker.look(NOW).cause, Some(cause("first")));
    let mut now = NOW + 5 * SECOND;
    breaker.blame(&cause("later"));
    probe(&mut breaker, now, Ended::Failed);
    assert_eq!(breaker.look(now).cause, Some(cause("later")));
    now += 10 * SECOND;
    for _ in 0..3 {
        probe(&mut breaker, now, Ended::Answered);
        now += SECOND;
    }
    breaker.hear(now, report(0, 5, 5), None, &policy());
    assert_eq!(breaker.look(now).cause, None, "an outage of its own");
}

/// The state travels with each exchange: a cause is short, whatever is said.
#[test]
fn causes_are_short() {
    let cause = Cause::new(crate::ErrorClass::Timeout, "x", "é".repeat(10_000));
    assert!(cause.message.len() <= 240 && !cause.message.is_empty());
}

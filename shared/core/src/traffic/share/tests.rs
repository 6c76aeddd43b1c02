use super::*;
use crate::catalogue::BreakerPolicy;
use crate::traffic::{StoreClock, Traffic};

fn exchange(share: &mut Share, traffic: &mut Traffic, now: Nanos) -> usize {
    let ask = share.ask(now);
    let wanted = ask.wants.len();
    let clock = StoreClock { now, server: 1 };
    let (grant, _) = traffic.serve(clock, &ask, &BreakerPolicy::default());
    share.granted(now - MILLISECOND, now, &grant, 0.5);
    wanted
}

/// No round trip per call under load: far from the limit, a share asks about 20 times a second,
/// whatever the rate.
#[test]
fn under_load_the_store_is_asked_seldom() {
    let limits = [RateLimit::new(10_000_000, 60)];
    let mut traffic = Traffic::new(&limits);
    let mut share = Share::new("me".into(), &limits, SECOND);
    let kind = share.kind("/", false);
    let (mut calls, mut asks) = (0, 0);
    // 10,000 calls a second for two seconds.
    for step in 0..20_000 {
        let now = 1_000 * SECOND + step * SECOND / 10_000;
        let mut take = share.take(kind, now);
        if !matches!(take, Take::Now(_)) {
            let epoch = share.wait_begins(kind);
            exchange(&mut share, &mut traffic, now);
            share.wait_ended(kind, epoch);
            asks += 1;
            take = share.take(kind, now);
        }
        calls += u32::from(matches!(take, Take::Now(_)));
        if share.next_ask(now).is_some_and(|at| at <= now) {
            exchange(&mut share, &mut traffic, now);
            asks += 1;
        }
    }
    assert!(calls > 19_900, "{calls}");
    assert!(asks <= 200, "{asks} asks for {calls} calls");
}

/// A process that was stopped drops the slots it could not use in time.
#[test]
fn a_late_process_drops_its_slots() {
    let limits = [RateLimit::new(60, 1)];
    let mut traffic = Traffic::new(&limits);
    let mut share = Share::new("me".into(), &limits, SECOND);
    let kind = share.kind("/", false);
    let now = 1_000 * SECOND;
    for _ in 0..5 {
        share.wait_begins(kind);
    }
    exchange(&mut share, &mut traffic, now);
    exchange(&mut share, &mut traffic, now);
    assert!(matches!(
        share.take(kind, now + 10 * MILLISECOND),
        Take::Now(_)
    ));
    assert_eq!(share.take(kind, now + SECOND), Take::Ask);
}

/// Nothing to ask and nothing to tell: an idle process leaves the store alone.
#[test]
fn an_idle_process_asks_nothing() {
    let mut share = Share::new("me".into(), &[RateLimit::new(60, 60)], SECOND);
    assert_eq!(share.next_ask(0), None);
    share.ended(Leave::default(), Ended::Answered, 0);
    assert_eq!(share.next_ask(0), None);
    share.ended(Leave::default(), Ended::Failed, 0);
    assert_eq!(share.next_ask(7), Some(7), "failures are told at once");
}

/// Callers that hear that the store is away leave at once; it is asked all the same, or nobody would
/// ever hear that it is back.
#[test]
fn a_store_that_was_away_is_found_again() {
    let limits = [RateLimit::new(60, 60)];
    let mut traffic = Traffic::new(&limits);
    let mut share = Share::new("me".into(), &limits, SECOND);
    let kind = share.kind("/", false);
    let mut now = 1_000 * SECOND;
    let call = |share: &mut Share, now| {
        let epoch = share.wait_begins(kind);
        let take = share.take(kind, now);
        share.wait_ended(kind, epoch);
        take
    };
    let lost = share.ask(now);
    share.failed(now, lost);
    now += AWAY;
    assert_eq!(call(&mut share, now), Take::Away);
    let at = share.next_ask(now).expect("it is asked");
    exchange(&mut share, &mut traffic, at);
    assert_eq!(call(&mut share, at), Take::Ask);
    // Without callers it is left alone.
    let lost = share.ask(at);
    share.failed(at, lost);
    assert_eq!(share.next_ask(at + AWAY + LOOK), None);
}

/// O3: whoever waits for a slow limit hears of a faster one within two seconds, in line or not.
#[test]
fn a_raised_limit_is_heard_of_while_waiting_for_the_old_one() {
    let slow = [RateLimit::new(1, 3_600)];
    for in_line in [true, false] {
        let mut traffic = Traffic::new(&slow);
        let mut share = Share::new("me".into(), &slow, SECOND);
        let kind = share.kind("/", false);
        let mut now = 1_000 * SECOND;
        share.wait_begins(kind);
        for _ in 0..2 {
            exchange(&mut share, &mut traffic, now);
        }
        now += 10 * MILLISECOND;
        assert!(matches!(share.take(kind, now), Take::Now(_)));
        exchange(&mut share, &mut traffic, now);
        if !in_line {
            share.wait_ended(kind, 0);
        }
        traffic.pace.set_limits(&[RateLimit::new(600, 60)], now);
        assert!(share.wait(now) > 3_000 * SECOND);
        let at = share.next_ask(now).expect("it is asked");
        assert!(at <= now + LOOK, "in {} ns", at - now);
        exchange(&mut share, &mut traffic, at);
        assert_eq!(share.limits(), [RateLimit::new(600, 60)]);
        assert!(share.wait(at) <= SECOND, "{}", share.wait(at));
    }
}

/// After a jump of the clock, what is in hand counts no more, and the store is told.
#[test]
fn a_jump_of_the_clock_empties_the_share() {
    let limits = [RateLimit::new(600, 60)];
    let mut traffic = Traffic::new(&limits);
    let mut share = Share::new("me".into(), &limits, SECOND);
    let kind = share.kind("/", false);
    let now = 1_000 * SECOND;
    for _ in 0..5 {
        share.wait_begins(kind);
    }
    exchange(&mut share, &mut traffic, now);
    exchange(&mut share, &mut traffic, now);
    let ask = share.ask(now);
    let clock = StoreClock {
        now: now + 2 * SECOND,
        server: 1,
    };
    let (grant, _) = traffic.serve(clock, &ask, &BreakerPolicy::default());
    share.granted(now - MILLISECOND, now, &grant, 0.5);
    assert_eq!(share.take(kind, now + 500 * MILLISECOND), Take::Ask);
    assert!(share.ask(now).jumped);
}

/// What one process has in hand and nobody there wants goes to the others.
#[test]
fn slots_that_nobody_wants_are_for_others() {
    let limits = [RateLimit::new(4, 60)];
    let mut traffic = Traffic::new(&limits);
    let mut share = Share::new("me".into(), &limits, SECOND);
    let mut other = Share::new("other".into(), &limits, SECOND);
    let kind = share.kind("/", false);
    let now = 1_000 * SECOND;
    let epoch = share.wait_begins(kind);
    exchange(&mut share, &mut traffic, now);
    exchange(&mut share, &mut traffic, now);
    share.wait_ended(kind, epoch);
    exchange(&mut share, &mut traffic, now);
    other.wait_begins(kind);
    exchange(&mut other, &mut traffic, now);
    exchange(&mut other, &mut traffic, now);
    assert!(matches!(other.take(kind, now), Take::Now(_)));
    assert_eq!(share.take(kind, now), Take::Ask);
}

/// A slot may be used late, and the next of its window then follows a window after it was used.
#[test]
fn a_late_use_costs_its_lateness_only() {
    let limits = [RateLimit::new(1, 1)];
    let mut traffic = Traffic::new(&limits);
    let mut share = Share::new("me".into(), &limits, SECOND);
    let kind = share.kind("/", false);
    let now = 1_000 * SECOND;
    share.wait_begins(kind);
    exchange(&mut share, &mut traffic, now);
    exchange(&mut share, &mut traffic, now);
    let used = now + 100 * MILLISECOND;
    let Take::Now(leave) = share.take(kind, used) else {
        panic!("a slot is in hand");
    };
    share.answered(leave, used);
    exchange(&mut share, &mut traffic, used + 800 * MILLISECOND);
    let Take::At(next) = share.take(kind, used + 800 * MILLISECOND) else {
        panic!("a slot is in hand");
    };
    let window = next - used;
    assert!(
        (1_020 * MILLISECOND..1_030 * MILLISECOND).contains(&window),
        "{window}"
    );
}

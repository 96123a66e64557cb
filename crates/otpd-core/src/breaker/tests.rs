//! The breaker by itself: what opens it, what closes it, and what is no probe.

use super::*;
use crate::outcome::Scope;

const NOW: Mono = Mono(1_000_000_000_000);

fn accepted() -> Outcome {
    Outcome::Accepted { message_id: None, note: None }
}

fn broke() -> Outcome {
    Outcome::Account { reason: Reason::InsufficientBalance }
}

/// How a request of a job of its own ends.
fn ends(breaker: &mut Breaker, outcome: &Outcome, now: Mono) -> Change {
    let pass = breaker.start();
    breaker.judge(pass, outcome, &mut Refusals::default(), now)
}

fn after(seconds: u64) -> Mono {
    NOW.plus(Duration::from_secs(seconds))
}

#[test]
fn begins_with_few_and_doubles() {
    let mut breaker = Breaker::default();
    for most in [2, 4, 8, 16] {
        assert_eq!(breaker.gate(most - 1, NOW), Gate::Go);
        assert_eq!(breaker.gate(most, NOW), Gate::WhenOneEnds);
        ends(&mut breaker, &accepted(), NOW);
    }
}

#[test]
fn an_account_refusal_opens_it_and_one_probe_at_a_time_closes_it() {
    let mut breaker = Breaker::default();
    let (first, second) = (breaker.start(), breaker.start());
    let opened = breaker.judge(first, &broke(), &mut Refusals::default(), NOW);
    assert_eq!(opened, Change::Opened(Reason::InsufficientBalance));
    let late = breaker.judge(second, &broke(), &mut Refusals::default(), NOW);
    assert_eq!(late, Change::None, "the second that was under way");
    assert_eq!(breaker.gate(0, NOW), Gate::At(after(1)));
    assert_eq!(breaker.gate(0, after(1)), Gate::Go);
    let probe = breaker.start();
    assert_eq!(breaker.gate(1, after(1)), Gate::WhenOneEnds);
    assert_eq!(breaker.judge(probe, &broke(), &mut Refusals::default(), after(1)), Change::None);
    assert_eq!(breaker.gate(0, after(2)), Gate::At(after(3)));
    assert_eq!(ends(&mut breaker, &accepted(), after(3)), Change::Closed);
    assert_eq!((breaker.gate(1, after(3)), breaker.open_reason()), (Gate::Go, None));
}

#[test]
fn a_probe_that_was_never_sent_is_not_under_way() {
    let mut breaker = Breaker::default();
    ends(&mut breaker, &broke(), NOW);
    let probe = breaker.start();
    assert_eq!(breaker.gate(1, after(1)), Gate::WhenOneEnds);
    drop(probe);
    assert_eq!(breaker.gate(0, after(1)), Gate::Go);
    let probe = breaker.start();
    let limited =
        Outcome::RateLimited { reason: Reason::RatePair, scope: Scope::Pair, wait: None, limit: None };
    assert_eq!(breaker.judge(probe, &limited, &mut Refusals::default(), after(1)), Change::None);
    assert_eq!(breaker.gate(0, after(1)), Gate::At(after(2)), "it learned nothing");
}

#[test]
fn a_pass_of_before_is_no_probe() {
    let mut breaker = Breaker::default();
    let early = breaker.start();
    ends(&mut breaker, &broke(), NOW);
    let probe = breaker.start();
    assert_eq!(breaker.judge(early, &broke(), &mut Refusals::default(), after(1)), Change::None);
    assert_eq!(breaker.gate(0, after(9)), Gate::WhenOneEnds, "the probe is still under way");
    breaker.judge(probe, &broke(), &mut Refusals::default(), after(9));
    assert_eq!(breaker.gate(0, after(9)), Gate::At(after(11)));
}

#[test]
fn what_only_ever_meets_one_job_is_not_the_accounts() {
    let mut breaker = Breaker::default();
    let mut refusals = Refusals::default();
    let mut refuse = |breaker: &mut Breaker, now| {
        let pass = breaker.start();
        let change = breaker.judge(pass, &broke(), &mut refusals, now);
        (change, refusals.alone(), refusals.wait().as_secs())
    };
    assert_eq!(refuse(&mut breaker, NOW), (Change::Opened(Reason::InsufficientBalance), 0, 1));
    assert_eq!(refuse(&mut breaker, after(1)), (Change::None, 0, 2), "nobody was accepted meanwhile");
    assert_eq!(ends(&mut breaker, &accepted(), after(3)), Change::Closed);
    assert_eq!(refuse(&mut breaker, after(4)), (Change::None, 1, 4));
    assert_eq!(breaker.open_reason(), None);
    assert_eq!(refuse(&mut breaker, after(8)), (Change::Opened(Reason::InsufficientBalance), 1, 8));
    assert_eq!(ends(&mut breaker, &accepted(), after(9)), Change::Closed);
    assert_eq!(refuse(&mut breaker, after(16)), (Change::None, 2, 16));
    ends(&mut breaker, &accepted(), after(17));
    assert_eq!(refuse(&mut breaker, after(32)), (Change::None, 3, 30));
}

#[test]
fn a_new_key_is_tried_at_once() {
    let mut breaker = Breaker::default();
    breaker.probe_now(NOW);
    assert_eq!(breaker.gate(0, NOW), Gate::Go, "a closed one stays closed");
    for probe in [0, 2, 6, 14] {
        ends(&mut breaker, &broke(), after(probe));
    }
    assert!(matches!(breaker.gate(0, after(15)), Gate::At(at) if at > after(15)));
    breaker.probe_now(after(15));
    assert_eq!(breaker.gate(0, after(15)), Gate::Go);
    let probe = breaker.start();
    assert_eq!(breaker.gate(0, after(15)), Gate::WhenOneEnds, "still one at a time");
    breaker.judge(probe, &broke(), &mut Refusals::default(), after(15));
    assert_eq!(breaker.gate(0, after(15)), Gate::At(after(17)));
}

#[test]
fn a_connection_that_dies_is_one_failure_where_others_are_served() {
    let lost = Outcome::Ambiguous { reason: Reason::Timeout };
    for (is_served, change) in [(true, Change::None), (false, Change::Opened(Reason::Timeout))] {
        let mut breaker = Breaker::default();
        let passes: Vec<Pass> = (0..RUN).map(|_| breaker.start()).collect();
        if is_served {
            ends(&mut breaker, &accepted(), NOW);
        }
        let changes =
            passes.into_iter().map(|pass| breaker.judge(pass, &lost, &mut Refusals::default(), NOW));
        assert_eq!(changes.last(), Some(change));
    }
    // One after the other they count, whatever else is served.
    let mut breaker = Breaker::default();
    let passes: Vec<Pass> = (0..RUN).map(|_| breaker.start()).collect();
    ends(&mut breaker, &accepted(), NOW);
    let changes = (0..)
        .zip(passes)
        .map(|(i, pass)| breaker.judge(pass, &lost, &mut Refusals::default(), NOW.plus(AT_ONCE * i)));
    assert_eq!(changes.last(), Some(Change::Opened(Reason::Timeout)));
}

#[test]
fn a_run_of_failures_opens_it_and_a_refused_message_does_not_count() {
    let mut breaker = Breaker::default();
    let transient = Outcome::Transient { reason: Reason::InternalError, wait: None, possibly_sent: true };
    let permanent = Outcome::Permanent { reason: Reason::RecipientBlocked, scope: Scope::Message };
    for _ in 0..RUN - 1 {
        assert_eq!(ends(&mut breaker, &transient, NOW), Change::None);
    }
    ends(&mut breaker, &permanent, NOW);
    for _ in 0..RUN - 1 {
        assert_eq!(ends(&mut breaker, &transient, NOW), Change::None);
    }
    assert_eq!(ends(&mut breaker, &transient, NOW), Change::Opened(Reason::InternalError));
}

//! A ceiling that changes while requests are under way: over simulated time, no window of the rates in
//! force is passed by a request that started under them, whatever was sent before.

#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Duration;

use otpd_core::{Ceiling, Mono, Rate, ReadyAt, Stamp};
use proptest::prelude::*;

const START: Mono = Mono(3_600_000_000_000);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn rates(text: &str) -> Vec<Rate> {
    text.split(',').map(|r| r.parse().unwrap()).collect()
}

/// A number from 0 to `most`, scattered.
fn noise(i: usize, most: u64) -> Duration {
    Duration::from_micros((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17) % most)
}

/// A greedy caller whose rates change.
struct Caller {
    ceiling: Ceiling,
    now: Mono,
    /// What happens by itself: requests are written (false), then answered (true).
    coming: BTreeMap<(Mono, usize, bool), Stamp>,
    /// When each request arrived at the provider, in the order of the permits.
    arrived: Vec<Mono>,
}

impl Caller {
    fn new(rates: &[Rate]) -> Self {
        let ceiling = Ceiling::new(rates, None, START);
        Self { ceiling, now: START, coming: BTreeMap::new(), arrived: Vec::new() }
    }

    fn go_on(&mut self) {
        while let Some(next) = self.coming.first_entry().filter(|e| e.key().0 <= self.now) {
            let ((at, i, answered), stamp) = next.remove_entry();
            if answered {
                self.ceiling.ended(&stamp, true, at);
            } else {
                stamp.written(at);
                self.arrived[i] = at.plus(noise(i + 2, 4_900));
                self.coming.insert((self.arrived[i].plus(noise(i + 3, 90_000)), i, true), stamp);
            }
        }
    }

    /// Sends as fast as it may until `end`, or (`false`) lets the time pass.
    fn run(&mut self, end: Mono, sends: bool) {
        while self.now < end {
            self.go_on();
            let next = self.coming.first_key_value().map_or(end, |((at, _, _), _)| *at);
            let next = next.max(self.now.plus(Duration::from_nanos(1)));
            if !sends {
                self.now = next.min(end);
                continue;
            }
            match self.ceiling.take(self.now) {
                Ok(stamp) => {
                    let i = self.arrived.len();
                    self.arrived.push(Mono(u64::MAX));
                    self.coming.insert((self.now.plus(noise(i + 1, 40_000)), i, false), stamp);
                }
                Err(ReadyAt::At(at)) => {
                    assert!(at > self.now, "asked to wait for the past");
                    self.now = at.min(next).min(end);
                }
                Err(ReadyAt::WhenOneEnds) => self.now = next.min(end),
            }
        }
    }

    /// The most requests in a window of `per` that holds the arrival of `last` and no request that got its
    /// permit later.
    fn most_with(&self, last: usize, per: Duration) -> usize {
        let at = self.arrived[last];
        let near = |other: &&Mono| at.since(**other) < per && other.since(at) < per;
        let mut all: Vec<Mono> = self.arrived[..=last].iter().filter(near).copied().collect();
        all.sort_unstable();
        let within = |first: &Mono| all.iter().filter(|a| *a >= first && a.since(*first) < per).count();
        all.iter().filter(|first| **first <= at).map(within).max().unwrap_or(0)
    }
}

#[test]
fn raised_and_lowered_at_once() {
    let mut caller = Caller::new(&rates("10/s"));
    let mut until = START;
    let mut sent = 0;
    for (rate, least, most) in [("10/s", 19, 20), ("40/s", 67, 80), ("5/s", 0, 10), ("50/s", 90, 100)] {
        caller.ceiling.reconfigure(&rates(rate), None, caller.now);
        until = until.plus(Duration::from_secs(2));
        caller.run(until, true);
        let now = caller.arrived.len() - std::mem::replace(&mut sent, caller.arrived.len());
        assert!((least..=most).contains(&now), "{now} at {rate}");
    }
}

#[test]
fn a_longer_window_counts_what_had_left_the_shorter_one() {
    let mut caller = Caller::new(&rates("10/s"));
    caller.run(START.plus(Duration::from_secs(20)), true);
    let before = caller.arrived.len();
    assert!(before >= 190, "{before}");
    caller.ceiling.reconfigure(&rates("210/min"), None, caller.now);
    caller.run(START.plus(Duration::from_secs(55)), true);
    assert_eq!(caller.arrived.len(), 210, "so many were left of the minute");
    // There and back: what was counted once is not counted twice.
    caller.ceiling.reconfigure(&rates("10/s"), None, caller.now);
    caller.ceiling.reconfigure(&rates("10/s,220/min"), None, caller.now);
    caller.run(START.plus(Duration::from_secs(59)), true);
    assert_eq!(caller.arrived.len(), 220);
}

#[test]
fn a_limit_that_stays_keeps_what_idling_earned() {
    let mut ceiling = Ceiling::new(&rates("50/s,600/min"), None, START);
    ceiling.reconfigure(&rates("50/s,700/min"), None, START);
    let first = START.plus(Duration::from_secs(30));
    assert_eq!((0..60).take_while(|_| ceiling.take(first).is_ok()).count(), 50);
    let mut ceiling = Ceiling::new(&rates("50/s"), None, START);
    ceiling.reconfigure(&rates("50/s"), Some(5), START);
    assert!(ceiling.take(START).is_err(), "a new one begins paced");
    assert_eq!((0..60).take_while(|_| ceiling.take(first).is_ok()).count(), 5);
}

#[test]
fn what_the_provider_named_outlives_a_change_above_it() {
    let mut ceiling = Ceiling::new(&rates("50/s"), None, START);
    assert!(ceiling.lower("10/s".parse().unwrap(), START));
    ceiling.reconfigure(&rates("60/s"), None, START);
    assert!((ceiling.per_second().unwrap() - 9.0).abs() < 1e-9);
    ceiling.reconfigure(&rates("8/s"), None, START);
    assert!((ceiling.per_second().unwrap() - 8.0).abs() < 1e-9);
    ceiling.reconfigure(&rates("60/s"), None, START);
    assert!((ceiling.per_second().unwrap() - 60.0).abs() < 1e-9, "8/s was below what was named");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_window_in_force_is_passed(
        steps in proptest::collection::vec(
            (proptest::collection::vec((1u32..60, 200u64..6_000), 1..3), proptest::option::of(1u32..80), 50u64..5_000, 0u8..4),
            2..7,
        ),
    ) {
        let mut caller: Option<Caller> = None;
        let mut until = START;
        let mut first_of = Vec::new();
        for (limits, burst, length, idle) in &steps {
            let limits: Vec<Rate> = limits.iter().map(|(n, per)| Rate::new(*n, ms(*per)).unwrap()).collect();
            let caller = caller.get_or_insert_with(|| Caller::new(&limits));
            caller.ceiling.reconfigure(&limits, *burst, caller.now);
            first_of.push((caller.arrived.len(), limits));
            until = until.plus(ms(*length));
            caller.run(until, *idle != 0);
        }
        let mut caller = caller.unwrap();
        caller.run(until.plus(Duration::from_secs(2)), false);
        for (step, (first, limits)) in first_of.iter().enumerate() {
            let end = first_of.get(step + 1).map_or(caller.arrived.len(), |(next, _)| *next);
            for last in *first..end {
                for limit in limits {
                    let most = caller.most_with(last, limit.per);
                    prop_assert!(most <= limit.count as usize, "{most} in {limit} in step {step}");
                }
            }
        }
    }
}

//! What is learned from refusals without words, before simulated providers with exact limits at their own
//! clock: how much of the real rate is used, and how many requests are refused.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::print_stdout)]

mod provider;

use std::time::Duration;

use otpd_core::{Ceiling, Checkpoint, HandOver, LearnedFrom, Rate, ReadAt, UnixMs};
use proptest::prelude::*;
use provider::{Counting, Lane, Provider, START, Schedule, ms};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn rates(text: &str) -> Vec<Rate> {
    text.split(',').filter(|r| !r.is_empty()).map(|r| r.parse().unwrap()).collect()
}

fn lane(ceiling: &str, latency: u64, jitter: u64) -> Lane {
    Lane {
        ceiling: Ceiling::new(&rates(ceiling), None, START),
        latency: ms(latency),
        jitter: ms(jitter),
        late: ms(1),
        paused: START,
    }
}

/// From 10 to 40 a second and back, every so many seconds.
fn moving(every: u64, until: u64) -> Schedule {
    (0..=until / every).map(|n| (n * every, if n % 2 == 0 { 10 } else { 40 })).collect()
}

const COUNTINGS: [Counting; 5] = [
    Counting::Sliding,
    Counting::SlidingWithRefused,
    Counting::Fixed,
    Counting::Bucket(10),
    Counting::Bucket(40),
];

/// Runs, says what came of it, and gives the shares used and refused after the first 10 s.
fn run(what: &str, lane: &mut Lane, provider: &mut Provider, seconds: u64) -> (f64, f64) {
    let came = lane.run(provider, secs(seconds));
    let (used, refused) = came.shares(provider, 10, seconds);
    println!(
        "{what}, {:?}, {} ms: {:.1} % used, {:.2} % refused, {} pauses",
        provider.counting,
        lane.latency.as_millis(),
        used * 100.0,
        refused * 100.0,
        came.pauses
    );
    (used, refused)
}

#[test]
fn the_real_rate_is_found_and_used() {
    for (latency, jitter, least_used, most_refused) in [(60, 4, 0.95, 0.02), (300, 10, 0.93, 0.03)] {
        for (counting, taken) in COUNTINGS.into_iter().flat_map(|c| [(c, 10), (c, 40)]) {
            let mut provider = Provider::new(counting, secs(1), vec![(0, taken)]);
            let what = format!("50/s configured, {taken}/s taken");
            let (used, refused) = run(&what, &mut lane("50/s", latency, jitter), &mut provider, 300);
            assert!(used >= least_used && refused <= most_refused, "{counting:?}");
        }
    }
}

#[test]
fn a_limit_that_moves_is_followed() {
    for (every, counting) in [67, 120].into_iter().flat_map(|e| COUNTINGS.map(|c| (e, c))) {
        let mut provider = Provider::new(counting, secs(1), moving(every, 600));
        let what = format!("50/s configured, 10/s and 40/s taken in turn, {every} s each");
        let (used, refused) = run(&what, &mut lane("50/s", 60, 4), &mut provider, 600);
        let least = match counting {
            Counting::Sliding if every >= 120 => 0.95,
            Counting::Sliding => 0.93,
            // What they take beside their rate, and only sometimes, looks like a limit that has moved.
            Counting::SlidingWithRefused | Counting::Fixed | Counting::Bucket(_) => 0.8,
        };
        assert!(used >= least && refused <= 0.02, "{counting:?}");
    }
}

#[test]
fn a_limit_by_the_minute_is_found_too() {
    for counting in [Counting::Sliding, Counting::Fixed] {
        let mut provider = Provider::new(counting, secs(60), vec![(0, 600)]);
        let (used, refused) =
            run("50/s configured, 600/min taken", &mut lane("50/s", 60, 4), &mut provider, 900);
        assert!(used >= 0.9 && refused <= 0.02, "{counting:?}");
    }
}

#[test]
fn refusals_at_random_slow_the_lane_and_do_not_stop_it() {
    for (share, least) in [(0.01, 0.5), (0.05, 0.1), (0.1, 0.05)] {
        let mut provider = Provider::new(Counting::Sliding, secs(1), vec![(0, 1000)]);
        provider.at_random = share;
        let came = lane("100/s", 60, 4).run(&mut provider, secs(300));
        let sent = (came.accepted.len() + came.refused.len()) as f64 / 30_000.0;
        println!(
            "100/s configured, {share} of all refused: {:.1} % used, {} pauses",
            sent * 100.0,
            came.pauses
        );
        assert!(sent >= least, "{sent}");
    }
}

#[test]
fn what_was_learned_is_taken_over() {
    let mut provider = Provider::new(Counting::Sliding, secs(1), vec![(0, 10)]);
    let mut owner = lane("50/s", 60, 4);
    owner.run(&mut provider, secs(60));
    let now = START.plus(secs(60));
    let wall = UnixMs(1_800_000_000_000);
    let told = serde_json::to_string(&owner.ceiling.checkpoint(now, wall)).unwrap();
    let read: Checkpoint = serde_json::from_str(&told).unwrap();
    assert_eq!(read.learned.map(|learned| learned.from), Some(LearnedFrom::Refusals));
    let mut hand_over = HandOver::new(&rates("50/s"));
    hand_over.note_opened("x", Some(&read), ReadAt::live(now, wall));
    let mut next = Ceiling::new(&rates("50/s"), None, now);
    hand_over.apply(&mut next, now);
    assert!(next.per_second().is_some_and(|per_second| (9.0..=11.0).contains(&per_second)));
    assert!(next.has_learned());
    // What is over with the owner is over with the next one.
    let over = Ceiling::new(&rates("50/s"), None, now).checkpoint(now, wall);
    hand_over.note_opened("x", Some(&over), ReadAt::live(now, wall));
    hand_over.apply(&mut next, now);
    assert_eq!((next.per_second(), next.has_learned(), next.was_learned()), (Some(50.0), false, true));
}

fn any_counting() -> impl Strategy<Value = Counting> {
    prop_oneof![
        Just(Counting::Sliding),
        Just(Counting::SlidingWithRefused),
        Just(Counting::Fixed),
        (1u32..60).prop_map(Counting::Bucket),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever the provider does, never more than the ceiling, and the whole of it once the provider takes it.
    #[test]
    fn never_above_the_ceiling_and_back_to_it(
        counting in any_counting(),
        limits in proptest::collection::vec(0u32..80, 1..6),
        ceiling in 5u32..60,
        latency in 1u64..400,
        at_random in prop_oneof![Just(0.0), 0.0f64..0.2],
    ) {
        let moves: Schedule = (0..).map(|n| n * 20).zip(limits).collect();
        let end = moves.len() as u64 * 20;
        let mut provider = Provider::new(counting, secs(1), moves);
        provider.schedule.push((end, 100_000));
        provider.at_random = at_random;
        let mut lane = lane(&format!("{ceiling}/s"), latency, 5);
        let came = lane.run(&mut provider, secs(end));
        prop_assert!(came.most_in_a_second <= ceiling as usize, "{}", came.most_in_a_second);
        provider.at_random = 0.0;
        // A pause may last for a minute still, and a limit by the minute is raised by the minute.
        let came = lane.go_on(&mut provider, START.plus(secs(end)), secs(1800));
        prop_assert!(came.most_in_a_second <= ceiling as usize, "{}", came.most_in_a_second);
        prop_assert!(!lane.ceiling.has_learned(), "not the whole ceiling again: {:?}", lane.ceiling.per_second());
    }
}

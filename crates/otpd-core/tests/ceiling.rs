//! The promise of the ceiling, over simulated time: never above a limit at the provider, nearly all
//! of it used under backlog, a whole one available after idling.

#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use otpd_core::{Ceiling, Mono, Rate, ReadyAt};
use proptest::prelude::*;

const START: Mono = Mono(3_600_000_000_000);

fn rates(text: &str) -> Vec<Rate> {
    text.split(',').map(|r| r.parse().unwrap()).collect()
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Most arrivals in any window of length `per`.
fn most(arrivals: &[Mono], per: Duration) -> usize {
    let mut sorted = arrivals.to_vec();
    sorted.sort_unstable();
    let mut first = 0;
    let mut most = 0;
    for (last, at) in sorted.iter().enumerate() {
        while at.since(sorted[first]) >= per {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most
}

/// A greedy caller for `length`: every wake is `late(i)` late, every request takes `delay(i)` to be
/// written and `travel(i)` to arrive. Gives the arrivals.
fn greedy(
    ceiling: &mut Ceiling,
    length: Duration,
    late: impl Fn(usize) -> Duration,
    delay: impl Fn(usize) -> Duration,
    travel: impl Fn(usize) -> Duration,
) -> Vec<Mono> {
    let mut now = START;
    let mut arrivals = Vec::new();
    let mut unwritten = std::collections::VecDeque::new();
    while now.since(START) < length {
        while unwritten.front().is_some_and(|(at, _)| *at <= now) {
            let (at, stamp): (Mono, otpd_core::Stamp) = unwritten.pop_front().unwrap();
            stamp.written(at);
        }
        let i = arrivals.len();
        match ceiling.take(now) {
            Ok(stamp) => {
                let left = now.plus(delay(i));
                arrivals.push(left.plus(travel(i)));
                unwritten.push_back((left, stamp));
                unwritten.make_contiguous().sort_by_key(|(at, _)| *at);
            }
            Err(ReadyAt::At(at)) => {
                assert!(at > now, "asked to wait for the past");
                let at = at.plus(late(i));
                now = unwritten
                    .front()
                    .map_or(at, |(left, _)| at.min((*left).max(now.plus(Duration::from_nanos(1)))));
            }
            Err(ReadyAt::WhenOneEnds) => now = unwritten.front().expect("someone is on the way").0,
        }
    }
    arrivals
}

#[test]
fn fifty_a_second_is_used_and_never_passed() {
    let mut ceiling = Ceiling::new(&rates("50/s"), None, START);
    let arrivals = greedy(
        &mut ceiling,
        Duration::from_secs(60),
        |i| Duration::from_micros(i as u64 * 137 % 1500),
        |_| Duration::from_micros(200),
        |i| Duration::from_micros(i as u64 * 389 % 4900),
    );
    assert!(most(&arrivals, Duration::from_secs(1)) <= 50);
    assert!(arrivals.len() >= 2970, "{} of 3000", arrivals.len());
}

#[test]
fn a_first_burst_is_not_repeated_under_backlog() {
    let mut ceiling = Ceiling::new(&rates("50/s"), None, START);
    let arrivals = greedy(
        &mut ceiling,
        Duration::from_secs(5),
        |_| Duration::ZERO,
        |_| Duration::ZERO,
        |_| Duration::ZERO,
    );
    let second: Vec<Mono> = arrivals.iter().copied().filter(|a| a.since(START) > ms(1200)).collect();
    assert!(most(&arrivals, ms(20)) == 50, "the first burst is there");
    assert!(most(&second, ms(100)) <= 6, "{}", most(&second, ms(100)));
}

#[test]
fn a_minute_ceiling_after_idling_gives_its_burst_at_once() {
    let mut ceiling = Ceiling::new(&rates("100/min"), None, START);
    let arrivals =
        greedy(&mut ceiling, Duration::from_secs(240), |_| ms(1), |_| Duration::ZERO, |_| Duration::ZERO);
    assert_eq!(most(&arrivals, ms(1)), 100);
    assert!(most(&arrivals, Duration::from_secs(60)) <= 100);
    assert!(arrivals.len() >= 396, "{}", arrivals.len());
    let idle = START.plus(Duration::from_secs(400));
    for _ in 0..100 {
        ceiling.take(idle).unwrap().written(idle);
    }
    assert!(matches!(ceiling.take(idle), Err(ReadyAt::At(_))));
}

#[test]
fn several_limits_hold_at_once() {
    let mut ceiling = Ceiling::new(&rates("50/s,600/min"), None, START);
    let arrivals = greedy(
        &mut ceiling,
        Duration::from_secs(180),
        |_| Duration::ZERO,
        |_| Duration::ZERO,
        |_| Duration::ZERO,
    );
    assert!(most(&arrivals, Duration::from_secs(1)) <= 50);
    assert!(most(&arrivals, Duration::from_secs(60)) <= 600);
    assert!(arrivals.len() >= 1780, "{}", arrivals.len());
}

#[test]
fn burst_bounds_what_idling_earns() {
    let mut ceiling = Ceiling::new(&rates("50/s"), Some(5), START);
    let at_once = (0..50).take_while(|_| ceiling.take(START).is_ok()).count();
    assert_eq!(at_once, 5);
}

#[test]
fn a_request_that_cannot_leave_holds_its_place_and_no_other() {
    let mut ceiling = Ceiling::new(&rates("2/s"), None, START);
    let stuck = ceiling.take(START).unwrap();
    ceiling.take(START).unwrap().written(START);
    let next = START.plus(ms(600));
    assert_eq!(ceiling.take(next).err(), Some(ReadyAt::At(START.plus(ms(1005)))));
    let later = START.plus(ms(1600));
    ceiling.take(later).unwrap();
    let latest = START.plus(ms(9000));
    assert_eq!(ceiling.take(latest).err(), Some(ReadyAt::WhenOneEnds));
    stuck.over();
    assert!(ceiling.take(latest).is_ok());
}

#[test]
fn a_hand_over_counts_what_the_last_owner_started() {
    let mut ceiling = Ceiling::new(&rates("50/s"), None, START);
    for i in 0..50 {
        ceiling.seed(START.plus(ms(i)));
    }
    ceiling.start_paced(START.plus(ms(60)));
    assert!(ceiling.take(START.plus(ms(60))).is_err(), "no burst");
    assert_eq!(ceiling.take(START.plus(ms(90))).err(), Some(ReadyAt::At(START.plus(ms(1005)))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn never_above_at_the_provider(count in 1u32..80, per_ms in 200u64..5_000, burst in 1u32..100, seed in any::<u64>()) {
        let per = ms(per_ms);
        let rate = Rate::new(count, per).unwrap();
        let mut ceiling = Ceiling::new(&[rate], Some(burst), START);
        let noise = move |i: usize, most: u64| Duration::from_micros((i as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) % most);
        let arrivals = greedy(&mut ceiling, per * 8, |i| noise(i, 2_000), |i| noise(i + 1, 40_000), |i| noise(i + 2, 5_000));
        prop_assert!(most(&arrivals, per) <= count as usize);
    }

    #[test]
    fn backlog_uses_it(count in 5u32..200) {
        let rate = Rate::new(count, Duration::from_secs(1)).unwrap();
        let mut ceiling = Ceiling::new(&[rate], None, START);
        let arrivals = greedy(&mut ceiling, Duration::from_secs(20), |_| Duration::from_micros(700), |_| Duration::from_micros(100), |_| Duration::ZERO);
        let bound = f64::from(count) * 20.0;
        prop_assert!(arrivals.len() as f64 >= bound * 0.98, "{} of {}", arrivals.len(), bound);
    }
}

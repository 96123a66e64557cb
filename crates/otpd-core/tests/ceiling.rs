//! The promise of the ceiling, over simulated time: never above a limit at the provider, nearly all
//! of it used under backlog, a whole one available after idling.

#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Duration;

use otpd_core::{Ceiling, Mono, Rate, ReadyAt, Stamp};
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

/// How things go on the way: how late a wake is, how long a request takes to be written, to arrive, and
/// to be answered, each by the number of the request.
struct Way {
    late: fn(usize) -> Duration,
    write: fn(usize) -> Duration,
    travel: fn(usize) -> Duration,
    answer: fn(usize) -> Duration,
}

const SMOOTH: Way = Way {
    late: |_| Duration::ZERO,
    write: |_| Duration::ZERO,
    travel: |_| Duration::ZERO,
    answer: |_| ms(20),
};

/// A greedy caller for `length`; gives the arrivals at the provider.
fn greedy(ceiling: &mut Ceiling, length: Duration, way: &Way) -> Vec<Mono> {
    let mut now = START;
    let mut arrivals: Vec<Mono> = Vec::new();
    // What happens by itself: requests are written, then answered.
    let mut coming: BTreeMap<(Mono, usize, bool), Stamp> = BTreeMap::new();
    while now.since(START) < length {
        while let Some(next) = coming.first_entry().filter(|e| e.key().0 <= now) {
            let ((at, i, answered), stamp) = next.remove_entry();
            if answered {
                ceiling.ended(&stamp, true, at);
            } else {
                stamp.written(at);
                let arrived = at.plus((way.travel)(i));
                arrivals.push(arrived);
                coming.insert((arrived.plus((way.answer)(i)), i, true), stamp);
            }
        }
        let i = arrivals.len() + coming.keys().filter(|(_, _, answered)| !answered).count();
        let next =
            coming.first_key_value().map(|((at, _, _), _)| (*at).max(now.plus(Duration::from_nanos(1))));
        match ceiling.take(now) {
            Ok(stamp) => {
                coming.insert((now.plus((way.write)(i)), i, false), stamp);
            }
            Err(ReadyAt::At(at)) => {
                assert!(at > now, "asked to wait for the past");
                let at = at.plus((way.late)(i));
                now = next.map_or(at, |n| n.min(at));
            }
            Err(ReadyAt::WhenOneEnds) => now = next.expect("someone is on the way"),
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
        &Way {
            late: |i| Duration::from_micros(i as u64 * 137 % 1500),
            write: |_| Duration::from_micros(200),
            travel: |i| Duration::from_micros(i as u64 * 389 % 4900),
            answer: |i| ms(20 + i as u64 * 7 % 60),
        },
    );
    assert!(most(&arrivals, Duration::from_secs(1)) <= 50);
    assert!(arrivals.len() >= 2970, "{} of 3000", arrivals.len());
}

#[test]
fn a_first_burst_is_not_repeated_under_backlog() {
    let mut ceiling = Ceiling::new(&rates("50/s"), None, START);
    let arrivals = greedy(&mut ceiling, Duration::from_secs(5), &SMOOTH);
    let second: Vec<Mono> = arrivals.iter().copied().filter(|a| a.since(START) > ms(1200)).collect();
    assert!(most(&arrivals, ms(20)) == 50, "the first burst is there");
    assert!(most(&second, ms(100)) <= 6, "{}", most(&second, ms(100)));
}

#[test]
fn a_minute_ceiling_after_idling_gives_its_burst_at_once() {
    let mut ceiling = Ceiling::new(&rates("100/min"), None, START);
    let arrivals = greedy(&mut ceiling, Duration::from_secs(240), &Way { late: |_| ms(1), ..SMOOTH });
    assert_eq!(most(&arrivals, ms(1)), 100);
    assert!(most(&arrivals, Duration::from_secs(60)) <= 100);
    assert!(arrivals.len() >= 396, "{}", arrivals.len());
    let idle = START.plus(Duration::from_secs(400));
    for _ in 0..100 {
        let stamp = ceiling.take(idle).unwrap();
        stamp.written(idle);
    }
    assert!(matches!(ceiling.take(idle), Err(ReadyAt::At(_))));
}

#[test]
fn several_limits_hold_at_once() {
    let mut ceiling = Ceiling::new(&rates("50/s,600/min"), None, START);
    let arrivals = greedy(&mut ceiling, Duration::from_secs(180), &SMOOTH);
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
    let answered = ceiling.take(START).unwrap();
    answered.written(START);
    ceiling.ended(&answered, true, START);
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

/// A number from 0 to `most`, scattered.
fn noise(i: usize, most: u64) -> Duration {
    Duration::from_micros((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17) % most)
}

#[test]
fn a_second_lost_on_the_way_does_not_let_another_through() {
    let mut ceiling = Ceiling::new(&rates("50/s"), None, START);
    let lost = Way { travel: |i| if i % 97 < 5 { ms(1000) } else { Duration::ZERO }, ..SMOOTH };
    let arrivals = greedy(&mut ceiling, Duration::from_secs(60), &lost);
    assert!(most(&arrivals, Duration::from_secs(1)) <= 50, "{}", most(&arrivals, Duration::from_secs(1)));
    let mut ceiling = Ceiling::new(&rates("50/s"), None, START);
    let first = Way { travel: |i| if i < 50 { ms(1000) } else { Duration::ZERO }, ..SMOOTH };
    let arrivals = greedy(&mut ceiling, Duration::from_secs(10), &first);
    assert!(most(&arrivals, Duration::from_secs(1)) <= 50, "{}", most(&arrivals, Duration::from_secs(1)));
}

#[test]
fn a_slow_provider_is_used_as_well() {
    let mut ceiling = Ceiling::new(&rates("50/s"), None, START);
    let slow = Way { answer: |i| ms(2000 + i as u64 * 13 % 900), ..SMOOTH };
    let arrivals = greedy(&mut ceiling, Duration::from_secs(120), &slow);
    assert!(arrivals.len() >= 5800, "{} of 6000", arrivals.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn never_above_at_the_provider(count in 1u32..80, per_ms in 200u64..5_000, burst in 1u32..100) {
        let per = ms(per_ms);
        let rate = Rate::new(count, per).unwrap();
        let mut ceiling = Ceiling::new(&[rate], Some(burst), START);
        let rough = Way {
            late: |i| noise(i, 2_000),
            write: |i| noise(i + 1, 40_000),
            travel: |i| noise(i + 2, 5_000),
            answer: |i| noise(i + 3, 90_000),
        };
        let arrivals = greedy(&mut ceiling, per * 8, &rough);
        prop_assert!(most(&arrivals, per) <= count as usize);
    }

    #[test]
    fn backlog_uses_it(count in 5u32..200) {
        let rate = Rate::new(count, Duration::from_secs(1)).unwrap();
        let mut ceiling = Ceiling::new(&[rate], None, START);
        let way = Way { late: |_| Duration::from_micros(700), write: |_| Duration::from_micros(100), ..SMOOTH };
        let arrivals = greedy(&mut ceiling, Duration::from_secs(20), &way);
        let bound = f64::from(count) * 20.0;
        prop_assert!(arrivals.len() as f64 >= bound * 0.98, "{} of {}", arrivals.len(), bound);
    }
}

#[test]
fn a_named_limit_is_obeyed_and_recovers_step_by_step() {
    let mut ceiling = Ceiling::new(&rates("600/min"), None, START);
    assert!(!ceiling.lower("700/min".parse().unwrap(), START), "above what is in force");
    assert!(ceiling.lower("100/min".parse().unwrap(), START));
    assert!((ceiling.per_second().unwrap() - 1.5).abs() < 1e-9);
    let arrivals = greedy(&mut ceiling, Duration::from_secs(60), &SMOOTH);
    assert!((80..=90).contains(&arrivals.len()), "{}", arrivals.len());
    let mut now = START;
    let mut steps = 0;
    while ceiling.per_second().unwrap() < 10.0 {
        now = now.plus(Duration::from_secs(60));
        assert!(ceiling.recover(now) && !ceiling.recover(now));
        steps += 1;
    }
    assert!((15..=25).contains(&steps), "{steps}");
    assert!(!ceiling.recover(now.plus(Duration::from_secs(600))));
}

#[test]
fn a_request_that_still_connects_keeps_its_place_over_sessions() {
    let mut ceiling = Ceiling::new(&rates("3/s"), None, START);
    let connecting = ceiling.take(START).unwrap();
    // Another owner came and went; its two requests are added.
    let back = START.plus(Duration::from_secs(20));
    ceiling.count_foreign(back, 2);
    assert_eq!(ceiling.take(back).err(), Some(ReadyAt::At(back.plus(ms(1005)))));
    let later = back.plus(ms(1005));
    let others = [(); 2].map(|()| ceiling.take(later).unwrap());
    assert_eq!(ceiling.take(later).err(), Some(ReadyAt::WhenOneEnds), "the first may still leave");
    connecting.revoke();
    assert!(ceiling.take(later).is_ok(), "now it never will");
    drop(others);
}

#[test]
fn a_request_that_comes_too_late_gives_its_place_back() {
    let mut ceiling = Ceiling::new(&rates("1/s"), None, START);
    let stamp = ceiling.take(START).unwrap();
    stamp.must_be_written_before(START.plus(Duration::from_secs(3)));
    let late = START.plus(ms(3001));
    assert!(ceiling.take(late).is_err());
    assert!(!stamp.try_write(late));
    assert!(ceiling.take(late).is_ok());
}

#[test]
fn a_window_of_a_day_is_exact_to_a_five_hundredth() {
    let mut ceiling = Ceiling::new(&rates("60000/d"), None, START);
    for n in 0..60_000 {
        let now = START.plus(ms(n));
        let stamp = ceiling.take(now).unwrap();
        stamp.written(now);
        ceiling.ended(&stamp, true, now);
    }
    let day = Duration::from_secs(86_400);
    let Err(ReadyAt::At(at)) = ceiling.take(START.plus(ms(60_000))) else { panic!("the day is used up") };
    assert!(at >= START.plus(day) && at <= START.plus(day + day / 500), "{:?}", at.since(START));
}

#[test]
fn bulk_alone_has_the_whole_ceiling() {
    let mut ceiling = Ceiling::new(&rates("50/s"), None, START);
    let (mut now, mut sent) = (START, 0);
    while now.since(START) < Duration::from_secs(60) {
        now = now.plus(ms(1));
        if ceiling.has_room_for_bulk(now)
            && let Ok(stamp) = ceiling.take(now)
        {
            stamp.written(now);
            ceiling.ended(&stamp, true, now);
            sent += 1;
        }
    }
    assert!(sent >= 2940, "{sent} of 3000");
}

#[test]
fn bulk_leaves_room_for_interactive_traffic_as_it_was_lately() {
    let mut ceiling = Ceiling::new(&rates("100/min"), None, START);
    let (mut now, mut sent) = (START, [0; 2]);
    let mut waiting: Option<Mono> = None;
    let mut waits = Vec::new();
    while now.since(START) < Duration::from_secs(1200) {
        now = now.plus(ms(10));
        if now.since(START).as_millis().is_multiple_of(10_000) {
            waiting = Some(now);
        }
        let is_bulk = waiting.is_none();
        if (is_bulk && !ceiling.has_room_for_bulk(now)) || now.since(START) < Duration::from_secs(1) {
            continue;
        }
        let Ok(stamp) = ceiling.take(now) else { continue };
        if let Some(since) = waiting.take() {
            ceiling.interactive_started(now);
            waits.push(now.since(since));
        }
        stamp.written(now);
        ceiling.ended(&stamp, true, now);
        sent[usize::from(is_bulk)] += 1;
    }
    let total = sent[0] + sent[1];
    assert!(total >= 1900, "{total} of 2000");
    let late = waits.iter().skip(30).filter(|wait| **wait > ms(700)).count();
    assert_eq!(late, 0, "{waits:?}");
}

//! Tables for [`super::Recipients`], and the comparison with a memory that forgets nothing.

use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> Mono {
    Mono(1_000_000_000_000).plus(Duration::from_secs(seconds))
}

fn phone(n: u64) -> RecipientKey {
    RecipientKey(n.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn limits(text: &str) -> Vec<Rate> {
    text.split(',').map(|limit| limit.parse().unwrap()).collect()
}

#[test]
fn all_limits_hold_and_numbers_do_not_meet() {
    let mut recipients = Recipients::new(limits("1/30s,3/h"));
    for second in [0, 30, 60] {
        assert_eq!(recipients.ready_at(phone(1), at(second)), at(second));
        recipients.sent(phone(1), at(second));
    }
    assert_eq!(recipients.ready_at(phone(1), at(61)), at(3600));
    recipients.not_sent(phone(1));
    assert_eq!(recipients.ready_at(phone(1), at(61)), at(61), "the third did not go out");
    assert_eq!(recipients.ready_at(phone(2), at(61)), at(61));
    recipients.pause(phone(2), at(70), at(61));
    assert_eq!(recipients.ready_at(phone(2), at(61)), at(70));
}

#[test]
fn the_past_may_be_told_in_any_order() {
    let mut recipients = Recipients::new(limits("2/h"));
    for second in [3000, 1000, 2000] {
        recipients.sent_at(phone(1), at(second), at(3100));
    }
    assert_eq!(recipients.ready_at(phone(1), at(3100)), at(2000 + 3600));
    recipients.sent_at(phone(2), at(1000), at(1000 + 3600));
    assert!(recipients.len() == 1, "no limit counts it any more");
}

#[test]
fn other_limits_count_what_was_sent_before() {
    let mut recipients = Recipients::new(limits("3/h"));
    for second in [0, 10] {
        recipients.sent(phone(1), at(second));
    }
    recipients.set_limits(limits("1/30s"));
    assert_eq!(recipients.ready_at(phone(1), at(11)), at(40));
    recipients.set_limits(limits("3/h"));
    assert_eq!(recipients.ready_at(phone(1), at(11)), at(11));
    recipients.sent(phone(1), at(12));
    recipients.sent(phone(1), at(13));
    assert_eq!(recipients.ready_at(phone(1), at(14)), at(10 + 3600), "0 was dropped by the limit of one");
    recipients.set_limits(Vec::new());
    assert_eq!(recipients.ready_at(phone(1), at(14)), at(14));
}

#[test]
fn without_limits_nothing_is_kept_but_pauses() {
    let mut recipients = Recipients::default();
    recipients.sent(phone(1), at(0));
    assert!(recipients.is_empty());
    for n in 0..MOST as u64 {
        recipients.pause(phone(n), at(9), at(0));
    }
    assert_eq!(recipients.pauses.len(), MOST / 4);
    recipients.pause(phone(MOST as u64), at(20), at(10));
    assert_eq!(recipients.ready_at(phone(MOST as u64), at(10)), at(20));
}

/// Fault 19: 100,000 numbers were less than an hour from 28 sends a second on.
#[test]
fn an_hour_at_110_a_second_is_remembered_in_48_bytes_a_number() {
    let mut recipients = Recipients::new(limits("1/30s,5/h"));
    // 110 new numbers a second for a good hour: 396,000 within any hour.
    let count = 4000 * 110;
    for n in 0..count {
        recipients.sent(phone(n), at(n / 110));
    }
    let now = at(count / 110);
    assert_eq!(recipients.forgotten_early(), 0);
    for n in (count - 390_000..count).step_by(997) {
        recipients.set_limits(limits("1/h,5/h"));
        assert!(recipients.ready_at(phone(n), now) > now, "{n}");
    }
    let table = (MOST * 8 / 7) * (size_of::<(Halves, u32)>() + 1);
    let slots = recipients.owners.capacity() * size_of::<Halves>() + recipients.times.capacity() * 4;
    let each = (table + slots) / recipients.len();
    assert!(each <= 48, "{each} bytes");
}

#[test]
fn what_is_too_much_is_forgotten_and_told() {
    let mut recipients = Recipients::new(limits("1/h"));
    for n in 0..MOST as u64 + 1000 {
        recipients.sent(phone(n), at(0));
    }
    assert_eq!((recipients.len(), recipients.forgotten_early()), (MOST, 1000));
    assert_eq!(Recipients::new(limits("100/d")).most(), MOST / 20);
}

#[test]
fn months_go_by() {
    let mut recipients = Recipients::new(limits("2/d"));
    for day in 0..200 {
        let now = at(day * 86_400 + 86_400);
        assert_eq!(recipients.ready_at(phone(1), now), now, "day {day}");
        recipients.sent(phone(1), now);
        recipients.sent(phone(1), now.plus(Duration::from_secs(1)));
        assert_eq!(
            recipients.ready_at(phone(1), now.plus(Duration::from_secs(2))),
            now.plus(Duration::from_secs(86_400))
        );
    }
}

proptest! {
    #[test]
    fn as_a_memory_that_forgets_nothing(
        sends in proptest::collection::vec((0u64..6, 0u64..200, 0u64..3000), 1..80),
    ) {
        let limits = limits("1/30s,3/20min");
        let mut recipients = Recipients::new(limits.clone());
        let mut all: Vec<(u64, Mono)> = Vec::new();
        let mut now = at(10_000);
        for (number, later, back) in sends {
            now = now.plus(Duration::from_secs(later));
            let told = now.minus(Duration::from_millis(back * 100));
            recipients.sent_at(phone(number), told, now);
            all.push((number, told));
            for number in 0..6 {
                let mut times: Vec<Mono> = all.iter().filter(|(n, _)| *n == number).map(|(_, at)| *at).collect();
                times.sort_unstable();
                let limited = limits.iter().filter_map(|l| {
                    Some(times[times.len().checked_sub(l.count as usize)?].plus(l.per))
                });
                prop_assert_eq!(recipients.ready_at(phone(number), now), limited.fold(now, Mono::max));
            }
        }
    }
}

//! Order, successors and bookkeeping of the waiting room.

use super::*;
use bytes::Bytes;
use otpd_core::{Life, ProviderName, Refusals};
use otpd_queue::TraceContext;
use proptest::prelude::*;

fn held(place: u64, id: &str, to: &str, class: TrafficClass, expires: u64) -> Held {
    let body = format!(r#"{{"id":"{id}","to":"{to}","code":"123456"}}"#);
    let provider = ProviderName::parse("p").unwrap();
    Held {
        tag: Tag { session: 1, number: place },
        section: Section::Main,
        job: SendJob::parse(body.as_bytes(), UnixMs(0)).unwrap(),
        keys: otpd_core::JobKeys {
            recipient: otpd_core::RecipientKey(place),
            purpose: otpd_core::PurposeKey(place),
        },
        body: Bytes::new(),
        route: Arc::new(Route { class, ..Route::of_provider(&provider) }),
        hops: 0,
        life: Life::default(),
        replayed_at: None,
        attempts: 0,
        ambiguous: 0,
        extra: 0,
        accepted_at: None,
        moves_on: None,
        refusals: Refusals::default(),
        probed: 0,
        unsure_since: None,
        expires_at: UnixMs(expires),
        taken_at: UnixMs(0),
        arrived_at: Mono(0),
        ready_at: Mono(0),
        place,
        trace: TraceContext::default(),
        span: tracing::Span::none(),
    }
}

fn taken(room: &mut WaitingRoom) -> Vec<u64> {
    std::iter::from_fn(|| room.take_next()).map(|h| h.place).collect()
}

#[test]
fn interactive_first_then_by_arrival_and_a_retry_keeps_its_place() {
    let mut room = WaitingRoom::default();
    room.enter(held(1, "a", "+62811111111", TrafficClass::Bulk, 99), None);
    room.enter(held(3, "b", "+62811111112", TrafficClass::Interactive, 99), None);
    room.enter(held(2, "c", "+62811111113", TrafficClass::Interactive, 99), Some(Mono(10)));
    room.turn(Mono(9));
    assert_eq!(room.next().unwrap().place, 3);
    room.turn(Mono(10));
    assert_eq!(taken(&mut room), [2, 3, 1]);
    assert!(room.is_empty() && room.next_due().is_none() && room.next_expiry().is_none());
}

#[test]
fn another_class_is_another_place_in_the_order() {
    let mut room = WaitingRoom::default();
    room.enter(held(1, "a", "+62811111111", TrafficClass::Bulk, 99), None);
    room.enter(held(2, "b", "+62811111112", TrafficClass::Interactive, 99), None);
    room.enter(held(3, "c", "+62811111113", TrafficClass::Bulk, 99), Some(Mono(10)));
    let other = |held: &Held| {
        let class = match held.route.class {
            TrafficClass::Bulk => TrafficClass::Interactive,
            TrafficClass::Interactive => TrafficClass::Bulk,
        };
        Some(Arc::new(Route { class, ..Route::clone(&held.route) }))
    };
    room.reroute(other);
    assert_eq!(
        (room.ahead_of(TrafficClass::Interactive), room.ahead_of(TrafficClass::Bulk), room.len()),
        (1, 2, 3)
    );
    assert_eq!(room.next().unwrap().place, 1);
    room.turn(Mono(10));
    assert_eq!(taken(&mut room), [1, 3, 2]);
    assert_eq!(room.ahead_of(TrafficClass::Interactive), 0);
}

#[test]
fn a_successor_takes_the_seat() {
    let mut room = WaitingRoom::default();
    assert!(
        room.enter(held(1, "a", "+62811111111", TrafficClass::Interactive, 99), Some(Mono(50))).is_none()
    );
    let replaced = room.enter(held(2, "b", "+62811111111", TrafficClass::Interactive, 99), None);
    assert_eq!(replaced.unwrap().place, 1);
    assert_eq!(taken(&mut room), [2]);
}

#[test]
fn a_probe_in_vain_goes_behind_all_others_until_it_is_forgiven() {
    let mut room = WaitingRoom::default();
    let refused = |place, id, to| Held { probed: 1, ..held(place, id, to, TrafficClass::Interactive, 99) };
    room.enter(refused(1, "a", "+62811111111"), None);
    room.enter(refused(2, "b", "+62811111112"), Some(Mono(50)));
    room.enter(held(3, "c", "+62811111113", TrafficClass::Bulk, 99), None);
    assert_eq!(room.next().unwrap().place, 3);
    room.forgive();
    assert_eq!(room.next_due(), Some(Mono(50)), "its wait is none for the account");
    room.turn(Mono(50));
    assert_eq!(taken(&mut room), [1, 2, 3]);
}

#[test]
fn who_is_given_back_is_the_one_due_last_and_the_one_held_longest() {
    let mut room = WaitingRoom::default();
    for (place, due) in [(1, Some(20)), (2, None), (3, Some(40)), (4, Some(30))] {
        let to = format!("+6281111111{place}");
        let job = held(place, &format!("j{place}"), &to, TrafficClass::Interactive, 99);
        room.enter(Held { arrived_at: Mono(place), ..job }, due.map(Mono));
    }
    assert_eq!((room.deferred(Section::Main), room.deferred(Section::Later)), (3, 0));
    assert!(room.take_furthest(Section::Main, Mono(40)).is_none());
    let (furthest, due) = room.take_furthest(Section::Main, Mono(10)).unwrap();
    assert_eq!((furthest.place, due), (3, Mono(40)));
    assert!(room.take_oldest(Mono(0)).is_none());
    let oldest = |room: &mut WaitingRoom| room.take_oldest(Mono(9)).map(|(held, due)| (held.place, due));
    assert_eq!(oldest(&mut room), Some((1, Some(Mono(20)))));
    assert_eq!(oldest(&mut room), Some((2, None)));
}

proptest! {
    #[test]
    fn everyone_leaves_exactly_once(steps in proptest::collection::vec((0u8..4, 0u64..40, 0u64..100), 1..200)) {
        let mut room = WaitingRoom::default();
        let (mut entered, mut left, mut now) = (0u64, 0u64, 0u64);
        for (what, who, when) in steps {
            match what {
                0 | 1 => {
                    let id = format!("j{entered}");
                    let due = (what == 1).then_some(Mono(when));
                    let job = held(entered, &id, &format!("+62811111{who:03}"), TrafficClass::Interactive, when + 20);
                    left += u64::from(room.enter(job, due).is_some());
                    entered += 1;
                }
                2 => left += u64::from(room.take_next().is_some()),
                _ => {
                    now = now.max(when);
                    room.turn(Mono(now));
                    left += u64::from(room.take_expired(UnixMs(now)).is_some());
                }
            }
            prop_assert_eq!(room.len() as u64, entered - left);
            prop_assert_eq!(room.ready.len() + room.later.iter().map(BTreeSet::len).sum::<usize>(), room.len());
            prop_assert_eq!(room.expiry.len(), room.len());
            prop_assert_eq!(room.by_id.len(), room.len());
            prop_assert_eq!(room.by_key.len(), room.len());
            prop_assert_eq!(room.interactive, room.ready.len());
        }
    }
}

//! Tables for [`super::Recent`], and the property that the order of facts does not matter.

use proptest::prelude::*;

use super::*;
use crate::reason::Reason;

const NOW: u64 = 1_800_000_000_000;
const DAY: u64 = 86_400_000;

fn fact(kind: FactKind, job: &str, provider: &str, at: u64) -> Fact {
    let mut fact =
        Fact::new(kind, JobId::parse(job).unwrap(), ProviderName::parse(provider).unwrap(), UnixMs(at));
    fact.attempt = 1;
    fact
}

fn known_in(recent: &Recent, job: &str, life: u64, provider: &str) -> Known {
    let provider = ProviderName::parse(provider).unwrap();
    recent.known(&JobId::parse(job).unwrap(), Life::from_number(life).into(), &provider)
}

fn known_at(recent: &Recent, job: &str, stage: Stage, provider: &str) -> Known {
    recent.known(&JobId::parse(job).unwrap(), stage, &ProviderName::parse(provider).unwrap())
}

fn verdict(recent: &Recent, job: &str, life: Life, attempt: u32, provider: &str) -> Option<Verdict> {
    recent.verdict(&JobId::parse(job).unwrap(), life, attempt, &ProviderName::parse(provider).unwrap())
}

fn known(recent: &Recent, job: &str, provider: &str) -> Known {
    known_in(recent, job, 0, provider)
}

/// Folds a fact at the time it tells of.
fn fold(recent: &mut Recent, fact: &Fact) {
    recent.fold(fact, fact.at);
}

#[test]
fn an_entry_takes_28_bytes() {
    assert_eq!(size_of::<(Key, entry::Entry)>(), 28);
}

#[test]
fn the_last_fact_counts_and_accepted_stays() {
    let mut recent = Recent::default();
    assert_eq!(known(&recent, "a", "p"), Known::Nothing);
    fold(&mut recent, &fact(FactKind::Retrying, "a", "p", 10));
    assert_eq!(known(&recent, "a", "p"), Known::Tried { attempts: 1, not_before: UnixMs(10) });
    fold(&mut recent, &fact(FactKind::FailedOver, "a", "p", 20));
    assert_eq!(known(&recent, "a", "p"), Known::MovedOn { at: UnixMs(20) });
    assert!(matches!(known(&recent, "a", "q"), Known::Tried { .. }));
    fold(&mut recent, &fact(FactKind::Accepted, "a", "q", 15));
    assert_eq!(known(&recent, "a", "p"), Known::Accepted);
    fold(&mut recent, &fact(FactKind::Retrying, "a", "p", 30));
    fold(&mut recent, &fact(FactKind::Duplicate, "a", "p", 31));
    assert_eq!(known(&recent, "a", "r"), Known::Accepted);
    assert_eq!(known(&recent, "a", "q"), Known::AcceptedHere { at: UnixMs(15), attempts: 1 });
}

#[test]
fn each_life_has_its_own_end() {
    let ended = |at| Known::Ended { at: UnixMs(at) };
    let tried = |at| Known::Tried { attempts: 1, not_before: UnixMs(at) };
    let here = Known::AcceptedHere { at: UnixMs(90), attempts: 1 };
    let accepted = [Known::Accepted, Known::Accepted, here];
    // Facts as (kind, life, at), then what lives 0, 50 and 80 are known as.
    for (facts, is) in [
        (vec![(FactKind::Dead, 0, 50)], [ended(50), Known::Nothing, Known::Nothing]),
        (
            vec![(FactKind::Dead, 0, 50), (FactKind::Retrying, 50, 60)],
            [Known::Outlived, tried(60), Known::Nothing],
        ),
        (
            vec![(FactKind::Retrying, 50, 60), (FactKind::Dead, 0, 65)],
            [Known::Outlived, tried(60), Known::Nothing],
        ),
        (
            vec![(FactKind::Accepted, 0, 50), (FactKind::Retrying, 50, 60)],
            [Known::Outlived, tried(60), Known::Nothing],
        ),
        (vec![(FactKind::Dead, 50, 80)], [ended(80), ended(80), Known::Nothing]),
        (vec![(FactKind::Dead, 50, 80), (FactKind::Accepted, 80, 90)], accepted),
        (vec![(FactKind::Accepted, 80, 90), (FactKind::Dead, 50, 95)], accepted),
        (
            vec![(FactKind::FailedOver, 50, 60)],
            [Known::Outlived, Known::MovedOn { at: UnixMs(60) }, Known::Nothing],
        ),
    ] {
        let mut recent = Recent::default();
        for (kind, life, at) in &facts {
            recent.fold(&fact(*kind, "a", "p", *at).in_life(Life::from_number(*life)), UnixMs(100));
        }
        assert_eq!([0, 50, 80].map(|life| known_in(&recent, "a", life, "p")), is, "{facts:?}");
    }
}

#[test]
fn a_life_of_any_number_is_told_from_the_first() {
    let mut recent = Recent::default();
    recent.fold(&fact(FactKind::Dead, "a", "p", NOW).in_life(Life::from_number(u64::MAX)), UnixMs(NOW));
    assert_eq!(known_in(&recent, "a", u64::MAX, "p"), Known::Ended { at: UnixMs(NOW) });
    recent.fold(&fact(FactKind::Dead, "b", "p", NOW).in_life(Life::from_number(NOW)), UnixMs(NOW));
    assert_eq!(known_in(&recent, "b", NOW + 1, "p"), Known::Nothing);
    assert_eq!(known_in(&recent, "b", NOW, "p"), Known::Ended { at: UnixMs(NOW) });
}

#[test]
fn forgets_by_time_and_by_number() {
    let mut recent = Recent::new(Duration::from_millis(100), 4);
    for (job, at) in [("a", 1000), ("b", 1050), ("c", 1060), ("d", 1070), ("e", 1080)] {
        fold(&mut recent, &fact(FactKind::Accepted, job, "p", at));
    }
    assert_eq!((recent.len(), known(&recent, "a", "p")), (3, Known::Nothing));
    assert_eq!(known(&recent, "c", "x"), Known::Accepted);
    fold(&mut recent, &fact(FactKind::Accepted, "f", "p", 1165));
    assert_eq!((known(&recent, "c", "x"), known(&recent, "d", "x")), (Known::Nothing, Known::Accepted));
    fold(&mut recent, &fact(FactKind::Accepted, "g", "p", 1280));
    assert_eq!((recent.len(), known(&recent, "f", "p")), (3, Known::Nothing));
}

#[test]
fn times_are_kept_over_generations() {
    let mut recent = Recent::new(Duration::from_secs(600), 4);
    for (n, job) in ["a", "b", "c"].into_iter().enumerate() {
        let mut tried = fact(FactKind::Retrying, job, "p", NOW + n as u64);
        (tried.attempt, tried.next_attempt_at) = (3, Some(UnixMs(NOW + 30_000)));
        fold(&mut recent, &tried);
    }
    for job in ["a", "b", "c"] {
        let not_before = UnixMs(NOW + 30_000);
        assert_eq!(known(&recent, job, "p"), Known::Tried { attempts: 3, not_before }, "{job}");
    }
    // Late news of an older time changes nothing, in whichever generation the job is.
    recent.fold(&fact(FactKind::FailedOver, "a", "p", NOW - 1), UnixMs(NOW + 5));
    assert!(matches!(known(&recent, "a", "p"), Known::Tried { .. }));
    // An end is final, even if the clock of the worker that tells of it is behind.
    recent.fold(&fact(FactKind::Dead, "a", "p", NOW - 1), UnixMs(NOW + 5));
    assert_eq!(known(&recent, "a", "p"), Known::Ended { at: UnixMs(NOW - 1) });
    let mut tried = fact(FactKind::Retrying, "b", "p", NOW + 9);
    tried.attempt = 1;
    recent.fold(&tried, UnixMs(NOW + 9));
    assert!(matches!(known(&recent, "b", "p"), Known::Tried { attempts: 3, .. }), "attempts never go back");
}

#[test]
fn the_past_read_late_drops_nothing_newer() {
    let mut recent = Recent::new(Duration::from_secs(600), 100);
    for n in 0..20 {
        fold(&mut recent, &fact(FactKind::Accepted, &format!("new-{n}"), "p", NOW + n));
    }
    // Ten times as many as there is room for, from the window and from before it.
    for n in 0..1000 {
        recent.fold(&fact(FactKind::Accepted, &format!("old-{n}"), "p", NOW - 590_000 + n), UnixMs(NOW + 20));
        recent
            .fold(&fact(FactKind::Accepted, &format!("gone-{n}"), "p", NOW - 700_000 + n), UnixMs(NOW + 20));
    }
    assert_eq!(recent.len(), 70, "what is young, and half of what there is room for");
    for n in 0..20 {
        assert_eq!(known(&recent, &format!("new-{n}"), "x"), Known::Accepted);
    }
    assert_eq!(known(&recent, "old-0", "x"), Known::Accepted);
    assert_eq!(known(&recent, "gone-0", "p"), Known::Nothing);
}

#[test]
fn a_fact_from_a_clock_behind_is_remembered_while_the_old_ones_fill_their_half() {
    let mut recent = Recent::new(Duration::from_secs(600), 100);
    for n in 0..51 {
        fold(&mut recent, &fact(FactKind::Accepted, &format!("a-{n}"), "p", NOW + n));
    }
    recent.fold(&fact(FactKind::Accepted, "behind", "q", NOW - 30_000), UnixMs(NOW + 60));
    assert_eq!(known(&recent, "behind", "x"), Known::Accepted);
}

#[test]
fn a_clock_that_was_wrong_does_not_stay_wrong() {
    let mut recent = Recent::default();
    recent.fold(&fact(FactKind::Accepted, "future", "p", NOW + 300 * DAY), UnixMs(NOW));
    for (job, kind) in [("a", FactKind::Retrying), ("a", FactKind::Dead)] {
        fold(&mut recent, &fact(kind, job, "p", NOW));
    }
    assert_eq!(known(&recent, "a", "p"), Known::Ended { at: UnixMs(NOW) });
    // This process's own clock, too.
    let mut recent = Recent::default();
    fold(&mut recent, &fact(FactKind::Accepted, "future", "p", NOW + 300 * DAY));
    fold(&mut recent, &fact(FactKind::Dead, "a", "p", NOW));
    assert_eq!(known(&recent, "a", "p"), Known::Ended { at: UnixMs(NOW) });
}

#[test]
fn a_clock_set_back_puts_no_retry_off() {
    let mut recent = Recent::default();
    let mut tried = fact(FactKind::Retrying, "a", "p", NOW);
    tried.next_attempt_at = Some(UnixMs(NOW + 5000));
    fold(&mut recent, &tried);
    fold(&mut recent, &fact(FactKind::Dead, "b", "p", NOW - 300_000));
    let not_before = UnixMs(NOW - 300_000 + 5000);
    assert_eq!(known(&recent, "a", "p"), Known::Tried { attempts: 1, not_before });
}

#[test]
fn attempts_are_held_at_127() {
    let mut recent = Recent::default();
    let mut tried = fact(FactKind::Retrying, "a", "p", NOW);
    tried.attempt = u32::MAX;
    fold(&mut recent, &tried);
    assert!(matches!(known(&recent, "a", "p"), Known::Tried { attempts: 127, .. }));
}

#[test]
fn a_lane_beyond_250_movers_is_taken_as_one_that_tried() {
    let mut recent = Recent::default();
    for n in 0..=MOST_LANES {
        fold(&mut recent, &fact(FactKind::FailedOver, &format!("j-{n}"), &format!("p-{n}"), NOW));
    }
    assert_eq!(known(&recent, "j-249", "p-249"), Known::MovedOn { at: UnixMs(NOW) });
    assert!(matches!(known(&recent, "j-250", "p-250"), Known::Tried { .. }));
}

fn any_fact() -> impl Strategy<Value = Fact> {
    let kinds = proptest::sample::select(FactKind::ALL.to_vec());
    let stages = (0u64..3, any::<bool>());
    (kinds, stages, 0u64..400, 0u32..4, 0u8..3).prop_map(|(kind, (life, extra), at, attempt, job)| {
        let provider = if attempt % 2 == 0 { "p" } else { "q" };
        // No two of one moment: those count by their order.
        let mut fact = fact(kind, &format!("j{job}"), provider, NOW + at * 1000);
        (fact.life, fact.extra, fact.attempt) = (Life::from_number(life * 7), extra, attempt);
        fact
    })
}

proptest! {
    #[test]
    fn facts_in_any_order_say_the_same(facts in proptest::collection::vec(any_fact(), 1..40), seed in any::<u64>()) {
        let now = UnixMs(NOW + 500_000);
        let mut facts = facts;
        facts.sort_by_key(|f| f.at);
        facts.dedup_by_key(|f| f.at);
        let mut other = facts.clone();
        other.sort_by_key(|f| f.at.0.wrapping_mul(seed | 1).rotate_left(23));
        let (mut in_order, mut in_any) = (Recent::default(), Recent::default());
        for fact in &facts {
            in_order.fold(fact, now);
        }
        for fact in &other {
            in_any.fold(fact, now);
        }
        for job in ["j0", "j1", "j2"] {
            for life in [0, 7, 14] {
                for (provider, extra) in [("p", false), ("q", false), ("p", true), ("q", true)] {
                    let life = Life::from_number(life);
                    let say = |recent: &Recent| known_at(recent, job, Stage { life, extra }, provider);
                    prop_assert_eq!(say(&in_order), say(&in_any));
                    for attempt in 1..4 {
                        let heard = |recent: &Recent| verdict(recent, job, life, attempt, provider);
                        prop_assert_eq!(heard(&in_order), heard(&in_any));
                    }
                }
            }
        }
    }
}

#[test]
fn what_nobody_can_tell_stays_known_in_whichever_order_it_is_told() {
    let told = |kind, at: u64, class| Fact { class, attempt: 2, ..fact(kind, "a", "q", at) };
    let ambiguous = told(FactKind::FailedOver, 10, Some(Class::Ambiguous));
    let limited = told(FactKind::Retrying, 20, Some(Class::RateLimited));
    let job = JobId::parse("a").unwrap();
    for facts in [[&ambiguous, &limited], [&limited, &ambiguous]] {
        let mut recent = Recent::default();
        facts.iter().for_each(|fact| recent.fold(fact, UnixMs(30)));
        assert!(recent.was_ambiguous(&job, Life::default()));
        assert!(matches!(known(&recent, "a", "p"), Known::Tried { attempts: 2, .. }));
        assert!(!recent.was_ambiguous(&job, Life::from_number(7)), "another life");
    }
    let mut recent = Recent::default();
    recent.fold(&limited, UnixMs(30));
    assert!(!recent.was_ambiguous(&job, Life::default()));
}

const EXTRA: Stage = Stage { life: Life::from_number(0), extra: true };

fn extra(kind: FactKind, provider: &str, at: u64) -> Fact {
    Fact { extra: true, ..fact(kind, "a", provider, at) }
}

#[test]
fn an_extra_send_is_a_stage_of_its_own() {
    let accepted = fact(FactKind::Accepted, "a", "p", 10);
    let moved = extra(FactKind::FailedOver, "p", 20);
    let here = Known::AcceptedHere { at: UnixMs(10), attempts: 1 };
    // After so many of the facts: what p knows of its message, and q of the extra send.
    for (facts, first, second) in [
        (vec![&accepted], here, Known::Nothing),
        (vec![&accepted, &moved], Known::Accepted, Known::Tried { attempts: 1, not_before: UnixMs(20) }),
        (
            vec![&accepted, &moved, &extra(FactKind::Accepted, "q", 30)],
            Known::Accepted,
            Known::AcceptedHere { at: UnixMs(30), attempts: 1 },
        ),
        (
            vec![&accepted, &moved, &extra(FactKind::Dead, "q", 30)],
            Known::Accepted,
            Known::Ended { at: UnixMs(30) },
        ),
        // It is told of by a worker whose clock is behind.
        (vec![&accepted, &extra(FactKind::Sending, "q", 5)], Known::Accepted, {
            Known::Tried { attempts: 1, not_before: UnixMs(5) }
        }),
    ] {
        for turned in [false, true] {
            let mut recent = Recent::default();
            let mut facts = facts.clone();
            if turned {
                facts.reverse();
            }
            facts.iter().for_each(|fact| recent.fold(fact, UnixMs(30)));
            let told = (known(&recent, "a", "p"), known_at(&recent, "a", EXTRA, "q"));
            assert_eq!(told, (first, second), "{facts:?}");
        }
    }
}

#[test]
fn a_delivery_is_remembered_before_and_after_its_job_is_known() {
    use crate::delivery::DeliveryStatus as Status;
    let accepted = fact(FactKind::Accepted, "a", "p", 10);
    let told = |kind, by, attempt| Fact { attempt, ..fact(kind, "a", by, 12) };
    let (delivered, failed) = (FactKind::Delivery(Status::Delivered), FactKind::Delivery(Status::Failed));
    let lost = Some(Verdict::Undelivered(Reason::UnknownError));
    // What is told of attempt 1 at p.
    for (news, is) in [
        (vec![told(delivered, "p", 1)], Some(Verdict::Delivered)),
        (vec![told(FactKind::Verified, "q", 0)], Some(Verdict::Delivered)),
        (vec![told(FactKind::Delivery(Status::Sent), "p", 1)], None),
        (vec![told(failed, "p", 1)], lost),
        (vec![told(failed, "p", 0)], lost),
        (vec![told(failed, "p", 2)], None),
        (vec![told(failed, "q", 0)], None),
        (vec![told(failed, "p", 1), told(delivered, "p", 1)], Some(Verdict::Delivered)),
        (vec![told(delivered, "p", 1), told(failed, "p", 2)], Some(Verdict::Delivered)),
    ] {
        for accepted_first in [true, false] {
            let mut recent = Recent::default();
            let first = accepted_first.then_some(&accepted);
            let last = (!accepted_first).then_some(&accepted);
            let facts = first.into_iter().chain(&news).chain(last);
            facts.for_each(|fact| recent.fold(fact, UnixMs(30)));
            assert_eq!(verdict(&recent, "a", Life::default(), 1, "p"), is, "{news:?} {accepted_first}");
            assert_eq!(verdict(&recent, "a", Life::from_number(5), 1, "p"), None, "another life");
            assert_eq!(
                known(&recent, "a", "p"),
                Known::AcceptedHere { at: UnixMs(10), attempts: 1 },
                "{news:?}"
            );
        }
    }
}

#[test]
fn a_delivery_alone_makes_no_job_known() {
    let mut recent = Recent::default();
    fold(&mut recent, &fact(FactKind::Verified, "a", "p", 10));
    assert_eq!(known(&recent, "a", "p"), Known::Nothing);
    assert!(!recent.knows(&JobId::parse("a").unwrap(), Life::default()));
}

#[test]
fn a_delivery_outlives_the_generation_of_its_job() {
    let mut recent = Recent::new(Duration::from_secs(600), 4);
    let delivered = FactKind::Delivery(crate::delivery::DeliveryStatus::Delivered);
    fold(&mut recent, &fact(delivered, "a", "p", NOW));
    for job in ["b", "c"] {
        fold(&mut recent, &fact(FactKind::Accepted, job, "p", NOW + 1));
    }
    fold(&mut recent, &fact(FactKind::Accepted, "a", "p", NOW + 2));
    assert_eq!(verdict(&recent, "a", Life::default(), 1, "p"), Some(Verdict::Delivered));
}

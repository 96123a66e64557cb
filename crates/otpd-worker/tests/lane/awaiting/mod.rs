//! Accepted jobs whose delivery is awaited: who is sent once more, who is not, and that they are in nobody's way.

mod extra;
mod owners;
mod room;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use otpd_core::{DeliveryStatus, Fact, FactKind, JobId, Life, Reason, Route, RouteTable, UnixMs};
use otpd_queue::{Carried, Move, Prefetch, Section, Tag};

use crate::bench::{Bench, Left, NOW, Setup, accepted, body, permanent, provider, transient};
use crate::{by_login, login, secs};

const FAILED: FactKind = FactKind::Delivery(DeliveryStatus::Failed);
const DELIVERED: FactKind = FactKind::Delivery(DeliveryStatus::Delivered);

fn confirmed(providers: &[&str]) -> Route {
    Route { confirm_within: Some(secs(20)), ..login(providers) }
}

fn setup(route: Route) -> Setup {
    Setup { routes: vec![route], ..Setup::default() }
}

fn start(providers: &[&str]) -> Bench {
    Bench::start(setup(confirmed(providers)), |_, _| accepted())
}

/// What a callback of p says of attempt `attempt` of a job, at the bench's present.
fn told(bench: &Bench, kind: FactKind, job: &str, attempt: u32) -> Fact {
    let at = bench.script.clock.wall();
    Fact { attempt, ..Fact::new(kind, JobId::parse(job).unwrap(), provider("p"), at) }
}

fn tell(bench: &Bench, kind: FactKind, job: &str, attempt: u32) {
    bench.remember(vec![told(bench, kind, job, attempt)]);
}

fn number(i: usize) -> String {
    format!("+62811{i:07}")
}

/// Delivers a job that came by the route.
fn deliver(bench: &mut Bench, job: &str) -> Tag {
    bench.deliver_as(&body(job, "+628111111111", &format!(r#","purpose":"{job}""#)), false, by_login())
}

fn again(bench: &mut Bench, job: &str, carried: Carried) -> Tag {
    bench.deliver_as(&body(job, "+628111111111", &format!(r#","purpose":"{job}""#)), true, carried)
}

fn moved<'a>(bench: &'a Bench, tag: &Tag) -> &'a Move {
    let Some(Left::Moved(moved)) = bench.left.get(tag) else {
        panic!("not moved: {:?}", bench.left.get(tag))
    };
    moved
}

fn is_acknowledged(bench: &Bench, tag: &Tag) -> bool {
    matches!(bench.left.get(tag), Some(Left::Acknowledged))
}

#[tokio::test(start_paused = true)]
async fn what_arrives_in_time_is_acknowledged_then_and_not_before() {
    for (kind, attempt) in [
        (DELIVERED, 1),
        (DELIVERED, 0),
        (FactKind::Delivery(DeliveryStatus::Read), 1),
        (FactKind::Delivery(DeliveryStatus::Verified), 1),
        (FactKind::Verified, 0),
    ] {
        let mut bench = start(&["p", "q"]);
        let tag = deliver(&mut bench, "a");
        bench.pass(secs(19)).await;
        assert_eq!(
            (bench.kinds(), bench.left.len()),
            (vec![FactKind::Accepted], 0),
            "told at once, and kept"
        );
        tell(&bench, FactKind::Delivery(DeliveryStatus::Sent), "a", 1);
        bench.pass(Duration::from_millis(100)).await;
        assert!(bench.left.is_empty());
        tell(&bench, kind, "a", attempt);
        bench.pass(Duration::from_millis(1)).await;
        assert!(is_acknowledged(&bench, &tag), "{kind:?}");
        bench.pass(secs(60)).await;
        assert_eq!((bench.sent().len(), bench.kinds()), (1, vec![FactKind::Accepted]));
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_hears_of_goes_to_the_next_provider_when_its_time_is_up() {
    let mut bench = start(&["p", "q", "r"]);
    let tag = deliver(&mut bench, "a");
    bench.pass(Duration::from_millis(20_010)).await;
    assert!(bench.left.is_empty(), "20 s from the acceptance, which took 20 ms");
    bench.pass(Duration::from_millis(20)).await;
    let carried = &moved(&bench, &tag).carried;
    assert_eq!((moved(&bench, &tag).to.as_str(), moved(&bench, &tag).section), ("q", Section::Main));
    assert_eq!((carried.attempts, carried.hops, carried.extra, carried.accepted_at), (1, 1, 1, None));
    let fact = &bench.facts[1];
    assert_eq!((fact.kind, fact.reason), (FactKind::FailedOver, Some(Reason::QueuedUnconfirmed)));
    assert_eq!((fact.next_provider.clone(), fact.extra, fact.is_end()), (Some(provider("q")), true, false));
    // A late arrival is only a fact.
    tell(&bench, DELIVERED, "a", 1);
    bench.pass(secs(60)).await;
    assert_eq!((bench.sent().len(), bench.facts.len(), bench.left.len()), (1, 2, 1));
    let text = bench.metrics.encode().unwrap();
    for sample in [
        "extra_sends_total{provider=\"p\"} 1",
        "possible_duplicates_total{provider=\"p\"} 1",
        "awaiting_delivery_jobs{provider=\"p\"} 0",
    ] {
        assert!(text.contains(&format!("otpd_{sample}\n")), "{sample}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_goes_to_the_next_provider_at_once() {
    for (attempt, reason, is) in [
        (1, Some(Reason::WindowClosed), Some(Reason::WindowClosed)),
        (1, None, Some(Reason::UnknownError)),
        (0, None, Some(Reason::UnknownError)),
        // Of another attempt.
        (2, None, None),
    ] {
        let mut bench = start(&["p", "q"]);
        let tag = deliver(&mut bench, "a");
        bench.pass(secs(3)).await;
        bench.remember(vec![Fact { reason, ..told(&bench, FAILED, "a", attempt) }]);
        bench.pass(Duration::from_millis(1)).await;
        assert_eq!(bench.left.contains_key(&tag), is.is_some(), "{attempt} {reason:?}");
        let told = bench.facts.iter().find(|f| f.kind == FactKind::FailedOver).and_then(|f| f.reason);
        assert_eq!(told, is);
    }
}

/// A recipient who cannot be reached by one provider cannot be by the next one.
#[tokio::test(start_paused = true)]
async fn a_loss_that_every_provider_would_meet_ends_the_wait() {
    let mut bench = start(&["p", "q"]);
    let tag = deliver(&mut bench, "a");
    bench.pass(secs(3)).await;
    bench.remember(vec![Fact {
        reason: Some(Reason::RecipientNotOnWhatsapp),
        ..told(&bench, FAILED, "a", 1)
    }]);
    bench.pass(Duration::from_millis(1)).await;
    assert!(is_acknowledged(&bench, &tag));
    assert_eq!(bench.kinds(), [FactKind::Accepted]);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_where_nothing_would_follow() {
    let extra = Carried { extra: 1, attempts: 1, hops: 1, ..by_login() };
    for (providers, carried) in
        [(&["p"][..], by_login()), (&["q", "p"], by_login()), (&["p", "q"], extra.clone())]
    {
        let mut bench = start(providers);
        let tag = bench.deliver_as(&body("a", "+628111111111", ""), false, carried);
        bench.pass(secs(1)).await;
        assert!(is_acknowledged(&bench, &tag), "{providers:?}");
        tell(&bench, FAILED, "a", 1);
        bench.pass(secs(60)).await;
        assert_eq!(bench.kinds(), [FactKind::Accepted], "{providers:?}");
    }
}

/// A callback may overtake the answer.
#[tokio::test(start_paused = true)]
async fn what_was_heard_before_the_answer_counts() {
    for kind in [DELIVERED, FAILED] {
        let setup = Setup { latency: secs(2), ..setup(confirmed(&["p", "q"])) };
        let mut bench = Bench::start(setup, |_, _| accepted());
        let tag = deliver(&mut bench, "a");
        bench.pass(secs(1)).await;
        tell(&bench, kind, "a", 1);
        bench.pass(Duration::from_millis(1_001)).await;
        assert_eq!(bench.kinds()[0], FactKind::Accepted);
        assert_eq!(is_acknowledged(&bench, &tag), kind == DELIVERED);
        assert_eq!(bench.count(FactKind::FailedOver), usize::from(kind == FAILED));
        assert!(bench.left.contains_key(&tag));
    }
}

#[tokio::test(start_paused = true)]
async fn a_code_that_is_of_no_use_any_more_is_not_sent_once_more() {
    for (job, more) in [
        ("expired", r#","created_at":"2027-01-15T08:00:00Z","expires_at":"2027-01-15T08:00:15Z""#),
        ("superseded", ""),
    ] {
        let mut bench = start(&["p", "q"]);
        let tag = bench.deliver_as(&body(job, "+628111111111", more), false, by_login());
        bench.pass(secs(5)).await;
        if job == "superseded" {
            let newer = r#","created_at":"2027-01-15T08:00:03Z""#;
            bench.deliver_as(&body("newer", "+628111111111", newer), false, by_login());
        }
        bench.pass(secs(17)).await;
        assert!(is_acknowledged(&bench, &tag), "{job}");
        let ends = bench.facts.iter().filter(|f| f.job.as_str() == job).map(|f| f.kind);
        assert_eq!(ends.collect::<Vec<_>>(), [FactKind::Accepted], "{job}: accepted was its end");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_id_published_again_is_a_duplicate_while_it_waits_and_after() {
    let mut bench = start(&["p", "q"]);
    let first = deliver(&mut bench, "a");
    bench.pass(secs(5)).await;
    let copy = deliver(&mut bench, "a");
    bench.pass(secs(5)).await;
    assert!(is_acknowledged(&bench, &copy) && !bench.left.contains_key(&first));
    bench.pass(secs(15)).await;
    assert_eq!(moved(&bench, &first).to.as_str(), "q");
    let late = deliver(&mut bench, "a");
    bench.pass(secs(5)).await;
    assert!(is_acknowledged(&bench, &late));
    let duplicate = FactKind::Duplicate;
    assert_eq!(bench.kinds(), [FactKind::Accepted, duplicate, FactKind::FailedOver, duplicate]);
    assert_eq!(bench.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_changes_no_wait() {
    for set_by in [-3_600_000, 60_000] {
        let mut bench = start(&["p", "q"]);
        let tag = deliver(&mut bench, "a");
        bench.pass(secs(5)).await;
        bench.wall_set_by.store(set_by, Ordering::Relaxed);
        bench.pass(secs(14)).await;
        assert!(bench.left.is_empty(), "{set_by}");
        bench.pass(secs(2)).await;
        assert_eq!(moved(&bench, &tag).to.as_str(), "q", "{set_by}");
    }
}

//! What stands between a waiting job and its permit: pauses, the breaker, recipients, spilling.

use std::time::Duration;

use otpd_core::{Fact, FactKind, JobId, Outcome, Reason, Route, Scope, TrafficClass};
use otpd_queue::Carried;

use crate::bench::{Bench, Left, NOW, Setup, accepted, body, provider, transient};
use crate::{by_login, login, secs};

fn number(i: usize) -> String {
    format!("+62811{i:07}")
}

fn limited(wait: u64, scope: Scope) -> Outcome {
    Outcome::RateLimited { reason: Reason::RateProvider, scope, wait: Some(secs(wait)), limit: None }
}

fn broke() -> Outcome {
    Outcome::Account { reason: Reason::InsufficientBalance }
}

#[tokio::test(start_paused = true)]
async fn an_asked_wait_stops_everybody_and_is_told_once() {
    let mut bench = Bench::start(Setup::default(), |job, times| {
        if job.id.as_str() == "a" && times == 1 { limited(7, Scope::Account) } else { accepted() }
    });
    bench.deliver(&body("a", &number(0), ""));
    bench.pass(secs(1)).await;
    for i in 1..30 {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
    }
    bench.pass(secs(20)).await;
    let sent = bench.sent_at();
    assert_eq!(sent.len(), 31);
    assert!(sent[1].since(sent[0]) >= secs(7), "{:?}", sent[1].since(sent[0]));
    let told = |kind| bench.facts.iter().filter(|f| f.kind == kind).count();
    assert_eq!((told(FactKind::Paused), told(FactKind::Resumed)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_pair_limit_stops_only_its_recipient() {
    let mut bench = Bench::start(Setup::default(), |job, times| {
        if job.id.as_str() == "a" && times == 1 { limited(7, Scope::Pair) } else { accepted() }
    });
    bench.deliver(&body("a", &number(0), ""));
    bench.pass(secs(1)).await;
    bench.deliver(&body("b", &number(1), ""));
    bench.deliver(&body("c", &number(0), r#","purpose":"pay""#));
    bench.pass(secs(2)).await;
    assert_eq!(bench.sent(), ["a", "b"]);
    bench.pass(secs(8)).await;
    assert_eq!(bench.sent().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_refused_account_costs_a_handful_and_the_others_move_on() {
    let setup = Setup { routes: vec![login(&["p", "q"])], ..Setup::default() };
    let mut bench = Bench::start(setup, |_, _| broke());
    for i in 0..1000 {
        bench.deliver_as(&body(&format!("j{i}"), &number(i), ""), false, by_login());
    }
    bench.pass(Duration::from_millis(500)).await;
    assert!(bench.sent().len() <= 3, "{} met the refusal", bench.sent().len());
    let moved = bench.left.values().filter(|l| matches!(l, Left::Moved(m) if m.to == provider("q"))).count();
    assert_eq!(moved, 1000);
    let before = bench.sent().len();
    for i in 1000..1020 {
        bench.deliver_as(&body(&format!("j{i}"), &number(i), ""), false, by_login());
        bench.pass(secs(1)).await;
    }
    let probes = bench.sent().len() - before;
    assert!((2..=6).contains(&probes), "{probes} new jobs asked whether it is over");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_moved_untried_is_not_taken_for_a_copy_of_itself() {
    let mut bench =
        Bench::start(Setup { routes: vec![login(&["q", "p"])], ..Setup::default() }, |_, _| accepted());
    let mut moved = Fact::new(FactKind::FailedOver, JobId::parse("a").unwrap(), provider("q"), NOW);
    moved.next_provider = Some(provider("p"));
    bench.remember(vec![moved]);
    bench.deliver_as(&body("a", &number(1), ""), false, Carried { hops: 1, ..by_login() });
    bench.pass(secs(1)).await;
    assert_eq!(bench.sent(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn without_another_provider_jobs_wait_and_are_not_burnt() {
    let topped_up = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = topped_up.clone();
    // A probe that was refused has not used up its recipient's only message.
    let setup = Setup { recipients: vec!["1/h".parse().unwrap()], ..Setup::default() };
    let mut bench = Bench::start(setup, move |_, _| {
        if seen.load(std::sync::atomic::Ordering::Relaxed) { accepted() } else { broke() }
    });
    for i in 0..200 {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
    }
    bench.pass(secs(20)).await;
    assert!(bench.sent().len() <= 8, "{} probes in 20 s", bench.sent().len());
    assert!(bench.left.is_empty(), "none is burnt");
    topped_up.store(true, std::sync::atomic::Ordering::Relaxed);
    bench.pass(secs(40)).await;
    assert_eq!(bench.facts.iter().filter(|f| f.kind == FactKind::Accepted).count(), 200);
    assert!(bench.facts.iter().any(|f| f.kind == FactKind::Resumed));
}

#[tokio::test(start_paused = true)]
async fn a_run_of_failures_stops_the_flow() {
    let mut bench = Bench::start(Setup { latency: Duration::ZERO, ..Setup::default() }, |_, _| transient());
    for i in 0..500 {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
    }
    bench.pass(secs(10)).await;
    assert!(bench.sent().len() < 40, "{} requests to a provider that is down", bench.sent().len());
}

#[tokio::test(start_paused = true)]
async fn a_recipient_waits_for_the_short_limit_and_dies_of_the_long_one() {
    let recipients = vec!["1/30s".parse().unwrap(), "3/h".parse().unwrap()];
    let mut bench = Bench::start(Setup { recipients, ..Setup::default() }, |_, _| accepted());
    for purpose in ["a", "b", "c", "d"] {
        bench.deliver(&body(purpose, &number(1), &format!(r#","purpose":"{purpose}""#)));
    }
    bench.deliver(&body("other", &number(2), ""));
    bench.pass(secs(100)).await;
    let sent = bench.sent_at();
    assert_eq!(bench.sent(), ["a", "other", "b", "c"]);
    assert!(sent[2].since(sent[0]) >= secs(30) && sent[3].since(sent[2]) >= secs(30));
    let dead: Vec<_> = bench.facts.iter().filter(|f| f.kind == FactKind::Dead).collect();
    assert_eq!((dead.len(), dead[0].reason), (1, Some(Reason::RecipientLimited)));
}

#[tokio::test(start_paused = true)]
async fn what_would_wait_too_long_goes_where_there_is_room() {
    let route = Route { spill_after: Some(secs(2)), ..login(&["p", "q"]) };
    let mut bench =
        Bench::start(Setup { ceiling: "10/s", routes: vec![route], ..Setup::default() }, |_, _| accepted());
    for i in 0..100 {
        bench.deliver_as(&body(&format!("j{i}"), &number(i), ""), false, by_login());
    }
    bench.pass(secs(10)).await;
    let moved = bench.left.values().filter(|l| matches!(l, Left::Moved(_))).count();
    assert!((60..=85).contains(&moved), "{moved} moved");
    assert_eq!(bench.sent().len() + moved, 100);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_in_time_is_refused_at_once() {
    let route = Route { spill_after: Some(secs(2)), ttl: secs(5), ..login(&["p"]) };
    let mut bench =
        Bench::start(Setup { ceiling: "10/s", routes: vec![route], ..Setup::default() }, |_, _| accepted());
    for i in 0..100 {
        bench.deliver_as(&body(&format!("j{i}"), &number(i), ""), false, by_login());
    }
    bench.pass(Duration::from_millis(100)).await;
    let expired = bench.facts.iter().filter(|f| f.kind == FactKind::Expired).count();
    assert!((35..=60).contains(&expired), "{expired} refused");
}

#[tokio::test(start_paused = true)]
async fn bulk_flows_evenly_and_lets_people_pass() {
    let bulk = Route { class: TrafficClass::Bulk, ..login(&["p"]) };
    let mut bench =
        Bench::start(Setup { ceiling: "20/10s", routes: vec![bulk], ..Setup::default() }, |_, _| accepted());
    for i in 0..40 {
        bench.deliver_as(&body(&format!("bulk{i}"), &number(i), ""), false, by_login());
    }
    bench.pass(secs(5)).await;
    assert_eq!(bench.sent().len(), 10, "half a window in half of its time");
    bench.deliver_as(&body("person", &number(99), ""), false, Carried::default());
    bench.pass(Duration::from_millis(10)).await;
    assert_eq!(bench.sent().last().unwrap(), "person");
}

#[tokio::test(start_paused = true)]
async fn under_a_ceiling_every_request_is_announced_first() {
    let mut bench = Bench::start(Setup { ceiling: "50/s", ..Setup::default() }, |_, times| {
        if times == 1 { transient() } else { accepted() }
    });
    bench.deliver(&body("a", &number(1), ""));
    bench.pass(secs(5)).await;
    assert_eq!(bench.announced.iter().map(|f| f.attempt).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_not_heard_sends_nothing() {
    let mut bench = Bench::start(Setup { ceiling: "50/s", ..Setup::default() }, |_, _| accepted());
    bench.deliver(&body("a", &number(1), ""));
    // Nobody carries out what the lane hands in: no announcement is confirmed.
    tokio::time::sleep(secs(8)).await;
    assert!(bench.sent().is_empty());
    bench.pass(secs(5)).await;
    assert_eq!(bench.sent(), ["a"], "heard again, it is announced again and sent once");
    assert_eq!(bench.facts.last().unwrap().attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_after_all_is_not_sent_again() {
    let mut bench = Bench::start(Setup::default(), |_, _| Outcome::Ambiguous { reason: Reason::Timeout });
    let tag = bench.deliver(&body("a", &number(1), r#","purpose":"findable""#));
    bench.pass(secs(5)).await;
    assert_eq!(bench.sent(), ["a"]);
    let accepted = bench.facts.last().unwrap();
    assert_eq!(accepted.message_id.as_ref().unwrap().as_str(), "found");
    assert!(matches!(bench.left[&tag], Left::Acknowledged));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_came_back_often_and_was_never_tried_begins_anew() {
    let mut bench = Bench::start(Setup { ceiling: "50/s", ..Setup::default() }, |_, _| accepted());
    bench.returned = 12;
    let innocent = bench.deliver_as(&body("innocent", &number(1), ""), true, by_login());
    let tried = bench.deliver_as(&body("tried", &number(2), ""), true, Carried { attempts: 1, ..by_login() });
    bench.pass(secs(1)).await;
    let Left::Moved(moved) = &bench.left[&innocent] else { panic!("not moved") };
    assert_eq!((moved.to.as_str(), moved.carried.attempts), ("p", 0));
    assert!(matches!(bench.left[&tried], Left::Acknowledged));
    assert_eq!(bench.sent(), ["tried"]);
}

//! The lane by itself, over a held clock: what it sends when, what it says, and that every delivery
//! ends exactly once.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod awaiting;
mod bench;
mod classes;
mod expiry;
mod gates;
mod later;
mod probes;
mod reconfigure;
mod refusals;
mod served;
mod wire;

use std::time::Duration;

use bench::{Bench, Left, NOW, Setup, accepted, body, permanent, provider, transient};
use otpd_core::{Fact, FactKind, JobId, OnAmbiguous, Outcome, Reason, Route, RouteName, Scope};
use otpd_queue::Carried;
use otpd_worker::LaneState;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn login(providers: &[&str]) -> Route {
    Route {
        name: RouteName::parse("login").unwrap(),
        providers: providers.iter().map(|p| provider(p)).collect(),
        ..Route::of_provider(&provider("p"))
    }
}

fn by_login() -> Carried {
    Carried { route: RouteName::parse("login").ok(), ..Carried::default() }
}

#[tokio::test(start_paused = true)]
async fn a_ceiling_is_held_and_used() {
    let mut bench = Bench::start(Setup { ceiling: "50/s", ..Setup::default() }, |_, _| accepted());
    for i in 0..500 {
        bench.deliver(&body(&format!("j{i}"), &format!("+62811{i:07}"), ""));
    }
    bench.pass(secs(11)).await;
    let sent = bench.sent_at();
    assert_eq!((sent.len(), bench.left.len()), (500, 500));
    for (i, at) in sent.iter().enumerate().skip(50) {
        assert!(at.since(sent[i - 50]) > secs(1), "51 within a second at {i}");
    }
    let took = sent[499].since(sent[0]);
    assert!(took < Duration::from_millis(10_100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_keeps_its_delivery_and_its_count() {
    let mut bench =
        Bench::start(Setup::default(), |_, times| if times < 3 { transient() } else { accepted() });
    let tag = bench.deliver(&body("a", "+628111111111", ""));
    bench.pass(secs(10)).await;
    assert_eq!(bench.kinds(), [FactKind::Retrying, FactKind::Retrying, FactKind::Accepted]);
    assert_eq!(bench.facts.iter().map(|f| f.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(bench.facts[0].next_attempt_at.unwrap() > bench.facts[0].at);
    assert!(matches!(bench.left[&tag], Left::Acknowledged));
}

#[tokio::test(start_paused = true)]
async fn attempts_run_out() {
    let mut bench = Bench::start(Setup::default(), |_, _| transient());
    let tag = bench.deliver(&body("a", "+628111111111", ""));
    bench.pass(secs(120)).await;
    assert_eq!(bench.sent().len(), 6);
    let Left::Buried(burial) = &bench.left[&tag] else { panic!("not buried") };
    assert_eq!(
        (burial.reason, burial.attempts, burial.http_status),
        (Reason::AttemptsExhausted, 6, Some(200))
    );
    assert_eq!(burial.detail.as_deref(), Some("last: internal_error"));
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_code_is_sent() {
    let mut bench = Bench::start(Setup { ceiling: "1/10s", ..Setup::default() }, |_, _| accepted());
    bench.deliver(&body("first", "+628111111119", ""));
    bench.pass(secs(1)).await;
    let old = bench.deliver(&body("old", "+628111111111", r#","created_at":"2027-01-15T08:00:00Z""#));
    let new = bench.deliver(&body("new", "+628111111111", r#","created_at":"2027-01-15T08:00:02Z""#));
    let late = bench.deliver(&body("late", "+628111111111", r#","created_at":"2027-01-15T08:00:01Z""#));
    let other = bench.deliver(&body("other", "+628111111111", r#","purpose":"pay""#));
    bench.pass(secs(40)).await;
    assert_eq!(bench.sent(), ["first", "new", "other"]);
    let superseded: Vec<&str> =
        bench.facts.iter().filter(|f| f.kind == FactKind::Superseded).map(|f| f.job.as_str()).collect();
    assert_eq!(superseded, ["old", "late"]);
    for tag in [old, new, late, other] {
        assert!(matches!(bench.left[&tag], Left::Acknowledged));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_code_is_never_sent_and_uses_no_permit() {
    let mut bench = Bench::start(Setup { ceiling: "1/10s", ..Setup::default() }, |_, _| accepted());
    bench.deliver(&body("first", "+628111111110", ""));
    let soon = r#","created_at":"2027-01-15T08:00:00Z","expires_at":"2027-01-15T08:00:05Z""#;
    for i in 1..4 {
        bench.deliver(&body(&format!("stale{i}"), &format!("+62811111111{i}"), soon));
    }
    bench.deliver(&body("fresh", "+628111111119", ""));
    bench.pass(secs(6)).await;
    assert_eq!(bench.kinds().iter().filter(|k| **k == FactKind::Expired).count(), 3);
    bench.pass(secs(6)).await;
    assert_eq!(bench.sent(), ["first", "fresh"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waited_too_long_is_dead() {
    let route = Route { max_wait: Some(secs(5)), ..login(&["p"]) };
    let mut bench =
        Bench::start(Setup { ceiling: "1/10s", routes: vec![route], ..Setup::default() }, |_, _| accepted());
    bench.deliver_as(&body("a", "+628111111110", ""), false, by_login());
    let tag = bench.deliver_as(&body("b", "+628111111111", ""), false, by_login());
    bench.pass(secs(11)).await;
    let Left::Buried(burial) = &bench.left[&tag] else { panic!("not buried") };
    assert_eq!((burial.reason, burial.attempts), (Reason::WaitedTooLong, 0));
}

#[tokio::test(start_paused = true)]
async fn a_permanent_answer_is_buried_with_its_body_and_no_code_where_so_wished() {
    let setup = Setup { keep_code: false, ..Setup::default() };
    let mut bench = Bench::start(setup, |_, _| permanent(Reason::RecipientNotOnWhatsapp));
    let tag = bench.deliver(&body("a", "+628111111111", ""));
    bench.pass(secs(1)).await;
    let Left::Buried(burial) = &bench.left[&tag] else { panic!("not buried") };
    assert_eq!(burial.reason, Reason::RecipientNotOnWhatsapp);
    assert_eq!(burial.body, r#"{"id":"a","to":"+628111111111"}"#);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_job_is_buried_and_the_lane_goes_on() {
    let mut bench = Bench::start(Setup::default(), |_, _| accepted());
    let bad = bench.deliver(r#"{"id":"bad","to":"+628111111111","code":"1"}"#);
    let nameless = bench.deliver("482910");
    bench.deliver(&body("good", "+628111111111", ""));
    bench.pass(secs(1)).await;
    for tag in [bad, nameless] {
        let Left::Buried(burial) = &bench.left[&tag] else { panic!("not buried") };
        assert_eq!(burial.reason, Reason::MalformedJob);
        assert!(!burial.detail.as_deref().unwrap().contains("482910"));
    }
    assert_eq!(bench.sent(), ["good"]);
}

#[tokio::test(start_paused = true)]
async fn the_next_provider_gets_what_was_tried() {
    let setup = Setup { routes: vec![login(&["p", "q"])], ..Setup::default() };
    let mut bench = Bench::start(setup, |_, _| permanent(Reason::TemplateMissing));
    let carried = Carried { attempts: 1, hops: 1, ..by_login() };
    let tag = bench.deliver_as(&body("a", "+628111111111", ""), false, carried);
    bench.pass(secs(1)).await;
    let Left::Moved(moved) = &bench.left[&tag] else { panic!("not moved") };
    assert_eq!((moved.to.as_str(), moved.carried.attempts, moved.carried.hops), ("q", 2, 2));
    assert_eq!(bench.facts[0].next_provider, Some(provider("q")));
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_send_follows_its_policy() {
    for (policy, times) in [(OnAmbiguous::Resend, 2), (OnAmbiguous::Park, 1)] {
        let setup = Setup { on_ambiguous: policy, ..Setup::default() };
        let mut bench = Bench::start(setup, |_, _| Outcome::Ambiguous { reason: Reason::Timeout });
        let tag = bench.deliver(&body("a", "+628111111111", ""));
        bench.pass(secs(120)).await;
        let Left::Buried(burial) = &bench.left[&tag] else { panic!("not buried") };
        assert_eq!((bench.sent().len(), burial.reason), (times, Reason::AmbiguousParked));
    }
}

#[tokio::test(start_paused = true)]
async fn an_asked_wait_is_kept() {
    let limited = || Outcome::RateLimited {
        reason: Reason::RateProvider,
        scope: Scope::Account,
        wait: Some(secs(7)),
        limit: None,
    };
    let mut bench =
        Bench::start(Setup::default(), move |_, times| if times == 1 { limited() } else { accepted() });
    bench.deliver(&body("a", "+628111111111", ""));
    bench.pass(secs(20)).await;
    let sent = bench.sent_at();
    assert!(sent[1].since(sent[0]) >= secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_second_message_with_the_same_id_is_dropped() {
    let mut bench = Bench::start(Setup { latency: secs(2), ..Setup::default() }, |_, _| accepted());
    bench.deliver(&body("a", "+628111111111", ""));
    bench.pass(secs(1)).await;
    bench.deliver(&body("a", "+628111111111", ""));
    bench.pass(secs(3)).await;
    bench.deliver(&body("a", "+628111111111", ""));
    bench.pass(secs(3)).await;
    assert_eq!(bench.sent(), ["a"]);
    assert_eq!(bench.kinds(), [FactKind::Duplicate, FactKind::Accepted, FactKind::Duplicate]);
    assert_eq!(bench.left.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_outlives_its_session_is_settled_in_the_next() {
    let mut bench = Bench::start(Setup { latency: secs(5), ..Setup::default() }, |_, _| accepted());
    bench.deliver(&body("flying", "+628111111111", ""));
    bench.pass(secs(1)).await;
    bench.lose();
    bench.open(Vec::new());
    let again = bench.deliver_as(&body("flying", "+628111111111", ""), true, Carried::default());
    bench.pass(secs(10)).await;
    assert_eq!(bench.sent(), ["flying"]);
    assert!(matches!(bench.left[&again], Left::Acknowledged));
    assert_eq!(bench.kinds(), [FactKind::Accepted]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_ends_between_sessions_is_not_made_again() {
    let mut bench = Bench::start(Setup { latency: secs(2), ..Setup::default() }, |_, _| accepted());
    bench.deliver(&body("a", "+628111111111", ""));
    bench.pass(secs(1)).await;
    bench.lose();
    bench.pass(secs(5)).await;
    assert_eq!(bench.kinds(), [FactKind::Accepted]);
    bench.open(Vec::new());
    let again = bench.deliver_as(&body("a", "+628111111111", ""), true, Carried::default());
    bench.pass(secs(5)).await;
    assert_eq!((bench.sent().len(), bench.facts.len()), (1, 1));
    assert!(matches!(bench.left[&again], Left::Acknowledged));
}

#[tokio::test(start_paused = true)]
async fn a_new_owner_knows_what_the_last_one_did() {
    let mut bench = Bench::start(Setup { ceiling: "10/10s", ..Setup::default() }, |_, _| accepted());
    let fact = |kind, job: &str| Fact {
        attempt: 2,
        sent_at: Some(NOW),
        next_attempt_at: Some(NOW.plus(secs(4))),
        ..Fact::new(kind, JobId::parse(job).unwrap(), provider("p"), NOW)
    };
    bench.lose();
    bench.open(vec![
        fact(FactKind::Accepted, "done"),
        fact(FactKind::Retrying, "tried"),
        fact(FactKind::Dead, "dead"),
        fact(FactKind::Dead, "unclear"),
    ]);
    let done = bench.deliver_as(&body("done", "+628111111111", ""), true, Carried::default());
    bench.deliver_as(&body("tried", "+628111111112", ""), true, Carried::default());
    // Made before its end, so it is the message that ended.
    let old = r#","created_at":"2027-01-15T07:59:59Z""#;
    let dead = bench.deliver_as(&body("dead", "+628111111113", old), true, Carried::default());
    // It may as well have been published again.
    let unclear = bench.deliver_as(&body("unclear", "+628111111114", ""), true, Carried::default());
    bench.pass(secs(3)).await;
    assert!(bench.sent().is_empty(), "sent before its time");
    assert!(matches!(&bench.left[&unclear], Left::Buried(letter) if letter.reason == Reason::MaybeEnded));
    assert!(matches!((&bench.left[&done], &bench.left[&dead]), (Left::Acknowledged, Left::Acknowledged)));
    bench.pass(secs(3)).await;
    assert_eq!((bench.sent(), bench.facts[1].attempt), (vec!["tried".to_owned()], 3));
    for i in 0..20 {
        bench.deliver(&body(&format!("n{i}"), &format!("+6281222{i:05}"), ""));
    }
    bench.pass(secs(4)).await;
    let in_first_ten = bench.sent_at().len() + 3;
    assert!(in_first_ten <= 10, "{in_first_ten} with the predecessor's three");
}

#[tokio::test(start_paused = true)]
async fn draining_finishes_what_flies_and_hands_back_the_rest() {
    let setup = Setup { ceiling: "1/10s", latency: secs(3), ..Setup::default() };
    let mut bench = Bench::start(setup, |_, _| accepted());
    let flying = bench.deliver(&body("flying", "+628111111111", ""));
    let waiting = bench.deliver(&body("waiting", "+628111111112", ""));
    bench.pass(secs(1)).await;
    bench.drain.cancel();
    bench.pass(secs(30)).await;
    assert_eq!(bench.sent(), ["flying"]);
    assert!(bench.left.contains_key(&flying) && !bench.left.contains_key(&waiting));
    assert_eq!((bench.flushed, bench.closed), (1, true));
    assert!(bench.lane.is_finished());
    assert_eq!(*bench.state.borrow(), LaneState::Closed);
}

#[tokio::test(start_paused = true)]
async fn draining_ends_with_its_grace() {
    let mut bench = Bench::start(Setup { latency: secs(60), ..Setup::default() }, |_, _| accepted());
    let flying = bench.deliver(&body("flying", "+628111111111", ""));
    bench.pass(secs(1)).await;
    bench.drain.cancel();
    bench.pass(secs(11)).await;
    assert!(bench.lane.is_finished() && !bench.left.contains_key(&flying));
}

#[tokio::test(start_paused = true)]
async fn gauges_show_who_waits_and_how_full_it_is() {
    let mut bench = Bench::start(Setup { ceiling: "1/10s", ..Setup::default() }, |_, _| accepted());
    bench.deliver(&body("a", "+628111111110", ""));
    bench.deliver(&body("b", "+628111111111", ""));
    bench.pass(secs(5)).await;
    let text = bench.metrics.encode().unwrap();
    let gauge = |name: &str| -> f64 {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!((3.0..=5.0).contains(&gauge("otpd_oldest_job_seconds")), "{text}");
    assert!((gauge("otpd_ceiling_used_ratio") - 1.0).abs() < 1e-9, "{text}");
}

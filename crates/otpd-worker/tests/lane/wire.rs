//! What follows from the wire and from refusals for whole lanes: nobody pays for what concerns others, or for a
//! request that the lane itself called back.

use std::time::Duration;

use otpd_core::{FactKind, Outcome, Reason, Scope, SendJob};
use tokio::time::Instant;

use crate::bench::{Bench, Left, Setup, accepted, body};
use crate::{by_login, login, secs};

fn number(i: usize) -> String {
    format!("+62811{i:07}")
}

fn too_many(wait: Option<Duration>) -> Outcome {
    Outcome::RateLimited { reason: Reason::RateProvider, scope: Scope::Unknown, wait, limit: None }
}

/// Every connection is full: requests wait longer for one than they were announced for, seven times each. None of
/// them left, and the provider was not even asked.
#[tokio::test(start_paused = true)]
async fn a_request_that_the_lane_called_back_uses_no_attempt_and_opens_no_breaker() {
    let waits = |_: &str, asked| if asked <= 7 { Duration::from_millis(3500) } else { Duration::ZERO };
    let mut bench = Bench::start(Setup { ceiling: "50/s", waits, ..Setup::default() }, |_, _| accepted());
    for i in 0..60 {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
    }
    bench.pass(secs(295)).await;
    let [accepted, dead, expired, paused] =
        [FactKind::Accepted, FactKind::Dead, FactKind::Expired, FactKind::Paused]
            .map(|kind| bench.count(kind));
    println!(
        "60 codes whose requests came too late 7 times: {accepted} accepted, {dead} dead, {expired} expired; breaker opened {paused} times"
    );
    assert_eq!((accepted, dead, paused), (60, 0, 0));
}

/// One message a minute ago, then ten seconds of refusals: that says nothing of how much is taken in a minute.
#[tokio::test(start_paused = true)]
async fn ten_seconds_of_refusals_do_not_stop_a_quiet_lane_for_minutes() {
    let began = Instant::now();
    let answer = move |_: &SendJob, _: usize| match began.elapsed().as_secs() {
        30..40 => too_many(None),
        _ => accepted(),
    };
    let mut bench = Bench::start(Setup { ceiling: "50/s", ..Setup::default() }, answer);
    bench.deliver(&body("first", &number(999), ""));
    bench.pass(secs(29)).await;
    // One that is taken right before it begins.
    bench.deliver(&body("second", &number(998), ""));
    bench.pass(secs(1)).await;
    for i in 0..60 {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
    }
    bench.pass(secs(120)).await;
    let soon = bench.count(FactKind::Accepted) - 2;
    bench.pass(secs(200)).await;
    let expired = bench.count(FactKind::Expired);
    println!(
        "10 s of refusals on a quiet lane, 60 codes of 5 minutes: {soon} sent after 2 minutes, {expired} expired"
    );
    assert_eq!((soon, expired), (60, 0));
}

/// The account's limit is known, and one recipient is refused with a wait of its own: that one waits.
#[tokio::test(start_paused = true)]
async fn the_wait_of_one_recipient_does_not_slow_the_others() {
    let answer = |job: &SendJob, times: usize| match job.id.as_str() {
        "bad-1" | "bad-2" => too_many(Some(secs(3600))),
        // Ten of a hundred are refused without words: the account's.
        id if id.starts_with("few") && times == 1 => too_many(None),
        _ => accepted(),
    };
    let setup = Setup { ceiling: "50/s", latency: Duration::from_millis(500), ..Setup::default() };
    let mut bench = Bench::start(setup, answer);
    for i in 0..40 {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
    }
    bench.pass(Duration::from_millis(1300)).await;
    for i in 0..3 {
        bench.deliver(&body(&format!("few{i}"), &number(100 + i), ""));
    }
    bench.pass(secs(10)).await;
    for i in 40..50 {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
    }
    bench.pass(secs(20)).await;
    let before = bench.count(FactKind::Accepted);
    assert_eq!(before, 53);
    for purpose in [1, 2] {
        let named = format!(r#","purpose":"p{purpose}""#);
        bench.deliver(&body(&format!("bad-{purpose}"), &number(999), &named));
    }
    bench.pass(secs(5)).await;
    for i in 200..320 {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
    }
    bench.pass(secs(30)).await;
    let sent = bench.count(FactKind::Accepted) - before;
    println!(
        "a wait of an hour for one recipient, where a limit is known: {sent} of 120 others sent in 30 s"
    );
    assert!(sent >= 110, "{sent}");
}

/// Two numbers, half an hour apart on a quiet lane, are refused with a wait of an hour: each for itself.
#[tokio::test(start_paused = true)]
async fn two_refused_numbers_with_half_an_hour_between_them_do_not_stop_a_quiet_lane() {
    let answer = |job: &SendJob, _: usize| {
        if job.id.as_str().starts_with("bad") { too_many(Some(secs(3600))) } else { accepted() }
    };
    let mut bench = Bench::start(Setup { ceiling: "50/s", ..Setup::default() }, answer);
    let created = |bench: &Bench| format!(r#","created_at":"{}""#, bench.script.clock.wall());
    for round in 0..2 {
        let at = created(&bench);
        bench.deliver(&body(&format!("bad{round}"), &number(900 + round), &at));
        bench.pass(secs(900)).await;
        let at = created(&bench);
        bench.deliver(&body(&format!("good{round}"), &number(round), &at));
        bench.pass(secs(900)).await;
    }
    let (sent, expired) = (bench.count(FactKind::Accepted), bench.count(FactKind::Expired));
    println!(
        "two numbers refused, 30 minutes apart: {sent} of 2 others sent, {expired} expired (2 refused for themselves)"
    );
    assert_eq!((sent, expired), (2, 2));
}

/// The account asks for a minute, and the route's `spill_after` is five seconds: who was refused moves on too.
#[tokio::test(start_paused = true)]
async fn who_is_refused_by_a_pause_longer_than_spill_after_moves_on() {
    let route = otpd_core::Route { spill_after: Some(secs(5)), ..login(&["p", "q"]) };
    let refuse = |_: &SendJob, _: usize| Outcome::RateLimited {
        reason: Reason::RateProvider,
        scope: Scope::Account,
        wait: Some(secs(60)),
        limit: None,
    };
    let mut bench = Bench::start(Setup { ceiling: "50/s", routes: vec![route], ..Setup::default() }, refuse);
    for i in 0..2 {
        bench.deliver_as(&body(&format!("j{i}"), &number(i), ""), false, by_login());
    }
    bench.pass(secs(3)).await;
    let moved = bench.left.values().filter(|left| matches!(left, Left::Moved(_))).count();
    println!("a pause of 60 s, spill_after 5 s, 2 refused: {moved} moved on within 3 s");
    assert_eq!(moved, 2);
}

/// Betatel falls silent: twenty requests are lost at once, and the breaker opens. What may have been sent is looked
/// for before another provider sends it again.
#[tokio::test(start_paused = true)]
async fn what_can_be_looked_for_is_looked_for_although_the_breaker_opens() {
    let setup = Setup { ceiling: "50/s", routes: vec![login(&["p", "q"])], ..Setup::default() };
    let latency = Duration::from_secs(1);
    let answer = |job: &SendJob, _: usize| {
        if job.id.as_str().starts_with("ok") {
            accepted()
        } else {
            Outcome::Ambiguous { reason: Reason::Timeout }
        }
    };
    let mut bench = Bench::start(Setup { latency, ..setup }, answer);
    for i in 0..6 {
        bench.deliver(&body(&format!("ok{i}"), &number(500 + i), ""));
    }
    bench.pass(secs(5)).await;
    for i in 0..25 {
        bench.deliver_as(&body(&format!("j{i}"), &number(i), r#","purpose":"findable""#), false, by_login());
    }
    bench.pass(secs(120)).await;
    let moved = bench.left.values().filter(|left| matches!(left, Left::Moved(_))).count();
    let found = bench.count(FactKind::Accepted) - 6;
    println!(
        "25 lost answers at a provider that can be asked: {found} found, {moved} sent again by the next one"
    );
    assert_eq!((found, moved), (25, 0));
}

/// One connection of several dies with forty requests on it, while those that started later are served: that is one
/// failure, and not a provider that fails.
#[tokio::test(start_paused = true)]
async fn one_connection_that_dies_does_not_open_the_breaker() {
    let waits = |id: &str, _| if id.starts_with("lost") { secs(2) } else { Duration::ZERO };
    let answer = |job: &SendJob, _: usize| {
        if job.id.as_str().starts_with("lost") {
            Outcome::Ambiguous { reason: Reason::Timeout }
        } else {
            accepted()
        }
    };
    let routes = vec![login(&["p", "q"])];
    let mut bench = Bench::start(Setup { waits, routes, ..Setup::default() }, answer);
    for i in 0..20 {
        bench.deliver(&body(&format!("first{i}"), &number(500 + i), ""));
    }
    bench.pass(secs(2)).await;
    for i in 0..40 {
        bench.deliver_as(&body(&format!("lost{i}"), &number(i), ""), false, by_login());
    }
    for i in 0..150 {
        bench.deliver_as(&body(&format!("next{i}"), &number(1000 + i), ""), false, by_login());
        bench.pass(Duration::from_millis(20)).await;
    }
    bench.pass(secs(5)).await;
    let (paused, served) = (bench.count(FactKind::Paused), bench.count(FactKind::Accepted) - 20);
    println!(
        "40 requests lost with one connection, 150 served over others: opened {paused} times, {served} served here"
    );
    assert_eq!((paused, served), (0, 150));
}

/// The owner before is told that nobody can tell about its request when the next one has sent the code again already:
/// that was the one resend.
#[tokio::test(start_paused = true)]
async fn a_resend_of_the_next_owner_is_the_one_resend() {
    let setup = Setup { latency: secs(5), routes: vec![login(&["p", "q"])], ..Setup::default() };
    let mut bench = Bench::start(setup, |_, _| Outcome::Ambiguous { reason: Reason::Timeout });
    let fact = |kind, class| otpd_core::Fact {
        class,
        attempt: 1,
        ..otpd_core::Fact::new(kind, otpd_core::JobId::parse("a").unwrap(), crate::provider("p"), crate::NOW)
    };
    bench.remember(vec![fact(FactKind::Sending, None)]);
    bench.deliver_as(&body("a", &number(1), ""), true, by_login());
    bench.pass(secs(2)).await;
    bench.remember(vec![fact(FactKind::Retrying, Some(otpd_core::Class::Ambiguous))]);
    bench.pass(secs(60)).await;
    let sent_here = bench.sent().len();
    println!("sent by the owner before, and {sent_here} times here: {:?}", bench.kinds());
    assert_eq!((sent_here, bench.kinds()), (1, vec![FactKind::Dead]));
}

/// The account refuses without words, and a moment later one number with a wait of an hour: the account never named one.
#[tokio::test(start_paused = true)]
async fn a_wait_that_one_number_was_told_is_not_what_the_account_asked_for() {
    let answer = |job: &SendJob, times: usize| match job.id.as_str() {
        "bad" => too_many(Some(secs(3600))),
        id if id.starts_with("few") && times == 1 => too_many(None),
        _ => accepted(),
    };
    let mut bench = Bench::start(Setup { ceiling: "50/s", ..Setup::default() }, answer);
    for i in 0..20 {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
    }
    bench.pass(secs(2)).await;
    for i in 0..2 {
        bench.deliver(&body(&format!("few{i}"), &number(100 + i), ""));
    }
    bench.pass(secs(5)).await;
    bench.deliver(&body("bad", &number(999), ""));
    bench.pass(secs(5)).await;
    let before = bench.count(FactKind::Accepted);
    for i in 200..300 {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
    }
    bench.pass(secs(30)).await;
    let sent = bench.count(FactKind::Accepted) - before;
    println!(
        "a wait of an hour for one number, seconds after the account's refusals: {sent} of 100 others sent in 30 s"
    );
    assert_eq!(sent, 100);
}

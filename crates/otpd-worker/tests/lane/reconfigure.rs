//! A lane whose settings change while it works.

use std::sync::Arc;
use std::time::Duration;

use otpd_core::{FactKind, OnAmbiguous, Outcome, Reason, RetryPolicy, Route, RouteTable};

use crate::bench::{Bench, Left, NOW, Setup, accepted, body, permanent, provider, transient};
use crate::{by_login, login, secs};

fn refused() -> Outcome {
    Outcome::Account { reason: Reason::AuthInvalid }
}

fn table(routes: Vec<Route>) -> Arc<RouteTable> {
    Arc::new(RouteTable::new([provider("p"), provider("q")], routes))
}

#[tokio::test(start_paused = true)]
async fn another_ceiling_holds_from_the_next_request_on() {
    let mut bench = Bench::start(Setup { ceiling: "10/s", ..Setup::default() }, |_, _| accepted());
    for i in 0..400 {
        bench.deliver(&body(&format!("j{i}"), &format!("+62811{i:07}"), ""));
    }
    bench.pass(secs(5)).await;
    let slow = bench.sent_at().len();
    let mut orders = bench.orders();
    orders.settings.ceiling = vec!["40/s".parse().unwrap()];
    bench.steering.tell(vec![orders], Vec::new());
    bench.pass(secs(5)).await;
    let fast = bench.sent_at();
    let mut orders = bench.orders();
    orders.settings.ceiling = vec!["5/s".parse().unwrap()];
    bench.steering.tell(vec![orders], Vec::new());
    bench.pass(secs(5)).await;
    let all = bench.sent_at();
    assert!((45..=60).contains(&slow), "{slow} at 10/s");
    assert!((185..=200).contains(&(fast.len() - slow)), "{} at 40/s", fast.len() - slow);
    assert!((15..=25).contains(&(all.len() - fast.len())), "{} at 5/s", all.len() - fast.len());
    let most = |from: usize, to: usize, ceiling: usize| {
        (from.max(ceiling)..to).all(|i| all[i].since(all[i - ceiling]) > secs(1))
    };
    assert!(most(slow, fast.len(), 40), "more than 40 within a second");
    // The first of them may have left at the very moment of the change.
    assert!(most(fast.len() + 1, all.len(), 5), "more than 5 within a second, those of before counted");
    let text = bench.metrics.encode().unwrap();
    assert!(text.contains("otpd_ceiling_per_second{provider=\"p\"} 5.0"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_tried_at_once_and_what_flies_keeps_the_old_one() {
    let mut bench = Bench::start(Setup { latency: secs(1), ..Setup::default() }, |_, _| refused());
    let tags: Vec<_> =
        (0..6).map(|i| bench.deliver(&body(&format!("j{i}"), &format!("+62811111111{i}"), ""))).collect();
    // Two are out before anything is known; then one at a time, ever more seldom.
    bench.pass(secs(21)).await;
    assert_eq!(bench.sent().len(), 6, "2 + probes after 1, 2, 4 and 8 s");
    let before = bench.facts.len();
    let good = bench.another(|_, _| accepted());
    let mut orders = bench.orders();
    orders.endpoint = good.clone();
    bench.steering.tell(vec![orders], Vec::new());
    bench.pass(secs(4)).await;
    assert_eq!((bench.sent().len(), good.sent.lock().unwrap().len()), (6, 6));
    assert!(bench.facts[before..].iter().all(|f| f.kind != FactKind::Retrying), "{:?}", bench.kinds());
    assert!(tags.iter().all(|tag| matches!(bench.left[tag], Left::Acknowledged)));
}

#[tokio::test(start_paused = true)]
async fn a_request_under_way_ends_at_the_provider_it_was_sent_to() {
    let mut bench = Bench::start(Setup { latency: secs(5), ..Setup::default() }, |_, _| accepted());
    let tag = bench.deliver(&body("a", "+628111111111", ""));
    bench.pass(secs(1)).await;
    let other = bench.another(|_, _| permanent(Reason::TemplateMissing));
    let mut orders = bench.orders();
    orders.endpoint = other.clone();
    bench.steering.tell(vec![orders], Vec::new());
    bench.pass(secs(5)).await;
    assert!(matches!(bench.left[&tag], Left::Acknowledged));
    assert_eq!((bench.kinds(), other.sent.lock().unwrap().len()), (vec![FactKind::Accepted], 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_goes_by_the_new_routes() {
    let setup = Setup { routes: vec![login(&["p"])], ..Setup::default() };
    let mut bench = Bench::start(setup, |_, _| refused());
    let tags: Vec<_> = (0..20)
        .map(|i| {
            bench.deliver_as(&body(&format!("j{i}"), &format!("+6281111111{i:02}"), ""), false, by_login())
        })
        .collect();
    bench.pass(secs(1)).await;
    assert!(bench.left.is_empty(), "nowhere to go");
    let mut orders = bench.orders();
    orders.routes = table(vec![login(&["p", "q"])]);
    bench.steering.tell(vec![orders], Vec::new());
    bench.pass(secs(1)).await;
    let moved = tags
        .iter()
        .filter(|tag| matches!(bench.left.get(tag), Some(Left::Moved(m)) if m.to == provider("q")));
    // One may be out as the probe; it keeps the route that it began with.
    assert!(moved.count() >= 19, "{:?}", bench.left);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_forbidden_later_ends() {
    let setup = Setup { ceiling: "1/10s", routes: vec![login(&["p"])], ..Setup::default() };
    let mut bench = Bench::start(setup, |_, _| accepted());
    for i in 0..5 {
        bench.deliver_as(&body(&format!("j{i}"), &format!("+62811111111{i}"), ""), false, by_login());
    }
    bench.pass(secs(1)).await;
    let mut orders = bench.orders();
    orders.routes = table(vec![Route { max_wait: Some(secs(15)), ..login(&["p"]) }]);
    bench.steering.tell(vec![orders], Vec::new());
    bench.pass(secs(40)).await;
    assert_eq!(bench.sent().len(), 2);
    let dead: Vec<_> = bench.facts.iter().filter_map(|f| f.reason).collect();
    assert_eq!(dead, [Reason::WaitedTooLong; 3]);
    assert!(bench.facts.iter().all(|f| f.at >= NOW));
}

#[tokio::test(start_paused = true)]
async fn policies_change_as_one() {
    let setup = Setup { latency: Duration::from_millis(1), ..Setup::default() };
    let mut bench = Bench::start(setup, |job, _| {
        if job.id.as_str() == "unsure" { Outcome::Ambiguous { reason: Reason::Timeout } } else { transient() }
    });
    let mut orders = bench.orders();
    orders.settings.on_ambiguous = OnAmbiguous::Park;
    orders.retry = RetryPolicy { max_attempts: 2, ..orders.retry };
    orders.keep_code = false;
    bench.steering.tell(vec![orders], vec!["1/h".parse().unwrap()]);
    bench.pass(secs(1)).await;
    let parked = bench.deliver(&body("unsure", "+628111111111", ""));
    let tried = bench.deliver(&body("tried", "+628111111112", ""));
    bench.pass(secs(10)).await;
    let limited = bench.deliver(&body("limited", "+628111111112", r#","purpose":"other""#));
    bench.pass(secs(1)).await;
    for (tag, reason, attempts) in [
        (parked, Reason::AmbiguousParked, 1),
        (tried, Reason::AttemptsExhausted, 2),
        (limited, Reason::RecipientLimited, 0),
    ] {
        let Left::Buried(burial) = &bench.left[&tag] else { panic!("{reason} is not buried") };
        assert_eq!((burial.reason, burial.attempts), (reason, attempts));
        assert!(!String::from_utf8_lossy(&burial.body).contains("482910"), "the code is kept");
    }
}

#[tokio::test(start_paused = true)]
async fn a_longer_window_counts_what_history_tells() {
    let mut bench = Bench::start(Setup { ceiling: "10/s", ..Setup::default() }, |_, _| accepted());
    bench.lose();
    let fact = |i: u64| {
        let job = otpd_core::JobId::parse(&format!("before{i}")).unwrap();
        let at = NOW.minus(Duration::from_millis(30_000 - i * 100));
        otpd_core::Fact {
            attempt: 1,
            sent_at: Some(at),
            ..otpd_core::Fact::new(FactKind::Accepted, job, provider("p"), at)
        }
    };
    bench.open((0..100).map(fact).collect());
    for i in 0..50 {
        bench.deliver(&body(&format!("j{i}"), &format!("+62811{i:07}"), ""));
    }
    let mut orders = bench.orders();
    orders.settings.ceiling = vec!["10/s".parse().unwrap(), "110/min".parse().unwrap()];
    bench.steering.tell(vec![orders], Vec::new());
    bench.pass(secs(20)).await;
    assert_eq!(bench.sent().len(), 10, "100 of the minute were sent before");
    bench.pass(secs(60)).await;
    assert_eq!(bench.sent().len(), 50);
}

//! A provider is trusted with what it really serves, and jobs are judged again while they wait.

use std::time::Duration;

use otpd_core::FactKind;
use otpd_core::Route;

use crate::bench::{Bench, Left, Setup, accepted, body};
use crate::{by_login, login, secs};

fn moved(bench: &Bench) -> usize {
    bench.left.values().filter(|l| matches!(l, Left::Moved(_))).count()
}

/// 30 a second come for 60 s to a provider that answers in 9 s, 100 at a time: it serves 11 a second.
#[tokio::test(start_paused = true)]
async fn a_slow_provider_is_not_trusted_with_its_ceiling() {
    let route = Route { spill_after: Some(secs(10)), ..login(&["p", "q"]) };
    let setup = Setup { ceiling: "50/s", latency: secs(9), routes: vec![route], ..Setup::default() };
    let mut bench = Bench::start(setup, |_, _| accepted());
    let mut came = Vec::new();
    for i in 0..1800 {
        came.push(bench.script.clock.mono());
        bench.deliver_as(&body(&format!("j{i}"), &format!("+62811{i:07}"), ""), false, by_login());
        bench.pass(Duration::from_micros(33_333)).await;
    }
    bench.pass(secs(60)).await;
    let sent = bench.sent_when(|_| true);
    let wait = |(id, at): &(String, otpd_core::Mono)| at.since(came[id[1..].parse::<usize>().unwrap()]);
    let mut waits: Vec<Duration> = sent.iter().map(wait).collect();
    waits.sort_unstable();
    let worst = waits[waits.len() - 1];
    println!(
        "30/s into 100 at a time of 9 s, spill_after 10 s: {} sent, {} moved; the worst waited {worst:.1?}",
        sent.len(),
        moved(&bench)
    );
    assert_eq!(sent.len() + moved(&bench), 1800);
    assert!(worst <= secs(13), "{worst:?}");
    assert!(sent.len() >= 500, "the provider is used: {}", sent.len());
}

/// A provider that was quick when the jobs came, and is slow while they wait.
#[tokio::test(start_paused = true)]
async fn who_would_now_wait_too_long_is_moved_while_waiting() {
    let route = Route { spill_after: Some(secs(10)), ..login(&["p", "q"]) };
    let setup = Setup { ceiling: "50/s", max_in_flight: 10, routes: vec![route], ..Setup::default() };
    let mut bench = Bench::start(setup, |_, _| accepted());
    for i in 0..50 {
        bench.deliver_as(&body(&format!("warm{i}"), &format!("+62812{i:07}"), ""), false, by_login());
    }
    bench.pass(secs(2)).await;
    assert_eq!(bench.count(FactKind::Accepted), 50);
    let mut slower = bench.orders();
    let mut slow = bench.another(|_, _| accepted());
    std::sync::Arc::get_mut(&mut slow).unwrap().latency = secs(5);
    slower.endpoint = slow.clone();
    bench.steering.tell(vec![slower], Vec::new());
    for i in 0..400 {
        bench.deliver_as(&body(&format!("j{i}"), &format!("+62811{i:07}"), ""), false, by_login());
    }
    bench.pass(Duration::from_millis(50)).await;
    assert_eq!(moved(&bench), 0, "8 s at 50/s");
    bench.pass(secs(15)).await;
    let (sent, moved) = (slow.sent.lock().unwrap().len(), moved(&bench));
    println!("10 at a time of 5 s: {sent} sent, {moved} of 400 moved within 15 s");
    assert!(moved >= 360, "{moved} moved");
    assert!(sent >= 20, "{sent}");
}

#[tokio::test(start_paused = true)]
async fn deferred_jobs_are_not_in_the_way_of_an_estimate() {
    let route = Route { spill_after: Some(secs(2)), ..login(&["p", "q"]) };
    let recipients = vec!["1/60s".parse().unwrap()];
    let setup = Setup { ceiling: "10/s", routes: vec![route], recipients, ..Setup::default() };
    let mut bench = Bench::start(setup, |_, _| accepted());
    bench.deliver(&body("first", "+628111111111", ""));
    bench.pass(secs(2)).await;
    for i in 0..100 {
        let purpose = format!(r#","purpose":"p{i}""#);
        bench.deliver(&body(&format!("second{i}"), "+628111111111", &purpose));
    }
    bench.pass(secs(1)).await;
    bench.deliver_as(&body("fresh", "+628111111112", ""), false, by_login());
    bench.pass(secs(1)).await;
    assert_eq!(bench.sent(), ["first", "fresh"]);
}

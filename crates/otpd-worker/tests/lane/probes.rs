//! The breaker's probes: one that was never sent does not count as running, and one job that is refused
//! for itself holds nobody up.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use otpd_core::{Class, Fact, FactKind, JobId, Outcome, Reason};
use otpd_queue::Carried;

use crate::bench::{Bench, Left, NOW, Setup, accepted, body, provider};
use crate::secs;

fn number(i: usize) -> String {
    format!("+62811{i:07}")
}

fn broke() -> Outcome {
    Outcome::Account { reason: Reason::InsufficientBalance }
}

fn under(ceiling: &'static str) -> Setup {
    Setup { ceiling, ..Setup::default() }
}

/// A lane whose account has no balance until the flag is set, and that has found out.
async fn closed(jobs: usize) -> (Bench, Arc<AtomicBool>) {
    let topped_up = Arc::new(AtomicBool::new(false));
    let seen = topped_up.clone();
    let mut bench =
        Bench::start(
            under("50/s"),
            move |_, _| {
                if seen.load(Ordering::Relaxed) { accepted() } else { broke() }
            },
        );
    for i in 0..jobs {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
    }
    bench.pass(Duration::from_millis(500)).await;
    assert_eq!(bench.count(FactKind::Paused), 1);
    (bench, topped_up)
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_could_not_be_announced_is_not_under_way_for_ever() {
    let (mut bench, topped_up) = closed(10).await;
    topped_up.store(true, Ordering::Relaxed);
    // The probe is due, and nobody carries out what the lane hands in: it is not confirmed within 3 s.
    tokio::time::sleep(secs(6)).await;
    bench.pass(secs(60)).await;
    let sent = bench.count(FactKind::Accepted);
    println!("{sent} of 10 jobs sent after the broker was back");
    assert_eq!(sent, 10);
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_session_is_lost_is_not_under_way_for_ever() {
    let (mut bench, topped_up) = closed(10).await;
    topped_up.store(true, Ordering::Relaxed);
    tokio::time::sleep(secs(2)).await;
    bench.lose();
    // The lane hears of it before the probe's announcement is confirmed.
    tokio::time::sleep(Duration::from_millis(100)).await;
    bench.pass(secs(2)).await;
    bench.open(Vec::new());
    for i in 0..10 {
        bench.deliver_as(&body(&format!("j{i}"), &number(i), ""), true, Carried::default());
    }
    bench.pass(secs(60)).await;
    assert_eq!(bench.count(FactKind::Accepted), 10);
}

/// Twenty jobs for one provider, of which these are refused, always and for a reason of the account.
async fn refused_for_themselves(bad: &'static [&'static str], time: Duration) -> Bench {
    let answer =
        move |job: &otpd_core::SendJob, _| if bad.contains(&job.id.as_str()) { broke() } else { accepted() };
    let mut bench = Bench::start(under("50/s"), answer);
    for i in 0..20 {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
    }
    bench.pass(time).await;
    bench
}

#[tokio::test(start_paused = true)]
async fn a_job_refused_for_itself_holds_nobody_up() {
    for bad in [&["j0"][..], &["j7"], &["j0", "j1", "j2"]] {
        let bench = refused_for_themselves(bad, secs(20)).await;
        let good = bench.sent_when(|id| !bad.contains(&id));
        println!("{bad:?} refused: {} of {} good jobs sent in 20 s", good.len(), 20 - bad.len());
        assert_eq!(bench.count(FactKind::Accepted), 20 - bad.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_refused_while_others_are_accepted_ends_with_that_reason() {
    let mut bench = refused_for_themselves(&["j0"], secs(3)).await;
    for i in 20..80 {
        bench.deliver(&body(&format!("j{i}"), &number(i), ""));
        bench.pass(secs(1)).await;
    }
    assert_eq!(bench.count(FactKind::Accepted), 79, "nobody waited for it");
    assert_eq!(bench.count(FactKind::Paused), 1, "only its first refusal was taken for the account's");
    let asked = bench.sent().iter().filter(|id| *id == "j0").count();
    let buried: Vec<_> = bench
        .left
        .values()
        .filter_map(|l| match l {
            Left::Buried(burial) => Some((burial.job.as_str(), burial.reason)),
            Left::Acknowledged | Left::Moved(_) => None,
        })
        .collect();
    assert_eq!(buried, [("j0", Reason::InsufficientBalance)]);
    assert_eq!(asked, 4, "its first refusal, and three while others were accepted");
}

#[tokio::test(start_paused = true)]
async fn a_refused_account_is_asked_seldom_and_by_each_job_in_turn() {
    let (mut bench, topped_up) = closed(20).await;
    bench.pass(secs(240)).await;
    let sent = bench.sent();
    let mut times: HashMap<&str, usize> = HashMap::new();
    for id in &sent {
        *times.entry(id).or_default() += 1;
    }
    println!("20 jobs, refused for 4 minutes: {} requests, {times:?}", sent.len());
    assert!(sent.len() <= 16, "{} requests", sent.len());
    assert!(times.values().all(|n| *n == 1), "{times:?}");
    assert!(bench.left.is_empty(), "none is burnt");
    topped_up.store(true, Ordering::Relaxed);
    bench.pass(secs(40)).await;
    assert_eq!(bench.count(FactKind::Accepted), 20);
}

#[tokio::test(start_paused = true)]
async fn the_next_owner_does_not_ask_with_the_refused_job_first() {
    let answer =
        |job: &otpd_core::SendJob, _: usize| if job.id.as_str() == "j0" { broke() } else { accepted() };
    let mut bench = Bench::start(under("50/s"), answer);
    let refused = Fact {
        attempt: 1,
        class: Some(Class::Account),
        sent_at: Some(NOW),
        next_attempt_at: Some(NOW.plus(secs(1))),
        ..Fact::new(FactKind::Retrying, JobId::parse("j0").unwrap(), provider("p"), NOW)
    };
    bench.lose();
    bench.open(vec![refused]);
    for i in 0..20 {
        bench.deliver_as(&body(&format!("j{i}"), &number(i), ""), true, Carried::default());
    }
    bench.pass(secs(20)).await;
    assert_eq!(bench.count(FactKind::Accepted), 19);
    assert_eq!(bench.count(FactKind::Paused), 1);
    assert_eq!(bench.sent().iter().position(|id| id == "j0"), Some(19), "{:?}", bench.sent());
}

//! Interactive jobs beside a bulk backlog: they wait for one request at most, and bulk alone uses the
//! whole ceiling.

use std::time::Duration;

use otpd_core::{Mono, Route, TrafficClass};
use otpd_queue::{Carried, Section};

use crate::bench::{Bench, Setup, accepted, body};
use crate::{by_login, login, secs};

fn bulk(ceiling: &'static str) -> Bench {
    let route = Route { class: TrafficClass::Bulk, ..login(&["p"]) };
    Bench::start(Setup { ceiling, routes: vec![route], ..Setup::default() }, |_, _| accepted())
}

fn deliver_bulk(bench: &mut Bench, range: std::ops::Range<usize>) {
    for i in range {
        let body = body(&format!("bulk{i}"), &format!("+62811{i:07}"), r#","purpose":"bulk""#);
        bench.deliver_from(Section::Bulk, &body, false, by_login());
    }
}

#[tokio::test(start_paused = true)]
async fn bulk_alone_uses_the_ceiling() {
    for (ceiling, per_second) in [("50/s", 50.0), ("20/10s", 2.0), ("300/s", 300.0), ("50/s,600/min", 10.0)] {
        let mut bench = bulk(ceiling);
        let jobs = (per_second * 40.0) as usize;
        deliver_bulk(&mut bench, 0..jobs);
        bench.pass(secs(35)).await;
        let sent = bench.sent_at();
        let within = sent.iter().filter(|at| (10..30).contains(&at.since(sent[0]).as_secs()));
        let used = within.count() as f64 / (20.0 * per_second);
        println!("{ceiling}: bulk alone uses {:.1} %", used * 100.0);
        assert!(used >= 0.98, "{ceiling}: {used}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_interactive_job_waits_for_one_request_of_a_bulk_backlog() {
    let spacing = Duration::from_millis(20);
    let mut bench = bulk("50/s");
    deliver_bulk(&mut bench, 0..8000);
    let mut came: Vec<Mono> = Vec::new();
    // Ten a second, at uneven distances, from the first moment on.
    for i in 0..600 {
        bench.pass(Duration::from_micros(20_000 + (i * 7919 % 160) * 1000)).await;
        came.push(bench.script.clock.mono());
        let body = body(&format!("person{i}"), &format!("+62812{i:07}"), "");
        bench.deliver_from(Section::Main, &body, false, Carried::default());
    }
    bench.pass(secs(2)).await;
    let sent = bench.sent_when(|id| id.starts_with("person"));
    assert_eq!(sent.len(), 600);
    let mut waits: Vec<Duration> =
        sent.iter().map(|(_, at)| *at).zip(&came).map(|(at, c)| at.since(*c)).collect();
    waits.sort_unstable();
    let took = sent[599].1.since(came[0]);
    let all = bench.sent().len() as f64 / (took.as_secs_f64() * 50.0);
    println!(
        "beside 8,000 bulk jobs: p50 {:?}, p99 {:?}, worst {:?}; {:.1} % of the ceiling used",
        waits[300],
        waits[594],
        waits[599],
        all * 100.0
    );
    assert!(waits[594] <= spacing * 2, "{:?}", waits[594]);
    assert!(waits[599] <= spacing * 3, "{:?}", waits[599]);
    assert!(all >= 0.98, "{all}");
}

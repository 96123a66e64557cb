//! A standby that is really hot: with many facts in the last ten minutes and five lanes with a backlog, workers
//! are replaced one by one, an owner is killed, and a whole fleet starts from nothing. How long does a lane
//! stand still?
//!
//! `OTPD_FACTS` sets how many facts there are (20,000 unless set); figures are printed.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::time::Duration;

use otpd_core::{Fact, FactKind};
use otpd_sim::mock::Kind;
use otpd_sim::{Control, Jobs, MockConfig};
use otpd_tests::past::publish_past;
use otpd_tests::rabbit::{PATIENCE, job, now, provider};
use otpd_tests::scene::WorkerProcess;
use otpd_tests::{Broker, Scene, eventually, most_within};

const LANES: [&str; 5] = ["a", "b", "c", "d", "e"];
const PER_SECOND: usize = 50;
/// How many jobs a lane gets at a time.
const ROUND: u64 = 1000;

fn facts() -> u64 {
    std::env::var("OTPD_FACTS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

/// Facts of another fleet's lane, spread over the last ten minutes.
async fn fill(broker: &Broker, scene: &Scene) {
    let (most, now) = (facts(), now());
    let old = (0..most).map(|n| {
        let at = now.minus(Duration::from_millis(600_000 - 600_000 * n / most));
        Fact { attempt: 1, ..Fact::new(FactKind::Accepted, job(&format!("old-{n}")), provider("z"), at) }
    });
    publish_past(&broker.url(), &scene.plan, old).await;
}

/// The longest time without a request in any lane, in seconds, after the first `skip` of each.
fn longest_pause(scene: &Scene, skip: &[usize]) -> f64 {
    let pause = |(lane, skip): (&&str, &usize)| {
        let arrivals = scene.mock.arrivals(Kind::Verihubs, lane);
        let after = arrivals.get(skip.saturating_sub(1)..).unwrap_or_default();
        after.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    };
    LANES.iter().zip(skip).map(pause).max().unwrap_or(0) as f64 / 1e6
}

fn sent(scene: &Scene) -> Vec<usize> {
    LANES.iter().map(|lane| scene.mock.arrivals(Kind::Verihubs, lane).len()).collect()
}

/// Sees to it that every lane has a backlog, by so many jobs a round.
async fn keep_busy(scene: &mut Scene, rounds: &mut u64) {
    let most = sent(scene).into_iter().max().unwrap_or(0) as u64;
    if most + 700 > *rounds * ROUND {
        for (lane, seed) in LANES.iter().zip(10 * *rounds..) {
            scene.publish(lane, Jobs::new(seed, ROUND)).await;
        }
        *rounds += 1;
    }
}

/// Waits until a worker is ready, which takes as long as it has to read, while the lanes have a backlog.
async fn ready(worker: &WorkerProcess, scene: &mut Scene, rounds: &mut u64) {
    let begun = tokio::time::Instant::now();
    while !worker.is_ready().await {
        assert!(begun.elapsed() < 5 * PATIENCE, "it does not become ready: {}", scene.log());
        keep_busy(scene, rounds).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn all_send_more(scene: &Scene, more: usize) {
    let before = sent(scene);
    eventually("every lane to send", PATIENCE, || async {
        sent(scene).iter().zip(&before).all(|(now, before)| *now >= before + more).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_replaced_killed_and_started_with_many_facts() {
    let broker = Broker::shared();
    let mut config = String::from("[limits]\nrecipient = \"off\"\n");
    let mut mock = MockConfig::default();
    for lane in LANES {
        config.push_str(&format!(
            "[providers.{lane}]\nkind = \"verihubs\"\nbase_url = \"{{mock}}\"\nceiling = \"{PER_SECOND}/s\"\n\
             app_id = \"{lane}\"\napi_key = \"key\"\n"
        ));
        mock.setup.push(Control {
            account: Some(lane.into()),
            // It counts and refuses nothing, so that one job too many is seen as that.
            ceilings: Some(Vec::new()),
            latency: "20ms..60ms".parse().ok(),
            ..Control::of(Kind::Verihubs)
        });
    }
    let routes = LANES.map(|lane| [lane]);
    let lanes: Vec<_> = LANES.iter().zip(&routes).map(|(lane, routes)| (*lane, true, &routes[..])).collect();
    let mut scene = Scene::set(broker, &broker.url(), &config, &lanes, mock).await;
    fill(broker, &scene).await;
    let old: Vec<String> = (0..facts()).map(|n| format!("old-{n}")).collect();
    scene.expect(old.iter().map(String::as_str));
    let mut rounds = 0;
    keep_busy(&mut scene, &mut rounds).await;
    let begun = tokio::time::Instant::now();
    let mut fleet: Vec<_> = (0..3).map(|_| scene.worker()).collect();
    all_send_more(&scene, 1).await;
    println!(
        "{} facts: cold start of three, every lane sends after {:.2} s",
        facts(),
        begun.elapsed().as_secs_f64()
    );
    for worker in &fleet {
        ready(worker, &mut scene, &mut rounds).await;
    }
    println!("{} facts: all three are ready after {:.2} s", facts(), begun.elapsed().as_secs_f64());

    let before = sent(&scene);
    let mut resident = 0;
    for _ in 0..3 {
        let next = scene.worker();
        ready(&next, &mut scene, &mut rounds).await;
        resident = resident.max(fleet.iter().map(WorkerProcess::resident_kib).max().unwrap_or(0));
        assert!(fleet.remove(0).stop().await.success(), "{}", scene.log());
        fleet.push(next);
        all_send_more(&scene, 50).await;
    }
    let replaced = longest_pause(&scene, &before);
    println!(
        "{} facts: rolling update of three: a lane stood still {replaced:.2} s at most; a worker had {} MB at most",
        facts(),
        resident / 1024
    );

    let before = sent(&scene);
    for _ in 0..2 {
        fleet.remove(0).kill9();
        all_send_more(&scene, 50).await;
        let next = scene.worker();
        ready(&next, &mut scene, &mut rounds).await;
        fleet.push(next);
    }
    let killed = longest_pause(&scene, &before);
    println!("{} facts: owners killed: a lane stood still {killed:.2} s at most", facts());

    scene.until_all_ended().await;
    let (summary, repeats) = scene.close_but_for_repeats();
    for lane in LANES {
        let arrivals = scene.mock.arrivals(Kind::Verihubs, lane);
        let most = most_within(&arrivals, Duration::from_secs(1));
        assert!(most <= PER_SECOND, "{lane}: {most:?} in a second");
    }
    println!("{summary}; {repeats} told twice");
    assert!(replaced < 5.0 && killed < 5.0, "stood still {replaced} s and {killed} s");
}

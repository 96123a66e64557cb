//! A window of an hour on a real broker: whatever happens to connections and workers, the fleet sends the
//! hour's requests once, and the other jobs wait.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::time::Duration;

use otpd_core::{Fact, FactKind};
use otpd_sim::Jobs;
use otpd_tests::one_lane::{LANE, one_lane};
use otpd_tests::past::publish_past;
use otpd_tests::rabbit::{PATIENCE, job, now, provider};
use otpd_tests::{Broker, Proxy, Scene, WorkerProcess, eventually};

/// The ceiling, and how many an hour it allows.
const CEILING: &str = "ceiling = \"20/h\"";
const MOST: usize = 20;
const SECTIONS: &str = "[limits]\nrecipient = \"off\"\n[routes.verihubs]\nttl = \"30m\"\n";

async fn ready(scene: &Scene) -> WorkerProcess {
    let worker = scene.worker();
    worker.ready().await;
    worker
}

/// The hour's requests were made, and the others wait with `owner`.
async fn all_wait(scene: &mut Scene, owner: &WorkerProcess, others: u64, what: &str) {
    scene.until_judged(LANE).await;
    eventually("the other jobs to wait", PATIENCE, || async {
        assert!(scene.requests() <= MOST as u64, "{what}: {} requests", scene.requests());
        (owner.waiting(LANE).await == others).then_some(())
    })
    .await;
    let (announced, arrived) = (scene.announced(), scene.requests());
    println!("{what}: {announced} announced, {arrived} arrived");
    assert_eq!((announced, arrived), (MOST, MOST as u64), "{what}");
}

/// Faults: 172 in an hour at `100/h` after one reconnection, 100 at once after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn an_hour_outlives_resets_kills_stops_and_a_cold_start() {
    let broker = Broker::shared();
    let proxy = Proxy::start(broker.address()).await;
    let mut scene = one_lane(broker, CEILING, SECTIONS, "5ms..20ms").await;
    let mut first = scene.worker_at(&proxy.url());
    first.ready().await;
    scene.publish(LANE, Jobs::new(1, 60)).await;
    scene.until("the hour's requests", |s| s.count(FactKind::Accepted) >= MOST).await;
    all_wait(&mut scene, &first, 40, "one owner").await;
    for session in [2, 3] {
        proxy.reset_all();
        eventually("the lane is open again", PATIENCE, || async {
            scene.log().contains(&format!("\"session\":{session},")).then_some(())
        })
        .await;
        all_wait(&mut scene, &first, 40, "connections reset").await;
    }
    let second = ready(&scene).await;
    first.kill9();
    all_wait(&mut scene, &second, 40, "the owner killed").await;
    let third = ready(&scene).await;
    assert!(second.stop().await.success(), "{}", scene.log());
    all_wait(&mut scene, &third, 40, "the owner stopped").await;
    assert!(third.stop().await.success(), "{}", scene.log());
    let fourth = ready(&scene).await;
    all_wait(&mut scene, &fourth, 40, "the whole fleet started anew").await;
    assert!(fourth.stop().await.success(), "{}", scene.log());
    scene.find_queued(LANE, 40).await;
    let summary = scene.close();
    assert_eq!((summary.accepted, summary.queued, scene.duplicates()), (20, 40, 0), "{summary}");
}

/// What the owner had on the wire has no answer on the stream, and fills the hour all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_hour_outlives_an_owner_that_is_killed_in_its_burst() {
    let mut scene = one_lane(Broker::shared(), CEILING, SECTIONS, "400ms").await;
    let mut first = ready(&scene).await;
    let second = ready(&scene).await;
    scene.publish(LANE, Jobs::new(2, 60)).await;
    scene.until_requests(MOST as u64).await;
    first.kill9();
    for _ in 0..3 {
        scene.until_judged(LANE).await;
    }
    let answered = scene.count(FactKind::Accepted);
    println!(
        "killed with {} on the wire: {} announced, {} arrived",
        MOST - answered,
        scene.announced(),
        scene.requests()
    );
    assert_eq!((scene.announced(), scene.requests()), (MOST, MOST as u64));
    assert!(answered < MOST, "nothing was on the wire: the case shows nothing");
    assert!(second.stop().await.success(), "{}", scene.log());
    scene.find_queued(LANE, 60 - answered).await;
    assert_eq!(scene.close().queued, 60 - answered as u64);
}

/// The requests of half an hour ago stand further back on the stream than a starting worker reads at first.
#[tokio::test(flavor = "multi_thread")]
async fn an_hour_is_read_from_the_past_before_the_lane_starts() {
    let broker = Broker::shared();
    let mut scene = one_lane(broker, CEILING, SECTIONS, "5ms..20ms").await;
    let ago = |seconds: f64| now().minus(Duration::from_secs_f64(seconds));
    let fact = |id: &str, of: &str, at| Fact {
        attempt: 1,
        sent_at: Some(at),
        ..Fact::new(FactKind::Accepted, job(id), provider(of), at)
    };
    let sent: Vec<Fact> = (0..MOST).map(|n| fact(&format!("old-{n}"), LANE, ago(1800.0))).collect();
    // More than the first piece of the past, which is 20,000 records.
    let since = 24_000_u32;
    let others: Vec<Fact> = (0..since)
        .map(|n| fact(&format!("other-{n}"), "z", ago(1700.0 * f64::from(since - n) / f64::from(since))))
        .collect();
    let ids: Vec<String> = sent.iter().chain(&others).map(|fact| fact.job.to_string()).collect();
    scene.expect(ids.iter().map(String::as_str));
    publish_past(&broker.url(), &scene.plan, sent.into_iter().chain(others)).await;
    scene.publish(LANE, Jobs::new(3, 10)).await;
    let worker = scene.worker();
    scene.until_judged(LANE).await;
    println!("20 of half an hour ago: {} announced, {} arrived", scene.announced(), scene.requests());
    assert_eq!((scene.announced(), scene.requests()), (0, 0));
    worker.ready().await;
    assert!(worker.stop().await.success(), "{}", scene.log());
    scene.find_queued(LANE, 10).await;
    assert_eq!(scene.close().queued, 10);
}

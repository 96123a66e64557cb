//! A lane that passes from one living worker to another: what is under way ends where it began, and what waits
//! goes to the next owner at once.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use otpd_sim::mock::Kind;
use otpd_sim::{Control, Jobs, MockConfig};
use otpd_tests::rabbit::{PATIENCE, channel};
use otpd_tests::scene::WorkerProcess;
use otpd_tests::{Broker, Proxy, Scene, eventually};

const LANE: &str = "verihubs";
const IN_FLIGHT: usize = 32;

async fn scene(broker: &Broker, limits: &str, latency: &str) -> Scene {
    let config = format!(
        r#"
[limits]
recipient = "off"
[providers.{LANE}]
kind = "verihubs"
base_url = "{{mock}}"
{limits}
app_id = "app"
api_key = "key"
[routes.news]
providers = ["{LANE}"]
class = "bulk"
"#
    );
    let control = Control { latency: latency.parse().ok(), ..Control::of(Kind::Verihubs) };
    let mock = MockConfig { setup: vec![control], ..MockConfig::default() };
    Scene::set(broker, &broker.url(), &config, &[(LANE, true, &[LANE, "news"][..])], mock).await
}

fn arrivals(scene: &Scene) -> Vec<u64> {
    scene.mock.arrivals(Kind::Verihubs, "app")
}

/// Until so many consumers stand in line for a queue of the lane.
async fn in_line(scene: &Scene, broker: &Broker, section: &str, count: u32) {
    let asking = channel(&broker.url()).await;
    let queue = format!("{}lane.{LANE}{section}", scene.plan.prefix);
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    eventually("a consumer", PATIENCE, || async {
        let told = asking.queue_declare(queue.as_str().into(), options, FieldTable::default()).await;
        (told.unwrap().consumer_count() >= count).then_some(())
    })
    .await;
}

/// Two workers that stand in different lines: the first for the main queue, the second for that of bulk jobs.
async fn crossed(scene: &Scene, broker: &Broker, proxy: &Proxy) -> (WorkerProcess, WorkerProcess) {
    proxy.slow_down(Duration::from_millis(40));
    let first = scene.worker_at(&proxy.url());
    in_line(scene, broker, "", 1).await;
    proxy.swallow();
    let second = scene.worker();
    in_line(scene, broker, ".later", 1).await;
    proxy.slow_down(Duration::ZERO);
    proxy.resume();
    first.ready().await;
    second.ready().await;
    (first, second)
}

/// Found: the first bulk job of the day went to the other worker, whose claim closed the owner's channel; what the
/// owner had under way was sent again, up to `max_in_flight` codes.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_between_two_living_workers_repeats_nothing() {
    let broker = Broker::shared();
    let proxy = Proxy::start(broker.address()).await;
    let mut scene = scene(broker, &format!("max_in_flight = {IN_FLIGHT}"), "800ms..1200ms").await;
    let (first, second) = crossed(&scene, broker, &proxy).await;
    scene.publish(LANE, Jobs::new(1, 200)).await;
    scene.until_requests((IN_FLIGHT + 8) as u64).await;
    assert!(
        first.sample(&format!("otpd_in_flight{{provider=\"{LANE}\"}}")).await > 0.0,
        "the second worker owned the lane from the start"
    );
    scene.publish("news", Jobs::new(2, 20)).await;
    scene.until_all_ended().await;
    let (duplicates, summary) = (scene.duplicates(), scene.close());
    println!("a claim between two living workers: {summary}; {duplicates} duplicates");
    assert_eq!((duplicates, summary.accepted), (0, 220), "{}", scene.log());
    assert!(scene.log().contains("another worker has opened it"), "nothing passed: {}", scene.log());
    drop((first, second));
}

/// Found: a worker that ends kept all that waited until its last request had its answer; then the next owner took
/// what was not answered for not yet written, and began with two requests.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_with_slow_answers_does_not_stand_still() {
    let broker = Broker::shared();
    let mut scene = scene(broker, "ceiling = \"20/s\"", "2s..2s").await;
    let first = scene.worker();
    first.ready().await;
    let second = scene.worker();
    second.ready().await;
    scene.publish(LANE, Jobs::new(3, 300)).await;
    let mut fleet = vec![first, second, scene.worker()];
    let mut longest = Vec::new();
    for ends in ["stopped", "killed"] {
        // So many that it is known how long answers take.
        let before = arrivals(&scene).len() + 60;
        scene.until_requests(before as u64).await;
        fleet[1].ready().await;
        let owner = fleet.remove(0);
        if ends == "stopped" {
            assert!(owner.stop().await.success(), "{}", scene.log());
        } else {
            let mut owner = owner;
            owner.kill9();
        }
        scene.until_requests((before + 60) as u64).await;
        let pauses = arrivals(&scene)[before - 1..].windows(2).map(|pair| pair[1] - pair[0]).max();
        longest.push(Duration::from_micros(pauses.unwrap()));
    }
    scene.until_all_ended().await;
    let (summary, repeats) = scene.close_but_for_repeats();
    println!(
        "owner stopped, killed: {summary}; nothing was sent for {longest:?} at most, {repeats} told twice"
    );
    assert_eq!(summary.accepted, 300, "{}", scene.log());
    assert!(
        longest.iter().all(|longest| *longest < Duration::from_secs(2)),
        "nothing was sent for {longest:?}"
    );
}

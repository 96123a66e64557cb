//! Who owns a lane, when connections fail in part: an owner that has lost its lane stops before the ceiling is
//! passed, whichever of its connections or nodes failed, and the next one counts what it sent.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::time::Duration;

use otpd_sim::mock::{AccountStats, Kind};
use otpd_sim::{Control, Jobs, MockConfig};
use otpd_tests::rabbit::PATIENCE;
use otpd_tests::scene::WorkerProcess;
use otpd_tests::{Broker, Proxy, Scene, eventually, most_within};

const LANE: &str = "verihubs";
const SECOND: Duration = Duration::from_secs(1);
const IN_FLIGHT: u64 = 32;

/// A lane with `ceiling` (empty: none), and a mock that counts and refuses nothing.
async fn scene(broker: &Broker, ceiling: &str, latency: &str) -> Scene {
    let ceiling = if ceiling.is_empty() { String::new() } else { format!("ceiling = \"{ceiling}\"") };
    let config = format!(
        r#"
[retry]
initial = "100ms"
max = "1s"
[limits]
recipient = "off"
[providers.{LANE}]
kind = "verihubs"
base_url = "{{mock}}"
{ceiling}
max_in_flight = {IN_FLIGHT}
app_id = "app"
api_key = "key"
"#
    );
    let control =
        Control { ceilings: Some(Vec::new()), latency: latency.parse().ok(), ..Control::of(Kind::Verihubs) };
    let mock = MockConfig { setup: vec![control], ..MockConfig::default() };
    Scene::set(broker, &broker.url(), &config, &[(LANE, true, &[LANE][..])], mock).await
}

fn account(scene: &Scene) -> AccountStats {
    scene.mock.stats().account(Kind::Verihubs, "app").unwrap().clone()
}

async fn owns(worker: &WorkerProcess) {
    eventually("the worker to own the lane", PATIENCE, || async {
        (worker.waiting(LANE).await > 0).then_some(())
    })
    .await;
}

/// Fault: the broker had closed the owner's consuming connection, the owner did not know, and its publishing
/// connection went on confirming: 100 requests in a second at `50/s`, 829 duplicates in 17 s.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_whose_consuming_connection_is_half_dead_stops() {
    let broker = Broker::shared();
    let proxy = Proxy::start(broker.address()).await;
    let mut scene = scene(broker, "50/s", "5ms..20ms").await;
    let first = scene.worker_at(&proxy.url());
    first.ready().await;
    scene.publish(LANE, Jobs::new(1, 500)).await;
    owns(&first).await;
    let second = scene.worker();
    second.ready().await;
    scene.until_requests(120).await;
    proxy.half_kill(" consume");
    scene.until_all_ended().await;
    let (summary, repeats) = scene.close_but_for_repeats();
    let (account, most) = (account(&scene), most_within(&scene.mock.arrivals(Kind::Verihubs, "app"), SECOND));
    println!(
        "half dead: {summary}; at most {most} in a second, {} duplicates, told twice {repeats}",
        account.duplicates
    );
    assert!(most <= 50, "{most} in a second");
    assert!(account.duplicates <= IN_FLIGHT, "{} duplicates", account.duplicates);
    assert_eq!(summary.accepted, 500);
}

/// The same without a ceiling: nothing is announced, so the owner notices by the other one's claim, or by the
/// silence of its connection.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_ceiling_it_stops_too() {
    let broker = Broker::shared();
    let proxy = Proxy::start(broker.address()).await;
    let mut scene = scene(broker, "", "50ms..100ms").await;
    let first = scene.worker_at(&proxy.url());
    first.ready().await;
    scene.publish(LANE, Jobs::new(2, 5000)).await;
    owns(&first).await;
    let second = scene.worker();
    second.ready().await;
    scene.until_requests(500).await;
    proxy.half_kill(" consume");
    scene.until_all_ended().await;
    let (summary, repeats) = scene.close_but_for_repeats();
    let account = account(&scene);
    println!("half dead, no ceiling: {summary}; {} duplicates, told twice {repeats}", account.duplicates);
    assert!(account.duplicates <= 2 * IN_FLIGHT, "{} duplicates", account.duplicates);
    assert_eq!(summary.accepted, 5000);
}

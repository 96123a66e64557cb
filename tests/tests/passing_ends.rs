//! A lane that passes on while requests fail: a job that does not end with its request goes to the next owner at
//! once, and what the loser can no longer acknowledge it does not move either.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::collections::HashMap;
use std::time::Duration;

use otpd_core::{Fact, FactKind};
use otpd_sim::mock::Kind;
use otpd_sim::{Control, Jobs, MockConfig};
use otpd_tests::past::publish_past;
use otpd_tests::rabbit::{job, now, provider};
use otpd_tests::{Broker, Proxy, Scene};

const LANE: &str = "verihubs";
const BACKUP: &str = "backup";

fn config(limits: &str) -> String {
    format!(
        r#"
[limits]
recipient = "off"
[retry]
initial = "500ms"
max_attempts = 2
[providers.{LANE}]
kind = "verihubs"
base_url = "{{mock}}"
{limits}
app_id = "app"
api_key = "key"
[providers.{BACKUP}]
kind = "verihubs"
base_url = "{{mock}}"
app_id = "app2"
api_key = "key"
[routes.login]
providers = ["{LANE}", "{BACKUP}"]
"#
    )
}

async fn scene(broker: &Broker, limits: &str, latency: &str, faults: &str) -> Scene {
    let first = Control {
        account: Some("app".into()),
        latency: latency.parse().ok(),
        ceilings: Some(Vec::new()),
        faults: Some(faults.parse().unwrap()),
        ..Control::of(Kind::Verihubs)
    };
    let backup = Control { account: Some("app2".into()), ..Control::of(Kind::Verihubs) };
    let mock = MockConfig { setup: vec![first, backup], ..MockConfig::default() };
    let lanes = [(LANE, true, &[LANE, "login"][..]), (BACKUP, true, &[BACKUP][..])];
    Scene::set(broker, &broker.url(), &config(limits), &lanes, mock).await
}

fn arrivals(scene: &Scene) -> Vec<u64> {
    scene.mock.arrivals(Kind::Verihubs, "app")
}

/// Found: what was answered 500 after the order to stop stayed with the worker until its slowest request had ended:
/// 18 s beside one that stalled.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_does_not_wait_for_a_worker_that_ends() {
    let broker = Broker::shared();
    let faults = "verihubs:stall=to:*777,500=first:1";
    let mut scene = scene(broker, "timeout = \"25s\"", "1s..1s", faults).await;
    let first = scene.worker();
    first.ready().await;
    let second = scene.worker();
    second.ready().await;
    let body = |id: &str, to: &str| {
        let text = format!(r#"{{"id":"{id}","to":"{to}","code":"482910","purpose":"{id}"}}"#);
        (id.to_owned(), bytes::Bytes::from(text))
    };
    // So that the account is known to be served, and more than two may go at once.
    let known = (0..3).map(|n| body(&format!("w{n}"), &format!("+99900000000{n}")));
    scene.publish_bodies(LANE, known.collect()).await;
    scene.until_all_ended().await;
    let before = arrivals(&scene).len();
    let mut jobs = vec![body("stalls", "+999000000777")];
    jobs.extend((0..7).map(|n| body(&format!("r{n}"), &format!("+99910000010{n}"))));
    scene.publish_bodies(LANE, jobs).await;
    scene.until_requests((before + 8) as u64).await;
    let stopping = tokio::time::Instant::now();
    first.signal("TERM");
    scene.until("all but the one that stalls to end", |scene| scene.ended() >= 10).await;
    let took = stopping.elapsed();
    println!("retries of a worker that ends: {took:?} after the order to stop");
    assert!(took < Duration::from_secs(12), "{took:?}");
    let passes = Some("verihubs:500=0%".parse().unwrap());
    scene.mock.control(&Control {
        account: Some("app".into()),
        faults: passes,
        ..Control::of(Kind::Verihubs)
    });
    scene.until_all_ended().await;
    let (summary, _) = scene.close_but_for_repeats();
    assert_eq!(summary.accepted, 11, "{}", scene.log());
}

/// Found: an owner whose consuming connection was half dead went on moving jobs to the next provider, while the
/// lane's next owner had them again: 20 of 20 people got two codes.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_half_dead_moves_nothing() {
    let broker = Broker::shared();
    let proxy = Proxy::start(broker.address()).await;
    let mut scene = scene(broker, "max_in_flight = 32", "3s..3s", "verihubs:500=first:1").await;
    let first = scene.worker_at(&proxy.url());
    first.ready().await;
    scene.publish(LANE, Jobs::new(9, 10)).await;
    scene.until_all_ended().await;
    let second = scene.worker();
    second.ready().await;
    let before = arrivals(&scene).len();
    scene.publish("login", Jobs::new(1, 20)).await;
    scene.until_requests((before + 20) as u64).await;
    proxy.half_kill(" consume");
    scene.until_all_ended().await;
    let (summary, _) = scene.close_but_for_repeats();
    let mut accepted: HashMap<&str, u32> = HashMap::new();
    for fact in scene.seen.iter().filter(|fact| fact.kind == FactKind::Accepted) {
        *accepted.entry(fact.job.as_str()).or_default() += 1;
    }
    let twice = accepted.values().filter(|times| **times > 1).count();
    println!("half dead, requests fail: {summary}; {twice} of 20 accepted by both providers");
    assert!(twice <= 2, "{twice} of 20 were accepted twice: {}", scene.log());
}

/// Found: claims of workers that were long gone, met while the past was read, took the lane from its only owner.
#[tokio::test(flavor = "multi_thread")]
async fn claims_of_the_past_take_nothing() {
    let broker = Broker::shared();
    let mut scene = scene(broker, "ceiling = \"50/s\"", "20ms..20ms", "verihubs:500=0%").await;
    for n in 0..3 {
        let old = scene.worker();
        old.ready().await;
        scene.publish(LANE, Jobs::new(100 + n, 2)).await;
        scene.until_all_ended().await;
        assert!(old.stop().await.success());
    }
    let (most, now) = (60_000, now());
    let old = (0..most).map(|n| {
        let at = now.minus(Duration::from_millis(100_000 - 100_000 * n / most));
        Fact { attempt: 1, ..Fact::new(FactKind::Accepted, job(&format!("old-{n}")), provider("z"), at) }
    });
    publish_past(&broker.url(), &scene.plan, old).await;
    let ids: Vec<String> = (0..most).map(|n| format!("old-{n}")).collect();
    scene.expect(ids.iter().map(String::as_str));
    scene.publish(LANE, Jobs::new(1, 200)).await;
    let worker = scene.worker();
    scene.until_all_ended().await;
    worker.ready().await;
    assert_eq!(scene.close().accepted, 206 + most);
    assert!(!scene.log().contains("another worker has opened"), "{}", scene.log());
}

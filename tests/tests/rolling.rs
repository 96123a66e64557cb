//! A rolling restart as Kubernetes does it (one more, ready, then one fewer), of a whole fleet and under
//! load: nothing is lost, nothing is sent twice, and nobody waits long for a code.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::time::Duration;

use otpd_core::JobId;
use otpd_queue::TraceContext;
use otpd_queue::rabbitmq::Rabbit;
use otpd_sim::mock::Kind;
use otpd_sim::{Control, Jobs, MockConfig};
use otpd_tests::rabbit::{now, route};
use otpd_tests::{Broker, Scene};

const FLEET: usize = 3;
const JOBS: u64 = 800;
const RATE: f64 = 40.0;
const CONFIG: &str = r#"
[providers.verihubs]
kind = "verihubs"
base_url = "{mock}"
ceiling = "50/s"
app_id = "app"
api_key = "key"
"#;

/// Publishes at a steady rate, whatever else happens: a job that is late is made up for at once.
async fn produce(queue: Rabbit, mut jobs: Jobs) {
    let (to, trace) = (route("verihubs"), TraceContext::default());
    let mut beat = tokio::time::interval(Duration::from_secs_f64(1.0 / RATE));
    loop {
        beat.tick().await;
        jobs = jobs.created_at(now());
        let Some(job) = jobs.next() else { return };
        queue.enqueue(&to, &JobId::parse(&job.id).unwrap(), job.body.into(), &trace).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_loses_and_repeats_nothing() {
    let latency = Control { latency: "20ms..80ms".parse().ok(), ..Control::of(Kind::Verihubs) };
    let ceiling = Control { ceilings: Some(vec!["50/s".parse().unwrap()]), ..Control::of(Kind::Verihubs) };
    let mock = MockConfig { setup: vec![latency, ceiling], ..MockConfig::default() };
    let broker = Broker::shared();
    let mut scene =
        Scene::set(broker, &broker.url(), CONFIG, &[("verihubs", true, &["verihubs"])], mock).await;
    let mut fleet = Vec::new();
    for _ in 0..FLEET {
        let worker = scene.worker();
        worker.ready().await;
        fleet.push(worker);
    }
    let jobs = Jobs::new(71, JOBS);
    let ids: Vec<String> = jobs.clone().map(|job| job.id).collect();
    scene.expect(ids.iter().map(String::as_str));
    let producing = tokio::spawn(produce(scene.queue.clone(), jobs));

    for restarted in 1..=FLEET {
        let share = ids.len() * restarted / (FLEET + 2);
        scene.until("some of the load", |s| s.ended() >= share).await;
        let next = scene.worker();
        next.ready().await;
        assert!(fleet.remove(0).stop().await.success(), "{}", scene.log());
        fleet.push(next);
    }
    producing.await.unwrap();
    scene.until_all_ended().await;

    let summary = scene.close();
    let stats = scene.mock.stats();
    let account = stats.of(Kind::Verihubs).next().unwrap();
    let mut waits: Vec<u64> =
        scene.seen.iter().filter_map(|f| f.timings).map(|t| t.queued_ms + t.permit_ms).collect();
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    println!(
        "{FLEET} workers restarted one by one, {RATE} jobs/s: {summary:?}; {} requests, {} duplicates, most in a second {:?}; \
         waited p50 {} ms, p99 {} ms, most {} ms",
        account.attempts,
        account.duplicates,
        account.most_in(Duration::from_secs(1)),
        at(0.5),
        at(0.99),
        at(1.0),
    );
    assert_eq!(summary.accepted, JOBS);
    assert_eq!((account.attempts, account.duplicates), (JOBS, 0));
    assert!(at(0.99) < 5000, "p99 of the wait: {} ms", at(0.99));
}

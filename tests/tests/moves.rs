//! The worker as a process beside a lane that takes nothing: it goes on at its own rate, and a job that is
//! on its way there outlives lost connections and the worker's death.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::collections::HashSet;
use std::time::Duration;

use lapin::options::QueueDeleteOptions;
use otpd_core::FactKind;
use otpd_sim::mock::Kind;
use otpd_sim::{Control, FaultPlan, Jobs, MockConfig};
use otpd_tests::rabbit::{LaneInHand, PATIENCE, channel, depth, provider};
use otpd_tests::{Broker, Proxy, Scene, eventually};

const CONFIG: &str = r#"
[providers.first]
kind = "verihubs"
base_url = "{mock}"
ceiling = "20/s"
max_in_flight = 64
app_id = "first"
api_key = "key"
[providers.second]
kind = "verihubs"
base_url = "{mock}"
app_id = "second"
api_key = "key"
[routes.login]
providers = ["first", "second"]
"#;

async fn scene(broker: &Broker, config: &str, faults: &str) -> Scene {
    let control = Control {
        latency: "5ms..20ms".parse().ok(),
        faults: FaultPlan::parse(Kind::Verihubs, faults).ok(),
        ..Control::of(Kind::Verihubs)
    };
    let mock = MockConfig { setup: vec![control], ..MockConfig::default() };
    let lanes = [("first", true, &["first", "login"][..]), ("second", false, &["second"][..])];
    Scene::set(broker, &broker.url(), config, &lanes, mock).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_with_1000_spills_that_nobody_takes_keeps_its_rate() {
    let broker = Broker::shared();
    let mut scene = scene(broker, &format!("{CONFIG}spill_after = \"1s\"\n"), "").await;
    let worker = scene.worker();
    worker.ready().await;
    let admin = channel(&broker.url()).await;
    let second = scene.plan.lane_queue(&provider("second"));
    admin.queue_delete(second.into(), QueueDeleteOptions::default()).await.unwrap();
    let mut jobs = Jobs::new(16, 1100);
    // Some twenty of them can be sent within the second that they may wait; on busy cores fewer.
    scene.publish("login", jobs.by_ref().take(1000)).await;
    scene.until("those that wait", |s| s.count(FactKind::Accepted) >= 5).await;
    // One after the other: none of these has to wait, so none of them spills.
    let began = std::time::Instant::now();
    let before = scene.count(FactKind::Accepted);
    for sent in 1..=60 {
        scene.publish("login", jobs.by_ref().take(1)).await;
        scene.until("the lane to go on", |s| s.count(FactKind::Accepted) >= before + sent).await;
    }
    println!("60 accepted in {:?} at 20/s beside some 970 spills", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_on_its_way_to_a_lane_that_is_not_there_outlives_reset_and_death() {
    let broker = Broker::shared();
    let proxy = Proxy::start(broker.address()).await;
    // Every attempt is refused for good by the first account: all fail over.
    let mut scene = scene(broker, CONFIG, "503=100%").await;
    scene.edit_config(|text| {
        format!("[retry]\ninitial = \"50ms\"\nmax = \"100ms\"\nmax_attempts = 2\n{text}")
    });
    let mut worker = scene.worker_at(&proxy.url());
    worker.ready().await;
    let admin = channel(&broker.url()).await;
    let second = scene.plan.lane_queue(&provider("second"));
    admin.queue_delete(second.into(), QueueDeleteOptions::default()).await.unwrap();
    let jobs: Vec<_> = Jobs::new(7, 20).collect();
    let ids: HashSet<String> = jobs.iter().map(|j| j.id.clone()).collect();
    scene.publish("login", jobs).await;
    eventually("every job is tried once", PATIENCE, || async {
        let stats = scene.mock.stats();
        (stats.account(Kind::Verihubs, "first").is_some_and(|a| a.attempts >= 20)).then_some(())
    })
    .await;
    // The lane is lost, and opened again: its deliveries come back while their moves are on their way.
    for session in [2, 3] {
        proxy.reset_all();
        eventually("the lane is open again", PATIENCE, || async {
            scene.log().contains(&format!("\"session\":{session},")).then_some(())
        })
        .await;
    }
    let first = scene.plan.lane_queue(&provider("first"));
    eventually("everything is handed out again", PATIENCE, || async {
        (depth(&admin, &first).await == 0).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    worker.kill9();
    // Whoever owns the lane next gets all of them.
    let mut next = LaneInHand::open(&scene.queue, "first", 100);
    let mut left = HashSet::new();
    let all = async {
        while left.len() < 20 {
            left.insert(next.delivery().await.message_id.unwrap().to_string());
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(15), all).await;
    println!("{} of 20 jobs are still in their lane", left.len());
    assert_eq!(left, ids, "jobs are nowhere");
}

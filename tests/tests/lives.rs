//! Jobs that live more than once: replayed by an operator, or published again by their producer. None of
//! them vanishes, whichever worker stops when, and no code becomes valid again.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use otpd_core::{FactKind, Reason};
use otpd_queue::DeadFilter;
use otpd_sim::mock::Kind;
use otpd_sim::{Control, FaultPlan, Job, Jobs, MockConfig};
use otpd_tests::rabbit::{LaneInHand, PATIENCE, now};
use otpd_tests::{Broker, Scene, eventually};

const CONFIG: &str = r#"
[providers.verihubs]
kind = "verihubs"
base_url = "{mock}"
app_id = "app"
api_key = "key"
"#;

async fn scene(broker: &Broker, more: &str, faults: &str) -> Scene {
    let control = Control {
        latency: "5ms..20ms".parse().ok(),
        faults: FaultPlan::parse(Kind::Verihubs, faults).ok(),
        ..Control::of(Kind::Verihubs)
    };
    let mock = MockConfig { setup: vec![control], ..MockConfig::default() };
    let lanes = [("verihubs", true, &["verihubs"][..])];
    Scene::set(broker, &broker.url(), &format!("{CONFIG}{more}"), &lanes, mock).await
}

fn bodies(jobs: &[Job]) -> Vec<(String, bytes::Bytes)> {
    jobs.iter().map(|j| (j.id.clone(), j.body.clone().into())).collect()
}

fn heal(scene: &Scene) {
    let healthy = FaultPlan::parse(Kind::Verihubs, "").ok();
    scene.mock.control(&Control { faults: healthy, ..Control::of(Kind::Verihubs) });
}

/// Ids that were accepted after `from` facts had been read.
fn accepted(scene: &Scene, from: usize) -> HashSet<String> {
    let new = scene.seen[from..].iter().filter(|f| f.kind == FactKind::Accepted);
    new.map(|f| f.job.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_letters_outlive_a_graceful_stop() {
    let broker = Broker::shared();
    let mut scene = scene(broker, "ceiling = \"2/s\"\n", "invalid_request=100%").await;
    // As quickly as possible to the dead letters, then as slowly as the ceiling says.
    scene.edit_config(|text| text.replace("2/s", "100/s"));
    let worker = scene.worker();
    worker.ready().await;
    let jobs: Vec<Job> = Jobs::new(6, 40).collect();
    scene.publish_bodies("verihubs", bodies(&jobs)).await;
    scene.until_all_ended().await;
    assert!(worker.stop().await.success());
    heal(&scene);
    scene.edit_config(|text| text.replace("100/s", "2/s"));
    let first = scene.worker();
    first.ready().await;
    let (code, out, err) = scene.otpd(&["dead", "replay"]);
    assert_eq!((code, out.lines().next()), (0, Some("replayed 40 dead letters")), "{err}");
    eventually("the replayed jobs wait", PATIENCE, || async {
        (first.waiting("verihubs").await >= 30).then_some(())
    })
    .await;
    let from = scene.seen.len();
    assert!(first.stop().await.success());
    scene.edit_config(|text| text.replace("2/s", "100/s"));
    let _second = scene.worker();
    scene.until("every replayed job to be sent", |s| accepted(s, 0).len() == 40).await;
    println!(
        "40 replayed: {} sent, {} of them after the stop",
        accepted(&scene, 0).len(),
        accepted(&scene, from).len()
    );
    assert_eq!(scene.duplicates(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ended_and_is_published_again_is_sent_also_by_the_next_owner() {
    let broker = Broker::shared();
    let mut scene = scene(broker, "ceiling = \"100/s\"\n", "invalid_request=100%").await;
    let worker = scene.worker();
    worker.ready().await;
    let jobs: Vec<Job> = Jobs::new(9, 40).collect();
    scene.publish_bodies("verihubs", bodies(&jobs)).await;
    scene.until_all_ended().await;
    assert!(worker.stop().await.success());
    heal(&scene);
    scene.edit_config(|text| text.replace("100/s", "2/s"));
    let first = scene.worker();
    first.ready().await;
    scene.publish_bodies("verihubs", bodies(&jobs)).await;
    eventually("they wait", PATIENCE, || async { (first.waiting("verihubs").await >= 30).then_some(()) })
        .await;
    assert!(first.stop().await.success());
    scene.edit_config(|text| text.replace("2/s", "100/s"));
    let _second = scene.worker();
    scene.until("every job to be sent", |s| accepted(s, 0).len() == 40).await;
    assert_eq!(scene.duplicates(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_the_broker_buried_is_sent_when_it_is_replayed() {
    let broker = Broker::shared();
    // It was tried: what is known of it is not nothing.
    let mut scene = scene(broker, "max_in_flight = 1\n", "stall=100%").await;
    let job: Vec<Job> = Jobs::new(3, 1).collect();
    scene.publish_bodies("verihubs", bodies(&job)).await;
    let worker = scene.worker();
    eventually("it is tried", PATIENCE, || async {
        (scene.mock.stats().account(Kind::Verihubs, "app").is_some_and(|a| a.attempts > 0)).then_some(())
    })
    .await;
    let mut worker = worker;
    worker.kill9();
    // Owners that die with it, until the broker buries it.
    for _ in 0..21 {
        let mut lane = LaneInHand::open(&scene.queue, "verihubs", 10);
        let got = tokio::time::timeout(Duration::from_secs(3), lane.delivery()).await;
        lane.stop.close().await;
        if got.is_err() {
            break;
        }
    }
    let filter = DeadFilter { reason: Some(Reason::DeliveryLimit), ..DeadFilter::default() };
    eventually("the broker buries it", PATIENCE, || async {
        let letters = scene.queue.dead_letters(&filter, now(), 10).await.unwrap();
        (letters.len() == 1 && letters[0].taken_at.is_some()).then_some(())
    })
    .await;
    heal(&scene);
    let worker = scene.worker();
    worker.ready().await;
    let (code, out, err) = scene.otpd(&["dead", "replay"]);
    assert_eq!((code, out.trim()), (0, "replayed 1 dead letters"), "{err}");
    scene.until("it is sent", |s| accepted(s, 0).len() == 1).await;
    assert_eq!(scene.count(FactKind::Duplicate), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_waits_anew_but_its_code_does_not_live_anew() {
    let broker = Broker::shared();
    let route = "[limits]\nrecipient = \"off\"\n[routes.verihubs]\nttl = \"20s\"\nmax_wait = \"2s\"\n";
    let mut scene = scene(broker, route, "invalid_request=100%").await;
    let worker = scene.worker();
    worker.ready().await;
    let began = Instant::now();
    let job = |id: &str, to: u32| {
        (id.to_owned(), format!(r#"{{"id":"{id}","to":"+62811111{to:04}","code":"482910"}}"#).into())
    };
    scene.publish_bodies("verihubs", vec![job("soon", 1), job("late", 2)]).await;
    scene.until_all_ended().await;
    heal(&scene);
    // Longer than it may wait for its first attempt.
    tokio::time::sleep(Duration::from_secs(3).saturating_sub(began.elapsed())).await;
    let (code, out, _) = scene.otpd(&["dead", "replay", "--job", "soon"]);
    assert_eq!((code, out.trim()), (0, "replayed 1 dead letters"));
    scene.until("it is sent", |s| accepted(s, 0).contains("soon")).await;
    // Longer than its code is valid; it does not say itself when it was made.
    tokio::time::sleep(Duration::from_secs(21).saturating_sub(began.elapsed())).await;
    let (code, out, _) = scene.otpd(&["dead", "replay", "--job", "late"]);
    let refused = "replayed 0 dead letters\nrefused 1: the code has expired, counted from when the job was first taken\n";
    assert_eq!((code, out.as_str()), (0, refused));
    // Whoever replays it all the same revives nothing.
    let filter = DeadFilter { job: otpd_core::JobId::parse("late").ok(), ..DeadFilter::default() };
    assert_eq!(scene.queue.replay_dead(&filter, now(), &|_| true).await.unwrap().len(), 1);
    let expired = |s: &Scene| s.seen.iter().any(|f| f.job.as_str() == "late" && f.kind == FactKind::Expired);
    scene.until("it expires", expired).await;
    assert!(!accepted(&scene, 0).contains("late"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_ends_within_its_grace_although_the_broker_is_away() {
    let broker = Broker::start();
    let mut scene = scene(&broker, "", "slow_headers=100%").await;
    scene.edit_config(|text| format!("[worker]\nshutdown_grace = \"3s\"\n{text}"));
    heal(&scene);
    let worker = scene.worker();
    worker.ready().await;
    scene.publish("verihubs", Jobs::new(5, 2_000)).await;
    scene.until("some progress", |s| s.ended() >= 200).await;
    tokio::task::block_in_place(|| broker.kill9());
    let began = Instant::now();
    let status = worker.stop().await;
    println!("ended in {:?} with {status}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let unconfirmed = scene.log().contains("has not confirmed everything");
    assert_eq!(status.code(), Some(i32::from(unconfirmed)), "{}", scene.log());
    assert!(unconfirmed, "everything was confirmed: the case shows nothing");
}

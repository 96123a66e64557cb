//! A ceiling that is changed to one with a longer window while the lane works, on a real broker: the lane goes
//! on, and what was sent before counts in the new window, whoever sent it.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::time::Duration;

use otpd_core::{Fact, FactKind};
use otpd_sim::Jobs;
use otpd_tests::one_lane::{LANE, one_lane};
use otpd_tests::past::publish_past;
use otpd_tests::rabbit::{PATIENCE, job, now, provider};
use otpd_tests::{Broker, Scene, WorkerProcess, eventually};

const SECTIONS: &str = "[limits]\nrecipient = \"off\"\n";

/// The new window is full after `most` requests of this scene, and the lane stops there.
async fn stops_at(scene: &mut Scene, worker: &WorkerProcess, most: u64) {
    let used = format!("otpd_ceiling_used_ratio{{provider=\"{LANE}\"}}");
    eventually("the new window to be full", PATIENCE, || async {
        let requests = scene.requests();
        assert!(requests <= most, "{requests} requests, where the window has room for {most}");
        (requests == most && worker.sample(&used).await > 0.9999).then_some(())
    })
    .await;
    scene.until_judged(LANE).await;
    println!("room for {most}: {} announced, {} arrived", scene.announced(), scene.requests());
    assert_eq!((scene.requests(), scene.announced() as u64), (most, most));
}

/// A still larger ceiling, and everything ends.
async fn opens_again(scene: &mut Scene, worker: &WorkerProcess, times: u32, ceiling: &str) {
    scene.edit_config(|text| text.replace(ceiling, "1000/s"));
    worker.applies(times).await;
    scene.until_all_ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_lane_sent_itself_counts_in_the_longer_window() {
    let mut scene = one_lane(Broker::shared(), "ceiling = \"50/s\"", SECTIONS, "2ms..10ms").await;
    let worker = scene.worker();
    worker.ready().await;
    scene.publish(LANE, Jobs::new(1, 115)).await;
    scene.until("the first jobs to be sent", |s| s.count(FactKind::Accepted) >= 115).await;
    scene.edit_config(|text| text.replace("50/s", "120/2min"));
    worker.applies(1).await;
    scene.publish(LANE, Jobs::new(2, 20)).await;
    stops_at(&mut scene, &worker, 120).await;
    opens_again(&mut scene, &worker, 2, "120/2min").await;
    assert_eq!((scene.close().accepted, scene.duplicates()), (135, 0));
}

/// A past of which a worker reads the last 20,000 facts at first: they reach further back than it needs, and less far
/// than an hour. Those of the lane, `sent` of them, are older.
async fn a_past_of_several_pieces(broker: &Broker, scene: &mut Scene, sent: u32) {
    let others = 24_000;
    let fact = |n: u32| {
        let is_ours = n < sent;
        let ago = if is_ours { 2400.0 } else { 1800.0 - 1700.0 * f64::from(n - sent) / f64::from(others) };
        let at = now().minus(Duration::from_secs_f64(ago));
        let of = provider(if is_ours { LANE } else { "z" });
        let fact = Fact::new(FactKind::Accepted, job(&format!("old-{n}")), of, at);
        Fact { attempt: 1, sent_at: Some(at), ..fact }
    };
    publish_past(&broker.url(), &scene.plan, (0..sent + others).map(fact)).await;
    let old: Vec<String> = (0..sent + others).map(|n| format!("old-{n}")).collect();
    scene.expect(old.iter().map(String::as_str));
}

/// Fault: the new window was to be known before anything was handed on, and the past was not read any further.
#[tokio::test(flavor = "multi_thread")]
async fn the_lane_goes_on_while_more_of_the_past_is_read() {
    let broker = Broker::shared();
    let mut scene = one_lane(broker, "ceiling = \"50/s\"", SECTIONS, "2ms..10ms").await;
    a_past_of_several_pieces(broker, &mut scene, 0).await;
    let worker = scene.worker();
    worker.ready().await;
    scene.publish(LANE, Jobs::new(1, 10)).await;
    scene.until("the first jobs to be sent", |s| s.requests() >= 10).await;
    scene.edit_config(|text| text.replace("50/s", "3600/h"));
    worker.applies(1).await;
    scene.publish(LANE, Jobs::new(2, 5)).await;
    scene.until_all_ended().await;
    assert_eq!((scene.requests(), scene.duplicates()), (15, 0));
    assert_eq!(scene.close().accepted, 24_000 + 15);
}

/// Fault: what was read of that past was counted only by the next owner.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_of_the_past_later_counts_too() {
    let broker = Broker::shared();
    let mut scene = one_lane(broker, "ceiling = \"50/s\"", SECTIONS, "2ms..10ms").await;
    a_past_of_several_pieces(broker, &mut scene, 3580).await;
    let worker = scene.worker();
    worker.ready().await;
    scene.publish(LANE, Jobs::new(1, 15)).await;
    scene.until("the first jobs to be sent", |s| s.requests() >= 15).await;
    scene.edit_config(|text| text.replace("50/s", "3600/h"));
    worker.applies(1).await;
    let used = format!("otpd_ceiling_used_ratio{{provider=\"{LANE}\"}}");
    eventually("the past to be read", PATIENCE, || async {
        (worker.sample(&used).await > 0.99).then_some(())
    })
    .await;
    scene.publish(LANE, Jobs::new(2, 20)).await;
    stops_at(&mut scene, &worker, 20).await;
    opens_again(&mut scene, &worker, 2, "3600/h").await;
    assert_eq!((scene.close().accepted, scene.duplicates()), (24_000 + 3580 + 35, 0));
}

/// Fault: of former owners only the last minute counted in a window that came later.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_owner_sent_counts_in_the_longer_window() {
    let broker = Broker::shared();
    let mut scene = one_lane(broker, "ceiling = \"100/s\"", SECTIONS, "2ms..10ms").await;
    let at = now().minus(Duration::from_secs(300));
    let facts = (0..595).map(|n| Fact {
        attempt: 1,
        sent_at: Some(at),
        ..Fact::new(FactKind::Accepted, job(&format!("old-{n}")), provider(LANE), at)
    });
    publish_past(&broker.url(), &scene.plan, facts).await;
    let old: Vec<String> = (0..595).map(|n| format!("old-{n}")).collect();
    scene.expect(old.iter().map(String::as_str));
    let worker = scene.worker();
    worker.ready().await;
    scene.publish(LANE, Jobs::new(1, 1)).await;
    scene.until("the first job to be sent", |s| s.requests() >= 1).await;
    scene.edit_config(|text| text.replace("100/s", "600/10min"));
    worker.applies(1).await;
    scene.publish(LANE, Jobs::new(2, 20)).await;
    stops_at(&mut scene, &worker, 5).await;
    opens_again(&mut scene, &worker, 2, "600/10min").await;
    assert_eq!((scene.close().accepted, scene.duplicates()), (595 + 21, 0));
}

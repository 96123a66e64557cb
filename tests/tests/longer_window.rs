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

/// Fault: the new window was to be known before anything was handed on, and the past was not read any further.
#[tokio::test(flavor = "multi_thread")]
async fn the_lane_goes_on_while_more_of_the_past_is_read() {
    let broker = Broker::shared();
    let mut scene = one_lane(broker, "ceiling = \"50/s\"", SECTIONS, "2ms..10ms").await;
    // The first piece of the past, 20,000 records, reaches further back than a worker needs at first, and less
    // than an hour.
    let most = 24_000_u32;
    let began = now().minus(Duration::from_secs(1800));
    let facts = (0..most).map(|n| {
        let at = began.plus(Duration::from_secs_f64(1700.0 * f64::from(n) / f64::from(most)));
        Fact { attempt: 1, ..Fact::new(FactKind::Accepted, job(&format!("old-{n}")), provider("z"), at) }
    });
    publish_past(&broker.url(), &scene.plan, facts).await;
    let old: Vec<String> = (0..most).map(|n| format!("old-{n}")).collect();
    scene.expect(old.iter().map(String::as_str));
    let worker = scene.worker();
    worker.ready().await;
    scene.publish(LANE, Jobs::new(1, 10)).await;
    scene.until("the first jobs to be sent", |s| s.requests() >= 10).await;
    scene.edit_config(|text| text.replace("50/s", "3600/h"));
    worker.applies(1).await;
    scene.publish(LANE, Jobs::new(2, 5)).await;
    scene.until_all_ended().await;
    assert_eq!((scene.requests(), scene.duplicates()), (15, 0));
    assert_eq!(scene.close().accepted, u64::from(most) + 15);
}

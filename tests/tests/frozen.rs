//! An owner that is frozen and comes back, without a ceiling and so without announcements: another worker takes
//! over, and the first one, which still holds a room full of jobs, sends none of them.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use otpd_sim::Jobs;
use otpd_sim::mock::Kind;
use otpd_tests::one_lane::{LANE, one_lane};
use otpd_tests::rabbit::PATIENCE;
use otpd_tests::{Broker, Scene, eventually};

const JOBS: u64 = 5000;
const IN_FLIGHT: u64 = 32;
/// The account of the worker that is frozen, so that the mock tells the two apart.
const FROZEN: &str = "frozen";

fn requests(scene: &Scene, account: &str) -> u64 {
    scene.mock.stats().account(Kind::Verihubs, account).map_or(0, |a| a.attempts)
}

async fn until_requests(scene: &Scene, account: &str, least: u64) {
    eventually("so many requests", PATIENCE, || async { (requests(scene, account) >= least).then_some(()) })
        .await;
}

/// Fault: it woke with its connections seemingly intact, and sent before it read that they were gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_owner_without_a_ceiling_sends_nothing_when_it_wakes() {
    let broker = Broker::shared();
    let keys = format!("max_in_flight = {IN_FLIGHT}");
    let mut scene = one_lane(broker, &keys, "[limits]\nrecipient = \"off\"\n", "50ms..100ms").await;
    // The broker notices sooner than with otpd's own 10 s.
    let url = format!("\"{}?heartbeat=5\"", broker.url());
    let account = ("OTPD__PROVIDERS__VERIHUBS__APP_ID", format!("\"{FROZEN}\""));
    let first = scene.worker_with(&[("OTPD__BROKER__URL", url), account]);
    first.ready().await;
    let second = scene.worker();
    second.ready().await;
    scene.publish(LANE, Jobs::new(1, JOBS)).await;
    until_requests(&scene, FROZEN, 500).await;
    first.freeze();
    scene.until_requests(300).await;
    let before = requests(&scene, FROZEN);
    first.thaw();
    let woke_at = scene.requests();
    scene.until_all_ended().await;
    first.ready().await;
    let after = requests(&scene, FROZEN) - before;
    let sent = scene.requests() + before + after;
    let (summary, repeats) = scene.close_but_for_repeats_up_to(IN_FLIGHT);
    println!(
        "frozen after {before} requests, woken after {woke_at} of the next owner's: {after} more; \
         {} sent twice, told twice {repeats}; {summary}",
        sent - JOBS
    );
    assert_eq!(summary.accepted, JOBS, "{summary}");
    // One request may have been stopped between its last look and its first byte.
    assert!(after <= 1, "{after} requests by a worker that owned nothing");
    assert!(sent - JOBS <= IN_FLIGHT, "{} sent twice", sent - JOBS);
    assert!(woke_at < JOBS - before - 1000, "nothing was left to send: the case shows nothing");
}

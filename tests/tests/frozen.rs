//! An owner that is frozen and comes back, without a ceiling and so without announcements: another worker takes
//! over, and the first one, which still holds a room full of jobs, sends none of them.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use otpd_sim::mock::Kind;
use otpd_sim::{Control, FaultPlan, Jobs};
use otpd_tests::one_lane::{LANE, one_lane};
use otpd_tests::rabbit::PATIENCE;
use otpd_tests::{Broker, Proxy, Scene, WorkerProcess, eventually};

const IN_FLIGHT: u64 = 32;
const SECTIONS: &str = "[limits]\nrecipient = \"off\"\n";
/// The account of the worker that is frozen, so that the mock tells the two apart.
const FROZEN: &str = "frozen";

fn requests(scene: &Scene, account: &str) -> u64 {
    scene.mock.stats().account(Kind::Verihubs, account).map_or(0, |a| a.attempts)
}

fn sample(name: &str) -> String {
    format!("otpd_{name}{{provider=\"{LANE}\"}}")
}

async fn until_requests(scene: &Scene, account: &str, least: u64) {
    eventually("so many requests", PATIENCE, || async { (requests(scene, account) >= least).then_some(()) })
        .await;
}

/// A worker with an account of its own, which reaches the broker by way of `proxy`, owns the lane; another stands by.
/// The broker notices sooner than with otpd's own 10 s that it is frozen.
async fn to_be_frozen(scene: &Scene, proxy: &Proxy) -> (WorkerProcess, WorkerProcess) {
    let url = format!("\"{}?heartbeat=5\"", proxy.url());
    let account = ("OTPD__PROVIDERS__VERIHUBS__APP_ID", format!("\"{FROZEN}\""));
    let first = scene.worker_with(&[("OTPD__BROKER__URL", url), account]);
    first.ready().await;
    let second = scene.worker();
    second.ready().await;
    (first, second)
}

async fn until_lost(scene: &Scene) {
    eventually("the first worker to lose its lane", PATIENCE, || async {
        scene.log().contains("the lane is lost").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_owner_that_is_frozen_repeats_what_was_in_flight_and_no_more() {
    let broker = Broker::shared();
    let proxy = Proxy::start(broker.address()).await;
    let keys = format!("max_in_flight = {IN_FLIGHT}");
    let mut scene = one_lane(broker, &keys, SECTIONS, "50ms..100ms").await;
    let (first, second) = to_be_frozen(&scene, &proxy).await;
    scene.publish(LANE, Jobs::new(1, 5000)).await;
    until_requests(&scene, FROZEN, 500).await;
    first.freeze();
    scene.until_requests(300).await;
    let before = requests(&scene, FROZEN);
    first.thaw();
    let woke_at = scene.requests();
    until_lost(&scene).await;
    scene.until_all_ended().await;
    first.ready().await;
    let after = requests(&scene, FROZEN) - before;
    let repeated = scene.requests() + before + after - 5000;
    let (summary, told_twice) = scene.close_but_for_repeats_up_to(IN_FLIGHT);
    println!(
        "frozen after {before} requests, woken after {woke_at} of the next owner's: {after} more; {repeated} sent twice, \
         told twice {told_twice}; {summary}"
    );
    assert_eq!(summary.accepted, 5000, "{summary}");
    assert!(repeated <= IN_FLIGHT, "{repeated} sent twice");
    // One request may have been stopped between its last look and its first byte.
    assert!(after <= 1, "{after} requests by a worker that owned nothing");
    assert!(woke_at + before < 4000, "nothing was left to send: the case shows nothing");
    drop(second);
}

/// Fault: its connections seemed intact, and it sent until it noticed that the broker did not answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_owner_that_is_frozen_sends_nothing_when_it_wakes() {
    let broker = Broker::shared();
    let proxy = Proxy::start(broker.address()).await;
    let keys = format!("max_in_flight = {IN_FLIGHT}");
    let mut scene = one_lane(broker, &keys, SECTIONS, "50ms..100ms").await;
    // Its provider asks for a pause: it has all its places free, and a room full of jobs.
    let pause = FaultPlan::parse(Kind::Verihubs, "429(5s)=100%").unwrap();
    scene.mock.control(&Control::faults(pause).account(FROZEN));
    let (first, second) = to_be_frozen(&scene, &proxy).await;
    scene.publish(LANE, Jobs::new(2, 2000)).await;
    let (paused, in_flight) = (sample("provider_paused"), sample("in_flight"));
    eventually("the lane to pause", PATIENCE, || async {
        (first.sample(&paused).await > 0.5 && first.sample(&in_flight).await < 0.5).then_some(())
    })
    .await;
    first.freeze();
    proxy.swallow();
    let before = requests(&scene, FROZEN);
    scene.until_requests(300).await;
    first.thaw();
    let woke_at = scene.requests();
    until_lost(&scene).await;
    let after = requests(&scene, FROZEN) - before;
    proxy.resume();
    scene.until_all_ended().await;
    first.ready().await;
    let summary = scene.close();
    println!(
        "frozen in a pause after {before} requests, woken after {woke_at} of the next owner's: {after} more; {summary}"
    );
    assert_eq!((summary.accepted, scene.requests()), (2000, 2000), "{summary}");
    assert_eq!(after, 0, "requests by a worker that owned nothing");
    assert!(woke_at < 1500, "nothing was left to send: the case shows nothing");
    drop(second);
}

//! A wait that the provider asked for outlives the owner who was told: its successor asks nothing before.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use otpd_core::FactKind;
use otpd_sim::mock::Kind;
use otpd_sim::{Control, FaultPlan, Jobs};
use otpd_tests::Broker;
use otpd_tests::one_lane::{ACCOUNT, LANE, one_lane};

async fn a_wait_outlives_its_owner(ceiling: &str) {
    let mut scene = one_lane(Broker::shared(), ceiling, "[limits]\nrecipient = \"off\"\n", "5ms..20ms").await;
    let mut first = scene.worker();
    first.ready().await;
    let second = scene.worker();
    second.ready().await;
    let faults = |text: &str| Control::faults(FaultPlan::parse(Kind::Verihubs, text).unwrap());
    scene.mock.control(&faults("429(8s)=100%"));
    scene.publish(LANE, Jobs::new(1, 50)).await;
    // What is told is on the stream before anything else happens.
    scene.until("the pause to be told", |s| s.count(FactKind::Retrying) >= 2).await;
    first.kill9();
    scene.mock.control(&faults(""));
    scene.until_all_ended().await;
    let arrivals = scene.mock.arrivals(Kind::Verihubs, ACCOUNT);
    let early = arrivals.iter().filter(|at| **at - arrivals[0] < 7_500_000).count() as u64;
    let refused = scene.account().unwrap().answers[&429];
    let (summary, repeats) = scene.close_but_for_repeats();
    println!(
        "{ceiling:?}: {refused} refused and asked to wait 8 s, the owner killed: {} more asked within 7.5 s; {summary}, \
         told twice {repeats}",
        early - refused
    );
    assert_eq!(summary.accepted, 50, "{summary}");
    assert_eq!(early, refused, "somebody did not wait");
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_outlives_its_owner_under_a_ceiling() {
    a_wait_outlives_its_owner("ceiling = \"50/s\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_outlives_its_owner_without_one() {
    a_wait_outlives_its_owner("").await;
}

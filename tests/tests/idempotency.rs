//! A job's id is its idempotency key, with a ceiling or without: however often, wherever and to whichever owner
//! its producer publishes it, it is sent once.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use otpd_core::FactKind;
use otpd_sim::mock::Kind;
use otpd_sim::{Control, Job, Jobs, MockConfig};
use otpd_tests::one_lane::{LANE, one_lane, owner};
use otpd_tests::{Broker, Scene};

/// Fault: two workers shared a lane without a ceiling, and each took its half of the copies for first ones: 50 ids
/// published twice were sent 98 times.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_ids_published_again_and_again_are_sent_once() {
    // Slow enough for the copies to come while the first ones are on the wire.
    let mut scene = one_lane(Broker::shared(), "", "", "500ms").await;
    let mut first = scene.worker();
    first.ready().await;
    let second = scene.worker();
    second.ready().await;
    let jobs: Vec<Job> = Jobs::new(1, 50).collect();
    scene.publish(LANE, jobs.clone()).await;
    // Backwards: workers that take turns would get each copy where its first one went.
    scene.publish_again(LANE, jobs.iter().rev().cloned()).await;
    scene.until_all_ended().await;
    println!("50 ids twice: {} requests", scene.requests());
    assert_eq!((scene.requests(), scene.count(FactKind::Duplicate)), (50, 50));
    // The next owner knows them from the stream; those that the broker gave to the dead one are redelivered, and
    // acknowledged without a word.
    first.kill9();
    scene.publish_again(LANE, jobs).await;
    scene.until_nothing_is_under_way().await;
    let summary = scene.close();
    println!("a third time to the next owner: {} requests; {summary}", scene.requests());
    assert_eq!((summary.accepted, scene.requests(), scene.duplicates()), (50, 50, 0));
    drop(second);
}

const SPILLING: &str = r#"
[providers.first]
kind = "verihubs"
base_url = "{mock}"
ceiling = "2/s"
max_in_flight = 2
app_id = "first"
api_key = "key"
[providers.second]
kind = "verihubs"
base_url = "{mock}"
max_in_flight = 2
app_id = "second"
api_key = "key"
[routes.login]
providers = ["first", "second"]
spill_after = "1s"
"#;

/// Fault: the first lane, and its next owner, did not know that the second lane had the job: both sent it.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_job_that_spilled_is_not_sent_by_both_lanes() {
    let broker = Broker::shared();
    let slow =
        Control { ceilings: Some(Vec::new()), latency: "300ms".parse().ok(), ..Control::of(Kind::Verihubs) };
    let mock = MockConfig { setup: vec![slow], ..MockConfig::default() };
    let lanes = [("first", true, &["first", "login"][..]), ("second", false, &["second"][..])];
    let mut scene = Scene::set(broker, &broker.url(), SPILLING, &lanes, mock).await;
    let mut workers = vec![scene.worker()];
    workers[0].ready().await;
    workers.push(scene.worker());
    workers[1].ready().await;
    let jobs: Vec<Job> = Jobs::new(2, 40).collect();
    scene.publish("login", jobs.clone()).await;
    scene.until("most of them to spill", |s| s.count(FactKind::FailedOver) >= 30).await;
    // Most of them wait in the second lane now.
    scene.publish_again("login", jobs.clone()).await;
    let owner = owner(&workers, "second").await;
    workers.remove(owner).kill9();
    scene.publish_again("login", jobs).await;
    scene.until_all_ended().await;
    let sent: u64 = scene.mock.stats().of(Kind::Verihubs).map(|account| account.accepted).sum();
    // What the killed worker had on the wire in its two lanes.
    let (summary, repeats) = scene.close_but_for_repeats_up_to(4);
    println!("40 ids three times by way of two lanes: sent {sent} times, told twice {repeats}; {summary}");
    assert_eq!(summary.accepted, 40, "{summary}");
    assert!((40..=44).contains(&sent), "sent {sent} times");
}

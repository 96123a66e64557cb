//! The worker as a process, against a real RabbitMQ and mock providers: ceilings, faults, crashes,
//! outages, drains. Every scene closes its ledger.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use otpd_core::{FactKind, Reason, UnixMs};
use otpd_queue::DeadFilter;
use otpd_sim::mock::Kind;
use otpd_sim::{Control, FaultPlan, Jobs, MockConfig};
use otpd_tests::rabbit::PATIENCE;
use otpd_tests::{Broker, Scene, eventually};

const VERIHUBS: &str = r#"
[providers.verihubs]
kind = "verihubs"
base_url = "{mock}"
max_in_flight = 64
app_id = "app"
api_key = "key"
"#;

fn mock(control: Control) -> MockConfig {
    MockConfig { setup: vec![control], ..MockConfig::default() }
}

fn verihubs(ceiling: &str, latency: &str, faults: &str) -> Control {
    Control {
        ceilings: ceiling.parse().ok().map(|c| vec![c]),
        latency: latency.parse().ok(),
        faults: FaultPlan::parse(Kind::Verihubs, faults).ok(),
        ..Control::of(Kind::Verihubs)
    }
}

async fn scene(ceiling: &str, control: Control) -> Scene {
    let broker = Broker::shared();
    let own = if ceiling.is_empty() { String::new() } else { format!("ceiling = \"{ceiling}\"\n") };
    let retry = "[retry]\ninitial = \"100ms\"\nmax = \"1s\"\n";
    let lanes = [("verihubs", !ceiling.is_empty(), &["verihubs"][..])];
    Scene::set(broker, &broker.url(), &format!("{retry}{VERIHUBS}{own}"), &lanes, mock(control)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_is_never_passed_and_nearly_all_of_it_is_used() {
    let mut scene = scene("50/s", verihubs("50/s", "5ms..20ms", "")).await;
    scene.publish("verihubs", Jobs::new(1, 1000)).await;
    let worker = scene.worker();
    scene.until_all_ended().await;
    assert_eq!(scene.close().accepted, 1000);
    let stats = scene.mock.stats();
    let account = stats.of(Kind::Verihubs).next().unwrap();
    assert_eq!((account.attempts, account.accepted, account.duplicates), (1000, 1000, 0), "{account:?}");
    assert!(account.most_in(Duration::from_secs(1)).unwrap() <= 50, "{account:?}");
    let span = account.last_arrival_us.unwrap() - account.first_arrival_us.unwrap();
    println!("1,000 jobs at 50/s: {:.1} % used", 1000.0 / (span as f64 / 1e6 * 50.0) * 100.0);
    assert!(worker.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_ceiling_gives_its_burst_at_once_and_then_holds() {
    let mut scene = scene("100/10s", verihubs("100/10s", "5ms", "")).await;
    let worker = scene.worker();
    worker.ready().await;
    scene.publish("verihubs", Jobs::new(2, 150)).await;
    scene.until_all_ended().await;
    assert_eq!(scene.close().accepted, 150);
    let arrivals = scene.mock.arrivals(Kind::Verihubs, "app");
    assert!(arrivals[99] - arrivals[0] < 2_000_000, "the burst took {} us", arrivals[99] - arrivals[0]);
    let stats = scene.mock.stats();
    let account = stats.of(Kind::Verihubs).next().unwrap();
    assert!(account.most_in(Duration::from_secs(10)).unwrap() <= 100, "{account:?}");
    assert_eq!(account.attempts, 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_jobs_with_every_kind_of_fault_close_the_ledger() {
    let faults = "429=0.5%,500=5%,invalid_request=1%,blocked=1%,reset=1%";
    let mut scene = scene("", verihubs("", "1ms..5ms", faults)).await;
    let worker = scene.worker();
    worker.ready().await;
    scene.publish("verihubs", Jobs::new(3, 10_000)).await;
    scene.until_all_ended().await;
    let summary = scene.close();
    assert_eq!(summary.accepted + summary.dead, 10_000, "{summary:?}");

    let stats = scene.mock.stats();
    let account = stats.of(Kind::Verihubs).next().unwrap();
    // Each attempt ends with one fact that has the answer's class.
    let counted = scene.seen.iter().filter(|fact| fact.class.is_some()).count() as u64;
    assert_eq!(counted, account.attempts, "attempts in facts and at the provider");
    println!(
        "{summary:?}; {} attempts, answers {:?}, {} resets",
        account.attempts, account.answers, account.resets
    );

    let letters = scene.queue.dead_letters(&DeadFilter::default(), now(), 10_000).await.unwrap();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for letter in &letters {
        *reasons.entry(letter.reason.unwrap().as_str()).or_default() += 1;
    }
    println!("dead letters: {reasons:?}");
    assert_eq!(letters.len() as u64, summary.dead);
    let expected = ["invalid_request", "recipient_blocked", "attempts_exhausted", "ambiguous_parked"];
    assert!(reasons.keys().all(|r| expected.contains(r)), "{reasons:?}");
    assert!(reasons["invalid_request"] > 50 && reasons["recipient_blocked"] > 50);
    assert!(worker.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_loses_nothing_and_repeats_only_what_was_on_the_wire() {
    let mut scene = scene("", verihubs("", "20ms", "")).await;
    scene.publish("verihubs", Jobs::new(4, 6_000)).await;
    let mut worker = scene.worker();
    for round in 1..=3 {
        let target = round * 1200;
        scene.until("some progress", |s| s.ended() >= target).await;
        worker.kill9();
        worker = scene.worker();
    }
    scene.until_all_ended().await;
    assert_eq!(scene.close().accepted, 6_000);
    let duplicates = scene.duplicates();
    println!("3 kills: {duplicates} duplicates");
    assert!(duplicates <= 3 * 64, "{duplicates} duplicates: more than 3 times max_in_flight");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_loses_nothing() {
    let broker = Broker::start();
    let providers = format!("{VERIHUBS}ceiling = \"200/s\"\n");
    let lanes = [("verihubs", true, &["verihubs"][..])];
    let config = mock(verihubs("200/s", "20ms", ""));
    let mut scene = Scene::set(&broker, &broker.url(), &providers, &lanes, config).await;
    scene.publish("verihubs", Jobs::new(5, 3_000)).await;
    let worker = scene.worker();
    for round in 1..=3 {
        scene.until("some progress", |s| s.ended() >= round * 600).await;
        if round == 2 {
            broker.stop();
        } else {
            broker.kill9();
        }
        broker.start_again();
    }
    scene.until_all_ended().await;
    assert_eq!(scene.close().accepted, 3_000);
    println!("3 restarts of the broker: {} duplicates", scene.duplicates());
    assert_eq!(scene.duplicates(), 0, "the worker lived all the time and knows what it sent");
    let stats = scene.mock.stats();
    let account = stats.of(Kind::Verihubs).next().unwrap();
    assert!(account.most_in(Duration::from_secs(1)).unwrap() <= 200, "{account:?}");
    assert!(worker.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_job_is_a_dead_letter_and_the_lane_goes_on() {
    let mut scene = scene("", verihubs("", "1ms", "")).await;
    let bad = [
        ("not-json", "482910".to_owned()),
        ("no-code", r#"{"id":"no-code","to":"+628123456890"}"#.to_owned()),
        ("extra", r#"{"id":"extra","to":"+628123456890","code":"482910","when":"now"}"#.to_owned()),
        ("type", r#"{"id":"type","to":"+628123456890","code":482910}"#.to_owned()),
        (
            "large",
            format!(
                r#"{{"id":"large","to":"+628123456890","code":"482910","purpose":"{}"}}"#,
                "x".repeat(70_000)
            ),
        ),
    ];
    scene
        .publish_bodies(
            "verihubs",
            bad.iter().map(|(id, b)| ((*id).to_owned(), Bytes::from(b.clone()))).collect(),
        )
        .await;
    scene.publish("verihubs", Jobs::new(6, 10)).await;
    let worker = scene.worker();
    scene.until_all_ended().await;
    let summary = scene.close();
    assert_eq!((summary.accepted, summary.dead), (10, 5));
    let letters = scene.queue.dead_letters(&DeadFilter::default(), now(), 100).await.unwrap();
    for letter in &letters {
        assert_eq!(letter.reason, Some(Reason::MalformedJob));
        let detail = letter.detail.as_deref().unwrap();
        assert!(!detail.contains("482910") && !detail.contains("628123456890"), "{detail}");
    }
    assert_eq!(letters.len(), 5);
    assert!(!scene.log().contains("482910"), "a code in the log");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_flies_and_leaves_the_rest_queued() {
    let mut scene = scene("20/s", verihubs("20/s", "300ms", "")).await;
    scene.publish("verihubs", Jobs::new(7, 200)).await;
    let worker = scene.worker();
    scene.until("the first", |s| s.ended() >= 30).await;
    assert!(worker.stop().await.success(), "exit 0; {}", scene.log());
    let sent = scene.mock.stats().accepted();
    scene.until("what was sent", |s| s.ended() as u64 >= sent).await;
    // What is handed back is counted a moment later.
    eventually("the rest to be queued again", PATIENCE, || async {
        let depths = scene.queue.depths().await.ok()?;
        (depths.first()?.1 + sent == 200).then_some(())
    })
    .await;
    let next = scene.worker();
    scene.until_all_ended().await;
    assert_eq!(scene.close().accepted, 200);
    assert_eq!(scene.duplicates(), 0);
    assert_eq!(scene.count(FactKind::Accepted), 200);
    drop(next);
}

fn now() -> UnixMs {
    otpd_tests::rabbit::now()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_job_is_explained_step_by_step() {
    let mut scene = scene("50/s", verihubs("50/s", "5ms..20ms", "500=first:2")).await;
    scene.publish("verihubs", Jobs::new(31, 3)).await;
    let worker = scene.worker();
    scene.until_all_ended().await;
    let job = scene.seen[0].job.clone();
    let (code, said, _) = scene.otpd(&["explain", job.as_str()]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.lines().next().unwrap().contains(&format!("{job}  accepted  route verihubs  to +")),
        "{said}"
    );
    assert!(
        said.contains("HTTP 500; transient") && said.contains("internal_error: The provider had"),
        "{said}"
    );
    assert!(said.contains("for a permit; answered in"), "{said}");
    assert!(scene.seen.iter().all(|fact| fact.job != job || said.contains(&fact.at.to_string())));
    let (code, json, _) = scene.otpd(&["explain", job.as_str(), "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, json["state"].as_str()), (0, Some("accepted")));
    let told = scene.seen.iter().filter(|fact| fact.job == job).count();
    assert_eq!(json["timeline"].as_array().unwrap().len(), told);
    let (code, said, _) = scene.otpd(&["top", "--once", "--json"]);
    let top: serde_json::Value = serde_json::from_str(&said).unwrap();
    // The test's own marks on the stream are of a lane that nobody configured.
    let lane = top["lanes"].as_array().unwrap().iter().find(|lane| lane["lane"] == "verihubs").unwrap();
    assert_eq!((code, &lane["ceiling_per_second"], &lane["backlog"]), (0, &50.0.into(), &0.into()), "{said}");
    assert_eq!(lane["state"], "open", "{said}");
    let (code, said, _) = scene.otpd(&["doctor", "--json"]);
    let doctor: serde_json::Value = serde_json::from_str(&said).unwrap();
    let of = |name: &str| {
        doctor["checks"].as_array().unwrap().iter().find(|c| c["check"] == name).unwrap()["health"].clone()
    };
    assert_eq!(
        (code, of("queue"), of("topology"), of("events")),
        (0, "ok".into(), "ok".into(), "ok".into()),
        "{said}"
    );
    assert_eq!((of("dead letters"), of("provider verihubs")), ("ok".into(), "ok".into()), "{said}");
    let (code, _, error) = scene.otpd(&["explain", "no-such-job"]);
    assert_eq!(
        (code, error.contains("nothing happened to no-such-job in the last 1day")),
        (1, true),
        "{error}"
    );
    assert!(worker.stop().await.success());
    assert_eq!(scene.close().accepted, 3);
}

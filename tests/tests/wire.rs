//! The worker as a process at a provider that speaks HTTPS and HTTP/2 and does what real ones do on the
//! wire. Where `on_ambiguous = "park"`, a job that nobody can tell about is dead: so none of these may be one.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::time::{Duration, Instant};

use otpd_core::FactKind;
use otpd_sim::mock::Kind;
use otpd_sim::{Certificate, Control, FaultPlan, Jobs, MockConfig};
use otpd_tests::{Broker, Scene, most_within};

const CONFIG: &str = r#"
[retry]
initial = "100ms"
max = "1s"
max_attempts = 12
[providers.far]
kind = "verihubs"
base_url = "{mock}"
app_id = "far"
api_key = "key"
on_ambiguous = "park"
"#;

/// A scene whose provider has this certificate and these faults, and whose config says `more` of it.
async fn scene(certificate: Certificate, faults: &str, more: &str) -> Scene {
    let broker = Broker::shared();
    let control = Control {
        latency: "100ms..200ms".parse().ok(),
        faults: FaultPlan::parse(Kind::Verihubs, faults).ok(),
        ..Control::of(Kind::Verihubs)
    };
    let mock = MockConfig { setup: vec![control], tls: Some(certificate), ..MockConfig::default() };
    let config = format!("{CONFIG}{more}\n");
    let has_ceiling = more.contains("ceiling");
    let lanes = [("far", has_ceiling, &["far"][..])];
    let scene = Scene::set(broker, &broker.url(), &config, &lanes, mock).await;
    let ca = scene.write_file("ca.pem", scene.mock.authority().unwrap());
    scene.edit_config(|text| {
        text.replace("app_id = \"far\"", &format!("app_id = \"far\"\nca = {{ file = {ca:?} }}"))
    });
    scene
}

/// GOAWAY, refused streams, cut and open ends: of 500 jobs none is sent twice, parked or lost.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_ambiguous_that_need_not_be() {
    let faults = "goaway=2%,refused=5%,cut=10%,open_end=10%,hints=5%";
    let mut scene = scene(Certificate::Valid, faults, "ceiling = \"100/s\"").await;
    let worker = scene.worker();
    worker.ready().await;
    let began = Instant::now();
    scene.publish("far", Jobs::new(61, 500)).await;
    scene.until_all_ended().await;
    let stats = scene.mock.stats().account(Kind::Verihubs, "far").cloned().unwrap();
    let parked = scene.count(FactKind::Dead);
    println!(
        "500 jobs in {:?}: {} accepted, {parked} dead, {} sent twice, {} requests over {} connections, {} not processed, most in a second {:?}",
        began.elapsed(),
        scene.count(FactKind::Accepted),
        stats.duplicates,
        stats.attempts,
        scene.mock.connections(),
        stats.resets,
        stats.most_in(Duration::from_secs(1)),
    );
    assert!(stats.resets >= 15, "the faults were met");
    assert_eq!((stats.accepted, stats.duplicates), (500, 0));
    let most = most_within(&scene.mock.arrivals(Kind::Verihubs, "far"), Duration::from_secs(1));
    assert!(most <= 100, "{most} requests within a second");
    assert!(worker.stop().await.success());
    let summary = scene.close();
    assert_eq!((summary.accepted, summary.dead), (500, 0));
}

/// A certificate that expired lets nothing leave, and is said once in words.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_said_once() {
    let mut scene = scene(Certificate::Expired, "", "").await;
    scene.edit_config(|text| text.replace("max_attempts = 12", "max_attempts = 2"));
    let worker = scene.worker();
    worker.ready().await;
    scene.publish("far", Jobs::new(62, 5)).await;
    scene.until_all_ended().await;
    let words =
        "the certificate of 127.0.0.1 expired on Mon, 01 Jan 2024 00:00:00 GMT; it must be renewed there";
    let log = scene.log();
    assert_eq!(log.matches("not told again for 10 minutes").count(), 1, "{log}");
    assert!(log.contains(words), "{log}");
    assert_eq!(scene.mock.stats().accepted(), 0);
    assert!(worker.stop().await.success());
    assert_eq!(scene.close().dead, 5);
}

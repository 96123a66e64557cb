//! Credentials that are rotated while jobs are on their way: the broker's password and its certificate
//! authority. Nothing is lost, and no worker restarts.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::time::Duration;

use otpd_sim::mock::Kind;
use otpd_sim::{Control, Jobs, MockConfig};
use otpd_tests::rabbit::PATIENCE;
use otpd_tests::scene::WorkerProcess;
use otpd_tests::{Broker, Scene, eventually};

const CONFIG: &str = r#"
[providers.verihubs]
kind = "verihubs"
base_url = "{mock}"
app_id = "app"
api_key = "key"
ceiling = "100/s"
"#;

/// A scene whose workers find the broker's URL in a file.
async fn scene(broker: &Broker) -> Scene {
    let quick = Control { latency: "2ms..10ms".parse().ok(), ..Control::of(Kind::Verihubs) };
    let mock = MockConfig { setup: vec![quick], ..MockConfig::default() };
    let scene = Scene::set(broker, &broker.url(), CONFIG, &[("verihubs", true, &["verihubs"])], mock).await;
    let file = scene.write_file("broker_url", "amqp://h/v\n");
    let named = format!("url = {{ file = {file:?} }}");
    scene.edit_config(|text| text.replace(&format!("url = [{:?}]", broker.url()), &named));
    scene
}

fn url(broker: &Broker, password: &str) -> String {
    format!("amqp://otpd:{password}@{}/%2f\n", broker.address())
}

/// The connections of the worker's user are closed, as by an operator who must be sure that nobody uses the
/// former password any more.
fn close_connections(broker: &Broker) -> usize {
    let all = broker.ctl(&["list_connections", "pid", "user"]);
    let own: Vec<&str> = all.lines().filter_map(|line| line.strip_suffix("\totpd")).collect();
    for pid in &own {
        broker.ctl(&["close_connection", pid, "the password was rotated"]);
    }
    own.len()
}

async fn until_connected(worker: &WorkerProcess, scene: &mut Scene, more: usize) {
    let ended = scene.ended();
    scene.until("jobs to be sent again", |s| s.ended() >= ended + more).await;
    worker.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_s_password_is_rotated_under_load() {
    let broker = Broker::start();
    broker.ctl(&["add_user", "otpd", "first-s3cret"]);
    broker.ctl(&["set_permissions", "-p", "/", "otpd", "", ".*", ".*"]);
    let mut scene = scene(&broker).await;
    scene.write_file("broker_url", &url(&broker, "first-s3cret"));
    let worker = scene.worker();
    worker.ready().await;
    scene.publish("verihubs", Jobs::new(1, 1500)).await;
    scene.until("the lane to be in its stride", |s| s.ended() >= 100).await;

    // The secret first: until the broker knows the new password, new connections would be refused.
    scene.write_file("broker_url", &url(&broker, "second-s3cret"));
    broker.ctl(&["change_password", "otpd", "second-s3cret"]);
    let closed = close_connections(&broker);
    assert!(closed >= 3, "{closed} connections");
    until_connected(&worker, &mut scene, 200).await;

    // The broker first: what is refused meanwhile reads again.
    broker.ctl(&["change_password", "otpd", "third-s3cret"]);
    close_connections(&broker);
    eventually("a connection to be refused", PATIENCE, || async {
        scene.log().contains("ACCESS_REFUSED").then_some(())
    })
    .await;
    scene.write_file("broker_url", &url(&broker, "third-s3cret"));
    until_connected(&worker, &mut scene, 200).await;

    scene.until_all_ended().await;
    let (summary, twice) = scene.close_but_for_repeats();
    println!("two rotations under load: {summary}; {twice} told twice, {} sent twice", scene.duplicates());
    assert_eq!(summary.accepted, 1500);
    assert!(worker.sample("otpd_config_refused").await < 0.5);
    let log = scene.log();
    assert!(!log.contains("s3cret"), "a password in the log: {log}");
    assert!(log.contains("broker.url: other credentials"), "{log}");
    assert_eq!(log.matches("otpd worker starts").count(), 1, "no restart");
    assert!(worker.stop().await.success());
    tokio::time::timeout(Duration::from_secs(60), async { drop(broker) }).await.unwrap();
}

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

use otpd_sim::mock::Kind;
use otpd_sim::{Control, Jobs, MockConfig};
use otpd_tests::rabbit::PATIENCE;
use otpd_tests::scene::WorkerProcess;
use otpd_tests::{Broker, Scene, eventually};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

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
        broker.ctl(&["close_connection", pid, "rotated"]);
    }
    own.len()
}

/// Certificate and key for `localhost`, by an authority of their own, as PEM: authority, certificate, key.
fn certified(name: &str) -> [String; 3] {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    [issuer.pem(), certificate.pem(), key.serialize_pem()]
}

/// The broker's authority is named for the broker alone, and its certificate changes with the authority.
#[tokio::test(flavor = "multi_thread")]
async fn the_broker_s_certificate_and_its_authority_are_rotated_under_load() {
    let broker = Broker::start();
    broker.ctl(&["add_user", "otpd", "first-s3cret"]);
    broker.ctl(&["set_permissions", "-p", "/", "otpd", "", ".*", ".*"]);
    let folder = std::env::temp_dir().join(format!("otpd-rotation-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    let serve = |[_, pem, private]: &[String; 3]| {
        std::fs::write(&certificate, pem).unwrap();
        std::fs::write(&key, private).unwrap();
    };
    let (first, second) = (certified("first"), certified("second"));
    serve(&first);
    let at = broker.listen_tls(&certificate, &key);
    let mut scene = scene(&broker).await;
    scene.write_file("broker_url", &format!("amqps://otpd:first-s3cret@localhost:{}/%2f", at.port()));
    let (code, _, said) = scene.otpd(&["topology", "check"]);
    assert!(code == 1 && said.contains("UnknownIssuer"), "without its authority: {said}");

    let ca = scene.write_file("ca.pem", &first[0]);
    scene.edit_config(|text| text.replace("prefix = ", &format!("ca = {{ file = {ca:?} }}\nprefix = ")));
    let worker = scene.worker();
    worker.ready().await;
    scene.publish("verihubs", Jobs::new(2, 600)).await;
    scene.until("the lane to be in its stride", |s| s.ended() >= 50).await;

    // Both are trusted before the broker shows the other one: nothing is refused on the way.
    scene.write_file("ca.pem", &format!("{}{}", first[0], second[0]));
    serve(&second);
    broker.read_certificates_again();
    close_connections(&broker);
    until_connected(&worker, &mut scene, 100).await;
    scene.write_file("ca.pem", &second[0]);
    close_connections(&broker);
    until_connected(&worker, &mut scene, 100).await;

    scene.until_all_ended().await;
    let (summary, twice) = scene.close_but_for_repeats();
    println!("certificate and authority rotated under load: {summary}; {twice} told twice");
    assert_eq!(summary.accepted, 600);
    eventually("the change to be told", PATIENCE, || async {
        scene.log().contains("broker.ca: changed").then_some(())
    })
    .await;
    let log = scene.log();
    assert!(!log.contains("UnknownIssuer"), "{log}");
    assert_eq!(log.matches("otpd worker starts").count(), 1, "no restart");
    assert!(worker.stop().await.success());
    std::fs::remove_dir_all(&folder).unwrap();
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
    eventually("the change to be told", PATIENCE, || async {
        scene.log().contains("broker.url: other credentials").then_some(())
    })
    .await;
    let log = scene.log();
    assert!(!log.contains("s3cret"), "a password in the log: {log}");
    assert_eq!(log.matches("otpd worker starts").count(), 1, "no restart");
    assert!(worker.stop().await.success());
}

//! A worker whose config changes while it works: followed without a restart, or refused as a whole.
//! Nothing is lost on the way, and every ledger closes.

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
use otpd_tests::{Broker, Collector, Scene, eventually};
use tokio::time::Instant;

const VERIHUBS: &str = r#"
[providers.verihubs]
kind = "verihubs"
base_url = "{mock}"
app_id = "app"
"#;
const MSGAI: &str = r#"
[providers.msgai]
kind = "msgai"
base_url = "{mock}"
template = "login_code"
api_key = "sk_live_0123456789abcdef"
"#;
const KEY: &str = "api_key = \"key\"\n";

async fn scene(config: &str, lanes: &[(&str, bool, &[&str])], setup: Vec<Control>) -> Scene {
    let broker = Broker::shared();
    let mock = MockConfig { setup, ..MockConfig::default() };
    Scene::set(broker, &broker.url(), config, lanes, mock).await
}

fn quick(kind: Kind) -> Control {
    Control { latency: "2ms..10ms".parse().ok(), ..Control::of(kind) }
}

async fn until_applied(worker: &WorkerProcess, times: f64) {
    eventually("the config to be applied", PATIENCE, || async {
        (worker.sample("otpd_config_reloads_total{result=\"applied\"}").await >= times).then_some(())
    })
    .await;
}

async fn until_refused(worker: &WorkerProcess, scene: &Scene, times: f64) {
    eventually("the config to be refused", PATIENCE, || async {
        (worker.sample("otpd_config_reloads_total{result=\"refused\"}").await >= times).then_some(())
    })
    .await;
    assert!((worker.sample("otpd_config_refused").await - 1.0).abs() < 0.1, "{}", scene.log());
}

/// The most arrivals in any window of a second that begins at or after `from`, and how many there are.
fn busiest(arrivals: &[u64], from: u64) -> (usize, usize) {
    let all: Vec<u64> = arrivals.iter().copied().filter(|at| *at >= from).collect();
    let most =
        all.iter().map(|first| all.iter().filter(|at| (*first..first + 1_000_000).contains(at)).count());
    (most.max().unwrap_or(0), all.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_ceiling_is_followed_while_jobs_wait() {
    let config = format!("{VERIHUBS}{KEY}ceiling = \"10/s\"\n");
    let mut scene = scene(&config, &[("verihubs", true, &["verihubs"])], vec![quick(Kind::Verihubs)]).await;
    let worker = scene.worker();
    worker.ready().await;
    scene.publish("verihubs", Jobs::new(1, 260)).await;
    scene.until("the lane to be in its stride", |s| s.ended() >= 25).await;
    scene.edit_config(|text| text.replace("10/s", "40/s"));
    until_applied(&worker, 1.0).await;
    let ended = scene.mock.arrivals(Kind::Verihubs, "app").len();
    scene.until_all_ended().await;
    assert_eq!((scene.close().accepted, scene.duplicates()), (260, 0));
    let arrivals = scene.mock.arrivals(Kind::Verihubs, "app");
    // Before: the first burst of 10, then 10 a second. After: 40 a second.
    let before = busiest(&arrivals[..ended.min(arrivals.len())], arrivals[0] + 1_500_000);
    let after = arrivals[arrivals.len() - 1] - arrivals[ended + 5];
    let rate = (arrivals.len() - ended - 6) as f64 / (after as f64 / 1e6);
    let (most, _) = busiest(&arrivals, 0);
    println!(
        "10/s -> 40/s with {} waiting: at most {most} in a second, {rate:.1} a second after",
        260 - ended
    );
    assert!(before.0 <= 14, "{before:?} in a second before the change was applied");
    assert!(most <= 40, "{most} in a second");
    assert!((36.0..=40.5).contains(&rate), "{rate} a second");
    let log = scene.log();
    assert!(log.contains("providers.verihubs.ceiling: 10/s -> 40/s"), "{log}");
    assert!(worker.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrected_key_is_picked_up_from_its_file() {
    let secret =
        Control { account: Some("app".into()), secret: Some("right".into()), ..quick(Kind::Verihubs) };
    let config = format!("{VERIHUBS}api_key = {{ file = \"{{key}}\" }}\nceiling = \"100/s\"\n");
    let mut scene = scene(&config, &[("verihubs", true, &["verihubs"])], vec![secret]).await;
    let file = scene.write_file("key", "wrong\n");
    scene.edit_config(|text| text.replace("{key}", &file.display().to_string()));
    let worker = scene.worker();
    worker.ready().await;
    scene.publish("verihubs", Jobs::new(2, 100)).await;
    eventually("the breaker to open", PATIENCE, || async {
        (worker.sample("otpd_breaker_open{provider=\"verihubs\"}").await > 0.5).then_some(())
    })
    .await;
    scene.write_file("key", "right\n");
    let corrected = Instant::now();
    scene.until_all_ended().await;
    println!("the key corrected: 100 jobs accepted within {:.1?}", corrected.elapsed());
    assert_eq!((scene.close().accepted, scene.duplicates()), (100, 0));
    let log = scene.log();
    assert!(log.contains("providers.verihubs.api_key: changed"), "{log}");
    assert!(!log.contains("wrong") && !log.contains("right"), "a secret in the log: {log}");
    assert!(worker.sample("otpd_breaker_open{provider=\"verihubs\"}").await < 0.5);
    assert!(worker.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_config_changes_nothing_and_is_told_once() {
    let config = format!("{VERIHUBS}{KEY}ceiling = \"20/s\"\n");
    let mut scene = scene(&config, &[("verihubs", true, &["verihubs"])], vec![quick(Kind::Verihubs)]).await;
    let worker = scene.worker();
    worker.ready().await;
    scene.publish("verihubs", Jobs::new(3, 250)).await;
    scene.edit_config(|text| {
        text.replace("\"20/s\"", "\"many\"")
            .replace("[providers", "[limits]\nrecipient = \"off\"\n[providers")
    });
    until_refused(&worker, &scene, 1.0).await;
    let ended = scene.ended();
    scene.until("the worker to go on", |s| s.ended() >= ended + 120).await;
    // By then the file was looked at again.
    let log = scene.log();
    assert_eq!(log.matches("providers.verihubs.ceiling: must be").count(), 1, "{log}");
    assert!(log.contains("otpd.toml:") && log.contains("the one in effect stays"), "{log}");
    assert!((worker.sample("otpd_ceiling_per_second{provider=\"verihubs\"}").await - 20.0).abs() < 0.1);
    let (_, checked, told) = scene.otpd(&["config", "check"]);
    let said = told.lines().find(|line| line.contains("ceiling")).unwrap_or(&checked);
    assert!(log.contains(&said.replace('"', "\\\"")), "as `config check` says it: {said}; {log}");

    scene.edit_config(|text| text.replace("\"many\"", "\"50/s\""));
    until_applied(&worker, 1.0).await;
    assert!(worker.sample("otpd_config_refused").await < 0.5);
    scene.until_all_ended().await;
    assert_eq!((scene.close().accepted, scene.duplicates()), (250, 0));
    let log = scene.log();
    assert!(
        log.contains("limits.recipient: 1/30s, 5/h -> off; providers.verihubs.ceiling: 20/s -> 50/s"),
        "{log}"
    );
    assert!(worker.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_waits_by_name_and_holds_nothing_else_up() {
    let config = format!("{VERIHUBS}{KEY}ceiling = \"50/s\"\n");
    let mut scene = scene(&config, &[("verihubs", true, &["verihubs"])], vec![quick(Kind::Verihubs)]).await;
    let worker = scene.worker();
    worker.ready().await;
    scene.edit_config(|text| text.replace("/%2f\"", "/other\"").replace("50/s", "40/s"));
    worker.signal("HUP");
    until_applied(&worker, 1.0).await;
    let log = scene.log();
    assert!(log.contains("broker.url: changed: only a restart applies this"), "{log}");
    let waits = "otpd_config_waits_for_restart{key=\"broker.url\"}";
    assert!(
        (worker.sample(waits).await - 1.0).abs() < 0.1 && worker.sample("otpd_config_refused").await < 0.5
    );
    scene.publish("verihubs", Jobs::new(4, 100)).await;
    scene.until_all_ended().await;
    assert_eq!((scene.close().accepted, scene.duplicates()), (100, 0));
    assert!((worker.sample("otpd_ceiling_per_second{provider=\"verihubs\"}").await - 40.0).abs() < 0.1);
    // Told once, however often it is looked at; and while it waits, the next change is taken.
    scene.edit_config(|text| text.replace("40/s", "30/s"));
    until_applied(&worker, 2.0).await;
    assert_eq!(scene.log().matches("only a restart applies this").count(), 1);
    scene.edit_config(|text| text.replace("/other\"", "/%2f\""));
    eventually("the key not to wait any more", PATIENCE, || async {
        (worker.sample(waits).await < 0.5).then_some(())
    })
    .await;
    assert!(worker.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_applies_at_once_and_a_route_may_begin_elsewhere() {
    let config = format!(
        "{VERIHUBS}{KEY}ceiling = \"50/s\"\n{MSGAI}ceiling = \"50/s\"\n\
         [routes.login]\nproviders = [\"verihubs\", \"msgai\"]\n"
    );
    let lanes = [("verihubs", true, &["verihubs", "login"][..]), ("msgai", true, &["msgai"][..])];
    let mut scene = scene(&config, &lanes, vec![quick(Kind::Verihubs), quick(Kind::Msgai)]).await;
    let worker = scene.worker();
    worker.ready().await;
    scene.publish("login", Jobs::new(5, 20)).await;
    scene.until_all_ended().await;
    let by = |scene: &Scene, kind: Kind| -> u64 { scene.mock.stats().of(kind).map(|a| a.accepted).sum() };
    assert_eq!((by(&scene, Kind::Verihubs), by(&scene, Kind::Msgai)), (20, 0));

    scene.edit_config(|text| {
        let other = text.replace("[\"verihubs\", \"msgai\"]", "[\"msgai\", \"verihubs\"]");
        format!("{other}[routes.fresh]\nproviders = [\"msgai\"]\n")
    });
    let (code, _, said) = scene.otpd(&["topology", "apply"]);
    assert_eq!(code, 0, "{said}");
    let asked = Instant::now();
    worker.signal("HUP");
    until_applied(&worker, 1.0).await;
    println!("applied {:.2?} after the signal", asked.elapsed());
    // Without the signal, each of three changes would wait for a look of its own, 5 s apart.
    for (applied, ttl) in [(2.0, "200s"), (3.0, "201s")] {
        scene.edit_config(|text| {
            format!("{text}[routes.timed-{ttl}]\nproviders = [\"msgai\"]\nttl = \"{ttl}\"\n")
        });
        worker.signal("HUP");
        until_applied(&worker, applied).await;
    }
    assert!(asked.elapsed() < Duration::from_secs(10), "not before the looks: {:?}", asked.elapsed());
    scene.publish("login", Jobs::new(6, 20)).await;
    scene.publish("fresh", Jobs::new(7, 10)).await;
    scene.until_all_ended().await;
    assert_eq!((by(&scene, Kind::Verihubs), by(&scene, Kind::Msgai)), (20, 30), "{}", scene.log());
    let summary = scene.close();
    assert_eq!((summary.accepted, summary.published, scene.duplicates()), (50, 50, 0), "{summary}");
    let log = scene.log();
    assert!(
        log.contains("routes.fresh: added; routes.login.providers: verihubs, msgai -> msgai, verihubs"),
        "{log}"
    );
    assert!(worker.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_level_follows_while_spans_go_on() {
    let config = format!("{VERIHUBS}{KEY}ceiling = \"20/s\"\n");
    let mut scene = scene(&config, &[("verihubs", true, &["verihubs"])], vec![quick(Kind::Verihubs)]).await;
    let collector = Collector::start().await;
    let worker = scene.worker_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())]);
    worker.ready().await;
    scene.publish("verihubs", Jobs::new(6, 5)).await;
    scene.until_all_ended().await;
    assert!(!scene.log().contains("\"DEBUG\""), "{}", scene.log());
    scene.edit_config(|text| format!("{text}[telemetry]\nlog_level = \"debug\"\n"));
    until_applied(&worker, 1.0).await;
    scene.publish("verihubs", Jobs::new(7, 5)).await;
    scene.until_all_ended().await;
    eventually("lines of the new level", PATIENCE, || async {
        scene.log().contains("\"DEBUG\"").then_some(())
    })
    .await;
    assert_eq!(scene.close().accepted, 10);
    assert!(worker.stop().await.success());
    let processed = collector.spans().iter().filter(|s| s.name.starts_with("process")).count();
    assert_eq!(processed, 10, "spans do not depend on the log level");
}

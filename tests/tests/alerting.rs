//! Which alerts wake somebody, and which are held back: a real Alertmanager with the config of
//! `deploy/observability`, told what the rules would tell it. And the broker's metrics that the rules ask
//! for, told by a real RabbitMQ.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use otpd_tests::rabbit::PATIENCE;
use otpd_tests::{Broker, claim_port, eventually, tools};
use serde_json::{Value, json};

fn observability(file: &str) -> PathBuf {
    tools::root().join("deploy/observability").join(file)
}

fn yaml(file: &str) -> Value {
    let text = std::fs::read_to_string(observability(file)).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// Each alert of the rules with its severity.
fn severities() -> BTreeMap<String, String> {
    let rules = yaml("otpd.rules.yaml");
    let rules = rules["groups"].as_array().unwrap().iter().flat_map(|g| g["rules"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rules
        .filter(|r| r["alert"].is_string())
        .map(|r| (text(&r["alert"]), text(&r["labels"]["severity"])))
        .collect()
}

/// An Alertmanager of our own; gone when dropped.
struct Alertmanager {
    process: Child,
    url: String,
    folder: PathBuf,
}

impl Alertmanager {
    async fn start() -> Self {
        let (port, folder) =
            (claim_port(), std::env::temp_dir().join(format!("otpd-alerting-{}", std::process::id())));
        std::fs::create_dir_all(&folder).unwrap();
        // Debian names it with a prefix, everybody else without.
        let names = ["prometheus-alertmanager", "alertmanager"].map(Command::new);
        let mut spawned = names.into_iter().filter_map(|mut command| {
            command
                .arg(format!("--config.file={}", observability("alertmanager.yml").display()))
                .arg(format!("--storage.path={}", folder.display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .arg("--cluster.listen-address=")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .ok()
        });
        let process = spawned.next().expect(
            "Alertmanager is there: `cargo xtask setup`, or Debian's package `prometheus-alertmanager`",
        );
        let manager = Self { process, url: format!("http://127.0.0.1:{port}"), folder };
        eventually("Alertmanager to be ready", PATIENCE, || async {
            let answer = client().get(format!("{}/-/ready", manager.url)).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        manager
    }

    /// Tells it alerts as `(name, labels)`.
    async fn tell(&self, alerts: &[(&str, &[(&str, &str)])]) {
        let severities = severities();
        let alerts = alerts.iter().map(|(name, labels)| {
            let severity = severities.get(*name).unwrap_or_else(|| panic!("there is no alert {name}"));
            let mut all = json!({ "alertname": name, "severity": severity });
            for (key, value) in *labels {
                all[*key] = (*value).into();
            }
            json!({ "labels": all })
        });
        let alerts: Vec<Value> = alerts.collect();
        let sent = client()
            .post(format!("{}/api/v2/alerts", self.url))
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&alerts).unwrap())
            .send()
            .await
            .unwrap();
        assert!(sent.status().is_success(), "{}", sent.text().await.unwrap());
    }

    /// What is not held back, once all that were told are known: receiver, and name of the alert with fleet and provider.
    async fn passed(&self, told: usize) -> BTreeSet<(String, String)> {
        let all = eventually("every alert to be routed", PATIENCE, || async {
            let answer = client().get(format!("{}/api/v2/alerts", self.url)).send().await.ok()?;
            let all: Vec<Value> = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
            let routed = all.iter().all(|a| a["status"]["state"] != "unprocessed");
            (all.len() == told && routed).then_some(all)
        })
        .await;
        let passed = all.iter().filter(|alert| alert["status"]["inhibitedBy"].as_array().unwrap().is_empty());
        passed
            .map(|alert| {
                let label = |key: &str| alert["labels"][key].as_str().unwrap_or("-").to_owned();
                let shown = format!("{} {} {}", label("alertname"), label("fleet"), label("provider"));
                (alert["receivers"][0]["name"].as_str().unwrap().to_owned(), shown)
            })
            .collect()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn client() -> reqwest::Client {
    // Already installed by another test of this process: all the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn expected(passed: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    passed.iter().map(|(receiver, alert)| ((*receiver).to_owned(), (*alert).to_owned())).collect()
}

#[test]
fn amtool_takes_the_config_and_it_speaks_of_alerts_that_are_there() {
    let mut command = Command::new("amtool");
    let (taken, out, said) =
        tools::output(command.arg("check-config").arg(observability("alertmanager.yml")));
    assert!(taken, "{out}{said}");
    let severities = severities();
    let config = yaml("alertmanager.yml");
    for rule in config["inhibit_rules"].as_array().unwrap() {
        for matcher in [&rule["source_matchers"], &rule["target_matchers"]] {
            let matcher = matcher[0].as_str().unwrap();
            assert!(matcher.starts_with("alertname="), "{matcher}");
            for name in matcher.split('"').nth(1).unwrap().split('|') {
                let stem = name.trim_end_matches(".*");
                let known =
                    severities.keys().any(|alert| alert == name || (stem != name && alert.starts_with(stem)));
                assert!(known, "{matcher}: there is no alert {name}");
            }
        }
    }
    // Only what people notice pages.
    let paging =
        severities.iter().filter(|(_, severity)| *severity == "critical").map(|(name, _)| name.as_str());
    assert_eq!(
        paging.collect::<Vec<_>>(),
        [
            "OtpdAbsent",
            "OtpdBrokerAlarm",
            "OtpdBrokerMajority",
            "OtpdCodesLost",
            "OtpdNobodyConsumes",
            "OtpdNothingAccepted",
        ]
    );
}

#[tokio::test]
async fn one_outage_is_one_page_and_other_fleets_are_not_silenced() {
    let manager = Alertmanager::start().await;
    let meta = [("fleet", "otpd"), ("provider", "meta")];
    let other = [("fleet", "other"), ("provider", "meta")];
    // The only account of a route is refused.
    manager
        .tell(&[
            ("OtpdCodesLost", &meta[..1]),
            ("OtpdCodesLostSlowly", &meta[..1]),
            ("OtpdBreakerOpen", &meta),
            ("OtpdProviderErrors", &meta),
            ("OtpdOldestJob", &meta),
            ("OtpdJobsExpired", &meta),
            ("OtpdNothingAccepted", &meta),
            ("OtpdPermitWait", &[("fleet", "otpd"), ("provider", "msgai")]),
            ("OtpdOldestJob", &other),
        ])
        .await;
    assert_eq!(
        manager.passed(9).await,
        expected(&[
            // One group, one page: by fleet.
            ("wake-somebody", "OtpdCodesLost otpd -"),
            ("wake-somebody", "OtpdNothingAccepted otpd meta"),
            ("look-today", "OtpdBreakerOpen otpd meta"),
            ("look-today", "OtpdPermitWait otpd msgai"),
            ("look-today", "OtpdOldestJob other meta"),
        ])
    );
    // Then the broker blocks, and nobody consumes in the other fleet.
    manager
        .tell(&[
            ("OtpdBrokerAlarm", &meta[..1]),
            ("OtpdEventsLag", &meta),
            ("OtpdNobodyConsumes", &other[..1]),
            ("OtpdNothingAccepted", &other),
        ])
        .await;
    assert_eq!(
        manager.passed(13).await,
        expected(&[
            ("wake-somebody", "OtpdBrokerAlarm otpd -"),
            ("wake-somebody", "OtpdNobodyConsumes other -"),
            ("look-today", "OtpdBreakerOpen otpd meta"),
        ])
    );
}

/// The names of the broker's metrics in the rules, as a node with the plugin tells them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_tells_the_metrics_that_the_rules_ask_for() {
    let rules = std::fs::read_to_string(observability("otpd.rules.yaml")).unwrap();
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let asked: BTreeSet<&str> = rules.split(word).filter(|w| w.starts_with("rabbitmq_")).collect();
    assert!(asked.len() >= 6, "{asked:?}");

    let broker = Broker::start();
    let port = claim_port();
    tokio::task::block_in_place(|| {
        broker.ctl(&[
            "eval",
            &format!("application:set_env(rabbitmq_prometheus, tcp_config, [{{port, {port}}}], [{{persistent, true}}])."),
        ]);
        broker.enable_plugin("rabbitmq_prometheus");
    });
    // After the plugin: a queue decides when it begins whether it tells figures.
    let url = broker.url();
    let channel = otpd_tests::rabbit::channel(&url).await;
    let (options, arguments) =
        (lapin::options::QueueDeclareOptions::default(), lapin::types::FieldTable::default());
    channel.queue_declare("otp.lane.x".into(), options, arguments).await.unwrap();
    let mut told = String::new();
    for page in ["/metrics", "/metrics/detailed?family=queue_coarse_metrics&family=queue_consumer_count"] {
        let address = format!("http://127.0.0.1:{port}{page}");
        told += &eventually("the broker's metrics", PATIENCE, || async {
            let text = client().get(&address).send().await.ok()?.text().await.ok()?;
            // A queue's figures come with its next report, some seconds later.
            (page == "/metrics" || text.contains("otp.lane.x")).then_some(text)
        })
        .await;
    }
    for name in asked {
        let is_told =
            told.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        assert!(is_told, "no node tells {name}");
    }
}

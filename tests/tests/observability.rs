//! What watches otpd, kept true: alert rules and their tests run by promtool, every metric they and the
//! dashboard name counted by a real worker, every alert with a test and a section of the runbook.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use otpd_core::{FactKind, Reason};
use otpd_tests::{eventually, otpd_bin};
use serde_json::{Value, json};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy")
}

fn observability(file: &str) -> PathBuf {
    deploy().join("observability").join(file)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&text(&observability(file))).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn dashboard() -> Value {
    serde_json::from_str(&text(&observability("grafana/dashboards/otpd.json"))).unwrap()
}

/// Runs promtool in `folder`; whatever it complains about fails the test.
fn promtool(folder: &Path, arguments: &[&str], input: Stdio) {
    let run = Command::new("promtool").args(arguments).current_dir(folder).stdin(input).output();
    let out = run.expect("promtool is there: `cargo xtask setup`, or Debian's package `prometheus`");
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "promtool {arguments:?}: {said}");
}

/// The rules, those that record and those that alert.
fn rules() -> Vec<Value> {
    let groups = yaml("otpd.rules.yaml")["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn alerts() -> Vec<Value> {
    rules().into_iter().filter(|rule| rule["alert"].is_string()).collect()
}

/// The panels of the dashboard that show something.
fn panels() -> Vec<Value> {
    let dashboard = dashboard();
    dashboard["panels"].as_array().unwrap().iter().filter(|p| p["type"] != "row").cloned().collect()
}

/// Each expression of the dashboard, with the panel's title; variables as Grafana would fill them in.
fn shown() -> Vec<(String, String)> {
    let panels = panels();
    let of = |panel: &Value| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().unwrap().clone();
        targets.into_iter().map(move |target| (title.clone(), filled_in(target["expr"].as_str().unwrap())))
    };
    panels.iter().flat_map(of).collect()
}

fn filled_in(expression: &str) -> String {
    expression.replace("$__rate_interval", "1m").replace("$job", ".*").replace("$provider", "verihubs|msgai")
}

/// Every expression there is, with where it is.
fn expressions() -> Vec<(String, String)> {
    let name = |rule: &Value| rule["alert"].as_str().or(rule["record"].as_str()).unwrap().to_owned();
    let of_rules = rules().into_iter().map(|rule| (name(&rule), rule["expr"].as_str().unwrap().to_owned()));
    of_rules.chain(shown()).collect()
}

/// The names in an expression that could be metrics; what is in quotes is none.
fn names(expression: &str) -> BTreeSet<String> {
    let bare: String = expression.split('"').step_by(2).collect::<Vec<_>>().join("\"");
    bare.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| word.contains("otpd_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_rules_are_valid_and_their_tests_pass() {
    let folder = observability(".");
    promtool(&folder, &["check", "rules", "otpd.rules.yaml"], Stdio::null());
    promtool(&folder, &["test", "rules", "otpd.rules.test.yaml", "otpd.rules.days.test.yaml"], Stdio::null());
    promtool(&folder, &["check", "config", "prometheus.yml"], Stdio::null());
}

#[test]
fn the_resource_of_the_operator_is_the_rule_file() {
    let resource = yaml("prometheusrule.yaml");
    assert_eq!(resource["apiVersion"], "monitoring.coreos.com/v1");
    assert_eq!(resource["kind"], "PrometheusRule");
    assert_eq!(resource["spec"], yaml("otpd.rules.yaml"), "its first lines say how to make it anew");
}

#[test]
fn what_kubernetes_and_compose_load_is_there() {
    let kustomization = yaml("kustomization.yaml");
    assert_eq!(kustomization["resources"], json!(["prometheusrule.yaml"]));
    let generated = &kustomization["configMapGenerator"][0];
    assert_eq!(generated["options"]["disableNameSuffixHash"], true);
    assert_eq!(generated["options"]["labels"]["grafana_dashboard"], "1");
    let (_, file) = generated["files"][0].as_str().unwrap().split_once('=').unwrap();
    assert_eq!(observability(file), observability("grafana/dashboards/otpd.json"));

    let prometheus = yaml("prometheus.yml");
    assert_eq!(prometheus["rule_files"], json!(["otpd.rules.yaml"]));
    let jobs = prometheus["scrape_configs"].as_array().unwrap().iter().map(|config| &config["job_name"]);
    assert_eq!(jobs.collect::<Vec<_>>(), ["otpd-worker", "otpd-rabbitmq", "otpd-rabbitmq-queues"]);
    let source = &yaml("grafana/provisioning/datasources/prometheus.yaml")["datasources"][0];
    assert_eq!((source["type"].as_str(), source["isDefault"].as_bool()), (Some("prometheus"), Some(true)));
    let dashboards = &yaml("grafana/provisioning/dashboards/otpd.yaml")["providers"][0];
    assert_eq!(dashboards["options"]["path"], "/etc/grafana/dashboards");
}

/// The anchors of a Markdown page's headings, as GitHub makes them of headings in plain words.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#'));
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings
        .map(|h| h.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-"))
        .collect()
}

#[test]
fn every_alert_says_how_bad_what_and_where_to_read_on() {
    let runbook = text(&deploy().join("RUNBOOK.md"));
    let anchors = anchors(&runbook);
    let mut sections = BTreeSet::new();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap().to_owned();
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
        for annotation in ["summary", "description"] {
            assert!(alert["annotations"][annotation].as_str().is_some_and(|t| !t.is_empty()), "{name}");
        }
        let url = alert["annotations"]["runbook_url"].as_str().unwrap();
        let (page, anchor) = url.split_once('#').unwrap();
        assert_eq!(page, "https://example.org/otpd/RUNBOOK.md", "{name}: one placeholder for all");
        assert_eq!(anchor, name.to_lowercase());
        assert!(anchors.contains(anchor), "{name}: RUNBOOK.md has no section #{anchor}");
        sections.insert(anchor.to_owned());
    }
    let of_alerts = anchors.into_iter().filter(|anchor| anchor.starts_with("otpd") && !anchor.contains('-'));
    assert_eq!(of_alerts.collect::<BTreeSet<_>>(), sections, "sections of RUNBOOK.md about alerts");
    // Links within the page.
    for target in runbook.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        assert!(self::anchors(&runbook).contains(target), "RUNBOOK.md links to #{target}");
    }
}

#[test]
fn every_alert_is_tested_where_it_fires_and_where_it_is_silent() {
    let mut seen: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    let files = ["otpd.rules.test.yaml", "otpd.rules.days.test.yaml"].map(yaml);
    for test in files.iter().flat_map(|file| file["tests"].as_array().unwrap()) {
        for case in test["alert_rule_test"].as_array().unwrap() {
            let (fires, silent) = seen.entry(case["alertname"].as_str().unwrap().to_owned()).or_default();
            match case["exp_alerts"].as_array().unwrap().is_empty() {
                true => *silent += 1,
                false => *fires += 1,
            }
        }
    }
    let named: BTreeSet<String> = alerts().iter().map(|a| a["alert"].as_str().unwrap().to_owned()).collect();
    // A misspelt alert is silent for ever: its test would pass.
    assert_eq!(seen.keys().cloned().collect::<BTreeSet<_>>(), named);
    for (alert, (fires, silent)) in seen {
        assert!(
            fires > 0 && silent > 1,
            "{alert}: {fires} tests where it fires, {silent} where it is silent"
        );
    }
}

/// `label="a|b"` and its relatives, with the values one by one.
fn matched(expression: &str, label: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (before, rest) in expression.match_indices(label).map(|(at, _)| expression.split_at(at)) {
        let rest = rest.trim_start_matches(label).trim_start_matches(['=', '!', '~']);
        let begins = before.ends_with(['{', ',']);
        if let Some(values) = rest.strip_prefix('"').filter(|_| begins) {
            found.extend(values.split('"').next().unwrap().split('|').map(str::to_owned));
        }
    }
    found
}

#[test]
fn the_values_that_are_asked_for_are_values_that_are_told() {
    const CLASSES: [&str; 6] = ["accepted", "rate_limited", "transient", "ambiguous", "permanent", "account"];
    let mut asked = [0; 3];
    for (place, expression) in expressions() {
        for reason in matched(&expression, "reason") {
            assert!(Reason::parse(&reason).is_some(), "{place} asks for the reason {reason}");
            asked[0] += 1;
        }
        for class in matched(&expression, "class") {
            assert!(CLASSES.contains(&class.as_str()), "{place} asks for the class {class}");
            asked[1] += 1;
        }
        for outcome in matched(&expression, "outcome") {
            let told = FactKind::ALL.iter().any(|kind| kind.as_str() == outcome);
            assert!(told, "{place} asks for the outcome {outcome}");
            asked[2] += 1;
        }
    }
    assert!(asked[0] > 20 && asked[1] > 4 && asked[2] > 4, "{asked:?}: they are not found any more");
}

#[test]
fn the_dashboard_is_whole_and_its_expressions_can_be_read() {
    let dashboard = dashboard();
    assert!(dashboard.get("uid").is_none() && dashboard.get("id").is_none(), "Grafana gives these");
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["name"].as_str().unwrap())
        .collect();
    assert_eq!(variables, ["datasource", "job", "provider"]);

    let (mut ids, mut taken) = (BTreeSet::new(), BTreeMap::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is taken");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("w") > 0 && place("h") > 0 && place("x") + place("w") <= 24, "{title}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                let other = taken.insert((x, y), title.to_owned());
                assert_eq!(other, None, "{title} lies over it");
            }
        }
    }
    for panel in panels() {
        let title = panel["title"].as_str().unwrap();
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().unwrap();
        let refs: BTreeSet<&str> = targets.iter().map(|t| t["refId"].as_str().unwrap()).collect();
        assert_eq!(refs.len(), targets.len(), "{title}: refId twice");
        assert!(targets.iter().all(|t| t["datasource"]["uid"] == "${datasource}"), "{title}");
    }

    let folder = Folder::new();
    let record =
        |(n, (_, expr)): (usize, (String, String))| json!({ "record": format!("panel:{n}"), "expr": expr });
    let rules: Vec<Value> = shown().into_iter().enumerate().map(record).collect();
    assert!(rules.len() > 30 && rules.iter().all(|rule| !rule["expr"].as_str().unwrap().contains('$')));
    // JSON is YAML.
    let file = json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string();
    std::fs::write(folder.0.join("dashboard.yaml"), file).unwrap();
    promtool(&folder.0, &["check", "rules", "dashboard.yaml"], Stdio::null());
}

/// Mock, worker and queue of one file; all of it is gone with it.
struct Scene {
    folder: Folder,
    mock: Child,
    worker: Child,
    admin: u16,
}

impl Scene {
    fn set() -> Self {
        let folder = Folder::new();
        let mut mock = Command::new(otpd_bin())
            .args(["mock", "--listen", "127.0.0.1:0", "--json"])
            // The first request for each phone is one too many; one phone is refused for good.
            .args(["--fault", "verihubs:invalid_request=to:*007,429=first:1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(mock.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let listening: Value = serde_json::from_str(&first).unwrap();
        let admin = otpd_tests::claim_port();
        let config = format!(
            "[broker]\nurl = \"embedded:{}/queue.db\"\n[retry]\ninitial = \"10ms\"\n\
             [admin]\nlisten = \"127.0.0.1:{admin}\"\n\
             [providers.verihubs]\nkind = \"verihubs\"\nceiling = \"50/s\"\nbase_url = {}\n\
             app_id = \"app\"\napi_key = \"key\"\n",
            folder.0.display(),
            listening["listening"]
        );
        std::fs::write(folder.0.join("otpd.toml"), config).unwrap();
        let log = File::create(folder.0.join("worker.log")).unwrap();
        let worker = Command::new(otpd_bin())
            .args(["worker", "--config", "otpd.toml"])
            .current_dir(&folder.0)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { folder, mock, worker, admin }
    }

    async fn get(&self, path: &str) -> Option<String> {
        // Already installed by another test of this process: all the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build().unwrap();
        let answer = client.get(format!("http://127.0.0.1:{}{path}", self.admin)).send().await.ok()?;
        answer.error_for_status().ok()?.text().await.ok()
    }

    /// Sends one job and waits for its end; whether it was accepted.
    fn send(&self, to: &str) -> bool {
        let mut send = Command::new(otpd_bin())
            .args([
                "send",
                "--config",
                "otpd.toml",
                "--route",
                "verihubs",
                "--to",
                to,
                "--code",
                "-",
                "--wait",
            ])
            .current_dir(&self.folder.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        send.stdin.take().unwrap().write_all(b"482910\n").unwrap();
        send.wait().unwrap().success()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for child in [&mut self.worker, &mut self.mock] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// OpenMetrics names a counter without its `_total`, Prometheus' older text format with it. promtool
/// lints the older one, so the exposition is put into it; nothing else of it is changed.
fn as_promtool_reads_it(exposition: &str) -> String {
    let counters: BTreeSet<&str> = exposition
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let line = |line: &str| match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
        ["#", what, name, rest] if counters.contains(name) => format!("# {what} {name}_total {rest}\n"),
        _ => format!("{line}\n"),
    };
    exposition.lines().filter(|line| *line != "# EOF").map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_worker_counts_everything_that_is_watched() {
    let scene = Scene::set();
    eventually("the worker to be ready", Duration::from_secs(60), || scene.get("/readyz")).await;
    assert!(scene.send("+628123456890"), "{}", text(&scene.folder.0.join("worker.log")));
    assert!(!scene.send("+628123456007"), "this one is refused for good");
    // One key that waits for a restart.
    let config = scene.folder.0.join("otpd.toml");
    std::fs::write(&config, format!("{}[telemetry]\nlog_format = \"json\"\n", text(&config))).unwrap();
    let exposition = eventually("the key to wait", Duration::from_secs(60), || async {
        let shown = scene.get("/metrics").await?;
        shown.contains("otpd_config_waits_for_restart{key=\"telemetry.log_format\"} 1").then_some(shown)
    })
    .await;
    assert!(exposition.ends_with("# EOF\n"), "OpenMetrics ends with it");
    assert!(!exposition.contains("482910") && !exposition.contains("628123456"), "a code or a number");

    let samples: BTreeSet<&str> = exposition
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect();
    let recorded: BTreeSet<String> =
        rules().iter().filter_map(|rule| rule["record"].as_str().map(str::to_owned)).collect();
    let mut missing = BTreeSet::new();
    for (place, expression) in expressions() {
        for name in names(&expression) {
            let known =
                if name.contains(':') { recorded.contains(&name) } else { samples.contains(name.as_str()) };
            if !known {
                missing.insert(format!("{name} ({place})"));
            }
        }
    }
    assert!(missing.is_empty(), "watched, but counted by nobody: {missing:#?}\n{exposition}");

    let lint = scene.folder.0.join("metrics.txt");
    std::fs::write(&lint, as_promtool_reads_it(&exposition)).unwrap();
    promtool(&scene.folder.0, &["check", "metrics"], File::open(&lint).unwrap().into());
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("otpd-observability-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

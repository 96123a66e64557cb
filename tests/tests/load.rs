//! `otpd load` as an engineer runs it: self-contained, and against a real RabbitMQ with a worker of its own.
//! Every run's ledger is checked against what the mock providers counted.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use otpd_sim::mock::Kind;
use otpd_sim::{Control, MockConfig};
use otpd_tests::{Broker, Scene, otpd_bin};
use serde_json::Value;

/// A folder for reports, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("otpd-load-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Runs `otpd load` in it; gives exit code, output and errors.
    fn load(&self, arguments: &[&str]) -> (i32, String, String) {
        let out = Command::new(otpd_bin()).arg("load").args(arguments).current_dir(&self.0).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn latency<'a>(report: &'a Value, part: &str) -> &'a Value {
    let parts = report["all"]["latency"].as_array().unwrap();
    parts.iter().find(|p| p["part"] == part).unwrap_or_else(|| panic!("{part} was not measured"))
}

fn sum(report: &Value, counter: &str) -> u64 {
    let buckets = report["series"]["buckets"].as_array().unwrap();
    buckets.iter().map(|b| b[counter].as_u64().unwrap()).sum()
}

#[test]
fn a_run_that_needs_nothing_closes_its_ledger_and_writes_reports_that_agree() {
    let folder = Folder::new();
    let (html, json) = (folder.path("load.html"), folder.path("load.json"));
    let (code, out, err) = folder.load(&[
        "--with-worker",
        "--rate",
        "100/s",
        "--duration",
        "3s",
        "--seed",
        "5",
        "--json",
        "--route",
        "verihubs=3",
        "--route",
        "msgai",
        "--latency",
        "verihubs=5ms..20ms",
        "--ceiling",
        "verihubs=200/s",
        "--objective",
        "accepted >= 100%",
        "--objective",
        "open == 0",
        "--objective",
        "rate_limited <= 0 for msgai",
        "--report",
        &html,
        "--report",
        &json,
    ]);
    assert_eq!(code, 0, "{out}\n{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let ledger = &report["ledger"];
    for (name, count) in
        [("offered", 300), ("published", 300), ("accepted", 300), ("open", 0), ("ended_twice", 0)]
    {
        assert_eq!(ledger[name], count, "{name} of {ledger}");
    }
    assert_eq!((&report["passed"], &ledger["closes"]), (&Value::Bool(true), &Value::Bool(true)));
    // What the providers counted is what the ledger says, and within the ceiling.
    let mocks = report["at_provider"].as_array().unwrap();
    let sent: u64 = mocks.iter().map(|m| m["accepted"].as_u64().unwrap()).sum();
    assert_eq!((sent, mocks.len()), (300, 2), "{mocks:?}");
    let verihubs = mocks.iter().find(|m| m["kind"] == "verihubs").unwrap();
    assert_eq!(verihubs["windows"][0]["limit"], "200/s");
    assert!(verihubs["windows"][0]["most"].as_u64().unwrap() <= 200, "{verihubs}");
    assert!((180..270).contains(&verihubs["requests"].as_u64().unwrap()), "three of four: {verihubs}");
    // The parts are those of one job's way, and the series adds up to the ledger.
    for (part, count) in
        [("late", 300), ("confirm", 300), ("queued", 300), ("permit", 300), ("http", 300), ("total", 300)]
    {
        assert_eq!(latency(&report, part)["count"], count, "{part}");
    }
    let total = latency(&report, "total");
    assert!(total["p50_ms"].as_f64().unwrap() >= latency(&report, "http")["p50_ms"].as_f64().unwrap());
    assert!(total["p50_ms"].as_f64().unwrap() <= total["p99_ms"].as_f64().unwrap());
    for counter in ["offered", "published", "accepted", "requests"] {
        assert_eq!(sum(&report, counter), 300, "{counter}");
    }
    // The files say the same.
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(written, report);
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("300 published = 300 accepted + 0 dead + 0 expired + 0 superseded"), "{page}");
    assert!(page.contains("<svg") && page.contains("Passed") && !page.contains("<script"));
    // Recipients are +999 and nine digits; the keys of the mock's config are no secrets, and masked all the same.
    for text in [&page, &out] {
        assert!(!text.contains("+999") && !text.contains("999000") && !text.contains("load-key"));
        assert!(!text.contains("\"code\"") && !text.contains("\"to\""));
    }
}

#[test]
fn a_missed_objective_is_exit_code_1_and_named() {
    let folder = Folder::new();
    let (code, out, err) = folder.load(&[
        "--with-worker",
        "--rate",
        "50",
        "--duration",
        "1s",
        "--latency",
        "verihubs=30ms",
        "--fault",
        "verihubs:bad_recipient=20%",
        "--objective",
        "p50 total <= 1ms",
        "--objective",
        "dead == 0",
        "--objective",
        "max total <= 1h",
    ]);
    assert_eq!(code, 1, "{out}\n{err}");
    assert!(out.contains("failed: objective missed: p50 total <= 1ms, measured "), "{out}");
    assert!(out.contains("failed: objective missed: dead == 0, measured "), "{out}");
    assert!(!out.contains("missed: max total"), "{out}");
    assert!(out.contains("The ledger closes: 50 published = ") && out.contains("FAILED"), "{out}");
}

#[test]
fn a_ledger_that_does_not_close_is_exit_code_1_unless_an_objective_judges_it() {
    let folder = Folder::new();
    // Far above the ceiling, and no time to drain: most jobs are still open.
    let over =
        ["--with-worker", "--rate", "200", "--duration", "1s", "--ceiling", "verihubs=10/s", "--drain", "0s"];
    let (code, out, err) = folder.load(&over);
    assert_eq!(code, 1, "{out}\n{err}");
    assert!(out.contains("The ledger does not close: 200 published = ") && out.contains(" open."), "{out}");
    assert!(out.contains("still queued, or lost; --drain waits longer"), "{out}");
    let judged: Vec<&str> = over.iter().copied().chain(["--objective", "open <= 200"]).collect();
    let (code, out, err) = folder.load(&judged);
    assert_eq!(code, 0, "{out}\n{err}");
}

#[test]
fn wrong_use_is_exit_code_2_and_nothing_is_published() {
    let folder = Folder::new();
    for (arguments, says) in [
        (&["--with-worker", "--objective", "p99 totals <= 2s"][..], "`totals` is no part of the latency"),
        (&["--with-worker", "--objective", "p99 total <= 2s for nobody"], "this run has no route nobody"),
        (&["--with-worker", "--rate", "fast"], "must be COUNT/TIME"),
        (&["--with-worker", "--route", "nobody"], "the routes are onemsg"),
        (&["--with-worker", "--report", "load.txt"], "must end in .html or .json"),
        (&["--with-worker", "--fault", "verihubs:oops=1%"], "--fault"),
        (&["--with-worker", "--mock", "http://127.0.0.1:1"], "cannot be used with"),
        (&["--rate", "5"], "--route"),
        (&["--route", "login", "--mock", "127.0.0.1:8090"], "--mock must be http://HOST:PORT"),
    ] {
        let (code, out, err) = folder.load(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(says), "{arguments:?}: {err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_rabbitmq_with_a_worker_of_its_own() {
    let ceiling = "[providers.verihubs]\nkind = \"verihubs\"\nbase_url = \"{mock}\"\napp_id = \"app\"\napi_key = \"s3cret-key\"\nceiling = \"150/s\"\n";
    let routes = "[routes.login]\nproviders = [\"verihubs\"]\n";
    let lanes = [("verihubs", true, &["login", "verihubs"][..])];
    let strict = Control {
        ceilings: Some(vec!["150/s".parse().unwrap()]),
        latency: "5ms..20ms".parse().ok(),
        ..Control::of(Kind::Verihubs)
    };
    let broker = Broker::shared();
    let scene = Scene::set(
        broker,
        &broker.url(),
        &format!("{ceiling}{routes}"),
        &lanes,
        MockConfig::default().with(strict),
    )
    .await;
    let worker = scene.worker();
    worker.ready().await;
    let folder = Folder::new();
    let (html, mock) = (folder.path("load.html"), scene.mock.url());
    let arguments = [
        "load",
        "--route",
        "login=2",
        "--route",
        "verihubs",
        "--profile",
        "poisson",
        "--ramp",
        "20..180",
        "--duration",
        "4s",
        "--seed",
        "7",
        "--mock",
        &mock,
        "--json",
        "--report",
        &html,
        "--objective",
        "accepted >= 100%",
        "--objective",
        "rate_limited <= 0",
        "--objective",
        "unpublished <= 0",
    ];
    let (code, out, err) = scene.otpd(&arguments);
    assert_eq!(code, 0, "{out}\n{err}\n{}", scene.log());
    let report: Value = serde_json::from_str(&out).unwrap();
    let published = report["ledger"]["published"].as_u64().unwrap();
    assert!((300..500).contains(&published), "{published} of 400 expected");
    assert_eq!(report["ledger"]["accepted"], published);
    assert_eq!(scene.mock.stats().accepted(), published, "what the provider sent is what the ledger says");
    let at = &report["at_provider"][0];
    assert_eq!((at["accepted"].as_u64(), at["too_many"].as_u64()), (Some(published), Some(0)), "{at}");
    assert!(at["windows"][0]["most"].as_u64().unwrap() <= 150, "{at}");
    assert_eq!(report["run"]["ceiling_per_s"], 150.0);
    let by_route: Vec<u64> =
        report["routes"].as_array().unwrap().iter().map(|r| r["accepted"].as_u64().unwrap()).collect();
    assert_eq!(by_route.iter().sum::<u64>(), published);
    assert!(by_route[0] > by_route[1], "{by_route:?}");
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("ceiling, 150/s"), "the ceiling is drawn");
    for text in [&page, &out] {
        assert!(!text.contains("s3cret-key") && !text.contains("guest:guest"), "a secret is in a report");
    }
    assert!(worker.stop().await.success());
}

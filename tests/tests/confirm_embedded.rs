//! `confirm_within` on the embedded queue: a worker that is killed while it waits leaves a file from which the next one
//! waits on.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use otpd_core::{Fact, FactKind, fact_json};
use otpd_queue::embedded::{Durability, Embedded, EmbeddedConfig};
use otpd_queue::{Plan, Queue, TraceContext};
use otpd_sim::mock::{Kind, Mock};
use otpd_sim::{Control, Ledger, MockConfig};
use otpd_tests::rabbit::{PATIENCE, job, route};
use otpd_tests::{claim_port, eventually, otpd_bin};
use tokio::sync::mpsc;

const JOBS: usize = 20;

fn config(folder: &Path, mock: &Mock) -> String {
    let account = |name: &str| {
        format!(
            "[providers.{name}]\nkind = \"verihubs\"\nbase_url = \"{}\"\napp_id = \"{name}\"\napi_key = \"key\"\n",
            mock.url()
        )
    };
    format!(
        "[broker]\nurl = \"embedded:{}\"\n[limits]\nrecipient = \"off\"\n{}{}[routes.login]\nproviders = [\"first\", \"second\"]\nconfirm_within = \"6s\"\n",
        folder.join("queue.db").display(),
        account("first"),
        account("second")
    )
}

fn worker(folder: &Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("worker.log")).unwrap();
    Command::new(otpd_bin())
        .args(["worker", "--config"])
        .arg(folder.join("otpd.toml"))
        .env("OTPD__ADMIN__LISTEN", format!("\"127.0.0.1:{}\"", claim_port()))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the binary starts")
}

/// Reads facts into the ledger until so many of a kind have come.
async fn read(
    facts: &mut mpsc::Receiver<Fact>,
    ledger: &mut Ledger,
    seen: &mut Vec<Fact>,
    until: (FactKind, usize),
) {
    while seen.iter().filter(|fact| fact.kind == until.0).count() < until.1 {
        let fact = tokio::time::timeout(PATIENCE, facts.recv()).await.expect("it goes on").unwrap();
        ledger.event(&fact_json::encode(&fact, "test")).unwrap();
        seen.push(fact);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_while_it_waits_leaves_the_waits_to_the_next() {
    let folder = std::env::temp_dir().join(format!("otpd-confirm-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let control = Control { ceilings: Some(Vec::new()), ..Control::of(Kind::Verihubs) };
    let mock = MockConfig { setup: vec![control], ..MockConfig::default() };
    let mock = Mock::start(mock, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    std::fs::write(folder.join("otpd.toml"), config(&folder, &mock)).unwrap();
    let mut first = worker(&folder);
    let file = EmbeddedConfig {
        path: folder.join("queue.db"),
        plan: Plan::default(),
        source: "otpd/test".into(),
        durability: Durability::PowerLoss,
    };
    let queue = Queue::Embedded(Embedded::open(file).unwrap());
    // With its lanes the file gets its routes.
    let depths = || async { queue.depths().await.is_ok_and(|lanes| lanes.len() == 2).then_some(()) };
    eventually("the worker to open its lanes", PATIENCE, depths).await;
    let mut facts = queue.follow(Duration::from_secs(60)).await.unwrap();
    let (mut ledger, mut seen) = (Ledger::new(), Vec::new());
    for n in 0..JOBS {
        let id = format!("e-{n}");
        let body = Bytes::from(format!(r#"{{"id":"{id}","to":"+999{n:09}","code":"482910"}}"#));
        queue.enqueue(&route("login"), &job(&id), body, &TraceContext::default()).await.unwrap();
        ledger.published(&id);
    }
    read(&mut facts, &mut ledger, &mut seen, (FactKind::Accepted, JOBS)).await;
    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = worker(&folder);
    read(&mut facts, &mut ledger, &mut seen, (FactKind::Accepted, 2 * JOBS)).await;
    let at = |kind| seen.iter().filter(move |f: &&Fact| f.kind == kind).map(|f| f.at);
    let waited = at(FactKind::FailedOver).min().unwrap().since(at(FactKind::Accepted).min().unwrap());
    let summary = ledger.close().unwrap();
    println!("{summary}; {} extra sends, the first after {waited:?}", summary.extra_sends);
    assert_eq!((summary.accepted, summary.extra_sends), (JOBS as u64, JOBS as u64));
    assert!(waited >= Duration::from_secs(6), "{waited:?}");
    for account in ["first", "second"] {
        let requests = mock.stats().account(Kind::Verihubs, account).map_or(0, |a| a.attempts);
        assert_eq!(requests, JOBS as u64, "{account}");
    }
    second.kill().unwrap();
    second.wait().unwrap();
    queue.close().await;
    std::fs::remove_dir_all(&folder).unwrap();
}

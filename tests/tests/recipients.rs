//! One recipient's limit over a fleet: with `limits.key` it holds over lanes of different workers and over a
//! restart; without the key each worker counts for itself, and says so.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use bytes::Bytes;
use otpd_core::{FactKind, Reason};
use otpd_sim::mock::Kind;
use otpd_sim::{Control, MockConfig};
use otpd_tests::rabbit::job;
use otpd_tests::{Broker, Scene, WorkerProcess};

const KEY: &str = "key = \"0123456789abcdef0123456789abcdef\"\n";
const RECIPIENT: &str = "+999123456789";

/// Two lanes, each with a ceiling, so that a worker sends only what it has read back.
struct Fleet {
    scene: Scene,
    limits: String,
    workers: Vec<WorkerProcess>,
    others: u32,
}

fn lane(name: &str) -> String {
    format!(
        "[providers.{name}]\nkind = \"verihubs\"\nbase_url = \"{{mock}}\"\nceiling = \"50/s\"\napp_id = \"{name}\"\n\
         api_key = \"key\"\n"
    )
}

impl Fleet {
    async fn with(key: &str) -> Self {
        let broker = Broker::shared();
        let quick = Control { latency: "2ms".parse().ok(), ..Control::of(Kind::Verihubs) };
        let mock = MockConfig { setup: vec![quick], ..MockConfig::default() };
        let lanes = [("a", true, &["a"][..]), ("b", true, &["b"][..])];
        let limits = format!("[limits]\nrecipient = \"2/h\"\n{key}");
        let config = format!("{limits}{}{}", lane("a"), lane("b"));
        let scene = Scene::set(broker, &broker.url(), &config, &lanes, mock).await;
        let mut fleet = Self { scene, limits, workers: Vec::new(), others: 0 };
        fleet.start().await;
        fleet
    }

    /// One worker for each lane.
    async fn start(&mut self) {
        for name in ["a", "b"] {
            let broker = &self.scene.plan.prefix;
            let url = Broker::shared().url();
            let text = format!(
                "[broker]\nurl = \"{url}\"\nprefix = \"{broker}\"\n{}{}",
                self.limits,
                lane(name).replace("{mock}", &self.scene.mock.url())
            );
            let config = self.scene.write_file(&format!("{name}.toml"), &text);
            let worker = self.scene.worker_by(&config, &[]);
            worker.ready().await;
            self.workers.push(worker);
        }
    }

    /// A job for the one recipient; true if it was sent. Before it, the lane's worker sends something to
    /// somebody else: what it reads back then stands behind everything that others sent before.
    async fn send(&mut self, lane: &str) -> bool {
        self.others += 1;
        let n = self.others;
        self.publish(lane, &format!("other-{n}"), &format!("+99955{n:07}")).await;
        let id = format!("job-{n}");
        self.publish(lane, &id, RECIPIENT).await;
        let last = self.scene.seen.iter().rev().find(|fact| fact.job.as_str() == id).unwrap();
        let limited = last.kind == FactKind::Dead && last.reason == Some(Reason::RecipientLimited);
        assert!(limited || last.kind == FactKind::Accepted, "{last:?}");
        !limited
    }

    async fn publish(&mut self, lane: &str, id: &str, to: &str) {
        let body = format!(r#"{{"id":"{id}","to":"{to}","code":"482910","purpose":"{id}"}}"#);
        self.scene.publish_bodies(lane, vec![(id.to_owned(), Bytes::from(body))]).await;
        let id = job(id);
        self.scene.until("the job to end", |s| s.has_ended(&id)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_a_limit_holds_over_lanes_workers_and_restarts() {
    let mut fleet = Fleet::with(KEY).await;
    let mut sent = Vec::new();
    for lane in ["a", "b", "a", "b"] {
        sent.push(fleet.send(lane).await);
    }
    for worker in std::mem::take(&mut fleet.workers) {
        assert!(worker.stop().await.success(), "{}", fleet.scene.log());
    }
    fleet.start().await;
    for lane in ["a", "b"] {
        sent.push(fleet.send(lane).await);
    }
    println!("2/h for one recipient, by a, b, a, b, restart, a, b: {sent:?}");
    assert_eq!(sent, [true, true, false, false, false, false]);
    let (_, metrics) = fleet.workers[0].admin("/metrics").await.unwrap();
    assert!(metrics.contains("\notpd_recipients_forgotten_total 0\n"), "{metrics}");
    let summary = fleet.scene.close();
    assert_eq!((summary.accepted, summary.dead), (8, 4), "{summary}");
    assert!(!fleet.scene.log().contains("limits.key is not set"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_each_worker_counts_for_itself_and_says_so() {
    let mut fleet = Fleet::with("").await;
    let log = fleet.scene.log();
    assert_eq!(log.matches("limits.key is not set: each worker counts its own messages").count(), 2, "{log}");
    let mut sent = Vec::new();
    for lane in ["a", "b", "a", "b", "a", "b"] {
        sent.push(fleet.send(lane).await);
    }
    println!("2/h for one recipient without a key, by a, b, a, b, a, b: {sent:?}");
    assert_eq!(sent, [true, true, true, true, false, false]);
    let summary = fleet.scene.close();
    assert_eq!((summary.accepted, summary.dead), (10, 2), "{summary}");
}

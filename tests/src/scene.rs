//! A whole scene for end-to-end tests: a private broker, mock providers, worker processes, and the
//! ledger that must close at the end.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use otpd_core::{Fact, FactKind, JobId, RouteName, fact_json};
use otpd_queue::rabbitmq::Rabbit;
use otpd_queue::{LanePlan, Plan, TraceContext};
use otpd_sim::{Job, Ledger, Mock, MockConfig, Summary, Unbalanced};
use tokio::sync::mpsc;

use crate::marks::{is_mark, mark_stream};
use crate::rabbit::{PATIENCE, provider, rabbit, route};
pub use crate::worker::WorkerProcess;
use crate::{Broker, Node, claim_port, otpd_bin};

/// The scene. Worker processes are started from it; all of it is gone when it is dropped.
pub struct Scene {
    /// The providers.
    pub mock: Mock,
    /// The broker's queue, as a producer and an operator see it.
    pub queue: Rabbit,
    /// What is on the broker.
    pub plan: Plan,
    dir: PathBuf,
    config: PathBuf,
    node: Node,
    url: String,
    ledger: Ledger,
    facts: mpsc::Receiver<Fact>,
    /// Every fact that was read, in order.
    pub seen: Vec<Fact>,
    ended: HashSet<JobId>,
    /// Markers of our own that came by.
    marks: HashSet<JobId>,
    published: usize,
}

/// Where a scene plays.
#[derive(Clone, Debug)]
pub struct Site {
    /// What the names of its queues begin with.
    pub prefix: String,
    /// The brokers that workers are told of.
    pub urls: Vec<String>,
    /// The broker that the test itself speaks to.
    pub home_url: String,
    /// The node behind it.
    pub home: Node,
    /// The broker at which the topology is applied; in a cluster it leads the queues at first.
    pub leader_url: String,
}

/// A lane of the scene: its name, whether it has a ceiling, the routes that begin with it.
pub type LaneOf<'a> = (&'a str, bool, &'a [&'a str]);

impl Scene {
    /// Sets up: the topology is made, the mock runs, no worker does. `providers` is the TOML of the
    /// config's providers and routes, in which `{mock}` stands for the mock's URL.
    ///
    /// # Panics
    /// Where a part cannot be had.
    pub async fn set(
        broker: &Broker,
        url: &str,
        providers: &str,
        lanes: &[LaneOf<'_>],
        mock: MockConfig,
    ) -> Self {
        let site = Site {
            prefix: broker.prefix(),
            urls: vec![url.into()],
            home_url: broker.url(),
            home: broker.node().clone(),
            leader_url: broker.url(),
        };
        Self::set_at(site, providers, lanes, mock).await
    }

    /// The same at a place that is told in detail.
    ///
    /// # Panics
    /// Where a part cannot be had.
    pub async fn set_at(site: Site, providers: &str, lanes: &[LaneOf<'_>], mock: MockConfig) -> Self {
        // Already installed by another scene of this process: all the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mock =
            Mock::start(mock, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.expect("the mock listens");
        let prefix = site.prefix;
        let plan = Plan {
            prefix: prefix.clone(),
            lanes: lanes
                .iter()
                .map(|(name, _, routes)| {
                    LanePlan::new(provider(name), routes.iter().map(|r| route(r)).collect())
                })
                .collect(),
            ..Plan::default()
        };
        let queue = rabbit(&site.home_url, &plan);
        let dir = std::env::temp_dir().join(format!(
            "otpd-scene-{}-{}",
            std::process::id(),
            prefix.replace('.', "")
        ));
        std::fs::create_dir_all(&dir).expect("a temporary folder");
        let config = dir.join("otpd.toml");
        let text = format!(
            "[broker]\nurl = {:?}\nprefix = \"{prefix}\"\n{}",
            site.urls,
            providers.replace("{mock}", &mock.url())
        );
        std::fs::write(&config, text).expect("writable");
        // By the config and not by the plan above: workers compare what was applied with their config.
        let applied = Command::new(otpd_bin())
            .args(["topology", "apply", "--config"])
            .arg(&config)
            .env("OTPD__BROKER__URL", format!("\"{}\"", site.leader_url))
            .output()
            .expect("the binary starts");
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        let facts = queue.follow(Duration::from_secs(60)).await.expect("the stream is there");
        Self {
            mock,
            queue,
            plan,
            dir,
            config,
            node: site.home,
            url: site.home_url,
            ledger: Ledger::new(),
            facts,
            seen: Vec::new(),
            ended: HashSet::new(),
            marks: HashSet::new(),
            published: 0,
        }
    }

    /// Starts a worker process; it may not be ready yet.
    ///
    /// # Panics
    /// Where the binary cannot be started.
    #[must_use]
    pub fn worker(&self) -> WorkerProcess {
        self.worker_with(&[])
    }

    /// Starts a worker process that reaches the broker at `url`.
    ///
    /// # Panics
    /// Where the binary cannot be started.
    #[must_use]
    pub fn worker_at(&self, url: &str) -> WorkerProcess {
        self.worker_with(&[("OTPD__BROKER__URL", format!("\"{url}\""))])
    }

    /// Starts a worker process with these variables.
    ///
    /// # Panics
    /// Where the binary cannot be started.
    #[must_use]
    pub fn worker_with(&self, overrides: &[(&str, String)]) -> WorkerProcess {
        self.worker_by(&self.config, overrides)
    }

    /// Starts a worker process with another config (see [`Scene::write_file`]) and these variables.
    ///
    /// # Panics
    /// Where the binary cannot be started.
    #[must_use]
    pub fn worker_by(&self, config: &Path, overrides: &[(&str, String)]) -> WorkerProcess {
        let admin = claim_port();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("worker.log"))
            .expect("a log");
        let child = Command::new(otpd_bin())
            .args(["worker", "--config"])
            .arg(config)
            .env("OTPD__ADMIN__LISTEN", format!("\"127.0.0.1:{admin}\""))
            .envs(overrides.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        WorkerProcess::new(child, admin)
    }

    /// The file with the scene's config.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Rewrites the config as `edit` makes it of the text that is there.
    ///
    /// # Panics
    /// Where it cannot be written, or `edit` changes nothing.
    pub fn edit_config(&self, edit: impl FnOnce(&str) -> String) {
        let before = std::fs::read_to_string(&self.config).expect("the config is there");
        let after = edit(&before);
        assert_ne!(before, after, "nothing was edited");
        self.write_file("otpd.toml", &after);
    }

    /// Puts a file beside the config, as a mounted volume does: whole, in one step. Gives its path.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn write_file(&self, name: &str, content: &str) -> PathBuf {
        let (new, path) = (self.dir.join(format!("{name}.new")), self.dir.join(name));
        std::fs::write(&new, content).expect("writable");
        std::fs::rename(&new, &path).expect("same folder");
        path
    }

    /// Runs `otpd` with this scene's config; gives exit code, output and errors.
    ///
    /// # Panics
    /// Where the binary cannot be started.
    #[must_use]
    pub fn otpd(&self, arguments: &[&str]) -> (i32, String, String) {
        self.otpd_with(arguments, &[])
    }

    /// The same with these variables.
    ///
    /// # Panics
    /// Where the binary cannot be started.
    #[must_use]
    pub fn otpd_with(&self, arguments: &[&str], variables: &[(&str, String)]) -> (i32, String, String) {
        let out = Command::new(otpd_bin())
            .args(arguments)
            .arg("--config")
            .arg(&self.config)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .output()
            .expect("runs");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (out.status.code().unwrap_or(-1), text(out.stdout), text(out.stderr))
    }

    /// Publishes jobs to a route, each confirmed.
    ///
    /// # Panics
    /// Where one is not.
    pub async fn publish(&mut self, to: &str, jobs: impl IntoIterator<Item = Job>) {
        let bodies: Vec<(String, Bytes)> = jobs.into_iter().map(|j| (j.id, Bytes::from(j.body))).collect();
        self.publish_bodies(to, bodies).await;
    }

    /// Counts jobs as published that somebody else publishes.
    pub fn expect<'a>(&mut self, ids: impl IntoIterator<Item = &'a str>) {
        for id in ids {
            self.ledger.published(id);
            self.published += 1;
        }
    }

    /// Publishes bodies under their ids, each confirmed.
    ///
    /// # Panics
    /// Where one is not.
    pub async fn publish_bodies(&mut self, to: &str, bodies: Vec<(String, Bytes)>) {
        let (to, trace) = (RouteName::parse(to).expect("a route"), TraceContext::default());
        self.expect(bodies.iter().map(|(id, _)| id.as_str()));
        let sends = bodies.into_iter().map(|(id, body)| {
            let (queue, to, trace) = (&self.queue, &to, &trace);
            async move { queue.enqueue(to, &JobId::parse(&id).expect("an id"), body, trace).await }
        });
        for sent in futures::future::join_all(sends).await {
            sent.expect("confirmed");
        }
    }

    /// Reads facts until `enough` says so.
    ///
    /// # Panics
    /// Where nothing happens for a minute.
    pub async fn until(&mut self, what: &str, enough: impl Fn(&Self) -> bool) {
        while !enough(self) {
            let fact = tokio::time::timeout(PATIENCE, self.facts.recv()).await;
            let Ok(Some(fact)) = fact else {
                let (ended, published) = (self.ended.len(), self.published);
                let open: Vec<String> = self.open().take(8).collect();
                panic!("waiting for {what}: {ended} of {published} ended; {open:?}; log: {}", self.log());
            };
            self.read(fact);
        }
    }

    /// Reads facts until as many jobs have ended as were published, and then to the end of the stream: a
    /// job that ends once more must not go unnoticed.
    ///
    /// # Panics
    /// Where that takes too long.
    pub async fn until_all_ended(&mut self) {
        self.until("every job to end", |s| s.ended.len() >= s.published).await;
        self.until_nothing_is_under_way().await;
    }

    /// Waits until no lane holds a job, handed out or not. What a worker does with a job is on the stream
    /// before it acknowledges it, so everything that will be told is told by then; reads all of it.
    ///
    /// # Panics
    /// Where that takes too long.
    pub async fn until_nothing_is_under_way(&mut self) {
        let lanes = format!("{}lane.", self.plan.prefix);
        let node = self.node.clone();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (asked, lanes) = (node.clone(), lanes.clone());
            let left = tokio::task::spawn_blocking(move || asked.messages_in(&lanes));
            let left = left.await.expect("the node answers");
            if left == 0 {
                break;
            }
            assert!(Instant::now() < deadline, "{left} jobs are left in the lanes; log: {}", self.log());
        }
        let last = mark_stream(&self.url, &self.plan).await;
        while !self.marks.remove(&last) {
            let fact = tokio::time::timeout(PATIENCE, self.facts.recv()).await;
            self.read(fact.expect("the marker comes by").expect("the stream goes on"));
        }
    }

    fn read(&mut self, fact: Fact) {
        if is_mark(&fact.job) {
            self.marks.insert(fact.job);
            return;
        }
        self.ledger.event(&fact_json::encode(&fact, "scene")).expect("a fact is an event");
        if fact.is_end() {
            self.ended.insert(fact.job.clone());
        }
        self.seen.push(fact);
    }

    /// What was last told of jobs that have not ended: for whoever hunts a failure.
    fn open(&self) -> impl Iterator<Item = String> {
        let mut told = HashSet::new();
        let open =
            self.seen.iter().rev().filter(move |f| !self.ended.contains(&f.job) && told.insert(&f.job));
        open.map(|f| format!("{}: {} at {}, {:?}", f.job, f.kind.as_str(), f.provider, f.reason))
    }

    /// How many jobs have ended.
    #[must_use]
    pub fn ended(&self) -> usize {
        self.ended.len()
    }

    /// True if this job has ended.
    #[must_use]
    pub fn has_ended(&self, job: &JobId) -> bool {
        self.ended.contains(job)
    }

    /// Counts a job as queued still: for a scene that ends before its jobs do.
    pub fn is_queued(&mut self, job: &JobId) {
        self.ledger.queued(job.as_str());
    }

    /// How many facts of a kind were read.
    #[must_use]
    pub fn count(&self, kind: FactKind) -> usize {
        self.seen.iter().filter(|f| f.kind == kind).count()
    }

    /// The ledger, which must close.
    ///
    /// # Panics
    /// Where it does not.
    #[must_use]
    pub fn close(&self) -> Summary {
        match self.ledger.close() {
            Ok(summary) => summary,
            Err(unbalanced) => panic!("{unbalanced}\n{}", self.log()),
        }
    }

    /// The ledger, which must close but for jobs that two owners sent, and both told so: their number is
    /// beside it, and they count as accepted once. It must not be more than the providers counted.
    ///
    /// # Panics
    /// Where anything else does not balance.
    #[must_use]
    pub fn close_but_for_repeats(&self) -> (Summary, u64) {
        self.close_but_for_repeats_up_to(self.duplicates())
    }

    /// The same where the providers do not count who sends what twice: `most` is how many that may be.
    ///
    /// # Panics
    /// Where anything else does not balance.
    #[must_use]
    pub fn close_but_for_repeats_up_to(&self, most: u64) -> (Summary, u64) {
        let mut found = match self.ledger.close() {
            Ok(summary) => return (summary, 0),
            Err(unbalanced) => *unbalanced,
        };
        let told_twice = std::mem::take(&mut found.settled_twice);
        let sent_twice = told_twice.iter().all(|(_, how)| how.iter().all(|kind| *kind == FactKind::Accepted));
        let repeats = told_twice.len() as u64;
        let Unbalanced { missing, settled_and_queued, unknown, .. } = &found;
        let rest_balances = missing.is_empty() && settled_and_queued.is_empty() && unknown.is_empty();
        assert!(rest_balances && sent_twice && repeats <= most, "{found}; {told_twice:?}");
        found.summary.accepted += repeats;
        (found.summary, repeats)
    }

    /// How many messages repeated a code to the same phone, as the providers counted.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.mock.stats().accounts.iter().map(|a| a.duplicates).sum()
    }

    /// What the workers logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("worker.log")).unwrap_or_default()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

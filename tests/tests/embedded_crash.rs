//! The embedded queue and the death of processes: a worker that is really killed (SIGKILL) in the
//! midst of enqueuing and settling, and a sender in another process. The other process is this test
//! binary again: a test that finds [`FILE`] in its environment plays the child's part.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use otpd_core::{Fact, FactKind, JobId, ProviderName, RouteName, UnixMs};
use otpd_queue::embedded::{Durability, Embedded, EmbeddedConfig};
use otpd_queue::{
    Delivery, Inbound, LanePlan, LaneQueue, LaneSpec, Move, Plan, Queue, QueueError, Settlement, Then,
    TraceContext,
};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

/// Which file the child is to work on.
const FILE: &str = "OTPD_TEST_CHILD_FILE";
/// What the child's job ids begin with.
const NAMED: &str = "OTPD_TEST_CHILD_NAMED";
const PATIENCE: Duration = Duration::from_secs(60);

/// What a child said that it knows to be safe, or to have got.
#[derive(Default)]
struct Told {
    confirmed: BTreeSet<String>,
    delivered: BTreeSet<String>,
    accepted: BTreeSet<String>,
    moved: BTreeSet<String>,
}

impl Told {
    fn hear(&mut self, line: &str) {
        let (what, job) = line.split_once(' ').unwrap_or_default();
        let known = match what {
            "confirmed" => &mut self.confirmed,
            "delivered" => &mut self.delivered,
            "accepted" => &mut self.accepted,
            "moved" => &mut self.moved,
            _ => panic!("the child says: {line}"),
        };
        known.insert(job.to_owned());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_loses_nothing_confirmed_and_repeats_nothing_settled() {
    if let Ok(file) = std::env::var(FILE) {
        return work_until_killed(Path::new(&file)).await;
    }
    let folder = Folder::new();
    for round in 0..4 {
        let name = "a_killed_worker_loses_nothing_confirmed_and_repeats_nothing_settled";
        let (mut child, mut said) = spawn(name, &folder.file(), &format!("round{round}"));
        let mut told = Told::default();
        while told.confirmed.len() < 400 || told.accepted.len() < 100 || told.moved.len() < 100 {
            let line = timeout(PATIENCE, said.next_line()).await.expect("the child goes on").unwrap();
            told.hear(&line.expect("the child lives"));
        }
        let queue = open(&folder.file());
        let owned = queue.open_lane(spec("alpha"));
        assert!(matches!(owned, Err(QueueError::Owned { .. })), "{owned:?}");

        child.kill().await.unwrap();
        while let Some(line) = said.next_line().await.unwrap() {
            told.hear(&line);
        }
        everything_is_somewhere_once(&queue, &told, &format!("end{round}")).await;
        queue.close().await;
    }
}

/// Takes over both lanes and looks where each job is.
async fn everything_is_somewhere_once(queue: &Queue, told: &Told, end: &str) {
    for (route, lane) in [("login", "alpha"), ("alerts", "beta")] {
        put(queue, route, &format!("{end}-{lane}")).await;
    }
    let (facts, in_alpha) = take_all(queue, "alpha", &format!("{end}-alpha")).await;
    let (_, in_beta) = take_all(queue, "beta", &format!("{end}-beta")).await;

    let mut places: BTreeMap<&str, u32> = BTreeMap::new();
    let accepted: BTreeSet<&str> =
        facts.iter().filter(|f| f.kind == FactKind::Accepted).map(|f| f.job.as_str()).collect();
    for job in accepted.iter().copied().chain(in_alpha.keys().chain(in_beta.keys()).map(String::as_str)) {
        *places.entry(job).or_default() += 1;
    }
    for job in &told.confirmed {
        assert_eq!(places.get(job.as_str()), Some(&1), "{job} was confirmed");
    }
    assert!(places.values().all(|n| *n == 1), "a job in two places");
    for job in &told.accepted {
        assert!(accepted.contains(job.as_str()), "{job} was accepted");
    }
    for job in &told.moved {
        assert!(in_beta.contains_key(job), "{job} was moved");
        assert!(facts.iter().any(|f| f.kind == FactKind::FailedOver && f.job.as_str() == job), "{job}");
    }
    let unsettled = in_alpha.iter().filter(|(job, _)| told.delivered.contains(*job));
    let mut came_again = 0;
    for (job, redelivered) in unsettled {
        assert!(redelivered, "{job} was handed out before");
        came_again += 1;
    }
    assert!(came_again > 0, "the child left some unsettled");
}

/// Takes every job of a lane up to `end`, settles them all, and gives the facts known before with
/// the jobs and whether they were handed out before.
async fn take_all(queue: &Queue, provider: &str, end: &str) -> (Vec<Fact>, BTreeMap<String, bool>) {
    let heard = otpd_tests::Heard::default();
    queue.listen(heard.listener());
    let mut lane = queue.open_lane(spec(provider)).unwrap();
    let mut jobs = BTreeMap::new();
    loop {
        match timeout(PATIENCE, lane.inbox.recv()).await.expect("the lane goes on").unwrap() {
            Inbound::Delivery(delivery) => {
                let job = id_of(&delivery).to_string();
                accept(&lane, provider, &delivery);
                if job == end {
                    break;
                }
                assert_eq!(jobs.insert(job, delivery.redelivered), None, "delivered twice");
            }
            Inbound::Opened { .. } => {}
            other @ (Inbound::Lost { .. } | Inbound::Stopped) => panic!("{other:?}"),
        }
    }
    lane.settler.flush().await;
    lane.stop.close().await;
    (heard.facts(), jobs)
}

/// The child: four producers and a worker, each saying what is safe once it is.
async fn work_until_killed(file: &Path) {
    let named = std::env::var(NAMED).unwrap();
    let queue = open(file);
    for producer in 0..4 {
        let (queue, named) = (queue.clone(), named.clone());
        tokio::spawn(async move {
            for n in 0.. {
                let job = format!("{named}-{producer}-{n}");
                put(&queue, "login", &job).await;
                say("confirmed", &job);
            }
        });
    }
    let mut lane = queue.open_lane(spec("alpha")).unwrap();
    let mut count = 0;
    while let Some(inbound) = lane.inbox.recv().await {
        let Inbound::Delivery(delivery) = inbound else { continue };
        let job = id_of(&delivery);
        say("delivered", job.as_str());
        count += 1;
        match count % 3 {
            0 => {}
            1 => {
                accept(&lane, "alpha", &delivery);
                lane.settler.flush().await;
                say("accepted", job.as_str());
            }
            _ => {
                move_to_beta(&lane, &delivery);
                lane.settler.flush().await;
                say("moved", job.as_str());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_sent_by_another_process_reaches_an_open_lane() {
    if let Ok(file) = std::env::var(FILE) {
        return send_and_go(Path::new(&file)).await;
    }
    let folder = Folder::new();
    let queue = open(&folder.file());
    let mut lane = queue.open_lane(spec("alpha")).unwrap();
    // With the lane the file got its routes.
    assert!(matches!(lane.inbox.recv().await, Some(Inbound::Opened { .. })));
    let name = "a_job_sent_by_another_process_reaches_an_open_lane";
    let (mut child, _) = spawn(name, &folder.file(), "sent");
    let mut got = Vec::new();
    while got.len() < 20 {
        match timeout(PATIENCE, lane.inbox.recv()).await.expect("the jobs come").unwrap() {
            Inbound::Delivery(delivery) => {
                let under_way = now().since(delivery.taken_at.unwrap());
                assert!(under_way < PATIENCE, "{under_way:?}");
                assert_eq!(delivery.carried.route, RouteName::parse("login").ok());
                got.push(id_of(&delivery).to_string());
                accept(&lane, "alpha", &delivery);
            }
            other @ (Inbound::Opened { .. } | Inbound::Lost { .. } | Inbound::Stopped) => panic!("{other:?}"),
        }
    }
    assert_eq!(got, (0..20).map(|n| format!("sent-{n}")).collect::<Vec<_>>());
    assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
}

/// The child: sends, and knows the routes from the file alone.
async fn send_and_go(file: &Path) {
    let named = std::env::var(NAMED).unwrap();
    let planless = Plan { lanes: Vec::new(), ..plan() };
    let config = EmbeddedConfig { plan: planless, ..config(file) };
    let queue = Queue::Embedded(Embedded::open(config).unwrap());
    let route = RouteName::parse("login").unwrap();
    for n in 0..20 {
        let job = JobId::parse(&format!("{named}-{n}")).unwrap();
        queue.enqueue(&route, &job, Bytes::from("{}"), &TraceContext::default()).await.unwrap();
    }
    let nowhere = RouteName::parse("nowhere").unwrap();
    let job = JobId::parse("x").unwrap();
    let refused = queue.enqueue(&nowhere, &job, Bytes::from("{}"), &TraceContext::default()).await;
    assert!(matches!(refused, Err(QueueError::Unroutable { .. })), "{refused:?}");
    queue.close().await;
}

/// This test binary again, for one test only, in the child's part.
fn spawn(test: &str, file: &Path, named: &str) -> (Child, Lines<BufReader<ChildStderr>>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(FILE, file)
        .env(NAMED, named)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stderr.take().unwrap()).lines();
    (child, said)
}

/// One line in one write, so that no death can tear it.
fn say(what: &str, job: &str) {
    std::io::stderr().write_all(format!("{what} {job}\n").as_bytes()).unwrap();
}

fn open(file: &Path) -> Queue {
    Queue::Embedded(Embedded::open(config(file)).unwrap())
}

fn config(file: &Path) -> EmbeddedConfig {
    EmbeddedConfig {
        path: file.to_owned(),
        plan: plan(),
        source: "otpd/test".into(),
        durability: Durability::PowerLoss,
    }
}

fn plan() -> Plan {
    let lane = |provider, route| {
        LanePlan::new(ProviderName::parse(provider).unwrap(), vec![RouteName::parse(route).unwrap()])
    };
    Plan {
        prefix: "otp.".into(),
        lanes: vec![lane("alpha", "login"), lane("beta", "alerts")],
        dead_retention: Duration::from_secs(3_600),
        events_retention: Duration::from_secs(86_400),
        ..Plan::default()
    }
}

fn spec(provider: &str) -> LaneSpec {
    LaneSpec { provider: ProviderName::parse(provider).unwrap(), prefetch: u16::MAX }
}

async fn put(queue: &Queue, route: &str, job: &str) {
    let (route, job) = (RouteName::parse(route).unwrap(), JobId::parse(job).unwrap());
    queue.enqueue(&route, &job, Bytes::from("{}"), &TraceContext::default()).await.unwrap();
}

fn id_of(delivery: &Delivery) -> JobId {
    delivery.message_id.clone().unwrap()
}

fn accept(lane: &LaneQueue, provider: &str, delivery: &Delivery) {
    let provider = ProviderName::parse(provider).unwrap();
    let fact = Fact::new(FactKind::Accepted, id_of(delivery), provider, now());
    lane.settler.settle(Settlement { fact: Some(fact), then: Then::Acknowledge(delivery.tag) });
}

fn move_to_beta(lane: &LaneQueue, delivery: &Delivery) {
    let alpha = ProviderName::parse("alpha").unwrap();
    let to_beta = Move {
        to: ProviderName::parse("beta").unwrap(),
        section: otpd_queue::Section::Main,
        job: id_of(delivery),
        body: delivery.body.clone(),
        carried: delivery.carried.clone(),
        taken_at: delivery.taken_at.unwrap(),
        trace: delivery.trace.clone(),
    };
    let fact = Fact::new(FactKind::FailedOver, id_of(delivery), alpha, now());
    let then = Then::Move(delivery.tag, Box::new(to_beta));
    lane.settler.settle(Settlement { fact: Some(fact), then });
}

fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UnixMs(u64::try_from(since.as_millis()).unwrap())
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("otpd-crash-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("queue.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

//! Three nodes: workers that are told of all of them lose a node, which is killed or hangs. No ceiling is
//! passed, nothing is lost, and only what was on the wire may be sent again.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use otpd_queue::{Inbound, TraceContext};
use otpd_sim::mock::Kind;
use otpd_sim::{Control, Jobs, MockConfig};
use otpd_tests::cluster::{NODES, Settings};
use otpd_tests::rabbit::{LaneInHand, PATIENCE, enqueue_all, job, plan, provider, rabbit, rabbit_at, route};
use otpd_tests::{Cluster, Proxy, Scene, WorkerProcess, claim_port, eventually, most_within};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep_until};

const LANE: &str = "verihubs";
const SECOND: Duration = Duration::from_secs(1);
const IN_FLIGHT: u64 = 32;
/// More than are sent until the node is back.
const JOBS: u64 = 600;
/// A node that hangs so long is taken for dead by the others, whose tick time is 10 s, and then comes back.
const HUNG: Duration = Duration::from_secs(13);
/// The node that fails.
const ILL: usize = 0;
/// The node at which the test itself looks on.
const HOME: usize = 1;
const THIRD: usize = 2;
/// The workers of a lane, as the accounts whose names they send.
const APPS: [&str; 2] = [OLD, NEW];
const OLD: &str = "old";
const NEW: &str = "new";

/// The cluster, whole, for one test at a time.
async fn cluster() -> MutexGuard<'static, Cluster> {
    static CLUSTER: OnceLock<Mutex<Cluster>> = OnceLock::new();
    let start = || CLUSTER.get_or_init(|| Mutex::new(Cluster::start(Settings::default())));
    tokio::task::block_in_place(start).lock().await
}

/// A lane with `ceiling`, and a mock that counts and refuses nothing. The topology is applied at node
/// `leads`, which leads the lane's queue and the stream then.
async fn scene(cluster: &Cluster, leads: usize, ceiling: &str) -> Scene {
    let config = format!(
        r#"
[retry]
initial = "100ms"
max = "1s"
[limits]
recipient = "off"
[providers.{LANE}]
kind = "verihubs"
base_url = "{{mock}}"
ceiling = "{ceiling}"
max_in_flight = {IN_FLIGHT}
app_id = "app"
api_key = "key"
"#
    );
    let control = Control {
        ceilings: Some(Vec::new()),
        latency: "5ms..20ms".parse().ok(),
        ..Control::of(Kind::Verihubs)
    };
    let mock = MockConfig { setup: vec![control], ..MockConfig::default() };
    let scene = Scene::set_at(cluster.site(leads, HOME), &config, &[(LANE, true, &[LANE][..])], mock).await;
    let (lane, stream) = (scene.plan.lane_queue(&provider(LANE)), scene.plan.events());
    let led_by = tokio::task::block_in_place(|| [&lane, &stream].map(|queue| cluster.leader_of(queue, HOME)));
    assert_eq!(led_by, [leads, leads], "the lane's queue and the stream");
    scene
}

/// A worker whose requests the mock counts apart, as those of account `app`.
fn worker(scene: &Scene, app: &str, urls: &[String]) -> WorkerProcess {
    scene.worker_with(&[
        ("OTPD__BROKER__URL", format!("{urls:?}")),
        (&format!("OTPD__PROVIDERS__{}__APP_ID", LANE.to_uppercase()), format!("{app:?}")),
    ])
}

fn urls(cluster: &Cluster) -> Vec<String> {
    (0..NODES).map(|n| cluster.url(n)).collect()
}

async fn owns(worker: &WorkerProcess) {
    eventually("the worker to own the lane", PATIENCE, || async {
        (worker.waiting(LANE).await > 0).then_some(())
    })
    .await;
}

/// Every request of every worker, in order, in microseconds.
fn arrivals(scene: &Scene) -> Vec<u64> {
    let mut all: Vec<u64> = APPS.iter().flat_map(|app| scene.mock.arrivals(Kind::Verihubs, app)).collect();
    all.sort_unstable();
    all
}

/// The requests around the first window that holds too many, in milliseconds since the first request, each with
/// its worker: for whoever hunts a failure.
fn fullest(scene: &Scene, (count, window): (usize, Duration)) -> String {
    let of =
        |app: &'static str| scene.mock.arrivals(Kind::Verihubs, app).into_iter().map(move |at| (at, app));
    let mut all: Vec<(u64, &str)> = APPS.into_iter().flat_map(of).collect();
    all.sort_unstable();
    let over = |some: &[(u64, &str)]| u128::from(some[count].0 - some[0].0) < window.as_micros();
    let Some(at) = all.windows(count + 1).position(over) else { return String::new() };
    let around = &all[at.saturating_sub(60)..(at + count + 20).min(all.len())];
    let times: Vec<String> =
        around.iter().map(|(t, app)| format!("{app} {}", (t - all[0].0) / 1000)).collect();
    format!("from request {at} on; {}", times.join(", "))
}

/// What must be so at the end: every job accepted, the ceiling kept, few duplicates.
fn assert_kept(scene: &Scene, what: &str, jobs: u64, ceiling: (usize, Duration), duplicates_at_most: u64) {
    // What an owner sent last it may tell only after another one has sent it again.
    let (summary, told_twice) = scene.close_but_for_repeats_up_to(duplicates_at_most);
    let arrivals = arrivals(scene);
    let most = most_within(&arrivals, ceiling.1);
    // Nothing is refused, so each request is the job's first or a duplicate.
    let duplicates = (arrivals.len() as u64).saturating_sub(jobs);
    let pause = arrivals.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0) as f64 / 1e6;
    println!(
        "{what}: {summary}; at most {most} in {:?}, {duplicates} duplicates, told twice {told_twice}, longest pause {pause:.1} s",
        ceiling.1
    );
    let log = || scene.log();
    assert!(most <= ceiling.0, "{what}: {most} in {:?}: {}; {}", ceiling.1, fullest(scene, ceiling), log());
    assert_eq!(summary.accepted, jobs, "{what}");
    assert!(duplicates <= duplicates_at_most, "{what}: {duplicates} duplicates; {}", log());
}

/// The leader of the lane's queue is killed and starts again: under `50/s` in the middle of the work, under
/// `100/30s` while the lane waits for its next permit.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_outlives_the_node_that_leads_its_queue() {
    let cluster = cluster().await;
    let mut busy = scene(&cluster, ILL, "50/s").await;
    let mut waits = scene(&cluster, ILL, "100/30s").await;
    let workers = [&busy, &waits].map(|scene| APPS.map(|app| worker(scene, app, &urls(&cluster))));
    for worker in workers.iter().flatten() {
        worker.ready().await;
    }
    waits.publish(LANE, Jobs::new(2, 130)).await;
    waits.until("the window to be full", |s| s.ended() >= 100).await;
    busy.publish(LANE, Jobs::new(1, 500)).await;
    busy.until("some progress", |s| s.ended() >= 150).await;
    tokio::task::block_in_place(|| {
        cluster.kill9(ILL);
        cluster.start_again(ILL);
    });
    drop(cluster);
    busy.until_all_ended().await;
    assert_kept(&busy, "leader killed, 50/s", 500, (50, SECOND), IN_FLIGHT);
    waits.until_all_ended().await;
    assert_kept(&waits, "leader killed, 100/30s", 130, (100, 30 * SECOND), IN_FLIGHT);
}

/// Where the worker that stands by is connected.
#[derive(Clone, Copy)]
enum Standby {
    AtTheSameNode,
    Elsewhere,
}

/// A lane whose owner has all its connections at the node that is going to fail, and another worker that stands
/// by.
struct Pinned {
    scene: Scene,
    old: WorkerProcess,
    _new: WorkerProcess,
    _doors: Vec<Proxy>,
}

impl Pinned {
    async fn set(cluster: &Cluster, leads: usize, standby: Standby, jobs: Jobs) -> Self {
        let mut scene = scene(cluster, leads, "50/s").await;
        // The old owner is refused elsewhere until it is connected to the node that is going to fail.
        let doors = [HOME, THIRD].map(|n| (SocketAddr::from((Ipv4Addr::LOCALHOST, claim_port())), n));
        let mut known = vec![cluster.url(ILL)];
        known.extend(doors.iter().map(|(at, _)| format!("amqp://guest:guest@{at}/%2f")));
        let old = worker(&scene, OLD, &known);
        old.ready().await;
        scene.publish(LANE, jobs).await;
        owns(&old).await;
        let new = match standby {
            Standby::AtTheSameNode => worker(&scene, NEW, &known),
            Standby::Elsewhere => worker(&scene, NEW, &[cluster.url(HOME), cluster.url(THIRD)]),
        };
        new.ready().await;
        let mut opened = Vec::new();
        for (at, n) in doors {
            opened.push(Proxy::start_at(at, cluster.address(n)).await);
        }
        Self { scene, old, _new: new, _doors: opened }
    }

    async fn assert_kept(mut self, what: &str, jobs: u64) {
        self.scene.until_all_ended().await;
        let of = |app| self.scene.mock.arrivals(Kind::Verihubs, app);
        let (old, new) = (of(OLD), of(NEW));
        let (last_of_old, first_of_new) =
            (old.last().copied().unwrap_or(0), new.first().copied().unwrap_or(u64::MAX));
        let late = Duration::from_micros(last_of_old.saturating_sub(first_of_new));
        println!(
            "{what}: {} requests of the old owner, {} of the new one; the last of the old one {late:?} after the \
             first of the new one",
            old.len(),
            new.len()
        );
        assert_kept(&self.scene, what, jobs, (50, SECOND), IN_FLIGHT);
        assert!(late <= 3 * SECOND, "{what}: {late:?} after it had lost the lane; {}", self.scene.log());
    }
}

/// A node hangs until the others have given it up, and comes back: it goes on answering everything, confirms
/// included, and hands out its whole prefetch as if it were fresh, but its view of the stream stands still.
/// One lane's owner has all its connections there; another's does too, and hangs and comes back together with its
/// node, so that no connection was ever silent to it; the queue and the stream of a third are led there.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_outlives_a_node_that_hangs_and_comes_back() {
    let cluster = cluster().await;
    let (alone, together, led) = tokio::join!(
        Pinned::set(&cluster, THIRD, Standby::Elsewhere, Jobs::new(3, JOBS)),
        Pinned::set(&cluster, THIRD, Standby::Elsewhere, Jobs::new(4, JOBS)),
        Pinned::set(&cluster, ILL, Standby::AtTheSameNode, Jobs::new(5, JOBS)),
    );

    let until = Instant::now() + HUNG;
    cluster.pause(ILL);
    together.old.signal("STOP");
    sleep_until(until).await;
    cluster.resume(ILL);
    together.old.signal("CONT");
    alone.assert_kept("the owner's node hung", JOBS).await;
    together.assert_kept("the owner hung with its node", JOBS).await;
    led.assert_kept("everybody's node hung", JOBS).await;
    tokio::task::block_in_place(|| {
        cluster.kill9(ILL);
        cluster.start_again(ILL);
    });
}

/// Fault: a connection whose node did not answer was made again to the same node, which took the whole of a
/// handshake's deadline (5 s) for the lane, for publishing and for reading.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_answer_is_left_for_another_one() {
    let cluster = cluster().await;
    let hangs = Proxy::start(cluster.address(HOME)).await;
    let other = SocketAddr::from((Ipv4Addr::LOCALHOST, claim_port()));
    let plan = plan(&cluster.site(HOME, HOME).prefix, &[LANE]);
    let queue = rabbit_at(&[&hangs.url(), &format!("amqp://guest:guest@{other}/%2f")], &plan);
    let producer = rabbit(&cluster.url(HOME), &plan);
    producer.apply_topology().await.unwrap();
    enqueue_all(&producer, LANE, (0..10).map(|n| format!("job-{n}"))).await;
    let mut lane = LaneInHand::open(&queue, LANE, 10);
    lane.deliveries(10).await;
    let _other = Proxy::start_at(other, cluster.address(THIRD)).await;

    let (before, began) = (hangs.connections(), Instant::now());
    hangs.swallow();
    assert!(matches!(lane.hear().await, Inbound::Lost { .. }));
    assert!(matches!(lane.hear().await, Inbound::Opened { .. }));
    println!("a node hangs: the lane is open at another one after {:.1} s", began.elapsed().as_secs_f64());
    eventually("a job to be confirmed", PATIENCE, || async {
        let (to, id) = (route(LANE), job("late"));
        queue.enqueue(&to, &id, "a job".into(), &TraceContext::default()).await.ok()
    })
    .await;
    println!("a node hangs: a job is confirmed by another one after {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(hangs.connections(), before, "it was asked again, although there is another one");
    hangs.resume();
    lane.close().await;
}

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

use otpd_sim::mock::Kind;
use otpd_sim::{Control, Jobs, MockConfig};
use otpd_tests::cluster::{NODES, Settings};
use otpd_tests::rabbit::{PATIENCE, provider};
use otpd_tests::{Cluster, Proxy, Scene, WorkerProcess, claim_port, eventually};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep_until};

const LANE: &str = "verihubs";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const IN_FLIGHT: u64 = 32;
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

/// Waits until a worker owns the lane; gives its place among them.
async fn owner(workers: &[WorkerProcess]) -> usize {
    eventually("a worker to own the lane", PATIENCE, || async {
        for (n, worker) in workers.iter().enumerate() {
            if worker.waiting(LANE).await > 0 {
                return Some(n);
            }
        }
        None
    })
    .await
}

/// Every request of every worker, in order, in microseconds.
fn arrivals(scene: &Scene) -> Vec<u64> {
    let mut all: Vec<u64> = APPS.iter().flat_map(|app| scene.mock.arrivals(Kind::Verihubs, app)).collect();
    all.sort_unstable();
    all
}

/// The most requests in any window of `window`.
fn most_in(arrivals: &[u64], window: Duration) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in arrivals.iter().enumerate() {
        while u128::from(at - arrivals[first]) >= window.as_micros() {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

/// What must be so at the end: every job accepted, the ceiling kept, few duplicates.
fn assert_kept(scene: &Scene, what: &str, jobs: u64, ceiling: (usize, Duration), duplicates_at_most: u64) {
    // What an owner sent last it may tell only after another one has sent it again.
    let (summary, told_twice) = scene.close_but_for_repeats_up_to(duplicates_at_most);
    let arrivals = arrivals(scene);
    let most = most_in(&arrivals, ceiling.1);
    // Nothing is refused, so each request is the job's first or a duplicate.
    let duplicates = arrivals.len() as u64 - jobs;
    let pause = arrivals.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0) as f64 / 1e6;
    println!(
        "{what}: {summary}; at most {most} in {:?}, {duplicates} duplicates, told twice {told_twice}, longest pause {pause:.1} s",
        ceiling.1
    );
    let log = || scene.log();
    assert!(most <= ceiling.0, "{what}: {most} in {:?}; {}", ceiling.1, log());
    assert_eq!(summary.accepted, jobs, "{what}");
    assert!(duplicates <= duplicates_at_most, "{what}: {duplicates} duplicates; {}", log());
}

/// The leader of the lane's queue is killed and starts again: under `50/s` in the middle of the work, under
/// `100/min` while the lane waits for its next permit.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_outlives_the_node_that_leads_its_queue() {
    let cluster = cluster().await;
    let mut busy = scene(&cluster, ILL, "50/s").await;
    let mut waits = scene(&cluster, ILL, "100/min").await;
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
    assert_kept(&waits, "leader killed, 100/min", 130, (100, MINUTE), IN_FLIGHT);
}

/// A node hangs until the others have given it up, and comes back: it goes on answering everything, confirms
/// included, and hands out its whole prefetch as if it were fresh, but its view of the stream stands still.
/// One lane's owner has all its connections there; the queue and the stream of the other lane are led there.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_outlives_a_node_that_hangs_and_comes_back() {
    let cluster = cluster().await;
    let mut owned = scene(&cluster, THIRD, "50/s").await;
    let mut led = scene(&cluster, ILL, "50/s").await;
    // The old owner is refused elsewhere until it is connected to the node that is going to hang.
    let gates =
        [HOME, THIRD].map(|n| (SocketAddr::from((Ipv4Addr::LOCALHOST, claim_port())), cluster.address(n)));
    let gated = |(at, _): &(SocketAddr, _)| format!("amqp://guest:guest@{at}/%2f");
    let old = worker(&owned, OLD, &[cluster.url(ILL), gated(&gates[0]), gated(&gates[1])]);
    old.ready().await;
    owned.publish(LANE, Jobs::new(3, 700)).await;
    owner(std::slice::from_ref(&old)).await;
    let new = worker(&owned, NEW, &[cluster.url(HOME), cluster.url(THIRD)]);
    let anywhere = APPS.map(|app| worker(&led, app, &urls(&cluster)));
    for worker in anywhere.iter().chain([&new]) {
        worker.ready().await;
    }
    led.publish(LANE, Jobs::new(4, 700)).await;
    led.until("some progress", |s| s.ended() >= 100).await;
    let mut open = Vec::new();
    for (at, target) in gates {
        open.push(Proxy::start_at(at, target).await);
    }

    let until = Instant::now() + HUNG;
    cluster.pause(ILL);
    sleep_until(until).await;
    cluster.resume(ILL);
    owned.until_all_ended().await;
    led.until_all_ended().await;
    tokio::task::block_in_place(|| {
        cluster.kill9(ILL);
        cluster.start_again(ILL);
    });
    drop(cluster);

    let [last_of_old, first_of_new] = [
        owned.mock.arrivals(Kind::Verihubs, OLD).last().copied().unwrap_or(0),
        owned.mock.arrivals(Kind::Verihubs, NEW).first().copied().unwrap_or(u64::MAX),
    ];
    let late = Duration::from_micros(last_of_old.saturating_sub(first_of_new));
    println!("owner's node hung: its last request came {late:?} after the next owner's first one");
    assert_kept(&owned, "owner's node hung", 700, (50, SECOND), IN_FLIGHT);
    assert_kept(&led, "leader's node hung", 700, (50, SECOND), IN_FLIGHT);
    assert!(late <= 3 * SECOND, "{late:?} after it had lost the lane; {}", owned.log());
}

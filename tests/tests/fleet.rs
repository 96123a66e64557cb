//! One ceiling for a whole fleet: however many workers there are, however their owner ends or the
//! broker fails, the strict mock never sees more than the ceiling in any sliding window, nothing is
//! lost, and only what was on the wire may be sent again.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::time::Duration;

use otpd_sim::mock::{AccountStats, Kind};
use otpd_sim::{Control, Jobs, MockConfig, Summary};
use otpd_tests::rabbit::PATIENCE;
use otpd_tests::scene::WorkerProcess;
use otpd_tests::{Broker, Proxy, Scene, eventually};

const LANE: &str = "verihubs";
const SECOND: Duration = Duration::from_secs(1);
/// What may be on the wire, or answered and not told yet, when an owner is cut down.
const IN_FLIGHT: u64 = 32;
/// How long the mock takes, where that does not matter.
const QUICK: &str = "5ms..20ms";

async fn scene(broker: &Broker, ceiling: &str, latency: &str) -> Scene {
    let config = format!(
        r#"
[retry]
initial = "100ms"
max = "1s"
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
        ceilings: Some(vec![ceiling.parse().unwrap()]),
        latency: latency.parse().ok(),
        ..Control::of(Kind::Verihubs)
    };
    let mock = MockConfig { setup: vec![control], ..MockConfig::default() };
    Scene::set(broker, &broker.url(), &config, &[(LANE, true, &[LANE][..])], mock).await
}

/// Workers that are ready to own the lane.
async fn fleet(scene: &Scene, size: usize) -> Vec<WorkerProcess> {
    let workers: Vec<_> = (0..size).map(|_| scene.worker()).collect();
    for worker in &workers {
        worker.ready().await;
    }
    workers
}

/// Who owns the lane: the one who holds its backlog.
async fn owner(workers: &[WorkerProcess]) -> usize {
    eventually("a worker to own the lane", PATIENCE, || async {
        for (i, worker) in workers.iter().enumerate() {
            if worker.waiting(LANE).await > 0 {
                return Some(i);
            }
        }
        None
    })
    .await
}

fn account(scene: &Scene) -> AccountStats {
    scene.mock.stats().account(Kind::Verihubs, "app").unwrap().clone()
}

/// What must be so at the end of every scene: every job accepted, never a 429, the ceiling kept.
fn assert_kept(
    scene: &Scene,
    summary: &Summary,
    what: &str,
    jobs: u64,
    ceiling: (u64, Duration),
) -> AccountStats {
    let account = account(scene);
    let most = account.most_in(ceiling.1).unwrap();
    println!(
        "{what}: {summary}; {} requests, {} duplicates, at most {most} in {:?}, longest pause {:.1} s",
        account.attempts,
        account.duplicates,
        ceiling.1,
        longest_pause(scene)
    );
    assert!(most <= ceiling.0, "{what}: {account:?}; {}", fullest(scene, ceiling));
    assert!(!account.answers.contains_key(&429), "{what}: {account:?}");
    assert_eq!(summary.accepted, jobs, "{what}");
    account
}

/// The first window that holds too many: for whoever hunts a failure.
fn fullest(scene: &Scene, (count, window): (u64, Duration)) -> String {
    let arrivals = scene.mock.arrivals(Kind::Verihubs, "app");
    let over = |pair: &&[u64]| u128::from(pair[pair.len() - 1] - pair[0]) < window.as_micros();
    let places = usize::try_from(count).unwrap() + 1;
    arrivals.windows(places).position(|pair| over(&pair)).map_or_else(String::new, |at| {
        let since_first = |i: usize| (arrivals[i] - arrivals[0]) / 1000;
        let times: Vec<u64> =
            (at.saturating_sub(60)..(at + 60).min(arrivals.len())).map(since_first).collect();
        format!("too many from request {at}; ms since the first: {times:?}")
    })
}

/// The longest time without a request, in seconds.
fn longest_pause(scene: &Scene) -> f64 {
    let arrivals = scene.mock.arrivals(Kind::Verihubs, "app");
    arrivals.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0) as f64 / 1e6
}

/// The share of the ceiling that was used; the burst that idling earns is the share of the first second.
fn used(account: &AccountStats, per_second: f64) -> f64 {
    let span = account.last_arrival_us.unwrap() - account.first_arrival_us.unwrap();
    account.attempts as f64 / (span as f64 / 1e6 * per_second)
}

async fn a_fleet_of(size: usize) {
    let mut scene = scene(Broker::shared(), "50/s", QUICK).await;
    let workers = fleet(&scene, size).await;
    scene.publish(LANE, Jobs::new(10 + size as u64, 500)).await;
    scene.until_all_ended().await;
    let what = format!("{size} workers");
    let account = assert_kept(&scene, &scene.close(), &what, 500, (50, SECOND));
    println!("{what}: {:.1} % of the ceiling used", used(&account, 50.0) * 100.0);
    assert_eq!((account.attempts, account.duplicates), (500, 0), "{what}");
    assert!(used(&account, 50.0) > 0.95, "{what}: {account:?}");
    drop(workers);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_three_and_six_workers_keep_one_ceiling() {
    tokio::join!(a_fleet_of(1), a_fleet_of(3), a_fleet_of(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_outlives_its_owners() {
    let mut scene = scene(Broker::shared(), "50/s", QUICK).await;
    let mut workers = fleet(&scene, 3).await;
    scene.publish(LANE, Jobs::new(20, 560)).await;
    for round in 1..=4 {
        scene.until("some progress", |s| s.ended() >= round * 110).await;
        let owner = owner(&workers).await;
        workers[owner].kill9();
        workers[owner] = scene.worker();
    }
    scene.until_all_ended().await;
    let account = assert_kept(&scene, &scene.close(), "4 owners killed", 560, (50, SECOND));
    assert!(account.duplicates <= 4 * 5, "more than a few for each kill: {account:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_come_and_go_without_a_trace() {
    let mut scene = scene(Broker::shared(), "50/s", QUICK).await;
    let mut workers = fleet(&scene, 1).await;
    scene.publish(LANE, Jobs::new(30, 480)).await;
    for round in 1..=3 {
        scene.until("some progress", |s| s.ended() >= round * 110).await;
        workers.extend(fleet(&scene, 2).await);
        let owner = owner(&workers).await;
        assert!(workers.remove(owner).stop().await.success(), "{}", scene.log());
    }
    scene.until_all_ended().await;
    let account = assert_kept(&scene, &scene.close(), "3 owners stopped, 6 workers added", 480, (50, SECOND));
    assert_eq!((account.attempts, account.duplicates), (480, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_does_not_break_the_ceiling() {
    let broker = tokio::task::block_in_place(Broker::start);
    let mut scene = scene(&broker, "50/s", QUICK).await;
    tokio::task::block_in_place(|| broker.write_down_topology());
    let workers = fleet(&scene, 3).await;
    scene.publish(LANE, Jobs::new(40, 350)).await;
    scene.until("some progress", |s| s.ended() >= 150).await;
    tokio::task::block_in_place(|| {
        broker.kill9();
        broker.start_again();
    });
    scene.until_all_ended().await;
    // What it sent last it may tell only after another one has sent it again.
    let (summary, repeats) = scene.close_but_for_repeats();
    println!("{repeats} jobs told twice");
    let account = assert_kept(&scene, &summary, "the broker killed", 350, (50, SECOND));
    assert!(account.duplicates <= IN_FLIGHT, "{account:?}");
    drop(workers);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_cut_off_stops_before_another_begins() {
    let broker = Broker::shared();
    let proxy = Proxy::start(broker.address()).await;
    let mut scene = scene(broker, "50/s", QUICK).await;
    // The broker notices sooner than with otpd's own 10 s: there is less time to stop in.
    let cut_off = scene.worker_at(&format!("{}?heartbeat=5", proxy.url()));
    cut_off.ready().await;
    let other = scene.worker();
    other.ready().await;
    scene.publish(LANE, Jobs::new(50, 350)).await;
    scene.until("some progress", |s| s.ended() >= 100).await;
    assert!(cut_off.waiting(LANE).await > 0, "the first to consume owns the lane");
    proxy.swallow();
    let before = scene.ended();
    scene.until("the other one to take over", |s| s.ended() >= before + 100).await;
    proxy.resume();
    scene.until_all_ended().await;
    // What it sent last it may tell only after another one has sent it again.
    let (summary, repeats) = scene.close_but_for_repeats();
    println!("{repeats} jobs told twice");
    let account = assert_kept(&scene, &summary, "the owner cut off", 350, (50, SECOND));
    assert!(account.duplicates <= IN_FLIGHT, "{account:?}");
    assert!(longest_pause(&scene) > 5.0, "nobody was cut off");
    drop((cut_off, other));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_window_gives_its_burst_at_once() {
    let mut scene = scene(Broker::shared(), "100/10s", QUICK).await;
    let workers = fleet(&scene, 1).await;
    scene.publish(LANE, Jobs::new(60, 100)).await;
    scene.until_all_ended().await;
    assert_kept(&scene, &scene.close(), "100/10s after idling", 100, (100, 10 * SECOND));
    let arrivals = scene.mock.arrivals(Kind::Verihubs, "app");
    let burst = Duration::from_micros(arrivals[99] - arrivals[0]);
    println!("100/10s after idling: 100 arrived within {burst:?}");
    // Paced, it would take the whole window.
    assert!(burst <= 3 * SECOND, "the burst took {burst:?}");
    drop(workers);
}

/// The owner dies in the middle of a burst: what it had on the wire has no answer on the stream, and
/// fills the next owner's window all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_window_outlives_its_owners() {
    let mut scene = scene(Broker::shared(), "100/10s", "400ms").await;
    let mut workers = fleet(&scene, 2).await;
    scene.publish(LANE, Jobs::new(61, 150)).await;
    for ended in [30, 110] {
        scene.until("some progress", |s| s.ended() >= ended).await;
        let owner = owner(&workers).await;
        workers[owner].kill9();
        workers[owner] = scene.worker();
    }
    scene.until_all_ended().await;
    let account = assert_kept(&scene, &scene.close(), "2 owners of 100/10s killed", 150, (100, 10 * SECOND));
    assert!(account.duplicates <= 2 * IN_FLIGHT, "{account:?}");
}

//! What one account refuses: no balance, too fast, too much for one recipient. Jobs are not burnt on
//! it, other providers take over, and the lane finds its way back by itself.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::time::Duration;

use bytes::Bytes;
use otpd_core::{FactKind, Reason};
use otpd_queue::DeadFilter;
use otpd_sim::mock::{AccountStats, Balance, Kind};
use otpd_sim::{Control, FaultPlan, Jobs, MockConfig};
use otpd_tests::rabbit::{PATIENCE, now};
use otpd_tests::{Broker, Proxy, Scene, eventually};
use tokio::time::Instant;

/// Without balance Msgai answers 402.
const MSGAI: &str = r#"
[providers.msgai]
kind = "msgai"
base_url = "{mock}"
template = "login_code"
api_key = "sk_live_0123456789abcdef"
"#;
/// Its account, as the mock shows it.
const MSGAI_ACCOUNT: &str = "sk_live_***cdef";

const VERIHUBS: &str = r#"
[providers.verihubs]
kind = "verihubs"
base_url = "{mock}"
app_id = "app"
api_key = "key"
"#;

async fn scene(config: &str, lanes: &[(&str, bool, &[&str])], setup: Vec<Control>) -> Scene {
    let broker = Broker::shared();
    let mut setup = setup;
    for kind in [Kind::Msgai, Kind::Verihubs] {
        setup.push(Control { latency: "5ms..20ms".parse().ok(), ..Control::of(kind) });
    }
    let mock = MockConfig { setup, ..MockConfig::default() };
    Scene::set(broker, &broker.url(), config, lanes, mock).await
}

fn balance(left: Balance) -> Control {
    Control { balance: Some(left), ..Control::of(Kind::Msgai) }
}

fn msgai(scene: &Scene) -> AccountStats {
    scene.mock.stats().account(Kind::Msgai, MSGAI_ACCOUNT).cloned().unwrap_or_else(|| {
        let other = scene.mock.stats();
        panic!("Msgai was never asked: {other:?}")
    })
}

/// How many requests the mock answered with this status, whichever the account.
fn answered(scene: &Scene, kind: Kind, status: u16) -> u64 {
    scene.mock.stats().of(kind).map(|a| a.answers.get(&status).copied().unwrap_or_default()).sum()
}

/// How many jobs a provider accepted, as the facts say.
fn accepted_by(scene: &Scene, provider: &str) -> usize {
    scene.seen.iter().filter(|f| f.kind == FactKind::Accepted && f.provider.as_str() == provider).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_balance_costs_a_handful_and_comes_back_by_itself() {
    let config = format!(
        "{MSGAI}ceiling = \"100/s\"\n{VERIHUBS}ceiling = \"100/s\"\n\
         [routes.login]\nproviders = [\"msgai\", \"verihubs\"]\n"
    );
    let lanes = [("msgai", true, &["msgai", "login"][..]), ("verihubs", true, &["verihubs"][..])];
    let mut scene = scene(&config, &lanes, vec![balance(Balance::Left(0))]).await;
    scene.publish("login", Jobs::new(1, 300)).await;
    let worker = scene.worker();
    let began = Instant::now();
    scene.until_all_ended().await;
    assert_eq!(scene.close().accepted, 300);
    assert_eq!(accepted_by(&scene, "verihubs"), 300, "all by way of the second provider");
    let arrivals = scene.mock.arrivals(Kind::Msgai, MSGAI_ACCOUNT);
    let soon = arrivals.iter().filter(|at| **at - arrivals[0] < 2_000_000).count();
    println!(
        "no balance: 300 jobs accepted by the second provider in {:.1?}; {soon} requests met the 402 within \
         2 s, {} in all",
        began.elapsed(),
        arrivals.len()
    );
    assert!(soon <= 3, "{soon} requests met the 402");
    assert!(scene.count(FactKind::Paused) >= 1, "nobody was told that the account is refused");

    scene.mock.control(&balance(Balance::Left(1_000_000)));
    let topped_up = Instant::now();
    let mut beat = tokio::time::interval(Duration::from_millis(250));
    for seed in 100.. {
        beat.tick().await;
        if msgai(&scene).accepted > 0 {
            break;
        }
        assert!(topped_up.elapsed() < PATIENCE, "the account was not tried again: {}", scene.log());
        scene.publish("login", Jobs::new(seed, 2)).await;
    }
    println!("topped up: sends again after {:.1?}", topped_up.elapsed());
    scene.until_all_ended().await;
    let before = accepted_by(&scene, "msgai");
    scene.publish("login", Jobs::new(2, 50)).await;
    scene.until_all_ended().await;
    assert_eq!(accepted_by(&scene, "msgai") - before, 50, "the first provider is the first again");
    assert!(scene.count(FactKind::Resumed) >= 1, "nobody was told that the account is served again");
    let summary = scene.close();
    assert_eq!((summary.accepted, scene.duplicates()), (summary.published, 0), "{summary}");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_for_the_only_account_and_are_not_burnt() {
    // A refused probe is no message: it must not use up what its recipient may get.
    let config = format!("{MSGAI}ceiling = \"100/s\"\n[limits]\nrecipient = \"1/h\"\n");
    let lanes = [("msgai", true, &["msgai"][..])];
    let mut scene = scene(&config, &lanes, vec![balance(Balance::Left(0))]).await;
    scene.publish("msgai", Jobs::new(3, 200)).await;
    let worker = scene.worker();
    eventually("two probes", PATIENCE, || async {
        // Two may be out before anything is known of the account.
        (answered(&scene, Kind::Msgai, 402) >= 4).then_some(())
    })
    .await;
    scene.mock.control(&balance(Balance::Unlimited));
    scene.until_all_ended().await;
    let refused = answered(&scene, Kind::Msgai, 402);
    let arrivals = scene.mock.arrivals(Kind::Msgai, MSGAI_ACCOUNT);
    let span = Duration::from_micros(arrivals[3] - arrivals[0]);
    let told_at = |kind| scene.seen.iter().filter(move |f| f.kind == kind).map(|f| f.at).max();
    let summary = scene.close();
    println!(
        "no balance and no other provider: {refused} probes, the first four within {span:.1?}; {summary}"
    );
    assert_eq!((summary.accepted, summary.dead), (200, 0), "{summary}");
    assert!(refused <= 5, "{refused} requests met the 402");
    assert!(span >= Duration::from_secs(2), "probes at {arrivals:?}");
    let letters = scene.queue.dead_letters(&DeadFilter::default(), now(), 10).await.unwrap();
    assert_eq!(letters.len(), 0);
    assert_eq!((scene.count(FactKind::Paused), scene.count(FactKind::Resumed)), (1, 1));
    let last = told_at(FactKind::Accepted).unwrap().since(told_at(FactKind::Resumed).unwrap());
    assert!(
        last < Duration::from_secs(30),
        "somebody was left waiting for {last:?} after the account was served again"
    );
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_wait_is_kept_by_the_whole_lane() {
    let config = format!("{VERIHUBS}ceiling = \"50/s\"\n");
    let mut scene = scene(&config, &[("verihubs", true, &["verihubs"][..])], Vec::new()).await;
    let worker = scene.worker();
    worker.ready().await;
    scene.publish("verihubs", Jobs::new(4, 250)).await;
    scene.until("the lane to be in its stride", |s| s.ended() >= 75).await;
    let plan = FaultPlan::parse(Kind::Verihubs, "429(3s)=100%").unwrap();
    scene.mock.control(&Control::faults(plan));
    // Verihubs does not say whom it concerns: the second number shows that it is the account.
    eventually("two 429", PATIENCE, || async { (answered(&scene, Kind::Verihubs, 429) > 1).then_some(()) })
        .await;
    scene.mock.control(&Control::faults(FaultPlan::none(Kind::Verihubs)));
    scene.until_all_ended().await;
    let summary = scene.close();
    let arrivals = scene.mock.arrivals(Kind::Verihubs, "app");
    let gap = arrivals.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    let refused = answered(&scene, Kind::Verihubs, 429);
    println!("429 with 3 s to wait: {refused} met it, then a pause of {:.2} s", gap as f64 / 1e6);
    // Had anybody asked within the wait, there would be no such pause.
    assert!(refused <= 5, "{refused} met the 429");
    assert!((2_950_000..5_000_000).contains(&gap), "a pause of {gap} us");
    assert_eq!((summary.accepted, scene.duplicates()), (250, 0), "{summary}");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_the_provider_names_is_followed() {
    let config = format!("{MSGAI}ceiling = \"50/s\"\n");
    let strict = Control { ceilings: Some(vec!["5/s".parse().unwrap()]), ..Control::of(Kind::Msgai) };
    let mut scene = scene(&config, &[("msgai", true, &["msgai"][..])], vec![strict]).await;
    scene.publish("msgai", Jobs::new(5, 60)).await;
    let worker = scene.worker();
    scene.until_all_ended().await;
    let summary = scene.close();
    let account = msgai(&scene);
    let refused: Vec<u64> =
        scene.seen.iter().filter(|f| f.http_status == Some(429)).map(|f| f.at.0).collect();
    // What was on its way when the limit was named could not know it.
    let followed = refused.iter().filter(|at| **at > refused[0] + 100).count();
    let span = account.last_arrival_us.unwrap() - account.first_arrival_us.unwrap();
    println!(
        "50/s configured, 5/s allowed and named: {} refused at first, {followed} later, 60 accepted in {:.1} s",
        refused.len() - followed,
        span as f64 / 1e6
    );
    assert_eq!((summary.accepted, summary.dead), (60, 0), "{summary}");
    assert!(followed <= 3, "{followed} refused after the limit was known: {account:?}");
    assert!(span < 20_000_000, "too slow: {account:?}");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_recipient_gets_no_more_than_its_limits() {
    let config = format!("{VERIHUBS}ceiling = \"50/s\"\n[limits]\nrecipient = \"1/2s, 3/h\"\n");
    let mut scene = scene(&config, &[("verihubs", true, &["verihubs"][..])], Vec::new()).await;
    let worker = scene.worker();
    worker.ready().await;
    for n in 1..=4 {
        let id = format!("job-{n}");
        let body = format!(r#"{{"id":"{id}","to":"+999123456789","code":"48291{n}","purpose":"p{n}"}}"#);
        scene.publish_bodies("verihubs", vec![(id, Bytes::from(body))]).await;
    }
    scene.until_all_ended().await;
    let summary = scene.close();
    let arrivals = scene.mock.arrivals(Kind::Verihubs, "app");
    let gaps: Vec<u64> = arrivals.windows(2).map(|pair| pair[1] - pair[0]).collect();
    println!("1/2s, 3/h for one number: {summary}; {gaps:?} us apart");
    assert_eq!((summary.accepted, summary.dead), (3, 1), "{summary}");
    // The limit counts permits; a request may be slower on its way than the one after it.
    assert!(gaps.len() == 2 && gaps.iter().all(|gap| *gap >= 1_950_000), "{gaps:?} us apart");
    assert!(gaps.iter().all(|gap| *gap < 4_000_000), "{gaps:?} us apart");
    let letters = scene.queue.dead_letters(&DeadFilter::default(), now(), 10).await.unwrap();
    let dead: Vec<_> = letters.iter().map(|l| (l.job.as_str(), l.reason)).collect();
    assert_eq!(dead, [("job-4", Some(Reason::RecipientLimited))]);
    drop(worker);
}

/// A job for a number of its own.
fn job_for(n: usize, number: &str) -> (String, Bytes) {
    let id = format!("job-{n}");
    let body = format!(r#"{{"id":"{id}","to":"{number}","code":"48291{}"}}"#, n % 10);
    (id, Bytes::from(body))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_refused_for_itself_holds_nobody_up() {
    let config = format!("{MSGAI}ceiling = \"50/s\"\n");
    let mut scene = scene(&config, &[("msgai", true, &["msgai"][..])], Vec::new()).await;
    let refused = FaultPlan::parse(Kind::Msgai, "locked=to:*7777").unwrap();
    scene.mock.control(&Control::faults(refused));
    let good = |n: usize| job_for(n, &format!("+99911200{n:04}"));
    let mut jobs =
        vec![job_for(0, "+999112007777"), job_for(1, "+999112017777"), job_for(2, "+999112027777")];
    jobs.extend((3..20).map(good));
    scene.publish_bodies("msgai", jobs).await;
    let worker = scene.worker();
    worker.ready().await;
    let began = Instant::now();
    scene.until("the good jobs to be sent", |s| s.count(FactKind::Accepted) >= 17).await;
    let took = began.elapsed();
    // Others are accepted while the refused ones wait: they are no reason to stop, and end by themselves.
    let mut beat = tokio::time::interval(Duration::from_millis(500));
    let mut next = 20;
    while scene.count(FactKind::Dead) < 3 {
        beat.tick().await;
        scene.publish_bodies("msgai", vec![good(next)]).await;
        next += 1;
        scene.until("the next one to be sent", |s| s.count(FactKind::Accepted) >= next - 3).await;
        assert!(next < 200, "{}", scene.log());
    }
    let summary = scene.close();
    let met = answered(&scene, Kind::Msgai, 400);
    println!(
        "3 of 20 jobs refused for themselves: the good ones sent after {took:.1?}; {met} refusals; {summary}"
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(met <= 3 * 5, "{met} requests were refused");
    let letters = scene.queue.dead_letters(&DeadFilter::default(), now(), 10).await.unwrap();
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|l| l.reason == Some(Reason::AccountLocked)), "{letters:?}");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_could_not_be_announced_closes_no_lane_for_good() {
    let config = format!("{MSGAI}ceiling = \"50/s\"\n");
    let mut scene = scene(&config, &[("msgai", true, &["msgai"][..])], vec![balance(Balance::Left(0))]).await;
    scene.publish("msgai", Jobs::new(6, 10)).await;
    let proxy = Proxy::start(Broker::shared().address()).await;
    let worker = scene.worker_at(&proxy.url());
    eventually("the account to be refused", PATIENCE, || async {
        (answered(&scene, Kind::Msgai, 402) >= 2).then_some(())
    })
    .await;
    proxy.swallow();
    scene.mock.control(&balance(Balance::Unlimited));
    // Longer than an announcement may take, shorter than the broker's patience.
    let lag = "otpd_events_lag_seconds{provider=\"msgai\"}";
    eventually("the probe's announcement to be overdue", PATIENCE, || async {
        (worker.sample(lag).await > 5.0).then_some(())
    })
    .await;
    proxy.resume();
    scene.until_all_ended().await;
    let summary = scene.close();
    println!("cut off while its probe was announced: {summary}");
    assert_eq!((summary.accepted, scene.duplicates()), (10, 0), "{summary}");
    drop(worker);
}

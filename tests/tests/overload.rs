//! More jobs than the ceiling lets through: what is sent is still worth sending, what is not ends in
//! the books, and a second provider takes what the first has no room for.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use otpd_core::{Fact, FactKind, Phone, Reason, UnixMs};
use otpd_queue::DeadFilter;
use otpd_sim::mock::{AccountStats, Kind, fingerprint};
use otpd_sim::{Control, FaultPlan, Job, Jobs, MockConfig};
use otpd_tests::rabbit::{PATIENCE, now};
use otpd_tests::{Broker, Scene, eventually};

/// What every mock here draws its fingerprints from.
const SEED: u64 = 1;
const PER_SECOND: u32 = 20;
/// Jobs are published in ten helpings a second.
const HELPING: Duration = Duration::from_millis(100);

fn provider(name: &str) -> String {
    format!(
        r#"
[providers.{name}]
kind = "verihubs"
base_url = "{{mock}}"
ceiling = "{PER_SECOND}/s"
app_id = "{name}"
api_key = "key"
"#
    )
}

async fn scene(config: &str, lanes: &[(&str, bool, &[&str])]) -> Scene {
    let control = Control {
        ceilings: Some(vec![format!("{PER_SECOND}/s").parse().unwrap()]),
        latency: "5ms..20ms".parse().ok(),
        ..Control::of(Kind::Verihubs)
    };
    let mock = MockConfig { seed: SEED, setup: vec![control], ..MockConfig::default() };
    let broker = Broker::shared();
    Scene::set(broker, &broker.url(), config, lanes, mock).await
}

/// A scene of one provider, with these keys for its own route.
async fn one_provider(route: &str) -> Scene {
    let config = format!("{}[routes.first]\n{route}\n", provider("first"));
    scene(&config, &[("first", true, &["first"])]).await
}

fn account(scene: &Scene, name: &str) -> AccountStats {
    scene.mock.stats().account(Kind::Verihubs, name).unwrap().clone()
}

/// Publishes `jobs`, `helping` of them every 100 ms, each code valid for `valid`. Gives when which
/// code, by its fingerprint, expires.
async fn publish_steadily(
    scene: &mut Scene,
    to: &str,
    mut jobs: Jobs,
    helping: usize,
    valid: Duration,
) -> HashMap<String, UnixMs> {
    let mut expiries = HashMap::new();
    let mut beat = tokio::time::interval(HELPING);
    loop {
        beat.tick().await;
        let expires_at = now().plus(valid);
        jobs = jobs.expires_at(expires_at);
        let some: Vec<Job> = jobs.by_ref().take(helping).collect();
        if some.is_empty() {
            return expiries;
        }
        expiries.extend(some.iter().map(|job| (shown(job.to, job.code.expose()), expires_at)));
        scene.publish(to, some).await;
    }
}

fn shown(to: Phone, code: &str) -> String {
    format!("{:016x}", fingerprint(SEED, to, code))
}

/// How many milliseconds each sent code was still valid for when it arrived at its provider; negative
/// where it was not.
fn validity_left(scene: &Scene, expiries: &HashMap<String, UnixMs>) -> Vec<i64> {
    // Read before the mock's own clock, so that arrivals are dated a little early, never late.
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let started = wall.saturating_sub(Duration::from_micros(scene.mock.stats().uptime_us));
    let arrived = |at_us| started + Duration::from_micros(at_us);
    let left = scene.mock.messages(usize::MAX).into_iter().map(|sent| {
        let expires_at = i64::try_from(expiries[&sent.fingerprint].0).unwrap();
        expires_at - i64::try_from(arrived(sent.at_us).as_millis()).unwrap()
    });
    let mut left: Vec<i64> = left.collect();
    left.sort_unstable();
    left
}

/// How many requests arrived in the first `span` after the first one.
fn arrived_within(scene: &Scene, name: &str, from: Duration, to: Duration) -> usize {
    let arrivals = scene.mock.arrivals(Kind::Verihubs, name);
    let first = arrivals.first().copied().unwrap_or_default();
    let span = from.as_micros()..to.as_micros();
    arrivals.iter().filter(|at| span.contains(&u128::from(**at - first))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_is_no_longer_valid_is_never_sent() {
    let mut scene = one_provider("").await;
    let worker = scene.worker();
    worker.ready().await;
    let expiries = publish_steadily(&mut scene, "first", Jobs::new(1, 400), 4, Duration::from_secs(5)).await;
    scene.until_all_ended().await;
    let summary = scene.close();
    let account = account(&scene, "first");
    let left = validity_left(&scene, &expiries);
    println!(
        "40/s into 20/s, valid 5 s: {summary}; the least validity left at the provider: {} ms, median {} ms",
        left[0],
        left[left.len() / 2]
    );
    assert_eq!(left.len() as u64, account.attempts, "every request sent a message: {account:?}");
    assert!(left[0] >= 0, "{} codes arrived after their expiry: {:?}", late(&left), &left[..5]);
    assert!(account.most_in(Duration::from_secs(1)).unwrap() <= u64::from(PER_SECOND), "{account:?}");
    assert_eq!((summary.dead, account.duplicates), (0, 0));
    // 20 at once, then at most 20 a second for 15 s; the rest has no place. On busy cores some are missed.
    assert!((250..=320).contains(&summary.accepted) && summary.expired >= 80, "{summary}");
}

fn late(left: &[i64]) -> usize {
    left.iter().filter(|ms| **ms < 0).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waited_too_long_is_let_go_and_the_rest_is_sent_fresh() {
    let mut scene = one_provider("max_wait = \"2s\"").await;
    let worker = scene.worker();
    worker.ready().await;
    let expiries = publish_steadily(&mut scene, "first", Jobs::new(2, 400), 4, Duration::from_secs(5)).await;
    scene.until_all_ended().await;
    let summary = scene.close();
    let left = validity_left(&scene, &expiries);
    let fresh = left.iter().filter(|ms| **ms >= 2500).count() as f64 / left.len() as f64;
    let (from, to) = (Duration::from_secs(1), Duration::from_secs(9));
    let used = arrived_within(&scene, "first", from, to) as f64 / (8.0 * f64::from(PER_SECOND));
    println!(
        "40/s into 20/s, valid 5 s, max_wait 2 s: {summary}; {:.1} % sent with 2.5 s left or more, the least \
         {} ms; {:.1} % of the ceiling used",
        fresh * 100.0,
        left[0],
        used * 100.0
    );
    assert!(fresh >= 0.98, "{left:?}");
    assert!(used >= 0.95, "only {used} of the ceiling used");
    let letters = scene.queue.dead_letters(&DeadFilter::default(), now(), 1000).await.unwrap();
    assert!(letters.iter().all(|l| l.reason == Some(Reason::WaitedTooLong)));
    assert_eq!((letters.len() as u64, summary.expired), (summary.dead, 0));
    assert!(summary.dead >= 100, "{summary}");
}

/// Eight seconds of 60/s into this config; gives how many requests went to which provider meanwhile.
async fn spill(config: &str, lanes: &[(&str, bool, &[&str])], names: &[&str]) -> Vec<usize> {
    let mut scene = scene(config, lanes).await;
    let worker = scene.worker();
    worker.ready().await;
    let jobs = Jobs::new(30 + names.len() as u64, 480);
    publish_steadily(&mut scene, "login", jobs, 6, Duration::from_secs(3)).await;
    scene.until_all_ended().await;
    let summary = scene.close();
    let load = Duration::from_secs(8);
    let sent: Vec<usize> =
        names.iter().map(|name| arrived_within(&scene, name, Duration::ZERO, load)).collect();
    println!("60/s into {names:?} of 20/s each: {summary}; {sent:?} sent in 8 s");
    for name in names {
        let account = account(&scene, name);
        assert!(account.most_in(Duration::from_secs(1)).unwrap() <= u64::from(PER_SECOND), "{account:?}");
        assert_eq!(account.duplicates, 0, "{account:?}");
    }
    assert_eq!(scene.duplicates(), 0);
    assert_eq!(summary.accepted + summary.expired, 480, "{summary}");
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_provider_has_no_room_for_spills_to_the_second() {
    let one = format!("{}[routes.login]\nproviders = [\"first\"]\n", provider("first"));
    let two = format!(
        "{}{}[routes.login]\nproviders = [\"first\", \"second\"]\nspill_after = \"500ms\"\n",
        provider("first"),
        provider("second")
    );
    let (alone, both) = tokio::join!(
        spill(&one, &[("first", true, &["first", "login"])], &["first"]),
        spill(
            &two,
            &[("first", true, &["first", "login"]), ("second", true, &["second"])],
            &["first", "second"]
        ),
    );
    let most = 8.0 * f64::from(PER_SECOND);
    let used: Vec<f64> = both.iter().map(|sent| *sent as f64 / most).collect();
    let gain = (both[0] + both[1]) as f64 / alone[0] as f64;
    println!("use of the ceilings: {used:.2?}; {gain:.2} times as many as without a second provider");
    assert!(used.iter().all(|u| *u >= 0.9), "{used:?}");
    assert!(gain >= 1.8, "only {gain} times as many");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_again_gets_only_the_newest_code() {
    let mut scene = one_provider("").await;
    let blocked = FaultPlan::parse(Kind::Verihubs, "429(2s)=100%").unwrap();
    scene.mock.control(&Control::faults(blocked));
    let worker = scene.worker();
    worker.ready().await;
    let phones: Vec<Phone> = Jobs::new(4, 100).map(|job| job.to).collect();
    let code = |who: usize, round: usize| format!("{:06}", who * 10 + round);
    for round in 1..=3 {
        let bodies = phones.iter().enumerate().map(|(who, phone)| {
            let (id, to, code) = (format!("ask-{who}-{round}"), phone.expose_digits(), code(who, round));
            let body = format!(r#"{{"id":"{id}","to":"+{to}","code":"{code}"}}"#);
            (id, Bytes::from(body))
        });
        let bodies = bodies.collect();
        scene.publish_bodies("first", bodies).await;
        eventually("the lane to be blocked", PATIENCE, || async {
            let met = scene.mock.stats().of(Kind::Verihubs).map(|a| a.attempts).sum::<u64>();
            (met > 0).then_some(())
        })
        .await;
    }
    // Before anything can be sent: a code that left just before the newer one came is not wrong.
    scene.until("the older codes to be replaced", |scene| scene.count(FactKind::Superseded) == 200).await;
    scene.mock.control(&Control::faults(FaultPlan::none(Kind::Verihubs)));
    scene.until_all_ended().await;
    let summary = scene.close();
    let account = account(&scene, "first");
    println!("100 recipients ask 3 times: {summary}; answers {:?}", account.answers);
    assert_eq!((summary.accepted, summary.superseded), (100, 200), "{summary}");
    let sent: HashSet<String> = scene.mock.messages(usize::MAX).into_iter().map(|m| m.fingerprint).collect();
    let newest: HashSet<String> =
        phones.iter().enumerate().map(|(who, phone)| shown(*phone, &code(who, 3))).collect();
    assert_eq!(sent, newest, "not the newest code of each");
    assert_eq!(account.accepted, 100, "one message each");
}

/// More bulk jobs than any lane holds, and people who log in meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_backlog_delays_no_login_and_uses_what_is_left() {
    let config = format!(
        "{}[routes.news]\nproviders = [\"first\"]\nclass = \"bulk\"\n[routes.login]\nproviders = [\"first\"]\n",
        provider("first")
    );
    let mut scene = scene(&config, &[("first", true, &["first", "login", "news"])]).await;
    let expires_at = now().plus(Duration::from_secs(30));
    let bulk: Vec<Job> = Jobs::new(5, 7000).expires_at(expires_at).collect();
    scene.publish("news", bulk).await;
    let worker = scene.worker();
    worker.ready().await;
    scene.until("bulk to flow", |s| s.count(FactKind::Accepted) >= 20).await;
    let mut beat = tokio::time::interval(Duration::from_millis(250));
    for login in Jobs::new(6, 40) {
        beat.tick().await;
        scene.publish("login", vec![login]).await;
    }
    scene.until_all_ended().await;
    let summary = scene.close();
    let of = |route: &'static str, kind: FactKind| {
        let is_it = move |f: &&Fact| f.kind == kind && f.route.as_ref().is_some_and(|r| r.as_str() == route);
        scene.seen.iter().filter(is_it)
    };
    let waited = |fact: &Fact| fact.timings.map(|t| t.queued_ms + t.permit_ms).unwrap_or_default();
    let mut waits: Vec<u64> = of("login", FactKind::Accepted).map(waited).collect();
    waits.sort_unstable();
    let told = of("news", FactKind::Expired).map(|f| f.at.since(expires_at)).max().unwrap_or_default();
    let used = arrived_within(&scene, "first", Duration::from_secs(2), Duration::from_secs(12)) as f64
        / (10.0 * f64::from(PER_SECOND));
    println!(
        "40 logins beside 7,000 bulk jobs at 20/s: median {} ms, slowest {} ms; {:.1} % of the ceiling used; \
         expiry told within {told:.1?}; {summary}",
        waits[waits.len() / 2],
        waits[waits.len() - 1],
        used * 100.0
    );
    assert_eq!(waits.len(), 40, "{summary}");
    // One request is 50 ms; the rest is a busy machine's.
    assert!(waits[waits.len() / 2] <= 100 && waits[waits.len() - 1] <= 500, "{waits:?}");
    assert!(used >= 0.95, "{used}");
    assert!(told < Duration::from_secs(10), "{told:?}");
    let account = account(&scene, "first");
    assert!(account.most_in(Duration::from_secs(1)).unwrap() <= u64::from(PER_SECOND), "{account:?}");
    drop(worker);
}

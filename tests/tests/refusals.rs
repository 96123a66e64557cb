//! What refusals of a real provider do to a worker process: a limit below the configured one that nobody names,
//! one that moves, one number that alone is refused, a pause that outlives codes, and ends of which nobody can
//! tell.

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
use otpd_core::{FactKind, Reason, UnixMs};
use otpd_queue::DeadFilter;
use otpd_sim::mock::{AccountStats, Kind};
use otpd_sim::{Control, FaultPlan, Jobs, MockConfig};
use otpd_tests::rabbit::{PATIENCE, now};
use otpd_tests::{Broker, Scene, eventually, most_within};

const VERIHUBS: &str = r#"
[providers.verihubs]
kind = "verihubs"
base_url = "{mock}"
app_id = "app"
api_key = "key"
ceiling = "50/s"
"#;
const MSGAI: &str = r#"
[providers.msgai]
kind = "msgai"
base_url = "{mock}"
template = "login_code"
api_key = "sk_live_0123456789abcdef"
"#;
/// What is used at least on a machine where everything starves; elsewhere it is more than 95 %, as the simulation in
/// `crates/otpd-core/tests/learned` demands.
const LEAST_USED: f64 = 0.88;
/// Longer than any scene here.
const LONG: Duration = Duration::from_secs(240);

async fn scene(config: &str, lanes: &[(&str, bool, &[&str])], setup: Vec<Control>) -> Scene {
    let broker = Broker::shared();
    let latency = |kind| Control { latency: "30ms..60ms".parse().ok(), ..Control::of(kind) };
    let setup = [Kind::Verihubs, Kind::Msgai].map(latency).into_iter().chain(setup).collect();
    let mock = MockConfig { setup, ..MockConfig::default() };
    Scene::set(broker, &broker.url(), config, lanes, mock).await
}

fn takes(rate: &str) -> Control {
    Control { ceilings: Some(vec![rate.parse().unwrap()]), ..Control::of(Kind::Verihubs) }
}

fn fault(kind: Kind, plan: &str) -> Control {
    Control::faults(FaultPlan::parse(kind, plan).unwrap())
}

/// The account that was asked.
fn account(scene: &Scene) -> AccountStats {
    let stats = scene.mock.stats();
    stats.of(Kind::Verihubs).find(|a| a.attempts > 0).cloned().unwrap_or_else(|| panic!("nobody was asked"))
}

/// Waits until requests have arrived for so many seconds, and gives what was counted until then: when, accepted,
/// refused.
async fn after(scene: &Scene, seconds: u64) -> (f64, u64, u64) {
    eventually("requests to arrive for so long", LONG, || async {
        let stats = scene.mock.stats();
        let account = stats.of(Kind::Verihubs).find(|a| a.attempts > 0)?;
        let passed = account.last_arrival_us? - account.first_arrival_us?;
        let refused = account.answers.get(&429).copied().unwrap_or_default();
        (passed >= seconds * 1_000_000).then_some((passed as f64 / 1e6, account.accepted, refused))
    })
    .await
}

/// The share that is used of what could be, and that is refused of all.
fn shares(from: (f64, u64, u64), until: (f64, u64, u64), could: f64) -> (f64, f64) {
    let (accepted, refused) = ((until.1 - from.1) as f64, (until.2 - from.2) as f64);
    (accepted / could, refused / (accepted + refused))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_that_is_really_taken_is_learned_and_taken_over() {
    let mut scene = scene(VERIHUBS, &[("verihubs", true, &["verihubs"][..])], vec![takes("10/s")]).await;
    scene.publish("verihubs", Jobs::new(31, 560)).await;
    let mut worker = scene.worker();
    let early = after(&scene, 10).await;
    let late = after(&scene, 40).await;
    let (used, refused) = shares(early, late, (late.0 - early.0) * 10.0);
    println!(
        "50/s configured, 10/s taken: {} refused in the first {:.0} s, then {:.1} % used, {:.2} % refused",
        early.2,
        early.0,
        used * 100.0,
        refused * 100.0
    );
    let in_force = worker.sample("otpd_ceiling_per_second{provider=\"verihubs\"}").await;
    let configured = worker.sample("otpd_ceiling_configured_per_second{provider=\"verihubs\"}").await;
    assert!((9.0..=11.0).contains(&in_force) && configured > 49.0, "{in_force} of {configured}");
    // The next owner knows it from the first request on.
    worker.kill9();
    let next = scene.worker();
    scene.until_all_ended().await;
    let end = account(&scene);
    let summary = scene.close_but_for_repeats().0;
    let refused_since = end.answers[&429] - late.2;
    println!("taken over: {refused_since} refused in the rest; {summary}; {} duplicates", end.duplicates);
    assert!(used >= LEAST_USED && refused <= 0.02, "{used} used, {refused} refused: {}", scene.log());
    assert_eq!((summary.dead, summary.expired), (0, 0), "codes that are valid: {summary}");
    assert!(refused_since <= 10, "{refused_since}");
    let told = |kind| scene.seen.iter().any(|f| f.kind == kind && f.ceiling_per_second.is_some());
    assert!(told(FactKind::Resumed), "nobody was told what the provider takes");
    let logged = scene.log().matches("takes less than the configured ceiling").count();
    assert!((1..=2).contains(&logged), "{logged} times, by two workers");
    drop(next);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_moves_is_followed() {
    let mut scene = scene(VERIHUBS, &[("verihubs", true, &["verihubs"][..])], vec![takes("40/s")]).await;
    scene.publish("verihubs", Jobs::new(32, 4200)).await;
    let worker = scene.worker();
    let mut at = after(&scene, 10).await;
    let (begin, mut could) = (at, 0.0);
    for (until, before, next) in [(40, 40.0, Some("10/s")), (60, 10.0, Some("40/s")), (115, 40.0, None)] {
        let now = after(&scene, until).await;
        if let Some(next) = next {
            scene.mock.control(&takes(next));
        }
        could += (now.0 - at.0) * before;
        let (used, refused) = shares(at, now, (now.0 - at.0) * before);
        println!("{before}/s taken: {:.1} % used, {:.2} % refused", used * 100.0, refused * 100.0);
        at = now;
    }
    let (used, refused) = shares(begin, at, could);
    println!(
        "50/s configured, 40, 10 and 40/s taken: {:.1} % used, {:.2} % refused",
        used * 100.0,
        refused * 100.0
    );
    scene.mock.control(&Control { ceilings: Some(Vec::new()), ..Control::of(Kind::Verihubs) });
    scene.until_all_ended().await;
    let summary = scene.close();
    assert_eq!((summary.accepted, scene.duplicates()), (4200, 0), "{summary}");
    assert!(
        most_within(&scene.mock.arrivals(Kind::Verihubs, "app"), Duration::from_secs(1)) <= 50,
        "above the configured ceiling"
    );
    assert!(used >= LEAST_USED && refused <= 0.02, "{used} used, {refused} refused: {}", scene.log());
    drop(worker);
}

/// A job for a number, whose code is of use for so many seconds.
fn job(n: usize, number: &str, seconds: u64) -> (String, Bytes) {
    let (id, made) = (format!("job-{n}"), now());
    let until = UnixMs(made.0 + seconds * 1000);
    let body = format!(
        r#"{{"id":"{id}","to":"{number}","code":"48291{}","created_at":"{made}","expires_at":"{until}"}}"#,
        n % 10
    );
    (id, Bytes::from(body))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_number_that_is_refused_stops_nobody_else() {
    let refused = fault(Kind::Verihubs, "429(60s)=to:*7777");
    let mut scene = scene(VERIHUBS, &[("verihubs", true, &["verihubs"][..])], vec![refused]).await;
    let worker = scene.worker();
    worker.ready().await;
    scene.publish_bodies("verihubs", vec![job(0, "+999112007777", 20)]).await;
    eventually("the 429", PATIENCE, || async {
        let stats = scene.mock.stats();
        stats.of(Kind::Verihubs).any(|a| a.answers.contains_key(&429)).then_some(())
    })
    .await;
    let others = (1..=60).map(|n| job(n, &format!("+99911200{n:04}"), 20));
    scene.publish_bodies("verihubs", others.collect()).await;
    scene.until_all_ended().await;
    let summary = scene.close();
    println!("one number refused for 60 s without saying so, 60 other codes of 20 s: {summary}");
    assert_eq!((summary.accepted, summary.expired), (60, 1), "{summary}");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_outlives_a_code_moves_its_job_on() {
    let config = format!(
        "{MSGAI}ceiling = \"50/s\"\n{VERIHUBS}[routes.login]\nproviders = [\"msgai\", \"verihubs\"]\n"
    );
    let lanes = [("msgai", true, &["msgai", "login"][..]), ("verihubs", true, &["verihubs"][..])];
    let mut scene = scene(&config, &lanes, vec![fault(Kind::Msgai, "429(120s)=100%")]).await;
    let jobs = (0..60).map(|n| job(n, &format!("+99911200{n:04}"), 60));
    scene.publish_bodies("login", jobs.collect()).await;
    let worker = scene.worker();
    scene.until_all_ended().await;
    let summary = scene.close();
    println!("a pause of 120 s, 60 codes of 60 s, a fallback without spill_after: {summary}");
    assert_eq!((summary.accepted, summary.expired), (60, 0), "{summary}");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_more_than_two_messages_of_which_nobody_can_tell() {
    let config = format!(
        "{MSGAI}ceiling = \"50/s\"\n{VERIHUBS}[routes.login]\nproviders = [\"msgai\", \"verihubs\"]\n"
    );
    let lanes = [("msgai", true, &["msgai", "login"][..]), ("verihubs", true, &["verihubs"][..])];
    let setup = vec![fault(Kind::Msgai, "garbage=100%"), fault(Kind::Verihubs, "garbage=100%")];
    let mut scene = scene(&config, &lanes, setup).await;
    let numbers = (0..3).map(|n| job(n, &format!("+99911200{n:04}"), 120));
    scene.publish_bodies("login", numbers.collect()).await;
    scene
        .publish_bodies("verihubs", (3..6).map(|n| job(n, &format!("+99911200{n:04}"), 120)).collect())
        .await;
    let worker = scene.worker();
    scene.until_all_ended().await;
    let summary = scene.close();
    let sent = scene.mock.stats().accepted();
    println!("answers that cannot be read, two routes, six people: {sent} messages; {summary}");
    assert_eq!((sent, summary.dead), (12, 6), "{summary}");
    let letters = scene.queue.dead_letters(&DeadFilter::default(), now(), 10).await.unwrap();
    assert!(letters.iter().all(|l| l.reason == Some(Reason::AmbiguousParked)), "{letters:?}");
    let (code, out, err) = scene.otpd(&["dead", "replay", "--dry-run"]);
    assert!(code == 0 && out.contains("6 of them may have been sent already"), "{out}{err}");
    drop(worker);
}

//! `confirm_within` with real workers on a real broker: an accepted job stays in its lane until it is heard that its
//! message arrived, and goes to the next provider, once, where that is not heard. In each scene the ledger closes:
//! an extra send is no second end.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use otpd_core::{DeliveryStatus, Fact, FactKind, Reason};
use otpd_queue::{Settlement, Then};
use otpd_sim::mock::Kind;
use otpd_sim::{Control, MockConfig};
use otpd_tests::past::publish_past;
use otpd_tests::rabbit::{LaneInHand, PATIENCE, accepted, channel, job, now, provider};
use otpd_tests::{Broker, Proxy, Scene, WorkerProcess, eventually};

const DELIVERED: FactKind = FactKind::Delivery(DeliveryStatus::Delivered);
const FAILED: FactKind = FactKind::Delivery(DeliveryStatus::Failed);
const JOBS: usize = 20;

/// Two accounts of one provider; the second is asked where nobody hears of the first one's message in time.
async fn scene(broker: &Broker, confirm_within: &str) -> Scene {
    let account = |name: &str| {
        format!(
            "[providers.{name}]\nkind = \"verihubs\"\nbase_url = \"{{mock}}\"\nceiling = \"100/s\"\napp_id = \"{name}\"\napi_key = \"key\"\n"
        )
    };
    let config = format!(
        "[limits]\nrecipient = \"off\"\n{}{}[routes.login]\nproviders = [\"first\", \"second\"]\nconfirm_within = \"{confirm_within}\"\n",
        account("first"),
        account("second")
    );
    let control = Control {
        ceilings: Some(Vec::new()),
        latency: "2ms..10ms".parse().ok(),
        ..Control::of(Kind::Verihubs)
    };
    let mock = MockConfig { setup: vec![control], ..MockConfig::default() };
    let lanes = [("first", true, &["first", "login"][..]), ("second", true, &["second"][..])];
    Scene::set(broker, &broker.url(), &config, &lanes, mock).await
}

fn id(n: usize) -> String {
    format!("c-{n}")
}

fn message(n: usize) -> (String, Bytes) {
    let body = format!(r#"{{"id":"{}","to":"+999{n:09}","code":"482910"}}"#, id(n));
    (id(n), Bytes::from(body))
}

/// Publishes jobs and waits until the first account has accepted all of them.
async fn publish(scene: &mut Scene, jobs: usize) {
    scene.publish_bodies("login", (0..jobs).map(message).collect()).await;
    scene.until("every job to be accepted", |s| s.ended() == jobs).await;
}

/// Callbacks about the first account's messages, as another process tells them.
async fn call_back(broker: &Broker, scene: &Scene, kind: FactKind, jobs: impl Iterator<Item = usize>) {
    let told = jobs.map(|n| Fact { attempt: 1, ..Fact::new(kind, job(&id(n)), provider("first"), now()) });
    publish_past(&broker.url(), &scene.plan, told.collect::<Vec<_>>()).await;
}

fn requests(scene: &Scene, account: &str) -> u64 {
    scene.mock.stats().account(Kind::Verihubs, account).map_or(0, |a| a.attempts)
}

/// Waits until every lane is empty, and closes the ledger: `extra` jobs were sent once more, by the second account.
async fn close(scene: &mut Scene, jobs: usize, extra: usize) {
    scene.until_nothing_is_under_way().await;
    let summary = scene.close();
    println!("{summary}; {} extra sends", summary.extra_sends);
    assert_eq!((summary.accepted, summary.extra_sends), (jobs as u64, extra as u64), "{}", scene.log());
    assert_eq!((requests(scene, "first"), requests(scene, "second")), (jobs as u64, extra as u64));
    let moved = scene.seen.iter().filter(|f| f.kind == FactKind::FailedOver).count();
    assert!(moved >= extra, "{moved}");
}

async fn waits_for(worker: &WorkerProcess, jobs: usize) {
    eventually("the lane to wait for deliveries", PATIENCE, || async {
        let sample = "otpd_awaiting_delivery_jobs{provider=\"first\"}";
        (worker.sample(sample).await as usize == jobs).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_in_time_is_sent_once() {
    let broker = Broker::shared();
    let mut scene = scene(broker, "2m").await;
    let worker = scene.worker();
    worker.ready().await;
    publish(&mut scene, JOBS).await;
    waits_for(&worker, JOBS).await;
    call_back(broker, &scene, DELIVERED, 0..JOBS).await;
    // Within the minute that this waits at most: much sooner than the time is up.
    close(&mut scene, JOBS, 0).await;
    assert!(worker.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_hears_of_is_sent_once_more_by_the_next_provider() {
    let broker = Broker::shared();
    let mut scene = scene(broker, "3s").await;
    let worker = scene.worker();
    worker.ready().await;
    publish(&mut scene, JOBS).await;
    call_back(broker, &scene, DELIVERED, 0..JOBS / 2).await;
    close(&mut scene, JOBS, JOBS / 2).await;
    for n in JOBS / 2..JOBS {
        let of = |kind: FactKind, by: &str| {
            let found = scene
                .seen
                .iter()
                .find(|f| f.job.as_str() == id(n) && f.kind == kind && f.provider.as_str() == by);
            found.unwrap_or_else(|| panic!("{kind:?} of {n} by {by}")).clone()
        };
        let moved = of(FactKind::FailedOver, "first");
        assert_eq!((moved.reason, moved.extra), (Some(Reason::QueuedUnconfirmed), true));
        let waited = moved.at.since(of(FactKind::Accepted, "first").at);
        assert!((3_000..4_500).contains(&waited.as_millis()), "{waited:?}");
        assert!(of(FactKind::Accepted, "second").extra);
    }
    // A late arrival is only a fact.
    call_back(broker, &scene, DELIVERED, JOBS / 2..JOBS).await;
    close(&mut scene, JOBS, JOBS / 2).await;
    assert_eq!(worker.sample("otpd_jobs_total{provider=\"second\",outcome=\"accepted\"}").await as u64, 0);
    assert_eq!(worker.sample("otpd_extra_sends_total{provider=\"first\"}").await as usize, JOBS / 2);
    assert!(worker.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_is_sent_once_more_at_once() {
    let broker = Broker::shared();
    let mut scene = scene(broker, "2m").await;
    let worker = scene.worker();
    worker.ready().await;
    publish(&mut scene, JOBS).await;
    waits_for(&worker, JOBS).await;
    let began = Instant::now();
    call_back(broker, &scene, FAILED, 0..JOBS).await;
    close(&mut scene, JOBS, JOBS).await;
    println!("{JOBS} lost messages sent once more within {:?}", began.elapsed());
    assert!(worker.stop().await.success());
}

/// However the owner ends, the next one waits on, and no message goes out twice at one account.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_ends_while_it_waits_costs_no_message_and_no_time() {
    let broker = Broker::shared();
    for kill in [true, false] {
        let mut scene = scene(broker, "8s").await;
        let mut worker = scene.worker();
        worker.ready().await;
        publish(&mut scene, JOBS).await;
        waits_for(&worker, JOBS).await;
        call_back(broker, &scene, DELIVERED, 0..5).await;
        waits_for(&worker, JOBS - 5).await;
        if kill {
            worker.kill9();
        } else {
            assert!(worker.stop().await.success());
        }
        // Nobody owns the lane.
        call_back(broker, &scene, DELIVERED, 5..10).await;
        let next = scene.worker();
        next.ready().await;
        close(&mut scene, JOBS, JOBS - 10).await;
        let at = |kind| {
            scene.seen.iter().filter(move |f| f.kind == kind && f.provider.as_str() == "first").map(|f| f.at)
        };
        let waited = at(FactKind::FailedOver).max().unwrap().since(at(FactKind::Accepted).max().unwrap());
        println!("killed: {kill}; the last one waited {waited:?} in all");
        assert!(waited < Duration::from_secs(20), "{waited:?}");
        assert!(
            at(FactKind::FailedOver).min().unwrap().since(at(FactKind::Accepted).min().unwrap())
                >= Duration::from_secs(8)
        );
        assert_eq!(scene.count(FactKind::Duplicate), 0);
        assert!(next.stop().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_is_lost_and_opened_again_waits_on() {
    let broker = Broker::shared();
    let proxy = Proxy::start(broker.address()).await;
    let mut scene = scene(broker, "8s").await;
    let worker = scene.worker_at(&proxy.url());
    worker.ready().await;
    publish(&mut scene, JOBS).await;
    waits_for(&worker, JOBS).await;
    proxy.reset_all();
    call_back(broker, &scene, DELIVERED, 0..JOBS / 2).await;
    close(&mut scene, JOBS, JOBS / 2).await;
    assert_eq!(scene.count(FactKind::Duplicate), 0);
    assert!(worker.stop().await.success());
}

/// The former owner died after its move was in the next lane, and before that was told: its successor moves the job
/// again, and the next lane sends it once.
#[tokio::test(flavor = "multi_thread")]
async fn a_death_between_the_move_and_its_fact_sends_nothing_twice() {
    let broker = Broker::shared();
    let mut scene = scene(broker, "2s").await;
    scene.publish_bodies("login", vec![message(0)]).await;
    // The former owner: it told that the job was accepted, and kept it.
    let mut former = LaneInHand::open(&scene.queue, "first", 10);
    let delivery = former.delivery().await;
    let fact = Some(accepted(&delivery, "first"));
    former.settler.settle(Settlement { fact, then: Then::Keep });
    former.settler.flush().await;
    let lanes = channel(&broker.url()).await;
    let mut headers = FieldTable::default();
    headers.insert("x-otp-route".into(), AMQPValue::LongString("login".into()));
    for (name, number) in [("x-otp-attempt", 1), ("x-otp-hop", 1), ("x-otp-extra", 1)] {
        headers.insert(name.into(), AMQPValue::LongLongInt(number));
    }
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(id(0).as_str().into())
        .with_timestamp(now().0 / 1000)
        .with_headers(headers);
    let (exchange, options) = (scene.plan.lanes_exchange(), BasicPublishOptions::default());
    lanes
        .basic_publish(exchange.as_str().into(), "second".into(), options, &message(0).1, properties)
        .await
        .unwrap()
        .await
        .unwrap();
    former.stop.close().await;
    let worker = scene.worker();
    worker.ready().await;
    scene
        .until("the copy to be dropped", |s| {
            s.count(FactKind::Duplicate) == 1 && s.count(FactKind::FailedOver) == 1
        })
        .await;
    scene.until_nothing_is_under_way().await;
    let summary = scene.close();
    println!("{summary}; {} extra sends, {} copies dropped", summary.extra_sends, summary.duplicates);
    assert_eq!((summary.accepted, summary.extra_sends, summary.duplicates), (1, 1, 1));
    assert_eq!((requests(&scene, "first"), requests(&scene, "second")), (0, 1));
    assert!(worker.stop().await.success());
}

/// A reload turns it off and on for jobs that wait, and for those to come.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_what_is_awaited() {
    let broker = Broker::shared();
    let mut scene = scene(broker, "2m").await;
    let worker = scene.worker();
    worker.ready().await;
    publish(&mut scene, JOBS).await;
    waits_for(&worker, JOBS).await;
    scene.edit_config(|text| text.replace("confirm_within = \"2m\"\n", ""));
    worker.applies(1).await;
    close(&mut scene, JOBS, 0).await;
    scene.edit_config(|text| format!("{text}confirm_within = \"2s\"\n"));
    worker.applies(2).await;
    scene.publish_bodies("login", vec![message(JOBS)]).await;
    scene.until("it to be sent once more", |s| s.count(FactKind::FailedOver) == 1).await;
    close(&mut scene, JOBS + 1, 1).await;
    assert!(worker.stop().await.success());
}

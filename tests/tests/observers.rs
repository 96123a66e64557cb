//! Observers of the events: they get copies, and cannot hold up, refuse or repeat anything.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use lapin::Channel;
use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use otpd_sim::mock::Kind;
use otpd_sim::{Control, Jobs, MockConfig};
use otpd_tests::rabbit::{PATIENCE, channel, depth};
use otpd_tests::scene::Scene;
use otpd_tests::{Broker, eventually};

const CONFIG: &str = "[providers.verihubs]\nkind = \"verihubs\"\nbase_url = \"{mock}\"\napp_id = \"app\"\n\
     api_key = \"key\"\n[limits]\nrecipient = \"off\"\n";
const JOBS: usize = 2_000;

async fn scene(broker: &Broker) -> Scene {
    let quick = Control {
        latency: Some("1ms".parse().unwrap()),
        ceilings: Some(vec![]),
        ..Control::of(Kind::Verihubs)
    };
    let mock = MockConfig { setup: vec![quick], ..MockConfig::default() };
    Scene::set(broker, &broker.url(), CONFIG, &[("verihubs", false, &["verihubs"])], mock).await
}

/// Binds a queue to everything that happens.
async fn observe(admin: &Channel, scene: &Scene, name: &str, arguments: &[(&str, AMQPValue)]) -> String {
    let name = format!("{}{name}", scene.plan.prefix);
    let mut table = FieldTable::default();
    for (key, value) in arguments {
        table.insert((*key).into(), value.clone());
    }
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    admin.queue_declare(name.clone().into(), options, table).await.unwrap();
    let (bind, none) = (QueueBindOptions::default(), FieldTable::default());
    admin.queue_bind(name.clone().into(), scene.plan.events().into(), "#".into(), bind, none).await.unwrap();
    name
}

/// Sends [`JOBS`] jobs through a worker; how long that took, from the first publish to the last fact.
async fn work(scene: &mut Scene, seed: u64) -> Duration {
    let begun = Instant::now();
    let all = scene.ended() + JOBS;
    scene.publish("verihubs", Jobs::new(seed, JOBS as u64)).await;
    scene.until("every job to end", |s| s.ended() >= all).await;
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_of_an_observer_holds_up_and_repeats_nothing() {
    let broker = Broker::shared();
    let mut scene = scene(broker).await;
    let worker = scene.worker();
    worker.ready().await;
    let alone = work(&mut scene, 1).await;

    let admin = channel(&broker.url()).await;
    let quorum = ("x-queue-type", AMQPValue::LongString("quorum".into()));
    let refuse = ("x-overflow", AMQPValue::LongString("reject-publish".into()));
    let small = ("x-max-length", AMQPValue::LongInt(5));
    let all = observe(&admin, &scene, "all", &[]).await;
    observe(&admin, &scene, "full-classic", &[small.clone(), refuse.clone()]).await;
    observe(&admin, &scene, "full-quorum", &[quorum, small, refuse]).await;
    // Whoever has just bound a queue is found out within a second of events.
    let mut more = Jobs::new(3, 100_000);
    let mut extra = 0;
    while depth(&admin, &all).await == 0 {
        extra += 1;
        let ended = scene.ended() + 1;
        scene.publish("verihubs", more.next()).await;
        scene.until("the job to end", |s| s.ended() >= ended).await;
    }
    let observed = work(&mut scene, 2).await;
    println!("{JOBS} jobs took {alone:.2?} unobserved, {observed:.2?} beside full queues");
    assert!(observed < alone * 3 + Duration::from_secs(2), "{alone:?}, then {observed:?}");
    let (status, said) = worker.admin("/readyz").await.unwrap();
    assert_eq!(status, 200, "{said}");

    // Each fact is on the stream once, and whoever has room has got each once.
    let seen = scene.seen.len();
    let different: HashSet<String> = scene.seen.iter().map(otpd_core::Fact::event_id).collect();
    assert_eq!((seen, different.len()), (2 * JOBS + extra, 2 * JOBS + extra));
    eventually("the copies", PATIENCE, || async {
        (depth(&admin, &all).await as usize > JOBS).then_some(())
    })
    .await;
    let mut copies = HashSet::new();
    while let Some(copy) =
        admin.basic_get(all.clone().into(), BasicGetOptions { no_ack: true }).await.unwrap()
    {
        let id = copy.properties.message_id().as_ref().unwrap().to_string();
        assert!(different.contains(&id) && copies.insert(id.clone()), "{id} came twice, or never happened");
    }
    assert!(copies.len() > JOBS && copies.len() <= JOBS + extra, "{} copies, {extra} extra", copies.len());
    println!("{extra} jobs before the first copy, then {} copies", copies.len());
    assert_eq!(worker.sample("otpd_observer_events_dropped_total").await, 0.0);
    assert_eq!(scene.close().accepted, (2 * JOBS + extra) as u64);
    assert!(worker.stop().await.success(), "{}", scene.log());
}

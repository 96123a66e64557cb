//! What only RabbitMQ does, at the seam: arguments that differ, letters that the broker buried, lanes
//! that were never declared, nodes that do not answer. What both backends promise is in `conformance`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use lapin::options::{
    BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use otpd_core::{FactKind, Reason, UnixMs};
use otpd_queue::{
    Carried, DeadFilter, Difference, Inbound, Move, QueueError, Settlement, Then, TraceContext,
};
use otpd_tests::rabbit::{
    LaneInHand, PATIENCE, accepted, channel, depth, enqueue_all, job, now, plan, provider, rabbit, route,
};
use otpd_tests::{Broker, eventually};

async fn declare(admin: &Channel, queue: &str, arguments: &[(&str, AMQPValue)]) {
    let mut table = FieldTable::default();
    for (key, value) in arguments {
        table.insert((*key).into(), value.clone());
    }
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    admin.queue_declare(queue.into(), options, table).await.unwrap();
}

#[tokio::test]
async fn a_check_names_what_is_missing_and_what_differs_and_changes_nothing() {
    let broker = Broker::shared();
    let plan = plan(&broker.prefix(), &["verihubs"]);
    let queue = rabbit(&broker.url(), &plan);
    assert_eq!(queue.check_topology().await.unwrap().len(), 13, "seven exchanges and six queues are missing");
    assert_eq!(queue.check_topology().await.unwrap().len(), 13, "checking has made nothing");

    // Somebody made the lane by hand, without its delivery limit and with another overflow.
    let admin = channel(&broker.url()).await;
    let lane = plan.lane_queue(&provider("verihubs"));
    declare(&admin, &lane, &[("x-queue-type", AMQPValue::LongString("quorum".into()))]).await;
    let differences = queue.check_topology().await.unwrap();
    let different: Vec<_> =
        differences.iter().filter(|d| matches!(d, Difference::Different { .. })).collect();
    let [Difference::Different { what, how }] = different[..] else { panic!("{differences:?}") };
    assert_eq!(*what, format!("queue {lane}"));
    assert!(how.contains("inequivalent arg 'x-"), "{how}");

    let Err(QueueError::Topology(why)) = queue.apply_topology().await else { panic!("applied over it") };
    assert!(why.contains(different[0]));
    assert_eq!(queue.check_topology().await.unwrap(), differences, "a refused apply has touched something");

    admin.queue_delete(lane.into(), QueueDeleteOptions::default()).await.unwrap();
    queue.apply_topology().await.unwrap();
    queue.apply_topology().await.unwrap();
    assert_eq!(queue.check_topology().await.unwrap(), []);

    admin.exchange_delete(plan.lanes_exchange().into(), ExchangeDeleteOptions::default()).await.unwrap();
    let what = format!("exchange {}", plan.lanes_exchange());
    assert_eq!(queue.check_topology().await.unwrap(), [Difference::Missing { what }]);
}

#[tokio::test]
async fn long_retentions_are_taken_by_the_broker() {
    let broker = Broker::shared();
    let mut plan = plan(&broker.prefix(), &[]);
    plan.dead_retention = Duration::from_secs(3650 * 86_400);
    plan.events_retention = Duration::from_secs(90);
    let queue = rabbit(&broker.url(), &plan);
    queue.apply_topology().await.unwrap();
    assert_eq!(queue.check_topology().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_broker_buries_is_listed_and_replayed_without_its_past() {
    let broker = Broker::shared();
    let mut plan = plan(&broker.prefix(), &["verihubs"]);
    // One by one, as below, can be taken only from a lane without a single owner.
    plan.lanes[0].owners = otpd_queue::Owners::Many;
    let queue = rabbit(&broker.url(), &plan);
    queue.apply_topology().await.unwrap();
    enqueue_all(&queue, "verihubs", ["poison".to_owned()]).await;

    // Twenty-one deliveries that come to nothing.
    let admin = channel(&broker.url()).await;
    let lane = plan.lane_queue(&provider("verihubs"));
    for delivery in 0..21 {
        let got = eventually("the job comes again", PATIENCE, || async {
            admin.basic_get(lane.clone().into(), BasicGetOptions::default()).await.unwrap()
        });
        let nack = BasicNackOptions { requeue: true, ..Default::default() };
        assert!(got.await.nack(nack).await.unwrap(), "delivery {delivery}");
    }
    let letters = eventually("the broker buries it", PATIENCE, || async {
        let letters = queue.dead_letters(&DeadFilter::default(), now(), 10).await.unwrap();
        (!letters.is_empty()).then_some(letters)
    });
    let [letter] = &letters.await[..] else { panic!("one letter") };
    assert_eq!((letter.job.as_str(), letter.reason), ("poison", Some(Reason::DeliveryLimit)));
    assert_eq!(
        (letter.provider.as_ref(), letter.route.as_ref()),
        (Some(&provider("verihubs")), Some(&route("verihubs")))
    );
    assert!(now().since(letter.died_at.unwrap()) < Duration::from_secs(120));

    let filter = DeadFilter { reason: Some(Reason::DeliveryLimit), ..DeadFilter::default() };
    let replayed = queue.replay_dead(&filter, now(), &|_| true).await.unwrap();
    assert_eq!(replayed.len(), 1);
    assert_eq!(queue.dead_letters(&DeadFilter::default(), now(), 10).await.unwrap().len(), 0);
    let message =
        admin.basic_get(lane.into(), BasicGetOptions::default()).await.unwrap().expect("it is back");
    let headers = message.properties.headers().clone().unwrap_or_default();
    // The broker counts deliveries from 0 in a header of its own.
    let kept: Vec<_> =
        headers.inner().keys().map(ToString::to_string).filter(|k| k != "x-delivery-count").collect();
    let replay = ["x-otp-life", "x-otp-replayed-at", "x-otp-taken-at"];
    assert_eq!(kept, replay, "nothing of its past but its age, and which life ended");
    assert_eq!(message.data, b"body of poison");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_to_a_lane_that_was_never_declared_steps_aside_until_it_is() {
    let broker = Broker::shared();
    let prefix = broker.prefix();
    let small = plan(&prefix, &["verihubs"]);
    let queue = rabbit(&broker.url(), &small);
    queue.apply_topology().await.unwrap();
    enqueue_all(&queue, "verihubs", (0..20).map(|i| format!("job-{i}"))).await;
    let mut lane = LaneInHand::open(&queue, "verihubs", 20);
    let jobs = lane.deliveries(20).await;
    let moved = Move {
        to: provider("msgai"),
        section: otpd_queue::Section::Main,
        job: job("job-0"),
        body: jobs[0].body.clone(),
        carried: Carried { attempts: 2, hops: 1, route: Some(route("login")), ..Carried::default() },
        taken_at: UnixMs(1_800_000_000_123),
        trace: TraceContext::default(),
    };
    let fact = otpd_core::Fact { kind: FactKind::FailedOver, ..accepted(&jobs[0], "verihubs") };
    lane.settler.settle(Settlement { fact: Some(fact), then: Then::Move(jobs[0].tag, Box::new(moved)) });
    jobs[1..].iter().for_each(|job| lane.accept(job));
    let settler = lane.settler.clone();
    let flush = settler.flush();
    tokio::pin!(flush);

    // The others overtake it; it is neither published nor acknowledged, and holds the flush.
    let mut facts = queue.follow(Duration::from_secs(60)).await.unwrap();
    for expected in 1..20 {
        let fact = facts.recv().await.unwrap();
        assert_eq!((fact.kind, fact.job.to_string()), (FactKind::Accepted, format!("job-{expected}")));
    }
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut flush).await.is_err(), "flushed without it");

    let grown = plan(&prefix, &["verihubs", "msgai"]);
    rabbit(&broker.url(), &grown).apply_topology().await.unwrap();
    tokio::time::timeout(PATIENCE, flush).await.expect("it is tried again");
    assert_eq!(facts.recv().await.unwrap().kind, FactKind::FailedOver);
    lane.close().await;
    let next = LaneInHand::open(&queue, "msgai", 10).delivery().await;
    assert_eq!((next.carried.attempts, next.carried.hops, next.carried.route), (2, 1, Some(route("login"))));
    assert_eq!((next.body, next.taken_at), (jobs[0].body.clone(), Some(UnixMs(1_800_000_000_123))));
    assert_eq!(depth(&channel(&broker.url()).await, &small.lane_queue(&provider("verihubs"))).await, 0);
}

#[tokio::test]
async fn whatever_a_producer_publishes_is_handed_out() {
    let broker = Broker::shared();
    let plan = plan(&broker.prefix(), &["verihubs"]);
    let queue = rabbit(&broker.url(), &plan);
    queue.apply_topology().await.unwrap();
    let admin = channel(&broker.url()).await;
    admin.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut nonsense = FieldTable::default();
    for (key, value) in [
        ("x-otp-attempt", AMQPValue::LongString("many".into())),
        ("x-otp-hop", AMQPValue::Double(0.5)),
        ("x-otp-route", AMQPValue::LongString("NO SUCH NAME".into())),
        ("traceparent", AMQPValue::FieldTable(FieldTable::default())),
    ] {
        nonsense.insert(key.into(), value);
    }
    let strange = BasicProperties::default().with_headers(nonsense).with_message_id("no id, this".into());
    let huge = vec![b'x'; 300 * 1024];
    for (body, properties) in
        [(&b""[..], BasicProperties::default()), (b"\xff", strange), (&huge, BasicProperties::default())]
    {
        let options = BasicPublishOptions::default();
        let key = "verihubs".into();
        let sent =
            admin.basic_publish(plan.jobs_exchange().into(), key, options, body, properties).await.unwrap();
        assert!(sent.await.unwrap().is_ack());
    }
    let mut lane = LaneInHand::open(&queue, "verihubs", 10);
    let got = lane.deliveries(3).await;
    let bodies: Vec<Bytes> = got.iter().map(|d| d.body.clone()).collect();
    assert_eq!(bodies, [Bytes::new(), Bytes::from_static(b"\xff"), Bytes::from(huge)]);
    for delivery in &got {
        let carried = Carried { attempts: 0, hops: 0, route: Some(route("verihubs")), ..Carried::default() };
        assert_eq!((&delivery.carried, &delivery.message_id), (&carried, &None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_takes_over_knows_what_the_former_owner_did() {
    let broker = Broker::shared();
    let plan = plan(&broker.prefix(), &["verihubs"]);
    let (one, two) = (rabbit(&broker.url(), &plan), rabbit(&broker.url(), &plan));
    one.apply_topology().await.unwrap();
    enqueue_all(&one, "verihubs", (0..100).map(|i| format!("job-{i}"))).await;
    let mut first = LaneInHand::open(&one, "verihubs", 100);
    let jobs = first.deliveries(100).await;
    jobs[..50].iter().for_each(|job| first.accept(job));
    first.settler.flush().await;

    // The second waits in line, as one of many replicas does, and takes over what is left.
    let mut second = LaneInHand::open(&two, "verihubs", 100);
    assert!(matches!(second.hear().await, Inbound::Opened { session: 1 }));
    first.stop.stop();
    while !matches!(first.hear().await, Inbound::Stopped) {}
    first.close().await;
    let mut rest = vec![second.delivery().await];
    // Older records may be told after newer ones, but all before the first job.
    let known: BTreeSet<String> = second.heard.facts().iter().map(|f| f.job.to_string()).collect();
    assert_eq!(known, (0..50).map(|i| format!("job-{i}")).collect());
    rest.extend(second.deliveries(49).await);
    assert!(rest.iter().all(|d| d.redelivered));
    rest.iter().for_each(|job| second.accept(job));
    second.close().await;
    assert_eq!(two.depths().await.unwrap(), [(provider("verihubs"), 0)]);
}

#[tokio::test]
async fn the_next_node_is_tried_where_one_is_away() {
    let broker = Broker::shared();
    let plan = plan(&broker.prefix(), &[]);
    let away = "amqp://guest:s3cret@127.0.0.1:1/%2f";
    let config = |urls: &[&str]| otpd_queue::rabbitmq::RabbitConfig {
        nodes: otpd_queue::rabbitmq::Nodes::fixed(urls.iter().map(|u| u.parse().unwrap()).collect()),
        plan: plan.clone(),
        source: "otpd/test".into(),
    };
    let queue = otpd_queue::rabbitmq::Rabbit::new(config(&[away, &broker.url(), away]));
    eventually("a node that is there", PATIENCE, || async { queue.check_topology().await.ok() }).await;
    let nowhere = otpd_queue::rabbitmq::Rabbit::new(config(&[away]));
    let error = nowhere.check_topology().await.unwrap_err().to_string();
    assert!(error.contains("amqp://127.0.0.1:1/%2f") && !error.contains("s3cret"), "{error}");
    assert!(!format!("{nowhere:?}").contains("s3cret"));
    let error = otpd_queue::rabbitmq::Rabbit::new(config(&[])).check_topology().await.unwrap_err();
    assert!(error.to_string().contains("no broker URL"), "{error}");
}

#[tokio::test]
async fn a_refusal_is_told_in_the_brokers_words() {
    let broker = Broker::shared();
    let plan = plan(&broker.prefix(), &[]);
    for (url, word) in [
        (broker.url().replace("guest:guest", "guest:s3cret"), "ACCESS_REFUSED"),
        (broker.url().replace("%2f", "no-such-vhost"), "vhost"),
    ] {
        match rabbit(&url, &plan).check_topology().await {
            Err(QueueError::Refused { why }) => {
                assert!(why.contains(word) && !why.contains("s3cret"), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
}

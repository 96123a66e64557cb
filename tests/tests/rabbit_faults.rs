//! The RabbitMQ backend under faults, at the seam: nothing is lost, every fact is published, and a
//! delivery of a lost session is void.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use lapin::options::{QueueBindOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use otpd_core::{FactKind, JobId};
use otpd_queue::rabbitmq::Rabbit;
use otpd_queue::{Delivery, Inbound, Plan, Queue, Settlement, Then};
use otpd_tests::marks::{is_mark, mark_lane};
use otpd_tests::rabbit::{LaneInHand, PATIENCE, accepted_until, channel, depth, enqueue_all, plan, rabbit};
use otpd_tests::{Broker, Proxy, eventually};

const LANE: &str = "verihubs";

fn ids(n: usize) -> impl Iterator<Item = String> {
    (0..n).map(|i| format!("job-{i}"))
}

/// What a lane does, without sending: everything is accepted, once.
struct Owner {
    lane: LaneInHand,
    accepted: HashSet<String>,
    redelivered: usize,
    /// The last marker that came.
    marker: Option<JobId>,
}

impl Owner {
    fn new(lane: LaneInHand) -> Self {
        Self { lane, accepted: HashSet::new(), redelivered: 0, marker: None }
    }

    /// Takes one thing in, and settles it if it is a job.
    async fn step(&mut self) {
        let heard = self.lane.hear().await;
        let known = self.lane.heard.facts();
        self.accepted
            .extend(known.iter().filter(|f| f.kind == FactKind::Accepted).map(|f| f.job.to_string()));
        if let Inbound::Delivery(delivery) = heard {
            self.settle(&delivery);
        }
    }

    fn settle(&mut self, delivery: &Delivery) {
        let id = delivery.message_id.clone().unwrap();
        if is_mark(&id) {
            self.marker = Some(id);
            self.lane.settler.settle(Settlement { fact: None, then: Then::Acknowledge(delivery.tag) });
            return;
        }
        self.redelivered += usize::from(delivery.redelivered);
        if self.accepted.insert(id.to_string()) {
            self.lane.accept(delivery);
        } else {
            assert!(delivery.redelivered, "a job that is done came again, and not as a redelivery");
            self.lane.settler.settle(Settlement { fact: None, then: Then::Acknowledge(delivery.tag) });
        }
    }

    async fn until_accepted(&mut self, n: usize) {
        while self.accepted.len() < n {
            self.step().await;
        }
    }
}

/// Nothing is left in the lane, handed out or not, and the stream knows every job.
async fn the_ledger_closes(mut owner: Owner, queue: &Rabbit, plan: &Plan, broker: &Broker, jobs: usize) {
    // Redeliveries may still come; they go before a marker that is published now.
    let provider = otpd_tests::rabbit::provider(LANE);
    let marker = mark_lane(&Queue::Rabbit(queue.clone()), &provider).await;
    while owner.marker.as_ref() != Some(&marker) {
        owner.step().await;
    }
    owner.lane.close().await;
    let lane = plan.lane_queue(&provider);
    eventually("the closed lane gives nothing back", PATIENCE, || async {
        (tokio::task::block_in_place(|| broker.node().messages_in(&lane)) == 0).then_some(())
    })
    .await;
    let accepted = accepted_until(queue, |seen| seen.len() == jobs).await;
    let expected: HashSet<String> = ids(jobs).collect();
    assert_eq!(accepted.keys().cloned().collect::<HashSet<_>>(), expected);
    println!(
        "{jobs} jobs, {} redelivered, {} facts",
        owner.redelivered,
        accepted.values().map(|n| u64::from(*n)).sum::<u64>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_dies_while_5000_jobs_are_settled() {
    let broker = Broker::start();
    let plan = plan("otp.", &[LANE]);
    let queue = rabbit(&broker.url(), &plan);
    queue.apply_topology().await.unwrap();
    tokio::task::block_in_place(|| broker.write_down_topology());
    enqueue_all(&queue, LANE, ids(5000)).await;
    let mut owner = Owner::new(LaneInHand::open(&queue, LANE, 1000));
    for accepted in [1500, 3000] {
        owner.until_accepted(accepted).await;
        tokio::task::block_in_place(|| {
            broker.kill9();
            broker.start_again();
        });
    }
    owner.until_accepted(5000).await;
    assert!(owner.lane.session.unwrap() >= 3, "each death ends a session");
    the_ledger_closes(owner, &queue, &plan, &broker, 5000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_reset_again_and_again() {
    let broker = Broker::shared();
    let proxy = Proxy::start(broker.address()).await;
    let plan = plan(&broker.prefix(), &[LANE]);
    let queue = rabbit(&proxy.url(), &plan);
    queue.apply_topology().await.unwrap();
    enqueue_all(&queue, LANE, ids(3000)).await;
    let mut owner = Owner::new(LaneInHand::open(&queue, LANE, 1000));
    for accepted in (250..3000).step_by(250) {
        owner.until_accepted(accepted).await;
        proxy.reset_all();
    }
    owner.until_accepted(3000).await;
    assert!(owner.redelivered > 0, "the resets met nothing");
    the_ledger_closes(owner, &queue, &plan, broker, 3000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_is_noticed_and_outlived() {
    let broker = Broker::shared();
    let proxy = Proxy::start(broker.address()).await;
    let plan = plan(&broker.prefix(), &[LANE]);
    let queue = rabbit(&format!("{}?heartbeat=2", proxy.url()), &plan);
    queue.apply_topology().await.unwrap();
    enqueue_all(&queue, LANE, ids(500)).await;
    let mut owner = Owner::new(LaneInHand::open(&queue, LANE, 100));
    owner.until_accepted(200).await;
    proxy.swallow();
    while owner.lane.session.is_some() {
        owner.step().await;
    }
    proxy.resume();
    owner.until_accepted(500).await;
    the_ledger_closes(owner, &queue, &plan, broker, 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_holds_facts_back_and_repeats_none() {
    let broker = Broker::start();
    let plan = plan("otp.", &[LANE]);
    let queue = rabbit(&broker.url(), &plan);
    queue.apply_topology().await.unwrap();
    enqueue_all(&queue, LANE, ids(300)).await;
    let mut lane = LaneInHand::open(&queue, LANE, 300);
    let jobs = lane.deliveries(300).await;
    tokio::task::block_in_place(|| broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1"]));
    // What needs no publishing is acknowledged all the same: acknowledgements have their own connection.
    lane.settler.settle(Settlement { fact: None, then: Then::Acknowledge(jobs[0].tag) });
    tokio::time::timeout(PATIENCE, lane.settler.flush())
        .await
        .expect("an alarm does not hold acknowledgements");
    jobs[1..].iter().for_each(|job| lane.accept(job));
    // Longer than a confirm's deadline: publishing again would make every fact come twice.
    let held = tokio::time::timeout(Duration::from_secs(12), lane.settler.flush()).await;
    assert!(held.is_err(), "the broker was to hold publishers back");
    tokio::task::block_in_place(|| broker.ctl(&["set_vm_memory_high_watermark", "0.4"]));
    tokio::time::timeout(PATIENCE, lane.settler.flush()).await.expect("it goes on after the alarm");
    let accepted = accepted_until(&queue, |seen| seen.len() == 299).await;
    assert_eq!(accepted.values().max(), Some(&1), "a fact was published twice");
    assert_eq!(lane.session, Some(1));
    lane.close().await;
    assert_eq!(depth(&channel(&broker.url()).await, "otp.lane.verihubs").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_that_nobody_takes_hold_the_lane_until_somebody_does() {
    let broker = Broker::shared();
    let plan = plan(&broker.prefix(), &[LANE]);
    let queue = rabbit(&broker.url(), &plan);
    queue.apply_topology().await.unwrap();
    enqueue_all(&queue, LANE, ids(10)).await;
    let mut lane = LaneInHand::open(&queue, LANE, 10);
    let jobs = lane.deliveries(10).await;
    let (admin, events) = (channel(&broker.url()).await, plan.events());
    let (facts, arguments) = (plan.facts_exchange(), FieldTable::default);
    admin.queue_unbind(events.clone().into(), facts.clone().into(), "".into(), arguments()).await.unwrap();
    jobs.iter().for_each(|job| lane.accept(job));
    let settler = lane.settler.clone();
    let flush = settler.flush();
    tokio::pin!(flush);
    let held = tokio::time::timeout(Duration::from_secs(2), &mut flush).await;
    assert!(held.is_err(), "acknowledged without its fact");
    let bind = QueueBindOptions::default();
    admin.queue_bind(events.into(), facts.into(), "".into(), bind, arguments()).await.unwrap();
    tokio::time::timeout(PATIENCE, flush).await.expect("the fact finds its way");
    accepted_until(&queue, |seen| seen.len() == 10).await;
    lane.close().await;
    assert_eq!(depth(&admin, &plan.lane_queue(&otpd_tests::rabbit::provider(LANE))).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_ends_the_session_and_a_new_one_begins_another() {
    let broker = Broker::shared();
    let plan = plan(&broker.prefix(), &[LANE]);
    let queue = rabbit(&broker.url(), &plan);
    queue.apply_topology().await.unwrap();
    let mut lane = LaneInHand::open(&queue, LANE, 10);
    assert!(matches!(lane.hear().await, Inbound::Opened { session: 1 }));
    let name = plan.lane_queue(&otpd_tests::rabbit::provider(LANE));
    let admin = channel(&broker.url()).await;
    admin.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
    assert!(matches!(lane.hear().await, Inbound::Lost { session: 1 }));
    queue.apply_topology().await.unwrap();
    assert!(matches!(lane.hear().await, Inbound::Opened { session: 2 }));
    enqueue_all(&queue, LANE, ids(1)).await;
    let job = lane.delivery().await;
    lane.accept(&job);
    lane.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_goes_on_where_it_was() {
    let broker = Broker::shared();
    let proxy = Proxy::start(broker.address()).await;
    let plan = plan(&broker.prefix(), &[LANE]);
    let queue = rabbit(&broker.url(), &plan);
    queue.apply_topology().await.unwrap();
    let mut facts = rabbit(&proxy.url(), &plan).follow(Duration::from_secs(60)).await.unwrap();
    enqueue_all(&queue, LANE, ids(400)).await;
    let mut lane = LaneInHand::open(&queue, LANE, 400);
    let jobs = lane.deliveries(400).await;
    let mut followed = Vec::new();
    for some in jobs.chunks(100) {
        some.iter().for_each(|job| lane.accept(job));
        let until = followed.len() + 100;
        let read = async {
            while followed.len() < until {
                followed.push(facts.recv().await.unwrap().job.to_string());
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the follower comes back");
        proxy.reset_all();
    }
    assert_eq!(followed, jobs.iter().map(|j| j.message_id.clone().unwrap().to_string()).collect::<Vec<_>>());
    lane.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_fast_20000_jobs_are_settled() {
    let broker = Broker::shared();
    let plan = plan(&broker.prefix(), &[LANE]);
    let queue = rabbit(&broker.url(), &plan);
    queue.apply_topology().await.unwrap();
    enqueue_all(&queue, LANE, ids(20_000)).await;
    let mut lane = LaneInHand::open(&queue, LANE, 20_000);
    let began = Instant::now();
    let jobs = lane.deliveries(20_000).await;
    println!("20,000 jobs delivered in {:?}", began.elapsed());
    let began = Instant::now();
    jobs.iter().for_each(|job| lane.accept(job));
    lane.settler.flush().await;
    let rate = 20_000.0 / began.elapsed().as_secs_f64();
    println!("20,000 jobs settled in {:?}: {rate:.0}/s", began.elapsed());
    lane.close().await;
    let began = Instant::now();
    accepted_until(&queue, |seen| seen.len() == 20_000).await;
    println!("20,000 facts read back in {:?}", began.elapsed());
}

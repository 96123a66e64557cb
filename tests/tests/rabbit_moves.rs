//! Moves and burials that nobody takes: a next lane that refuses, that is bound to nothing or that never
//! confirms slows nothing else, and what is still on its way there is never acknowledged.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use lapin::Channel;
use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use otpd_core::{Fact, FactKind, Life, Reason};
use otpd_queue::rabbitmq::Rabbit;
use otpd_queue::{Burial, Carried, DeadFilter, Delivery, Move, Plan, Section, Settlement, Then};
use otpd_tests::rabbit::{
    LaneInHand, PATIENCE, accepted, channel, enqueue_all, now, plan, provider, rabbit, route,
};
use otpd_tests::{Broker, Proxy, eventually};

const LANE: &str = "verihubs";

/// A lane with `jobs` in hand.
async fn lane_with(jobs: usize, broker: &Broker) -> (Rabbit, Plan, LaneInHand, Vec<Delivery>) {
    let plan = plan(&broker.prefix(), &[LANE]);
    let queue = rabbit(&broker.url(), &plan);
    queue.apply_topology().await.unwrap();
    enqueue_all(&queue, LANE, (0..jobs).map(|i| format!("job-{i}"))).await;
    let mut lane = LaneInHand::open(&queue, LANE, u16::try_from(jobs).unwrap());
    let deliveries = lane.deliveries(jobs).await;
    (queue, plan, lane, deliveries)
}

/// The queue of the lane of `name`, bound, which holds at most `most` jobs.
async fn declare_lane(admin: &Channel, plan: &Plan, name: &str, most: i64) {
    let queue = plan.lane_queue(&provider(name));
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(most));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    admin.queue_declare(queue.clone().into(), durable, arguments).await.unwrap();
    let (exchange, bind) = (plan.lanes_exchange(), QueueBindOptions::default());
    admin.queue_bind(queue.into(), exchange.into(), name.into(), bind, FieldTable::default()).await.unwrap();
}

fn move_to(lane: &LaneInHand, next: &str, delivery: &Delivery) {
    let moved = Move {
        to: provider(next),
        section: Section::Main,
        job: delivery.message_id.clone().unwrap(),
        body: delivery.body.clone(),
        carried: Carried { attempts: 1, hops: 1, route: Some(route("login")), ..Carried::default() },
        taken_at: now(),
        trace: delivery.trace.clone(),
    };
    let fact = Fact { kind: FactKind::FailedOver, ..accepted(delivery, LANE) };
    lane.settler.settle(Settlement { fact: Some(fact), then: Then::Move(delivery.tag, Box::new(moved)) });
}

/// Every fifth job moves to `next`, all others are accepted, 200 a second: gives the median and the
/// longest time from settling one to reading its fact on the stream.
async fn latencies_beside_moves(
    queue: &Rabbit,
    lane: &LaneInHand,
    jobs: &[Delivery],
    next: &str,
) -> (Duration, Duration) {
    let mut facts = queue.follow(Duration::from_secs(1)).await.unwrap();
    let accepted_jobs = jobs.len() - jobs.len().div_ceil(5);
    let reading = tokio::spawn(async move {
        let mut read = HashMap::new();
        while read.len() < accepted_jobs {
            let fact = facts.recv().await.unwrap();
            if fact.kind == FactKind::Accepted {
                read.entry(fact.job).or_insert_with(Instant::now);
            }
        }
        read
    });
    let mut settled = HashMap::new();
    let mut beat = tokio::time::interval(Duration::from_millis(5));
    for (n, job) in jobs.iter().enumerate() {
        beat.tick().await;
        if n % 5 == 0 {
            move_to(lane, next, job);
        } else {
            settled.insert(job.message_id.clone().unwrap(), Instant::now());
            lane.accept(job);
        }
    }
    let read = tokio::time::timeout(PATIENCE, reading).await.expect("what is accepted is told").unwrap();
    let mut took: Vec<Duration> = read.iter().map(|(job, at)| *at - settled[job]).collect();
    took.sort_unstable();
    (took[took.len() / 2], took[took.len() - 1])
}

#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// Nothing is bound to its key.
    Unrouted,
    /// It holds one job and refuses the others.
    Full,
    /// It takes jobs and never confirms one.
    Silent,
}

async fn a_next_lane_in_trouble_slows_nothing(trouble: Trouble) {
    let broker = Broker::shared();
    let (queue, plan, lane, jobs) = lane_with(1000, broker).await;
    let admin = channel(&broker.url()).await;
    match trouble {
        Trouble::Unrouted => {}
        Trouble::Full => declare_lane(&admin, &plan, "next", 1).await,
        Trouble::Silent => {
            declare_lane(&admin, &plan, "next", 10_000).await;
            let name = format!("'%2F_{}'", plan.lane_queue(&provider("next")));
            tokio::task::block_in_place(|| broker.ctl(&["eval", &format!("sys:suspend({name}).")]));
        }
    }
    let (median, longest) = latencies_beside_moves(&queue, &lane, &jobs, "next").await;
    println!("{trouble:?}: median {median:?}, longest {longest:?}");
    assert!(median < Duration::from_millis(100), "median {median:?}");
    assert!(longest < Duration::from_secs(2), "longest {longest:?}");
    let unconfirmed = lane.settler.unconfirmed();
    assert!(unconfirmed < 20, "{unconfirmed} count against what may be in flight");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_dead_letters_is_whole_although_the_network_stands_still_for_3_s() {
    let broker = Broker::shared();
    let (_queue, plan, lane, jobs) = lane_with(2000, broker).await;
    for job in &jobs {
        let burial = Burial {
            job: job.message_id.clone().unwrap(),
            body: job.body.clone(),
            reason: Reason::InvalidRequest,
            class: None,
            provider: provider(LANE),
            route: Some(route(LANE)),
            http_status: None,
            attempts: 1,
            detail: None,
            died_at: now(),
            taken_at: now(),
            life: Life::default(),
            trace: job.trace.clone(),
        };
        let fact = Fact { kind: FactKind::Dead, ..accepted(job, LANE) };
        lane.settler.settle(Settlement { fact: Some(fact), then: Then::Bury(job.tag, Box::new(burial)) });
    }
    lane.settler.flush().await;
    let proxy = Proxy::start(broker.address()).await;
    let operator = rabbit(&proxy.url(), &plan);
    operator.check_topology().await.unwrap();
    let listing = tokio::spawn(async move {
        operator.dead_letters(&DeadFilter::default(), now(), usize::MAX).await.unwrap().len()
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    proxy.swallow();
    tokio::time::sleep(Duration::from_secs(3)).await;
    proxy.resume();
    assert_eq!(listing.await.unwrap(), 2000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_next_lane_that_is_bound_to_nothing_slows_nothing() {
    a_next_lane_in_trouble_slows_nothing(Trouble::Unrouted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_next_lane_that_is_full_slows_nothing() {
    a_next_lane_in_trouble_slows_nothing(Trouble::Full).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_next_lane_that_never_confirms_slows_nothing() {
    a_next_lane_in_trouble_slows_nothing(Trouble::Silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_destination_in_trouble_does_not_delay_moves_to_another() {
    let broker = Broker::shared();
    let (queue, plan, lane, jobs) = lane_with(600, broker).await;
    let admin = channel(&broker.url()).await;
    declare_lane(&admin, &plan, "silent", 10_000).await;
    declare_lane(&admin, &plan, "full", 1).await;
    declare_lane(&admin, &plan, "good", 10_000).await;
    let name = format!("'%2F_{}'", plan.lane_queue(&provider("silent")));
    tokio::task::block_in_place(|| broker.ctl(&["eval", &format!("sys:suspend({name}).")]));
    let began = Instant::now();
    for (job, next) in jobs.iter().zip(["silent", "full", "unbound", "good", "good", "good"].iter().cycle()) {
        move_to(&lane, next, job);
    }
    let mut facts = queue.follow(Duration::from_secs(60)).await.unwrap();
    let mut moved = 0;
    let read = async {
        while moved < 300 {
            moved += usize::from(facts.recv().await.unwrap().kind == FactKind::FailedOver);
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("moves to the good lane are told");
    println!("300 moves to a good lane beside three bad ones: {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    eventually("the good lane has them", PATIENCE, || async {
        (otpd_tests::rabbit::depth(&admin, &plan.lane_queue(&provider("good"))).await >= 300).then_some(())
    })
    .await;
}

//! Promises about dead letters: listed by filter, replayed to their routes, purged, and otherwise left alone.

use std::time::Duration;

use otpd_core::{Class, FactKind, Life, Reason, UnixMs};
use otpd_queue::{Burial, Carried, DeadFilter, DeadLetter, Delivery, Queue, Then, TraceContext};

use crate::ground::{Ground, PATIENCE, Worker, id, id_of, ids, now, provider_name, publish, route_name};

const OLD: Duration = Duration::from_secs(3_600);
/// From being taken to death.
const LIVED: Duration = Duration::from_millis(2_345);
const BETWEEN: Duration = Duration::from_secs(1_800);

/// Four letters, buried in the order of their death: of two lanes, the first two old and expired.
async fn bury_four(queue: &Queue) -> [Worker; 2] {
    let mut alpha = Worker::open(queue, "alpha", 10);
    let mut beta = Worker::open(queue, "beta", 10);
    for (job, route, reason, age) in [
        ("a", "login", Reason::Expired, OLD),
        ("b", "alerts", Reason::Expired, OLD),
        ("c", "login", Reason::RecipientBlocked, Duration::ZERO),
        ("d", "alerts", Reason::AttemptsExhausted, Duration::ZERO),
    ] {
        publish(queue, route, job, format!("body of {job}")).await;
        let worker = if route == "login" { &mut alpha } else { &mut beta };
        let delivery = worker.delivery().await;
        bury(worker, &delivery, reason, now().minus(age)).await;
    }
    [alpha, beta]
}

async fn bury(worker: &Worker, delivery: &Delivery, reason: Reason, died_at: UnixMs) {
    let burial = Burial {
        job: id_of(delivery),
        body: delivery.body.clone(),
        reason,
        class: Some(Class::Permanent),
        provider: worker.provider.clone(),
        route: delivery.carried.route.clone(),
        http_status: None,
        attempts: 4,
        detail: None,
        died_at,
        taken_at: died_at.minus(LIVED),
        life: otpd_core::Life::default(),
        trace: TraceContext::default(),
    };
    let fact = worker.fact(FactKind::Dead, &id_of(delivery), 4);
    worker.settle(Some(fact), Then::Bury(delivery.tag, Box::new(burial)));
    worker.flush().await;
}

async fn listed(queue: &Queue, filter: &DeadFilter) -> Vec<String> {
    names(&queue.dead_letters(filter, now(), 100).await.unwrap())
}

fn names(letters: &[DeadLetter]) -> Vec<String> {
    letters.iter().map(|l| l.job.to_string()).collect()
}

fn any() -> DeadFilter {
    DeadFilter::default()
}

pub(crate) async fn letters_are_listed_by_filter_and_stay(ground: &Ground) {
    let queue = ground.queue().await;
    bury_four(&queue).await;
    let other = ground.queue().await;
    let expired = DeadFilter { reason: Some(Reason::Expired), ..any() };
    let of_beta = DeadFilter { provider: Some(provider_name("beta")), ..any() };
    for (filter, meant) in [
        (any(), &["a", "b", "c", "d"][..]),
        (DeadFilter { job: Some(id("c")), ..any() }, &["c"]),
        (expired.clone(), &["a", "b"]),
        (of_beta.clone(), &["b", "d"]),
        (DeadFilter { provider: Some(provider_name("beta")), ..expired }, &["b"]),
        (DeadFilter { older_than: Some(BETWEEN), ..any() }, &["a", "b"]),
        (DeadFilter { younger_than: Some(BETWEEN), ..any() }, &["c", "d"]),
        (DeadFilter { younger_than: Some(BETWEEN), ..of_beta }, &["d"]),
        (DeadFilter { reason: Some(Reason::Unroutable), ..any() }, &[]),
    ] {
        assert_eq!(listed(&other, &filter).await, meant, "{filter:?}");
    }
    let two = other.dead_letters(&any(), now(), 2).await.unwrap();
    assert_eq!(names(&two), ["a", "b"]);
    assert_eq!(listed(&queue, &any()).await, ["a", "b", "c", "d"]);
}

pub(crate) async fn replayed_goes_back_to_its_route_and_is_no_letter_any_more(ground: &Ground) {
    let queue = ground.queue().await;
    let [mut alpha, mut beta] = bury_four(&queue).await;
    let operator = ground.queue().await;
    let expired = DeadFilter { reason: Some(Reason::Expired), ..any() };
    let replayed = operator.replay_dead(&expired, now(), &|_| true).await.unwrap();
    assert_eq!(names(&replayed), ["a", "b"]);
    for (worker, job, route) in [(&mut alpha, "a", "login"), (&mut beta, "b", "alerts")] {
        let back = worker.delivery().await;
        assert_eq!((ids([&back]), back.redelivered), (vec![job.to_owned()], false));
        assert_eq!(back.body, format!("body of {job}"));
        let letter = replayed.iter().find(|letter| letter.job == id(job)).unwrap();
        let replayed_at = back.carried.replayed_at.filter(|at| *at <= now());
        assert!(replayed_at.is_some_and(|at| now().since(at) < PATIENCE), "{replayed_at:?}");
        let (route, life) = (Some(route_name(route)), Life::after(letter.died_at.unwrap()));
        assert_eq!(back.carried, Carried { route, life, replayed_at, ..Carried::default() });
        // As old as it is: a code must not become valid again.
        assert_eq!(back.taken_at, Some(letter.died_at.unwrap().minus(LIVED)));
        worker.accept(&back);
        worker.flush().await;
    }
    assert_eq!(listed(&operator, &any()).await, ["c", "d"]);
    assert!(operator.replay_dead(&expired, now(), &|_| true).await.unwrap().is_empty());
    alpha.nothing_comes().await;
    beta.nothing_comes().await;
}

pub(crate) async fn only_what_is_wanted_is_replayed(ground: &Ground) {
    let queue = ground.queue().await;
    let [mut alpha, mut beta] = bury_four(&queue).await;
    let wanted = |letter: &DeadLetter| letter.body == "body of c";
    let replayed = queue.replay_dead(&any(), now(), &wanted).await.unwrap();
    assert_eq!(names(&replayed), ["c"]);
    assert_eq!(ids(&alpha.deliveries(1).await), ["c"]);
    alpha.nothing_comes().await;
    beta.nothing_comes().await;
    assert_eq!(listed(&queue, &any()).await, ["a", "b", "d"]);
}

pub(crate) async fn purged_is_gone_and_the_rest_stays(ground: &Ground) {
    let queue = ground.queue().await;
    let [mut alpha, mut beta] = bury_four(&queue).await;
    let old = DeadFilter { older_than: Some(BETWEEN), ..any() };
    assert_eq!(queue.purge_dead(&old, now()).await.unwrap(), 2);
    assert_eq!(listed(&queue, &any()).await, ["c", "d"]);
    assert_eq!(queue.purge_dead(&old, now()).await.unwrap(), 0);
    assert_eq!(queue.purge_dead(&any(), now()).await.unwrap(), 2);
    assert!(listed(&queue, &any()).await.is_empty());
    alpha.nothing_comes().await;
    beta.nothing_comes().await;
}

//! Promises about what comes in: order, completeness, bounds, and what comes again.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use otpd_core::{FactKind, UnixMs};
use otpd_queue::{Carried, Inbound, QueueError, Then, TraceContext};

use crate::ground::{Ground, PATIENCE, Worker, depths_become, id, id_of, ids, now, publish, route_name};

pub(crate) async fn jobs_arrive_in_order_as_they_were_published(ground: &Ground) {
    let queue = ground.queue().await;
    let begun = now();
    let published: Vec<String> = (0..200).map(|n| format!("job-{n}")).collect();
    for job in &published[..100] {
        publish(&queue, "login", job, format!("body of {job}")).await;
    }
    let mut alpha = Worker::open(&queue, "alpha", 300);
    for job in &published[100..] {
        publish(&queue, "login", job, format!("body of {job}")).await;
    }
    let got = alpha.deliveries(200).await;
    assert_eq!(ids(&got), published);
    for delivery in &got {
        assert_eq!(delivery.body, format!("body of {}", id_of(delivery)));
        let carried =
            Carried { attempts: 0, hops: 0, route: Some(route_name("login")), ..Carried::default() };
        assert_eq!((&delivery.carried, delivery.redelivered), (&carried, false));
        assert_eq!(delivery.trace, TraceContext::default());
        // A broker may know the second only.
        let taken = delivery.taken_at.unwrap_or(begun);
        assert!(taken >= begun.minus(Duration::from_secs(1)) && taken <= now(), "{taken}");
    }
    alpha.nothing_comes().await;
}

pub(crate) async fn jobs_of_many_producers_arrive_exactly_once(ground: &Ground) {
    let queue = ground.queue().await;
    let mut alpha = Worker::open(&queue, "alpha", 50);
    let mut producers = tokio::task::JoinSet::new();
    for producer in 0..8 {
        let queue = queue.clone();
        producers.spawn(async move {
            for n in 0..100 {
                publish(&queue, "login", &format!("{producer}-{n}"), "{}").await;
            }
        });
    }
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..800 {
        let delivery = alpha.delivery().await;
        *seen.entry(id_of(&delivery).to_string()).or_default() += 1;
        alpha.accept(&delivery);
    }
    producers.join_all().await;
    assert_eq!((seen.len(), seen.values().max()), (800, Some(&1)));
    alpha.flush().await;
    alpha.nothing_comes().await;
    alpha.close().await;

    let mut again = Worker::open(&queue, "alpha", 50);
    again.nothing_comes().await;
}

pub(crate) async fn an_unknown_route_is_refused(ground: &Ground) {
    let queue = ground.queue().await;
    let refused =
        queue.enqueue(&route_name("nowhere"), &id("a"), Bytes::from("{}"), &TraceContext::default()).await;
    match refused {
        Err(QueueError::Unroutable { key, .. }) => assert_eq!(key, "nowhere"),
        other => panic!("{other:?}"),
    }
    publish(&queue, "login", "b", "{}").await;
    let mut alpha = Worker::open(&queue, "alpha", 10);
    assert_eq!(ids(&alpha.deliveries(1).await), ["b"]);
    alpha.nothing_comes().await;
}

pub(crate) async fn lanes_do_not_mix(ground: &Ground) {
    let queue = ground.queue().await;
    for (route, job) in [("login", "a"), ("alerts", "b"), ("beta", "c"), ("alpha", "d")] {
        publish(&queue, route, job, "{}").await;
    }
    let mut alpha = Worker::open(&queue, "alpha", 10);
    let mut beta = Worker::open(&queue, "beta", 10);
    assert_eq!(ids(&alpha.deliveries(2).await), ["a", "d"]);
    let of_beta = beta.deliveries(2).await;
    assert_eq!(ids(&of_beta), ["b", "c"]);
    assert_eq!(of_beta[1].carried.route, Some(route_name("beta")));
    alpha.nothing_comes().await;
    beta.nothing_comes().await;
}

pub(crate) async fn no_more_is_out_than_the_prefetch(ground: &Ground) {
    let queue = ground.queue().await;
    let mut alpha = Worker::open(&queue, "alpha", 3);
    for n in 0..10 {
        publish(&queue, "login", &format!("job-{n}"), "{}").await;
    }
    let mut out = alpha.deliveries(3).await;
    depths_become(&queue, &[("alpha", 7), ("beta", 0)]).await;
    for last in 3..10 {
        // Settled in any order; a retry frees nothing.
        let retried = alpha.fact(FactKind::Retrying, &id_of(&out[0]), 1);
        alpha.settle(Some(retried), Then::Keep);
        alpha.accept(&out.remove(last % 3));
        alpha.flush().await;
        let next = alpha.delivery().await;
        assert_eq!(id_of(&next), id(&format!("job-{last}")));
        out.push(next);
    }
    out.iter().for_each(|delivery| alpha.accept(delivery));
    alpha.nothing_comes().await;
}

pub(crate) async fn bodies_and_traces_arrive_unchanged(ground: &Ground) {
    let queue = ground.queue().await;
    let traced = TraceContext {
        parent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        state: Some("vendor=1,other=2".into()),
    };
    let large: Vec<u8> = (0..64 * 1024).map(|n: u32| n.to_le_bytes()[0]).collect();
    let bodies =
        [Bytes::from(large), Bytes::new(), Bytes::from_static(&[0xff, 0x00, 0xfe]), Bytes::from("{")];
    for (n, body) in bodies.iter().enumerate() {
        let job = id(&format!("job-{n}"));
        queue.enqueue(&route_name("login"), &job, body.clone(), &traced).await.unwrap();
    }
    let mut alpha = Worker::open(&queue, "alpha", 10);
    for body in bodies {
        let delivery = alpha.delivery().await;
        assert!(delivery.body == body, "{} bytes instead of {}", delivery.body.len(), body.len());
        assert_eq!(delivery.trace, traced);
    }
}

pub(crate) async fn what_was_not_settled_comes_again_after_its_history(ground: &Ground) {
    let queue = ground.queue().await;
    for n in 0..5 {
        publish(&queue, "login", &format!("job-{n}"), "{}").await;
    }
    let mut alpha = Worker::open(&queue, "alpha", 10);
    let out = alpha.deliveries(5).await;
    assert!(out.iter().all(|d| !d.redelivered));
    alpha.accept(&out[1]);
    alpha.accept(&out[3]);
    let mut retrying = alpha.fact(FactKind::Retrying, &id_of(&out[0]), 2);
    retrying.next_attempt_at = Some(UnixMs(now().0 + 5_000));
    alpha.settle(Some(retrying.clone()), Then::Keep);
    alpha.close().await;
    queue.close().await;

    let queue = ground.queue().await;
    publish(&queue, "login", "job-5", "{}").await;
    let heard = otpd_tests::Heard::default();
    queue.listen(heard.listener());
    let mut alpha = Worker::open(&queue, "alpha", 10);
    let mut again = Vec::new();
    let mut opened = 0;
    while again.len() < 4 {
        match alpha.next().await {
            Inbound::Opened { session } => opened = session,
            Inbound::Delivery(delivery) => {
                assert!(opened > 0, "a delivery before its session");
                let history = heard.facts();
                let accepted = history.iter().filter(|f| f.kind == FactKind::Accepted).count();
                assert!(accepted >= 2 && history.contains(&retrying), "{history:?}");
                assert_eq!(delivery.tag.session, opened);
                again.push((id_of(&delivery).to_string(), delivery.redelivered));
            }
            other @ (Inbound::Lost { .. } | Inbound::Stopped) => panic!("{other:?}"),
        }
    }
    again.sort();
    let expected = [("job-0", true), ("job-2", true), ("job-4", true), ("job-5", false)];
    assert_eq!(again, expected.map(|(job, redelivered)| (job.to_owned(), redelivered)));
    alpha.nothing_comes().await;
}

pub(crate) async fn a_stopped_lane_gets_nothing_but_may_settle(ground: &Ground) {
    let queue = ground.queue().await;
    for job in ["a", "b"] {
        publish(&queue, "login", job, "{}").await;
    }
    let mut alpha = Worker::open(&queue, "alpha", 10);
    let out = alpha.deliveries(2).await;
    alpha.lane.stop.stop();
    let stopped = alpha.next().await;
    assert!(matches!(stopped, Inbound::Stopped), "{stopped:?}");
    publish(&queue, "login", "c", "{}").await;
    alpha.accept(&out[0]);
    alpha.close().await;

    // Never handed out to the stopped lane: it does not come as a redelivery.
    let mut again = Worker::open(&queue, "alpha", 10);
    let mut rest: Vec<_> =
        again.deliveries(2).await.iter().map(|d| (id_of(d).to_string(), d.redelivered)).collect();
    rest.sort();
    assert_eq!(rest, [("b".to_owned(), true), ("c".to_owned(), false)]);
    again.nothing_comes().await;
}

pub(crate) async fn what_a_closed_lane_had_is_free_at_once(ground: &Ground) {
    let queue = ground.queue().await;
    publish(&queue, "login", "a", "{}").await;
    for round in 0..5 {
        let mut alpha = Worker::open(&queue, "alpha", 10);
        let begun = tokio::time::Instant::now();
        let delivery = alpha.delivery().await;
        assert_eq!((ids([&delivery]), delivery.redelivered), (vec!["a".to_owned()], round > 0));
        assert!(begun.elapsed() < PATIENCE / 3, "{:?}", begun.elapsed());
        alpha.close().await;
    }
}

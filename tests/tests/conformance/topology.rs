//! Promises about the plan: applied as often as one likes, compared in words, counted.

use std::time::Duration;

use otpd_core::Reason;
use otpd_queue::{DeadFilter, Difference, Leftovers, QueueError, Trial};

use crate::ground::{Ground, Worker, depths_become, ids, lane_plan, now, provider_name, publish};

pub(crate) async fn applied_twice_is_as_planned(ground: &Ground) {
    let queue = ground.planned(ground.plan()).await;
    let before = queue.check_topology().await.unwrap();
    assert!(
        !before.is_empty() && before.iter().all(|d| matches!(d, Difference::Missing { .. })),
        "{before:?}"
    );
    for _ in 0..2 {
        queue.apply_topology().await.unwrap();
        assert_eq!(queue.check_topology().await.unwrap(), []);
    }
    // Looking from elsewhere finds the same, and jobs stay through an application.
    publish(&queue, "login", "a", "{}").await;
    let other = ground.queue().await;
    assert_eq!(other.check_topology().await.unwrap(), []);
    Worker::open(&other, "alpha", 1).delivery().await;
}

pub(crate) async fn a_changed_plan_is_reported(ground: &Ground) {
    ground.queue().await;
    let mut grown = ground.plan();
    grown.lanes.push(lane_plan("gamma", &["gamma"]));
    let told = ground.planned(grown).await.check_topology().await.unwrap();
    let missing = |d: &Difference| matches!(d, Difference::Missing { what } if what.contains("gamma"));
    assert!(!told.is_empty() && told.iter().all(missing), "{told:?}");

    let mut shorter = ground.plan();
    shorter.dead_retention = Duration::from_secs(3_600);
    let told = ground.planned(shorter).await.check_topology().await.unwrap();
    let [Difference::Different { what, how }] = &told[..] else { panic!("{told:?}") };
    assert!(what.contains("dead") && how.contains("3600000"), "{what}: {how}");
    assert_eq!(ground.planned(ground.plan()).await.check_topology().await.unwrap(), []);
}

pub(crate) async fn depths_count_what_waits(ground: &Ground) {
    let queue = ground.queue().await;
    depths_become(&queue, &[("alpha", 0), ("beta", 0)]).await;
    for n in 0..7 {
        publish(&queue, "login", &format!("job-{n}"), "{}").await;
    }
    depths_become(&queue, &[("alpha", 7), ("beta", 0)]).await;
    let mut alpha = Worker::open(&queue, "alpha", 2);
    let out = alpha.deliveries(2).await;
    depths_become(&queue, &[("alpha", 5), ("beta", 0)]).await;
    alpha.accept(&out[0]);
    alpha.close().await;
    depths_become(&queue, &[("alpha", 6), ("beta", 0)]).await;
}

pub(crate) async fn a_retired_lane_leaves_its_jobs_to_another_or_to_the_dead_letters(ground: &Ground) {
    let (alpha, beta) = (provider_name("alpha"), provider_name("beta"));
    let mut grown = ground.plan();
    grown.lanes.push(lane_plan("gamma", &["gamma"]));
    let before = ground.planned(grown).await;
    before.apply_topology().await.unwrap();
    for job in ["a", "b"] {
        publish(&before, "alpha", job, "{}").await;
        publish(&before, "gamma", &format!("{job}-of-gamma"), "{}").await;
    }
    before.close().await;
    let mut small = ground.plan();
    small.lanes.retain(|lane| lane.provider == beta);
    let queue = ground.planned(small).await;
    let to_beta = Leftovers::MoveTo(beta.clone());
    let early = queue.retire(&alpha, &to_beta, Trial::Do).await;
    assert!(matches!(early, Err(QueueError::InUse { .. })), "before it is applied: {early:?}");
    assert_eq!(queue.apply_topology().await.unwrap().to_retire, ["alpha", "gamma"]);
    for (provider, refused) in [
        (&beta, queue.retire(&beta, &to_beta, Trial::Do).await),
        (&alpha, queue.retire(&alpha, &Leftovers::Refuse, Trial::Do).await),
        (&alpha, queue.retire(&alpha, &Leftovers::MoveTo(provider_name("gamma")), Trial::Do).await),
    ] {
        assert!(matches!(refused, Err(QueueError::InUse { .. })), "{provider}: {refused:?}");
    }
    let looked = queue.retire(&alpha, &to_beta, Trial::Look).await.unwrap();
    assert_eq!((looked.waiting, looked.moved), (2, 0));
    let retired = queue.retire(&alpha, &to_beta, Trial::Do).await.unwrap();
    assert_eq!((retired.waiting, retired.moved, retired.buried), (2, 2, 0));
    let buried = Leftovers::Bury(bytes::Bytes::clone);
    let retired = queue.retire(&provider_name("gamma"), &buried, Trial::Do).await.unwrap();
    assert_eq!((retired.waiting, retired.moved, retired.buried), (2, 0, 2));
    assert_eq!(queue.check_topology().await.unwrap(), []);
    let letters = queue.dead_letters(&DeadFilter::default(), now(), 10).await.unwrap();
    assert!(
        letters.len() == 2 && letters.iter().all(|l| l.reason == Some(Reason::Unroutable)),
        "{letters:?}"
    );
    let mut worker = Worker::open(&queue, "beta", 10);
    let moved = worker.deliveries(2).await;
    assert_eq!(ids(&moved), ["a", "b"]);
    // The route that was the retired provider's own is the next one's.
    assert!(
        moved.iter().all(|d| d.carried.hops == 1 && d.carried.route.as_ref().unwrap().as_str() == "beta")
    );
    moved.iter().for_each(|job| worker.accept(job));
    worker.close().await;
}

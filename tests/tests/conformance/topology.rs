//! Promises about the plan: applied as often as one likes, compared in words, counted.

use std::time::Duration;

use otpd_queue::Difference;

use crate::ground::{Ground, Worker, depths_become, lane_plan, publish};

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

//! Claims to a lane at the seam: what was to claim it and could not be published is out of date once the lane is
//! another worker's.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use otpd_core::{Fact, FactKind};
use otpd_queue::Inbound;
use otpd_tests::rabbit::{
    LaneInHand, PATIENCE, accepted, channel, depth, enqueue_all, plan, provider, rabbit,
};
use otpd_tests::{Broker, Proxy, eventually};

const LANE: &str = "verihubs";
const OTHER_LANE: &str = "msgai";

/// Fault: the claim of a session that was lost before its claim could be published was published when the
/// connection came back, and took the lane from the worker that had it by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_was_given_up_takes_no_lane() {
    let broker = Broker::shared();
    let proxy = Proxy::start(broker.address()).await;
    let plan = plan(&broker.prefix(), &[LANE, OTHER_LANE]);
    let producer = rabbit(&broker.url(), &plan);
    producer.apply_topology().await.unwrap();
    let (unlucky, lucky) = (rabbit(&proxy.url(), &plan), rabbit(&broker.url(), &plan));
    let mut first = LaneInHand::open(&unlucky, LANE, 10);
    assert!(matches!(first.hear().await, Inbound::Opened { session: 1 }));
    let mut second = LaneInHand::open(&lucky, LANE, 10);
    assert!(matches!(second.hear().await, Inbound::Opened { session: 1 }));

    // The first one is handed the job and cannot claim the lane; then it loses its session too.
    proxy.keep_out(" publish");
    enqueue_all(&producer, LANE, ["job".to_owned()]).await;
    let (admin, queue) = (channel(&broker.url()).await, plan.lane_queue(&provider(LANE)));
    eventually("the job to be handed out", PATIENCE, || async {
        (depth(&admin, &queue).await == 0).then_some(())
    })
    .await;
    proxy.half_kill(" consume");
    assert!(matches!(first.hear().await, Inbound::Lost { session: 1 }));
    let job = second.delivery().await;

    // It can publish again: another lane's claim goes the same way as the old one, after it.
    proxy.let_in();
    let mut third = LaneInHand::open(&unlucky, OTHER_LANE, 10);
    enqueue_all(&producer, OTHER_LANE, ["other".to_owned()]).await;
    let other = third.delivery().await;
    // The second one's announcement comes back to it behind everything that was written before.
    let announcement = Fact { kind: FactKind::Sending, ..accepted(&job, LANE) };
    let announced = tokio::time::timeout(PATIENCE, second.settler.announce(announcement)).await;
    assert_eq!(
        announced.expect("an answer"),
        Ok(()),
        "the lane was taken from its owner by a claim of long ago"
    );
    second.accept(&job);
    third.accept(&other);
    second.close().await;
    third.close().await;
    assert_eq!(depth(&admin, &queue).await, 0);
}

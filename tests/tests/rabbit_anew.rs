//! A stream that is deleted and made anew, while it is followed and while its past is being read: whoever reads
//! it goes on, and a lane that waits for the past starts.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lapin::options::QueueDeleteOptions;
use otpd_core::{Fact, FactKind, recent};
use otpd_queue::{Listener, News, When};
use otpd_sim::Jobs;
use otpd_tests::one_lane::one_lane;
use otpd_tests::past::publish_past;
use otpd_tests::rabbit::{
    LaneInHand, PATIENCE, accepted_until, channel, enqueue_all, job, now, plan, provider, rabbit,
};
use otpd_tests::{Broker, Proxy, eventually};

const LANE: &str = "verihubs";
/// So many facts; the next 2,000 are on their way to the reader by then, and no more.
const READ: usize = 3_000;

/// Lets nothing through any more once enough of the past was read.
struct CutsOff {
    proxy: Arc<Proxy>,
    heard: Arc<AtomicUsize>,
}

impl Listener for CutsOff {
    fn hear(&self, news: Vec<News>, _when: When) {
        let before = self.heard.fetch_add(news.len(), Ordering::Relaxed);
        if (before..before + news.len()).contains(&READ) {
            self.proxy.swallow();
        }
    }

    fn horizon(&self) -> Duration {
        recent::WINDOW
    }
}

/// Facts of another lane.
fn past(facts: usize) -> impl Iterator<Item = Fact> {
    let at = now();
    (0..facts).map(move |n| Fact::new(FactKind::Accepted, job(&format!("old-{n}")), provider("z"), at))
}

async fn the_stream_is_made_anew_among(facts: usize) {
    let broker = Broker::shared();
    let proxy = Arc::new(Proxy::start(broker.address()).await);
    let plan = plan(&broker.prefix(), &[LANE]);
    let operator = rabbit(&broker.url(), &plan);
    operator.apply_topology().await.unwrap();
    publish_past(&broker.url(), &plan, past(facts)).await;
    enqueue_all(&operator, LANE, ["job".to_owned()]).await;

    let worker = rabbit(&proxy.url(), &plan);
    let heard = Arc::new(AtomicUsize::new(0));
    worker.listen(Arc::new(CutsOff { proxy: proxy.clone(), heard: heard.clone() }));
    let mut lane = LaneInHand::open(&worker, LANE, 10);
    eventually("a part of the past to be read", PATIENCE, || async {
        (heard.load(Ordering::Relaxed) > READ).then_some(())
    })
    .await;
    let admin = channel(&broker.url()).await;
    admin.queue_delete(plan.events().into(), QueueDeleteOptions::default()).await.unwrap();
    operator.apply_topology().await.unwrap();
    proxy.resume();
    let job = lane.delivery().await;
    lane.accept(&job);
    lane.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_one_piece_that_is_made_anew_holds_no_lane() {
    the_stream_is_made_anew_among(15_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_several_pieces_that_is_made_anew_holds_no_lane() {
    the_stream_is_made_anew_among(30_000).await;
}

/// Fault: the reader went on waiting for the record after its last one, which a new stream has only much later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_goes_on_when_its_stream_is_made_anew() {
    let broker = Broker::shared();
    let scene = one_lane(broker, "ceiling = \"50/s\"", "", "2ms..5ms").await;
    publish_past(&broker.url(), &scene.plan, past(500)).await;
    let worker = scene.worker();
    worker.ready().await;
    let admin = channel(&broker.url()).await;
    admin.queue_delete(scene.plan.events().into(), QueueDeleteOptions::default()).await.unwrap();
    let (code, _, said) = scene.otpd(&["topology", "apply"]);
    assert_eq!(code, 0, "{said}");
    // Without the ledger of the scene, which follows the stream that is gone.
    scene.publish_again(LANE, Jobs::new(1, 20)).await;
    let accepted = accepted_until(&scene.queue, |seen| seen.len() == 20).await;
    assert!(accepted.values().all(|times| *times == 1), "{accepted:?}");
    assert_eq!((scene.requests(), scene.duplicates()), (20, 0));
    assert!(worker.stop().await.success(), "{}", scene.log());
}

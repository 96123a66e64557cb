//! Where a promise is put to the test: a queue of its own, opened as often as a test needs
//! "another process", and a worker who waits for what comes, never longer than a deadline.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use otpd_core::{Fact, FactKind, JobId, ProviderName, RouteName, UnixMs};
use otpd_queue::embedded::{Durability, Embedded, EmbeddedConfig};
use otpd_queue::{
    Delivery, Inbound, LanePlan, LaneQueue, LaneSpec, Plan, Queue, Settlement, Then, TraceContext,
};
use otpd_tests::Broker;
use otpd_tests::marks::mark_lane;
use otpd_tests::rabbit::rabbit;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A queue of its own.
pub(crate) enum Ground {
    /// A file in a folder that goes with the test.
    File { folder: PathBuf },
    /// Names of its own on the broker that all tests of this binary share.
    Broker { url: String, prefix: String },
}

impl Ground {
    pub(crate) fn file() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("otpd-conformance-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self::File { folder }
    }

    pub(crate) fn broker() -> Self {
        let broker = Broker::shared();
        Self::Broker { url: broker.url(), prefix: broker.prefix() }
    }

    /// The plan that most promises need: `login` and `alpha` lead to alpha, `alerts` and `beta` to beta.
    pub(crate) fn plan(&self) -> Plan {
        let prefix = match self {
            Self::File { .. } => "otp.".into(),
            Self::Broker { prefix, .. } => prefix.clone(),
        };
        Plan {
            prefix,
            lanes: vec![lane_plan("alpha", &["alpha", "login"]), lane_plan("beta", &["beta", "alerts"])],
            ..Plan::default()
        }
    }

    /// Another process that has this queue open, with its topology applied.
    pub(crate) async fn queue(&self) -> Queue {
        let queue = self.planned(self.plan()).await;
        queue.apply_topology().await.unwrap();
        queue
    }

    /// Another process, with a plan of its own, that has applied nothing.
    pub(crate) async fn planned(&self, plan: Plan) -> Queue {
        match self {
            Self::File { folder } => {
                let path = folder.join("queue.db");
                let config = EmbeddedConfig {
                    path,
                    plan,
                    source: "otpd/test".into(),
                    durability: Durability::PowerLoss,
                };
                Queue::Embedded(Embedded::open(config).unwrap())
            }
            Self::Broker { url, .. } => Queue::Rabbit(rabbit(url, &plan)),
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        match self {
            Self::File { folder } => {
                let _ = std::fs::remove_dir_all(folder);
            }
            // The broker and all its queues go with the test binary.
            Self::Broker { .. } => {}
        }
    }
}

/// A lane and the hands on it.
pub(crate) struct Worker {
    pub(crate) provider: ProviderName,
    pub(crate) lane: LaneQueue,
    queue: Queue,
}

impl Worker {
    pub(crate) fn open(queue: &Queue, provider: &str, prefetch: u16) -> Self {
        let provider = provider_name(provider);
        let lane = queue.open_lane(LaneSpec { provider: provider.clone(), prefetch }).unwrap();
        Self { provider, lane, queue: queue.clone() }
    }

    /// Whatever comes in next.
    pub(crate) async fn next(&mut self) -> Inbound {
        timeout(PATIENCE, self.lane.inbox.recv())
            .await
            .expect("something comes in")
            .expect("the lane is open")
    }

    /// The next delivery.
    pub(crate) async fn delivery(&mut self) -> Delivery {
        loop {
            match self.next().await {
                Inbound::Delivery(delivery) => return delivery,
                Inbound::Opened { .. } => {}
                other @ (Inbound::Lost { .. } | Inbound::Stopped) => panic!("{other:?}"),
            }
        }
    }

    /// The next `count` deliveries.
    pub(crate) async fn deliveries(&mut self, count: usize) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        while deliveries.len() < count {
            deliveries.push(self.delivery().await);
        }
        deliveries
    }

    /// No delivery is on its way: a marker that is published now is the next to come.
    pub(crate) async fn nothing_comes(&mut self) {
        let marker = mark_lane(&self.queue, &self.provider).await;
        let next = self.delivery().await;
        assert_eq!(id_of(&next), marker, "a delivery came: {next:?}");
        self.settle(None, Then::Acknowledge(next.tag));
        self.flush().await;
    }

    /// A fact about a job, as this lane would tell it.
    pub(crate) fn fact(&self, kind: FactKind, job: &JobId, attempt: u32) -> Fact {
        let mut fact = Fact::new(kind, job.clone(), self.provider.clone(), now());
        fact.attempt = attempt;
        fact
    }

    pub(crate) fn settle(&self, fact: Option<Fact>, then: Then) {
        self.lane.settler.settle(Settlement { fact, then });
    }

    /// Tells that the job was accepted, and acknowledges it.
    pub(crate) fn accept(&self, delivery: &Delivery) {
        let fact = self.fact(FactKind::Accepted, &id_of(delivery), 1);
        self.settle(Some(fact), Then::Acknowledge(delivery.tag));
    }

    pub(crate) async fn flush(&self) {
        timeout(PATIENCE, self.lane.settler.flush()).await.expect("the flush ends");
    }

    /// The end in order: all that was settled is safe, all else is handed back.
    pub(crate) async fn close(self) {
        self.flush().await;
        timeout(PATIENCE, self.lane.stop.close()).await.expect("the lane closes");
    }
}

/// Publishes a job as a producer does.
pub(crate) async fn publish(queue: &Queue, route: &str, job: &str, body: impl Into<Bytes>) {
    queue.enqueue(&route_name(route), &id(job), body.into(), &TraceContext::default()).await.unwrap();
}

/// Facts up to the first that is `last`.
pub(crate) async fn facts_until(facts: &mut mpsc::Receiver<Fact>, last: impl Fn(&Fact) -> bool) -> Vec<Fact> {
    let mut told = Vec::new();
    loop {
        let fact = timeout(PATIENCE, facts.recv()).await.expect("a fact comes").expect("facts go on");
        told.push(fact);
        if told.last().is_some_and(&last) {
            return told;
        }
    }
}

/// Waits until each lane has this many jobs waiting: a broker counts a moment later.
pub(crate) async fn depths_become(queue: &Queue, expected: &[(&str, u64)]) {
    let expected: Vec<_> = expected.iter().map(|(p, n)| (provider_name(p), *n)).collect();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut depths = queue.depths().await.unwrap();
        depths.sort();
        if depths == expected {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{depths:?}, expected {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn lane_plan(provider: &str, routes: &[&str]) -> LanePlan {
    LanePlan::new(provider_name(provider), routes.iter().map(|r| route_name(r)).collect())
}

pub(crate) fn provider_name(text: &str) -> ProviderName {
    ProviderName::parse(text).unwrap()
}

pub(crate) fn route_name(text: &str) -> RouteName {
    RouteName::parse(text).unwrap()
}

pub(crate) fn id(text: &str) -> JobId {
    JobId::parse(text).unwrap()
}

pub(crate) fn id_of(delivery: &Delivery) -> JobId {
    delivery.message_id.clone().expect("a delivery with an id")
}

pub(crate) fn ids<'a>(deliveries: impl IntoIterator<Item = &'a Delivery>) -> Vec<String> {
    deliveries.into_iter().map(|d| id_of(d).to_string()).collect()
}

pub(crate) fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UnixMs(u64::try_from(since.as_millis()).unwrap())
}

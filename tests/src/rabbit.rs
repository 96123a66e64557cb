//! Queues on a test's broker, and a lane in the hand of a test.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use lapin::types::FieldTable;
use otpd_core::{Fact, FactKind, JobId, ProviderName, RouteName, UnixMs};
use otpd_queue::rabbitmq::{Nodes, Rabbit, RabbitConfig};
use otpd_queue::{
    Delivery, Inbound, LanePlan, LaneQueue, LaneSpec, LaneStop, Plan, Settlement, Settler, Then, TraceContext,
};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A plan with one lane for each provider, of one owner, each a route to itself.
#[must_use]
pub fn plan(prefix: &str, providers: &[&str]) -> Plan {
    let lane = |name: &&str| LanePlan::new(provider(name), vec![route(name)]);
    Plan {
        prefix: prefix.into(),
        lanes: providers.iter().map(lane).collect(),
        dead_retention: Duration::from_secs(3600),
        ..Plan::default()
    }
}

/// A queue at `url`, not connected yet.
#[must_use]
pub fn rabbit(url: &str, plan: &Plan) -> Rabbit {
    rabbit_at(&[url], plan)
}

/// A queue at several nodes, not connected yet.
#[must_use]
pub fn rabbit_at(urls: &[&str], plan: &Plan) -> Rabbit {
    crate::logs::init();
    Rabbit::new(RabbitConfig {
        nodes: Nodes::fixed(urls.iter().map(|url| url.parse().expect("a test's URL is one")).collect()),
        plan: plan.clone(),
        source: "otpd/test".into(),
    })
}

/// The provider called `name`.
#[must_use]
pub fn provider(name: &str) -> ProviderName {
    ProviderName::parse(name).expect("a test's name is one")
}

/// The route called `name`.
#[must_use]
pub fn route(name: &str) -> RouteName {
    RouteName::parse(name).expect("a test's name is one")
}

/// The job id `id`.
#[must_use]
pub fn job(id: &str) -> JobId {
    JobId::parse(id).expect("a test's id is one")
}

/// A bare channel, for what only an operator does.
///
/// # Panics
/// Where the broker is not there.
pub async fn channel(url: &str) -> lapin::Channel {
    let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await;
    connection.expect("connects").create_channel().await.expect("a channel")
}

/// How many messages wait in a queue, those handed out not counted.
///
/// # Panics
/// Where there is no such queue.
pub async fn depth(channel: &lapin::Channel, queue: &str) -> u32 {
    let options = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
    let declared = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
    declared.expect("the queue is there").message_count()
}

/// Every job accepted so far, with how often the stream says so. Follows from the beginning until
/// `complete` has enough.
///
/// # Panics
/// Where that takes more than a minute.
pub async fn accepted_until(
    queue: &Rabbit,
    complete: impl Fn(&HashMap<String, u32>) -> bool,
) -> HashMap<String, u32> {
    let mut facts = queue.follow(Duration::from_secs(3600)).await.expect("follows");
    let mut jobs = HashMap::new();
    let read = async {
        while !complete(&jobs) {
            let fact = facts.recv().await.expect("the stream goes on");
            if fact.kind == FactKind::Accepted {
                *jobs.entry(fact.job.to_string()).or_insert(0) += 1;
            }
        }
    };
    if tokio::time::timeout(PATIENCE, read).await.is_err() {
        panic!("only {} jobs are accepted in the stream", jobs.len());
    }
    jobs
}

/// Puts `ids` on a route, all confirmed.
///
/// # Panics
/// Where one is not.
pub async fn enqueue_all(queue: &Rabbit, to: &str, ids: impl IntoIterator<Item = String>) {
    let trace = TraceContext::default();
    let route = route(to);
    let all = ids.into_iter().map(|id| {
        let (route, trace) = (&route, &trace);
        async move { queue.enqueue(route, &job(&id), Bytes::from(format!("body of {id}")), trace).await }
    });
    for outcome in futures::future::join_all(all).await {
        outcome.expect("confirmed");
    }
}

/// An `accepted` fact about a delivery's job.
///
/// # Panics
/// Where the delivery has no message id.
#[must_use]
pub fn accepted(delivery: &Delivery, by: &str) -> Fact {
    let job = delivery.message_id.clone().expect("the tests name their jobs");
    Fact { attempt: 1, ..Fact::new(FactKind::Accepted, job, provider(by), now()) }
}

/// The wall clock.
#[must_use]
pub fn now() -> UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    UnixMs(u64::try_from(since.as_millis()).expect("before the year 500 million"))
}

/// An open lane, read step by step.
#[derive(Debug)]
pub struct LaneInHand {
    /// Whose it is.
    pub name: String,
    inbox: tokio::sync::mpsc::UnboundedReceiver<Inbound>,
    /// The lane's hand on settling.
    pub settler: Settler,
    /// The lane's end.
    pub stop: LaneStop,
    /// Everything that this process was told of the stream.
    pub heard: crate::Heard,
    /// The session that is open.
    pub session: Option<u32>,
}

impl LaneInHand {
    /// Opens the lane of `name`.
    ///
    /// # Panics
    /// Where it cannot be opened.
    #[must_use]
    pub fn open(queue: &Rabbit, name: &str, prefetch: u16) -> Self {
        let spec = LaneSpec { provider: provider(name), prefetch };
        let heard = crate::Heard::default();
        queue.listen(heard.listener());
        let LaneQueue { inbox, settler, stop, .. } = queue.open_lane(spec).expect("opens");
        Self { name: name.into(), inbox, settler, stop, heard, session: None }
    }

    /// The next thing the lane hears, with what it means for the session done.
    ///
    /// # Panics
    /// Where nothing comes for a minute, or the seam's promises are broken.
    pub async fn hear(&mut self) -> Inbound {
        let inbound = tokio::time::timeout(PATIENCE, self.inbox.recv()).await;
        let inbound = inbound.expect("something comes within a minute").expect("the backend lives");
        match &inbound {
            Inbound::Opened { session } => {
                assert!(self.session.is_none(), "opened twice");
                self.session = Some(*session);
            }
            Inbound::Lost { session } => {
                assert_eq!(self.session.take(), Some(*session), "lost what was not open");
            }
            Inbound::Delivery(delivery) => {
                assert_eq!(Some(delivery.tag.session), self.session, "a delivery of another session");
            }
            Inbound::Stopped => {}
        }
        inbound
    }

    /// The next delivery; sessions may come and go before it.
    pub async fn delivery(&mut self) -> Delivery {
        loop {
            if let Inbound::Delivery(delivery) = self.hear().await {
                return delivery;
            }
        }
    }

    /// The next `n` deliveries of one session.
    pub async fn deliveries(&mut self, n: usize) -> Vec<Delivery> {
        let mut got: Vec<Delivery> = Vec::with_capacity(n);
        while got.len() < n {
            let next = self.delivery().await;
            got.retain(|d| d.tag.session == next.tag.session);
            got.push(next);
        }
        got
    }

    /// Settles a delivery as accepted.
    pub fn accept(&self, delivery: &Delivery) {
        let fact = Some(accepted(delivery, &self.name));
        self.settler.settle(Settlement { fact, then: Then::Acknowledge(delivery.tag) });
    }

    /// Flushes and closes.
    pub async fn close(self) {
        self.settler.flush().await;
        self.stop.close().await;
    }
}

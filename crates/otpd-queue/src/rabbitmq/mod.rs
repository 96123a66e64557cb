//! RabbitMQ 3.10 to 4.x, over AMQP 0.9.1 and without plugins.
//!
//! Read in this order: [`Rabbit`] (what the rest of otpd sees), `topology` (what the broker holds),
//! `apply` and `record` (who changes it, and how that is known),
//! `consume` and `session` (a lane's deliveries), `reader` (what a process knows of the fleet), `settle`
//! (facts), `moving` and `destination` (moves and burials), `publisher` (confirms), `acks` (which
//! acknowledgements to write), `link` and `dial` (connections), `nodes` (credentials).
//!
//! Tasks of a lane: one consumes and acknowledges, one settles, and one for each queue that it moves or
//! buries jobs to; each owns its channel. Tasks of the process:
//! one reads the events stream (`reader`, `past`, `claims`). Four connections: one consumes, one publishes,
//! because an alarm that blocks publishers stops everything that is written to their connection,
//! acknowledgements included; one reads, so that a process whose consuming connection is half dead
//! still reads that another worker has taken over; one publishes copies of facts for observers, who cannot
//! hold up anything else (`observe`).

mod acks;
mod address;
mod apply;
mod backoff;
mod claims;
mod clock;
mod consume;
mod dead_letters;
mod desk;
mod destination;
mod dial;
mod door;
mod follow;
mod headers;
mod letter;
mod link;
mod lock;
mod moving;
mod nodes;
mod observe;
mod past;
mod publisher;
mod reader;
mod record;
mod retire;
mod session;
mod settle;
mod story;
mod stream;
mod topology;
mod wire;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use otpd_core::{Fact, JobId, ProviderName, RouteName, UnixMs};
use tokio::sync::{mpsc, watch};

pub use self::address::{BrokerUrl, InvalidUrl};
use self::apply::{On, Writer};
use self::consume::{Lane, Orders};
use self::dead_letters::Pile;
use self::door::Door;
use self::follow::Mark;
use self::link::{Frames, Link};
use self::moving::Moving;
pub use self::nodes::{Access, Nodes, ReadAccess};
use self::observe::Observers;
use self::publisher::Publisher;
use self::reader::Reader;
use self::settle::Settling;
use crate::alive::Alive;
use crate::dead::{DeadFilter, DeadLetter};
use crate::error::QueueError;
use crate::listen::{Following, Listener};
use crate::plan::{Applied, Difference, Plan, Standing};
use crate::retire::{Leftovers, Retired, Trial};
use crate::seam::{Checkpoint, LaneQueue, LaneSpec, LaneStop, Proof, QueueNames, Settler, TraceContext};

/// What a RabbitMQ queue is made of.
#[derive(Clone, Debug)]
pub struct RabbitConfig {
    /// The nodes of the cluster, in any order; the first to be tried is chosen by chance.
    pub nodes: Nodes,
    /// The topology.
    pub plan: Plan,
    /// Who speaks: the `source` of events, the consumer tag, the connections' name (`otpd/pod-1`).
    pub source: String,
}

/// RabbitMQ. Clones are the same queue.
#[derive(Clone)]
pub struct Rabbit(Arc<Inner>);

struct Inner {
    plan: Arc<Plan>,
    source: Arc<str>,
    nodes: Nodes,
    consume: Link,
    publish: Link,
    reader: Reader,
    observers: Observers,
    door: OnceLock<Door>,
    facts: OnceLock<Door>,
}

impl fmt::Debug for Rabbit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rabbit").field("nodes", &self.0.nodes).finish_non_exhaustive()
    }
}

impl Rabbit {
    /// A queue on these brokers. Nothing is connected before something is asked for; then it
    /// connects, and connects again, for as long as it takes.
    #[must_use]
    pub fn new(config: RabbitConfig) -> Self {
        let RabbitConfig { nodes, plan, source } = config;
        let link = |role, frames| Link::new(role, &source, &nodes, frames);
        let publish = link("publish", Frames::Small);
        // The stream holds nothing but events, whose headers are small.
        let read = link("read", Frames::Small);
        let observers = Observers::new(link("observe", Frames::Small), &plan);
        let consume = link("consume", Frames::AsOffered);
        let (plan, source) = (Arc::new(plan), Arc::<str>::from(source));
        Self(Arc::new(Inner {
            consume,
            reader: Reader::new(plan.clone(), source.clone(), read, publish.clone()),
            publish,
            observers,
            plan,
            source,
            nodes,
            door: OnceLock::new(),
            facts: OnceLock::new(),
        }))
    }

    /// Opens the lane of a provider. Sessions come and go in its inbox; this returns at once.
    ///
    /// # Errors
    /// None: a broker that is away or refuses is waited for, and logged.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn open_lane(&self, spec: LaneSpec) -> Result<LaneQueue, QueueError> {
        let (inbox, inbound) = mpsc::unbounded_channel();
        let (orders, settling) = mpsc::unbounded_channel();
        let (stop, stops) = mpsc::unbounded_channel();
        let (acknowledge, settled) = mpsc::unbounded_channel();
        let (proof, checkpoint, reader) = (Proof::default(), Checkpoint::default(), &self.0.reader);
        let alive = Alive::default();
        reader.start();
        self.0.observers.start();
        let (plan, source, provider) = (&self.0.plan, &self.0.source, spec.provider.clone());
        let (open_session, session) = watch::channel(0);
        let prefetch = consume::prefetch(&spec, plan.has_single_owner(&provider));
        let lane = Lane {
            spec,
            plan: plan.clone(),
            source: source.clone(),
            consume: self.0.consume.clone(),
            reader: reader.clone(),
            inbox,
            checkpoint: checkpoint.clone(),
            alive: alive.clone(),
            open_session,
        };
        let settling = Settling {
            plan: plan.clone(),
            source: source.clone(),
            orders: settling,
            settled: acknowledge,
            reader: reader.clone(),
            provider,
            publisher: Publisher::new(self.0.publish.clone(), proof.clone()),
            observers: self.0.observers.clone(),
            moving: Moving::new(self.0.publish.clone(), proof.clone(), session),
            flushes: Vec::new(),
        };
        tokio::spawn(lane.run(Orders { settled, stops }));
        tokio::spawn(settling.run());
        Ok(LaneQueue {
            alive,
            inbox: inbound,
            settler: Settler::new(orders, proof),
            stop: LaneStop::new(stop),
            names: self.names(),
            checkpoint,
            prefetch,
        })
    }

    /// Reads credentials in another way from the next connection on; connections that stand live on.
    pub fn read_access_by(&self, read: ReadAccess) {
        self.0.nodes.read_otherwise(read);
    }

    /// Tells `listener` every fact of other processes; see [`crate::listen`]. Call it before lanes are opened.
    pub fn listen(&self, listener: Arc<dyn Listener>) {
        self.0.reader.listen(listener);
    }

    /// True once the facts of the last minutes have been read: from then on a lane is taken over at once.
    #[must_use]
    pub fn has_caught_up(&self) -> bool {
        self.0.reader.has_caught_up()
    }

    pub(crate) fn names(&self) -> QueueNames {
        QueueNames { system: "rabbitmq", prefix: self.0.plan.prefix.as_str().into() }
    }

    /// Puts a job on a route; returns when the broker has confirmed it.
    ///
    /// # Errors
    /// [`QueueError::Unroutable`] for an unknown route; [`QueueError::Away`] where no confirm came
    /// within 5 s: the job may or may not be queued; [`QueueError::Refused`].
    pub async fn enqueue(
        &self,
        route: &RouteName,
        job: &JobId,
        body: Bytes,
        trace: &TraceContext,
    ) -> Result<(), QueueError> {
        let door = self.0.door.get_or_init(|| Door::open(self.0.publish.clone()));
        door.bring(wire::job(&self.0.plan, route, job, body, clock::now(), trace), &self.0.nodes).await
    }

    /// Puts a fact on the stream; see [`crate::Queue::tell`]. It does not carry this process's origin, so the reader
    /// of this process tells it to the listeners like a fact of another process: once it is on the stream,
    /// whether the caller still waits or not.
    ///
    /// # Errors
    /// [`QueueError::Unroutable`], [`QueueError::Away`], [`QueueError::Refused`].
    pub async fn tell(&self, fact: &Fact) -> Result<(), QueueError> {
        let parcel = wire::fact(&self.0.plan, &self.0.source, "", fact);
        let door = self.0.facts.get_or_init(|| Door::open(self.0.publish.clone()));
        door.bring(parcel.clone(), &self.0.nodes).await?;
        self.0.observers.start();
        self.0.observers.offer(std::iter::once(parcel));
        Ok(())
    }

    /// Makes the topology as planned. Checks first: where something differs, nothing is touched.
    ///
    /// # Errors
    /// [`QueueError::Topology`] with every difference; [`QueueError::Away`], [`QueueError::Refused`].
    pub async fn apply_topology(&self) -> Result<Applied, QueueError> {
        self.writer().apply(On::AnyBroker).await
    }

    /// The same where nothing was ever applied; else does nothing.
    ///
    /// # Errors
    /// As [`Rabbit::apply_topology`].
    pub async fn apply_topology_if_empty(&self) -> Result<Applied, QueueError> {
        self.writer().apply(On::EmptyBroker).await
    }

    fn writer(&self) -> Writer<'_> {
        Writer { plan: &self.0.plan, source: &self.0.source, nodes: &self.0.nodes }
    }

    /// Retires a provider; see [`crate::Queue::retire`].
    ///
    /// # Errors
    /// [`QueueError::InUse`], [`QueueError::Away`], [`QueueError::Refused`].
    pub async fn retire(
        &self,
        provider: &ProviderName,
        leftovers: &Leftovers,
        trial: Trial,
    ) -> Result<Retired, QueueError> {
        self.writer().retire(provider, leftovers, trial).await
    }

    /// Compares without touching anything. Bindings are compared as they are recorded.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`].
    pub async fn check_topology(&self) -> Result<Vec<Difference>, QueueError> {
        apply::check(&self.0.consume, &self.0.plan).await
    }

    /// Whether a worker can start; needs no right to configure.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`].
    pub async fn topology_standing(&self) -> Result<Standing, QueueError> {
        apply::standing(&self.0.consume, &self.0.plan).await
    }

    /// Follows facts: those of the last `back`, then new ones, until the receiver is dropped.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`].
    pub async fn follow(&self, back: Duration) -> Result<mpsc::Receiver<Fact>, QueueError> {
        Ok(follow::follow(self.0.consume.clone(), self.0.plan.clone(), back, None).await?.facts)
    }

    /// The same, and says when it has caught up; see [`crate::Queue::follow_marked`].
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`].
    pub async fn follow_marked(&self, back: Duration) -> Result<Following, QueueError> {
        let publisher = Publisher::new(self.0.publish.clone(), Proof::default());
        let mark = Mark { publisher, source: self.0.source.clone() };
        follow::follow(self.0.consume.clone(), self.0.plan.clone(), back, Some(mark)).await
    }

    /// The facts of one job from the last `back`; see [`Queue::story`](crate::Queue::story).
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`].
    pub async fn story(&self, job: &JobId, back: Duration) -> Result<Vec<Fact>, QueueError> {
        let Inner { consume, publish, nodes, plan, source, .. } = &*self.0;
        story::story(story::Sources { consume, publish, nodes, plan, source }, job, back).await
    }

    /// The dead letters that `filter` means, oldest first, at most `most`. They stay.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`].
    pub async fn dead_letters(
        &self,
        filter: &DeadFilter,
        now: UnixMs,
        most: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        Pile::open(&self.0.consume, self.0.plan.clone()).await?.list(filter, now, most).await
    }

    /// Publishes dead letters to their routes again; see [`crate::Queue::replay_dead`].
    ///
    /// # Errors
    /// [`QueueError::Unroutable`] where a letter's route is not there any more (it stays),
    /// [`QueueError::Away`], [`QueueError::Refused`].
    pub async fn replay_dead(
        &self,
        filter: &DeadFilter,
        now: UnixMs,
        wanted: &(dyn Fn(&DeadLetter) -> bool + Send + Sync),
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let publisher = Publisher::new(self.0.publish.clone(), Proof::default());
        let pile = Pile::open(&self.0.consume, self.0.plan.clone()).await?;
        pile.replay(publisher, filter, now, wanted).await
    }

    /// Removes the dead letters that `filter` means, for good; says how many.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`].
    pub async fn purge_dead(&self, filter: &DeadFilter, now: UnixMs) -> Result<usize, QueueError> {
        Pile::open(&self.0.consume, self.0.plan.clone()).await?.purge(filter, now).await
    }

    /// How many jobs wait in each lane; those handed out are not counted.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`].
    pub async fn depths(&self) -> Result<Vec<(ProviderName, u64)>, QueueError> {
        topology::depths(&self.0.consume, &self.0.plan).await
    }

    /// How many copies of facts for observers were dropped so far.
    #[must_use]
    pub fn observer_events_dropped(&self) -> u64 {
        self.0.observers.dropped()
    }

    /// Whether the broker can be reached right now. Where nothing has asked for the publishing
    /// connection yet, this asks for it, so that a process with nothing to do can become ready.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        let (consume, publish) = (&self.0.consume, &self.0.publish);
        if !publish.is_up() {
            publish.wake();
        }
        publish.is_up() && (consume.is_up() || !consume.is_used())
    }

    /// Ends all connections in order, for good. Lanes must be closed before.
    pub async fn close(&self) {
        tokio::join!(
            self.0.consume.close(),
            self.0.publish.close(),
            self.0.reader.close(),
            self.0.observers.close()
        );
    }
}

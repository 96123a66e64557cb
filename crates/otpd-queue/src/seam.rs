//! The seam between a lane and its queue. Two channels and nothing else: what comes in, and what
//! is settled.
//!
//! The promises a backend makes to a lane:
//! 1. Deliveries of a session stay the lane's, unacknowledged, until they are settled or the session
//!    is lost. [`Inbound::Opened`] begins a session and voids every delivery of the one before; what
//!    was not settled comes again with `redelivered` set.
//! 2. Before the first delivery of a session, and before every redelivered delivery, the process's
//!    [`Listener`](crate::listen::Listener) has been told every fact that was confirmed before that delivery
//!    was handed out, as far back as the delivery needs: of a redelivered one, all since it was published.
//! 3. A [`Settlement`] is carried out in this order: its message (next lane, dead letter) is published
//!    and confirmed, then its fact, then the delivery is acknowledged. If the session is lost before the
//!    message is confirmed, the delivery comes again, here or to another owner; the lane that finds it in
//!    its own memory has it acknowledged by [`Then::AcknowledgeSettled`], which the backend holds until
//!    message and fact of that job are confirmed, however long that takes and however often the session
//!    is lost meanwhile. So no delivery is ever acknowledged whose job is nowhere else. Facts are never
//!    dropped while the process lives; publishing waits for the broker as long as it takes.
//! 4. Facts of one lane are published in the order in which they were handed in, but for those of moves
//!    and burials: such a fact follows its message, and facts handed in later may overtake it. A
//!    destination that takes nothing therefore delays nothing else, neither other facts and
//!    acknowledgements nor moves to another destination.
//! 5. A lane that stops, or that another worker has taken over, keeps the deliveries that it names in
//!    [`Settler::hand_back`] until they are settled, and the next owner gets all others at once.
//! 6. Moves and burials wait without limit for their destination. Each holds an unacknowledged delivery,
//!    so the prefetch bounds how many wait in a session.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use otpd_core::{Class, Fact, JobId, Life, ProviderName, Reason, RouteName, UnixMs};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::alive::Alive;
use crate::hidden::debug_without_body;
pub use crate::settler::{Order, Proof, Settler, Ticket};

/// Names one delivery of one session; only the backend that made it reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag {
    /// Counts the lane's sessions, from 1.
    pub session: u32,
    /// Counts the session's deliveries (AMQP's delivery tag; the row of the embedded queue).
    pub number: u64,
}

/// What a lane is opened with.
#[derive(Clone, Debug)]
pub struct LaneSpec {
    /// Whose lane.
    pub provider: ProviderName,
    /// How many deliveries it takes unacknowledged, 1 to 65,535.
    pub prefetch: u16,
}

/// The most attempts, and the most moves, that a message is believed to have behind it.
pub const MOST_CARRIED: u32 = 100_000;

/// What headers carry from one lane to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Attempts made so far, over all providers (`x-otp-attempt`); at most [`MOST_CARRIED`].
    pub attempts: u32,
    /// How often the job moved (`x-otp-hop`); at most [`MOST_CARRIED`].
    pub hops: u32,
    /// The route it was published to (`x-otp-route`, or else the routing key).
    pub route: Option<RouteName>,
    /// Which life of the job this is (`x-otp-life`).
    pub life: Life,
    /// The time before which it is not to be attempted (`x-otp-not-before`).
    pub not_before: Option<UnixMs>,
    /// When an operator replayed it (`x-otp-replayed-at`): its wait for an attempt counts from then.
    pub replayed_at: Option<UnixMs>,
    /// Attempts so far of which nobody can tell whether they were sent (`x-otp-ambiguous`); at most [`MOST_CARRIED`].
    pub ambiguous: u32,
    /// How often it went to another provider although one had accepted it (`x-otp-extra`); at most
    /// [`MOST_CARRIED`].
    pub extra: u32,
    /// When the lane's provider accepted it, where it only waits for its delivery still (`x-otp-accepted-at`).
    pub accepted_at: Option<UnixMs>,
}

/// One of the queues of a lane. Only its owner consumes the last two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Section {
    /// `otp.lane.<provider>`: where interactive jobs and moved jobs arrive.
    #[default]
    Main,
    /// `otp.lane.<provider>.bulk`: where routes of class bulk arrive.
    Bulk,
    /// `otp.lane.<provider>.later`: jobs that the owner deferred.
    Later,
}

/// W3C trace context, as the producer sent it; at most 512 bytes each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// `traceparent`.
    pub parent: Option<Box<str>>,
    /// `tracestate`.
    pub state: Option<Box<str>>,
}

/// One job handed to a lane. The body is as published: nobody has looked into it.
#[derive(Clone)]
pub struct Delivery {
    /// Its name in a settlement.
    pub tag: Tag,
    /// The queue it came from.
    pub section: Section,
    /// The job.
    pub body: Bytes,
    /// What earlier lanes said.
    pub carried: Carried,
    /// The message's own id, where it is a valid job id; names a malformed job.
    pub message_id: Option<JobId>,
    /// When the broker or the gateway took it, where that is known.
    pub taken_at: Option<UnixMs>,
    /// Whether it was handed out before.
    pub redelivered: bool,
    /// How often it was handed out before and came back; at the plan's limit the queue buries it.
    pub returned: u32,
    /// The producer's trace.
    pub trace: TraceContext,
}

debug_without_body!(Delivery { tag, carried, message_id, redelivered, returned });

/// What a lane hears.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly everything heard is a delivery; a box would cost each an allocation"
)]
pub enum Inbound {
    /// A session began. Deliveries of earlier sessions are void.
    Opened {
        /// Its number.
        session: u32,
    },
    /// A job.
    Delivery(Delivery),
    /// The broker is away, or another worker owns the lane. No request may start before the next `Opened`. What is
    /// under way may still be settled: that counts where the session's channel stands.
    Lost {
        /// The session that ended.
        session: u32,
    },
    /// No delivery will come any more: the answer to [`LaneStop::stop`].
    Stopped,
}

/// One end of a job's stay in a lane, or a fact about it on the way.
#[derive(Debug)]
pub struct Settlement {
    /// What happened; `None` where nothing is to be told: a fact was published before, and the delivery comes back or
    /// was kept.
    pub fact: Option<Fact>,
    /// What becomes of the delivery.
    pub then: Then,
}

/// What becomes of a delivery once its fact is confirmed.
#[derive(Debug)]
pub enum Then {
    /// It stays in the lane: a retry, or a delivery that is awaited.
    Keep,
    /// It is done.
    Acknowledge(Tag),
    /// It was settled before: it came back, and the lane remembers its end. It is acknowledged once
    /// nothing of that end is on its way any more.
    AcknowledgeSettled {
        /// The delivery that came back.
        tag: Tag,
        /// Its job.
        job: JobId,
        /// Which life of the job it belongs to.
        life: Life,
    },
    /// It goes to another lane, then it is done here.
    Move(Tag, Box<Move>),
    /// It goes to the dead letters, then it is done.
    Bury(Tag, Box<Burial>),
}

/// A job on its way to the next lane.
pub struct Move {
    /// Whose lane.
    pub to: ProviderName,
    /// Which of the lane's queues.
    pub section: Section,
    /// The job's id, for the message id.
    pub job: JobId,
    /// The job as published.
    pub body: Bytes,
    /// What the next lane is to know.
    pub carried: Carried,
    /// When the job was first taken.
    pub taken_at: UnixMs,
    /// The producer's trace.
    pub trace: TraceContext,
}

debug_without_body!(Move { to, job, carried });

/// A job on its way to the dead letters.
pub struct Burial {
    /// The job's id, or the one made up for a malformed job.
    pub job: JobId,
    /// The job as published, or without its code (`dead.keep_code = false`).
    pub body: Bytes,
    /// Why (`x-otp-reason`).
    pub reason: Reason,
    /// The class of the last answer (`x-otp-class`).
    pub class: Option<Class>,
    /// Where it died (`x-otp-provider`).
    pub provider: ProviderName,
    /// The route it was published to (`x-otp-route`).
    pub route: Option<RouteName>,
    /// The last HTTP status (`x-otp-http-status`).
    pub http_status: Option<u16>,
    /// Attempts made (`x-otp-attempts`).
    pub attempts: u32,
    /// The provider's message, redacted (`x-otp-detail`).
    pub detail: Option<Box<str>>,
    /// When (`x-otp-died-at`).
    pub died_at: UnixMs,
    /// When the job was first taken (`x-otp-taken-at`).
    pub taken_at: UnixMs,
    /// Which life of the job ended (`x-otp-life`).
    pub life: Life,
    /// The producer's trace.
    pub trace: TraceContext,
}

debug_without_body!(Burial { job, reason, class, provider, route, attempts });

/// Ends a lane's deliveries.
#[derive(Debug)]
pub struct LaneStop(pub(crate) mpsc::UnboundedSender<StopOrder>);

/// What [`LaneStop`] asks of the backend.
#[derive(Debug)]
pub enum StopOrder {
    /// No more deliveries, but settling goes on.
    Stop,
    /// Hand back everything unsettled and end.
    Close(oneshot::Sender<()>),
}

impl LaneStop {
    /// A stop over a backend's channel.
    #[must_use]
    pub fn new(orders: mpsc::UnboundedSender<StopOrder>) -> Self {
        Self(orders)
    }

    /// Asks for no more deliveries; [`Inbound::Stopped`] follows. Settling goes on.
    pub fn stop(&self) {
        let _ = self.0.send(StopOrder::Stop);
    }

    /// Hands back what is not settled, and waits until the queue has it. Call [`Settler::flush`] first.
    pub async fn close(self) {
        let (done, wait) = oneshot::channel();
        if self.0.send(StopOrder::Close(done)).is_ok() {
            let _ = wait.await;
        }
    }
}

/// An open lane.
#[derive(Debug)]
pub struct LaneQueue {
    /// What comes in. Bounded: at most `prefetch` deliveries are out.
    pub inbox: mpsc::UnboundedReceiver<Inbound>,
    /// What goes out.
    pub settler: Settler,
    /// The end.
    pub stop: LaneStop,
    /// How it is called where it is spoken of.
    pub names: QueueNames,
    /// What the next owner will need to know.
    pub checkpoint: Checkpoint,
    /// Until when the lane may be believed to be ours.
    pub alive: Alive,
    /// How many deliveries are out at most.
    pub prefetch: Prefetch,
}

/// How many unsettled deliveries a lane gets at most, by queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetch {
    /// Of [`Section::Main`].
    pub main: u16,
    /// Of [`Section::Bulk`].
    pub bulk: u16,
    /// Of [`Section::Later`]; `None` where the lane does not consume such a queue, so that nothing may be
    /// moved there.
    pub later: Option<u16>,
}

/// What a lane's next owner must know beside the facts of the last minutes, as JSON. The lane writes it, the
/// backend publishes it with the renewals of its claim.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    json: Arc<Mutex<Option<Box<str>>>>,
    urgent: Arc<Notify>,
}

impl Checkpoint {
    /// Replaces what is published; `None` where the facts of the last minutes are enough.
    pub fn set(&self, json: Option<Box<str>>) {
        *self.json.lock().unwrap_or_else(PoisonError::into_inner) = json;
    }

    /// Asks for it to be published now, and not with the next renewal.
    pub fn publish(&self) {
        self.urgent.notify_one();
    }

    /// Waits until that is asked for. Cancel-safe.
    pub async fn asked_for(&self) {
        self.urgent.notified().await;
    }

    /// What is to be published.
    #[must_use]
    pub fn get(&self) -> Option<Box<str>> {
        self.json.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How traces call the queue.
#[derive(Clone, Debug)]
pub struct QueueNames {
    /// OpenTelemetry's `messaging.system`.
    pub system: &'static str,
    /// What the names of exchanges and queues begin with.
    pub prefix: Arc<str>,
}

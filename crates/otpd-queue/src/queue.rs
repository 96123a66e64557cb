//! The choice between the two backends, and what both can do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use otpd_core::{Fact, JobId, ProviderName, RouteName, UnixMs};
use tokio::sync::mpsc;

use crate::dead::{DeadFilter, DeadLetter};
use crate::embedded::Embedded;
use crate::error::QueueError;
use crate::listen::{Following, Listener};
use crate::plan::{Applied, Difference, Standing};
use crate::rabbitmq::{Rabbit, ReadAccess};
use crate::retire::{Leftovers, Retired, Trial};
use crate::seam::{LaneQueue, LaneSpec, QueueNames, TraceContext};

/// A queue: RabbitMQ or one file.
#[derive(Clone, Debug)]
pub enum Queue {
    /// A RabbitMQ broker or cluster.
    Rabbit(Rabbit),
    /// A SQLite file.
    Embedded(Embedded),
}

macro_rules! either {
    ($self:ident, $queue:ident => $does:expr) => {
        match $self {
            Self::Rabbit($queue) => $does,
            Self::Embedded($queue) => $does,
        }
    };
}

impl Queue {
    /// How traces call it.
    #[must_use]
    pub fn names(&self) -> QueueNames {
        either!(self, q => q.names())
    }

    /// Reads the broker's credentials in another way from the next connection on. A file needs none.
    pub fn read_access_by(&self, read: ReadAccess) {
        match self {
            Self::Rabbit(rabbit) => rabbit.read_access_by(read),
            Self::Embedded(_) => {}
        }
    }

    /// Tells `listener` the facts of the fleet; see [`crate::listen`]. Call it before lanes are opened.
    pub fn listen(&self, listener: Arc<dyn Listener>) {
        either!(self, q => q.listen(listener));
    }

    /// True once the facts of the last minutes have been read: from then on a lane is taken over at once.
    #[must_use]
    pub fn has_caught_up(&self) -> bool {
        match self {
            Self::Rabbit(rabbit) => rabbit.has_caught_up(),
            Self::Embedded(_) => true,
        }
    }

    /// Opens the lane of a provider. Sessions come and go in its inbox; this returns at once.
    ///
    /// # Errors
    /// [`QueueError::Owned`] where another process works on the same file.
    pub fn open_lane(&self, spec: LaneSpec) -> Result<LaneQueue, QueueError> {
        either!(self, q => q.open_lane(spec))
    }

    /// Puts a job on a route; returns when it is safe (confirmed, or committed).
    ///
    /// # Errors
    /// [`QueueError::Unroutable`] for an unknown route; [`QueueError::Away`] where no confirm came
    /// within 5 s: the job may or may not be queued.
    pub async fn enqueue(
        &self,
        route: &RouteName,
        job: &JobId,
        body: Bytes,
        trace: &TraceContext,
    ) -> Result<(), QueueError> {
        either!(self, q => q.enqueue(route, job, body, trace).await)
    }

    /// Puts a fact on the stream; returns when it is safe (confirmed, or committed). For facts that no lane tells:
    /// what a provider says in a callback. The listeners of every process hear it, those of this one included.
    /// A file has one process with listeners; a fact told by another process of the same file is read there by
    /// [`Queue::follow`] alone.
    ///
    /// # Errors
    /// [`QueueError::Away`] where no confirm came within 5 s, the fact may then be on the stream or not; tell it
    /// again: it has the same event id. [`QueueError::Unroutable`], [`QueueError::Refused`], [`QueueError::File`].
    pub async fn tell(&self, fact: &Fact) -> Result<(), QueueError> {
        either!(self, q => q.tell(fact).await)
    }

    /// Makes the topology as planned. Checks first: where something differs, nothing is touched.
    ///
    /// # Errors
    /// [`QueueError::Topology`] with every difference; [`QueueError::Away`], [`QueueError::Refused`].
    pub async fn apply_topology(&self) -> Result<Applied, QueueError> {
        either!(self, q => q.apply_topology().await)
    }

    /// The same where nothing was ever applied; else does nothing. For a worker's first start.
    ///
    /// # Errors
    /// As [`Queue::apply_topology`].
    pub async fn apply_topology_if_empty(&self) -> Result<Applied, QueueError> {
        either!(self, q => q.apply_topology_if_empty().await)
    }

    /// Retires a provider that the plan names no more: moves or buries what is left in its lane, and removes the
    /// lane. Refuses while anything still has to do with it. May be run again after any error.
    ///
    /// # Errors
    /// [`QueueError::InUse`] with what to do first; [`QueueError::Owned`], [`QueueError::Away`],
    /// [`QueueError::Refused`], [`QueueError::File`].
    pub async fn retire(
        &self,
        provider: &ProviderName,
        leftovers: &Leftovers,
        trial: Trial,
    ) -> Result<Retired, QueueError> {
        either!(self, q => q.retire(provider, leftovers, trial).await)
    }

    /// Whether a worker can start, found out without any right to configure.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`].
    pub async fn topology_standing(&self) -> Result<Standing, QueueError> {
        either!(self, q => q.topology_standing().await)
    }

    /// What a worker does about a plan that changed while it runs: a file follows it; of a broker it only says
    /// what is not as planned, which whoever applies the topology has to change.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`], [`QueueError::File`].
    pub async fn follow_topology(&self) -> Result<Vec<Difference>, QueueError> {
        match self {
            Self::Embedded(file) => file.apply_topology().await.map(|_| Vec::new()),
            Self::Rabbit(rabbit) => match rabbit.topology_standing().await? {
                Standing::Empty => Ok(Vec::new()),
                Standing::Ready(differences) | Standing::Behind(differences) => Ok(differences),
            },
        }
    }

    /// Compares without touching anything. Empty: all as planned.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`].
    pub async fn check_topology(&self) -> Result<Vec<Difference>, QueueError> {
        either!(self, q => q.check_topology().await)
    }

    /// Follows facts: those of the last `back`, then new ones as they come, until the receiver is
    /// dropped. Facts that cannot be read are passed over.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`].
    pub async fn follow(&self, back: Duration) -> Result<mpsc::Receiver<Fact>, QueueError> {
        Ok(self.follow_marked(back).await?.facts)
    }

    /// The same, and says when it has caught up.
    ///
    /// # Errors
    /// As [`Queue::follow`].
    pub async fn follow_marked(&self, back: Duration) -> Result<Following, QueueError> {
        either!(self, q => q.follow_marked(back).await)
    }

    /// The facts of one job from the last `back`, in the order in which they were written: all that were confirmed
    /// before the call, and at most 10,000.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`], [`QueueError::File`].
    pub async fn story(&self, job: &JobId, back: Duration) -> Result<Vec<Fact>, QueueError> {
        either!(self, q => q.story(job, back).await)
    }

    /// The dead letters that `filter` means, oldest first, at most `most`. They stay where they are.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`], [`QueueError::File`].
    pub async fn dead_letters(
        &self,
        filter: &DeadFilter,
        now: UnixMs,
        most: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        either!(self, q => q.dead_letters(filter, now, most).await)
    }

    /// Publishes the dead letters that `filter` means to their routes again, and removes each one
    /// once that is confirmed. `wanted` has the last word over each (expired codes). Gives the
    /// replayed ones.
    ///
    /// # Errors
    /// As [`Queue::dead_letters`]; what was replayed before an error is replayed.
    pub async fn replay_dead(
        &self,
        filter: &DeadFilter,
        now: UnixMs,
        wanted: &(dyn Fn(&DeadLetter) -> bool + Send + Sync),
    ) -> Result<Vec<DeadLetter>, QueueError> {
        either!(self, q => q.replay_dead(filter, now, wanted).await)
    }

    /// Removes the dead letters that `filter` means, for good; says how many.
    ///
    /// # Errors
    /// As [`Queue::dead_letters`].
    pub async fn purge_dead(&self, filter: &DeadFilter, now: UnixMs) -> Result<usize, QueueError> {
        either!(self, q => q.purge_dead(filter, now).await)
    }

    /// How many jobs wait in each lane, settled or handed out ones not counted where the broker can tell.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`], [`QueueError::File`].
    pub async fn depths(&self) -> Result<Vec<(otpd_core::ProviderName, u64)>, QueueError> {
        either!(self, q => q.depths().await)
    }

    /// How many copies of facts for observers were dropped so far; a file has no observers.
    #[must_use]
    pub fn observer_events_dropped(&self) -> u64 {
        match self {
            Self::Rabbit(rabbit) => rabbit.observer_events_dropped(),
            Self::Embedded(_) => 0,
        }
    }

    /// Whether the queue can be reached right now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        either!(self, q => q.is_connected())
    }

    /// Ends connections in order. Lanes must be closed before.
    pub async fn close(&self) {
        either!(self, q => q.close().await);
    }
}

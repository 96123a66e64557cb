//! All lanes of a process: opened together, watched, drained together.

use std::sync::Arc;
use std::time::Duration;

use otpd_core::ProviderName;
use otpd_queue::{LaneSpec, Queue, QueueError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::dispatch::Lane;
use crate::endpoint::Endpoint;
use crate::metrics::Metrics;
use crate::reconfigure::Steering;
use crate::settings::{LaneSettings, Shared};

/// Where a lane stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// Waiting for its queue for the first time.
    Opening,
    /// Consuming (as owner, or as the one who takes over).
    Open,
    /// The queue is away.
    Lost,
    /// Finishing what is under way.
    Draining,
    /// Done.
    Closed,
}

/// Why a worker could not go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A lane's queue could not be opened.
    #[error("lane {provider}: {source}")]
    Open {
        /// Which lane.
        provider: ProviderName,
        /// Why.
        source: QueueError,
    },
    /// A lane ended without being asked to.
    #[error("a lane ended by itself; its jobs are handed back: {0}")]
    Ended(String),
}

/// The running lanes.
#[derive(Debug)]
pub struct Worker<E> {
    steering: Arc<Steering<E>>,
    lanes: JoinSet<usize>,
    states: Vec<(ProviderName, watch::Receiver<LaneState>)>,
    drain: CancellationToken,
}

impl<E: Endpoint> Worker<E> {
    /// Opens a lane for each of `lanes` on `queue`. Lanes run until [`Worker::drain`]; a drained lane
    /// gives requests under way at most `grace` to end.
    ///
    /// # Errors
    /// [`WorkerError::Open`]; lanes opened before are dropped, their jobs handed back.
    pub fn start(
        queue: &Queue,
        lanes: Vec<(LaneSettings, Arc<E>)>,
        shared: &Shared,
        clock: Clock,
        metrics: &Metrics,
        grace: Duration,
    ) -> Result<Self, WorkerError> {
        queue.listen(shared.memory.clone());
        let drain = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let mut states = Vec::with_capacity(lanes.len());
        let mut steering = Steering::new(shared);
        for (settings, endpoint) in lanes {
            let provider = settings.provider.clone();
            let spec = LaneSpec { provider: provider.clone(), prefetch: settings.prefetch(&shared.routes) };
            let open = queue
                .open_lane(spec)
                .map_err(|source| WorkerError::Open { provider: provider.clone(), source })?;
            let (state, seen) = watch::channel(LaneState::Opening);
            let lane =
                Lane::new(settings, shared.clone(), clock, endpoint, metrics.lane(&provider), open, state);
            let lane = lane.steered(steering.lane(provider.clone()));
            tasks.spawn(lane.run(drain.clone(), grace));
            states.push((provider, seen));
        }
        Ok(Self { steering: Arc::new(steering), lanes: tasks, states, drain })
    }

    /// What changes the lanes' settings while they run.
    #[must_use]
    pub fn steering(&self) -> Arc<Steering<E>> {
        self.steering.clone()
    }

    /// Where each lane stands.
    #[must_use]
    pub fn states(&self) -> Vec<(ProviderName, watch::Receiver<LaneState>)> {
        self.states.clone()
    }

    /// Waits for a lane to end by itself, which only a fault makes it do.
    pub async fn fault(&mut self) -> WorkerError {
        match self.lanes.join_next().await {
            Some(Ok(_)) => WorkerError::Ended("its queue is gone".into()),
            Some(Err(e)) => WorkerError::Ended(e.to_string()),
            None => std::future::pending().await,
        }
    }

    /// Stops taking jobs, lets requests under way end, settles, hands back the rest. Gives how many
    /// settlements the queue has not confirmed within the grace period.
    pub async fn drain(mut self) -> usize {
        self.drain.cancel();
        let mut unconfirmed = 0;
        while let Some(ended) = self.lanes.join_next().await {
            // A lane that panicked has been reported as a fault.
            unconfirmed += ended.unwrap_or(0);
        }
        unconfirmed
    }
}

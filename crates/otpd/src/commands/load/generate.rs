//! The generator: publishes every job at its time, whatever becomes of the others.
//!
//! A thread of its own keeps the times: neither the runtime's timers (a millisecond coarse) nor its load
//! delay it. It makes a job's body when the job is due and hands the publishing to a task, so a slow confirm
//! holds up nobody; how far behind its plan it ever was is measured and told. Times that are closer than
//! [`NAP`] are taken together.
//!
//! Publishing is [`Queue::enqueue`], as for `otpd send`: on RabbitMQ what is due together goes out in one
//! window of pipelined confirms. Where the broker is away the same job, with the same id, is offered again
//! until the run gives up: it may have been taken the first time, and is then only a copy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use otpd_core::{JobId, RouteName, UnixMs};
use otpd_queue::{Queue, QueueError, TraceContext};
use otpd_sim::Jobs;
use otpd_sim::jobs::MAX_JOBS;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use super::plan::Plan;
use super::track::{Ids, Said};

/// The shortest sleep: what is due within it waits for its end.
const NAP: Duration = Duration::from_micros(100);
/// The longest sleep, after which the thread looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// The first and the longest wait before a job is offered again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// Where the run begins in both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) instant: Instant,
    /// In microseconds since 1970.
    pub(super) wall_us: u64,
}

impl Origin {
    /// Now.
    pub(super) fn now() -> Self {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), wall_us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX) }
    }

    /// The wall clock at this offset.
    fn wall(&self, at: Duration) -> UnixMs {
        UnixMs(self.wall_us / 1000).plus(Duration::from_micros(self.wall_us % 1000) + at)
    }
}

/// What the generator and its tasks share.
pub(super) struct Generator {
    pub(super) plan: Arc<Plan>,
    pub(super) queue: Queue,
    pub(super) ids: Ids,
    pub(super) origin: Origin,
    pub(super) said: UnboundedSender<Said>,
    /// No further job is due.
    pub(super) stop: CancellationToken,
    /// What is not published by now never will be.
    pub(super) give_up: CancellationToken,
}

/// One job on its way to the queue.
struct Parcel {
    number: u64,
    route: usize,
    name: RouteName,
    id: JobId,
    body: Bytes,
}

impl Generator {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub(super) fn start(self) -> std::io::Result<()> {
        let runtime = Handle::current();
        let shared = Arc::new(self);
        std::thread::Builder::new().name("otpd-load".into()).spawn(move || shared.run(&runtime))?;
        Ok(())
    }

    fn run(self: &Arc<Self>, runtime: &Handle) {
        let jobs = Jobs::new(self.plan.seed, series_length(self.plan.arrivals().expected())).purpose("load");
        for (number, at) in (0u64..).zip(self.plan.arrivals()) {
            if !self.sleep_until(at) {
                break;
            }
            let route = self.plan.route_of(number);
            let Some(parcel) = self.parcel(&jobs, number, route, at) else { break };
            let late = self.origin.instant.elapsed().saturating_sub(at);
            // Where nobody listens any more the run is over.
            if self.said.send(Said::Due { number, route, at, late }).is_err() {
                return;
            }
            let shared = self.clone();
            runtime.spawn(async move { shared.publish(parcel).await });
        }
        let _ = self.said.send(Said::Finished { at: self.origin.instant.elapsed() });
    }

    /// Sleeps until an offset from the start; `false` where the run is to stop.
    fn sleep_until(&self, at: Duration) -> bool {
        loop {
            if self.stop.is_cancelled() {
                return false;
            }
            let left = at.saturating_sub(self.origin.instant.elapsed());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.clamp(NAP, LOOK));
        }
    }

    fn parcel(&self, jobs: &Jobs, number: u64, route: usize, at: Duration) -> Option<Parcel> {
        let created = self.origin.wall(at);
        let id = self.ids.of(number);
        let job = jobs.made(number, &id, created, self.plan.ttl.map(|ttl| created.plus(ttl)))?;
        let name = self.plan.routes.get(route)?.name.clone();
        Some(Parcel { number, route, name, id: JobId::parse(&id).ok()?, body: job.body.into() })
    }

    async fn publish(&self, parcel: Parcel) {
        let Parcel { number, route, name, id, body } = parcel;
        let trace = TraceContext::default();
        let begun = Instant::now();
        let mut wait = AGAIN.0;
        let said = loop {
            match self.queue.enqueue(&name, &id, body.clone(), &trace).await {
                Ok(()) => {
                    let at = self.origin.instant.elapsed();
                    break Said::Published { number, route, at, took: begun.elapsed() };
                }
                Err(QueueError::Away { .. }) if !self.give_up.is_cancelled() => {}
                // Whether the queue has it is not known: its end may still tell.
                Err(QueueError::Away { .. }) => return,
                Err(error) => {
                    if matches!(error, QueueError::Unroutable { .. } | QueueError::Refused { .. }) {
                        // It will be no different for the next one.
                        self.stop.cancel();
                    }
                    break Said::Refused { number, why: error.to_string() };
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(AGAIN.1),
                () = self.give_up.cancelled() => return,
            }
        };
        // Where nobody listens any more the run is over.
        let _ = self.said.send(said);
    }
}

/// How many different recipients and codes are needed: with a margin, because Poisson arrivals may be more.
fn series_length(expected: f64) -> u64 {
    let most = expected + 10.0 * expected.sqrt() + 100.0;
    // In range: the plan has checked that it is far below the most jobs there can be.
    (most as u64).min(MAX_JOBS)
}

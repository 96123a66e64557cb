//! What all lanes of a process know together: the jobs of the last minutes, and the requests of other owners.
//!
//! The queue's reader feeds it from the events stream as long as the process lives, so a lane that takes over
//! knows at once what its former owner knew. What this process does itself is remembered as it happens.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use otpd_core::checkpoint::LONG;
use otpd_core::hand_over::{HandOver, ReadAt, TakenOver};
use otpd_core::{
    Ceiling, Checkpoint, Fact, JobId, Known, Life, Mono, ProviderName, Rate, Recent, UnixMs, recent,
};
use otpd_queue::{Listener, News, When};

use crate::clock::Clock;

/// What a window is known to be longer than it is: margins, and clocks that differ.
const MARGIN: Duration = Duration::from_secs(2);

/// The memory of one process.
#[derive(Debug)]
pub struct Memory {
    clock: Clock,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    recent: Recent,
    lanes: HashMap<ProviderName, LaneMemory>,
}

/// What is known of one account.
#[derive(Debug, Default)]
struct LaneMemory {
    requests: HandOver,
    /// The longest window of its ceiling; zero while this process has no lane of it.
    window: Duration,
    /// A checkpoint was read: what is older than it need not be.
    has_checkpoint: bool,
}

impl Memory {
    /// An empty memory, which dates what it hears by `clock`.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, inner: Mutex::default() }
    }

    /// The lane of `provider` goes by this ceiling.
    pub(crate) fn set_ceiling(&self, provider: &ProviderName, rates: &[Rate]) {
        let mut inner = self.inner();
        let lane = inner.lanes.entry(provider.clone()).or_default();
        lane.requests.set_rates(rates);
        lane.window = rates.iter().map(|rate| rate.per).max().unwrap_or_default();
    }

    /// What is known of a life of a job, as the lane of `provider` sees it.
    pub(crate) fn known(&self, job: &JobId, life: Life, provider: &ProviderName) -> Known {
        self.inner().recent.known(job, life, provider)
    }

    /// Remembers what this process did.
    pub(crate) fn remember(&self, fact: &Fact, now: UnixMs) {
        self.inner().recent.fold(fact, now);
    }

    /// Counts the requests of other owners of a lane in its ceiling.
    pub(crate) fn take_over(&self, provider: &ProviderName, ceiling: &mut Ceiling, now: Mono) -> TakenOver {
        let mut inner = self.inner();
        let lane = inner.lanes.entry(provider.clone()).or_default();
        lane.requests.apply(ceiling, now)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Memory {
    fn hear(&self, news: Vec<News>, when: When) {
        let (mono, wall) = (self.clock.mono(), self.clock.wall());
        let read_at = match when {
            When::Live => ReadAt::live(mono, wall),
            When::Past => ReadAt::past(mono, wall),
        };
        let mut inner = self.inner();
        let Inner { recent, lanes } = &mut *inner;
        for news in &news {
            match news {
                News::Fact(fact) => {
                    recent.fold(fact, wall);
                    lanes.entry(fact.provider.clone()).or_default().requests.note(fact, read_at);
                }
                News::Opened { provider, claim, checkpoint } => {
                    let lane = lanes.entry(provider.clone()).or_default();
                    let checkpoint: Option<Checkpoint> =
                        checkpoint.as_deref().and_then(|json| serde_json::from_str(json).ok());
                    lane.has_checkpoint |= checkpoint.is_some();
                    lane.requests.note_opened(claim, checkpoint.as_ref(), read_at);
                }
            }
        }
    }

    fn horizon(&self) -> Duration {
        let inner = self.inner();
        let unknown =
            inner.lanes.values().filter(|lane| !lane.has_checkpoint).map(|lane| lane.window + MARGIN);
        unknown.max().unwrap_or_default().max(recent::WINDOW)
    }

    /// A checkpoint tells only of windows longer than a minute: the requests of shorter ones are read one by one.
    fn knows_window(&self, provider: &ProviderName, known: Duration) -> bool {
        self.inner().lanes.get(provider).is_none_or(|lane| {
            let needed = if lane.has_checkpoint { lane.window.min(LONG) } else { lane.window };
            needed.is_zero() || known >= needed + MARGIN
        })
    }
}

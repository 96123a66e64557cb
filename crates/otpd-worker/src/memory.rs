//! What all lanes of a process know together: the jobs of the last minutes, and the requests of other owners.
//!
//! The queue's reader feeds it from the events stream as long as the process lives, so a lane that takes over
//! knows at once what its former owner knew. What this process does itself is remembered as it happens.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use otpd_core::{Ceiling, Fact, JobId, Known, Life, Mono, ProviderName, Recent, UnixMs, recent};
use otpd_queue::{Listener, News, When};

use crate::clock::Clock;
use crate::predecessors::Predecessors;

/// The memory of one process.
#[derive(Debug)]
pub struct Memory {
    clock: Clock,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    recent: Recent,
    lanes: HashMap<ProviderName, Predecessors>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(Clock::system())
    }
}

impl Memory {
    /// An empty memory, which forgets by this clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, inner: Mutex::default() }
    }

    /// What is known of a life of a job, as the lane of `provider` sees it.
    pub(crate) fn known(&self, job: &JobId, life: Life, provider: &ProviderName) -> Known {
        self.inner().recent.known(job, life, provider)
    }

    /// Remembers what this process did.
    pub(crate) fn remember(&self, fact: &Fact) {
        self.inner().recent.fold(fact, self.clock.wall());
    }

    /// Counts the requests of other owners of a lane in its ceiling. True if there were any lately.
    pub(crate) fn take_over(
        &self,
        provider: &ProviderName,
        ceiling: &mut Ceiling,
        horizon: Duration,
        clock: &Clock,
    ) -> bool {
        let before = std::mem::take(self.inner().lanes.entry(provider.clone()).or_default());
        let (now, wall): (Mono, UnixMs) = (clock.mono(), clock.wall());
        for sent_at in before.sent(wall, horizon) {
            ceiling.seed(sent_at.map_or(now, |at| clock.mono_of(at).min(now)));
        }
        before.lately(wall, horizon)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Memory {
    fn hear(&self, news: Vec<News>, _when: When) {
        let now = self.clock.wall();
        let mut inner = self.inner();
        let Inner { recent, lanes } = &mut *inner;
        for news in &news {
            match news {
                News::Fact(fact) => {
                    recent.fold(fact, now);
                    lanes.entry(fact.provider.clone()).or_default().note(fact);
                }
                News::Opened { .. } => {}
            }
        }
    }

    fn horizon(&self) -> Duration {
        recent::WINDOW
    }
}

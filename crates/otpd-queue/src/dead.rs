//! Dead letters as operators see them. The code in a body is never shown: there is no accessor for
//! it here, only the body as a whole for a replay.

use std::time::Duration;

use bytes::Bytes;
use otpd_core::{Class, JobId, Life, ProviderName, Reason, RouteName, UnixMs};

use crate::hidden::debug_without_body;

/// One dead letter.
#[derive(Clone)]
pub struct DeadLetter {
    /// The job's id.
    pub job: JobId,
    /// Why it died. `None` for a letter that something else put there.
    pub reason: Option<Reason>,
    /// The class of its last answer.
    pub class: Option<Class>,
    /// Where it died.
    pub provider: Option<ProviderName>,
    /// The route it was published to.
    pub route: Option<RouteName>,
    /// Its last HTTP status.
    pub http_status: Option<u16>,
    /// Attempts made.
    pub attempts: u32,
    /// The provider's message, redacted.
    pub detail: Option<Box<str>>,
    /// When it died.
    pub died_at: Option<UnixMs>,
    /// When its job was first taken: from then on its code grows old. `None`: nobody can tell, which is as
    /// good as expired unless the body says when the code was made.
    pub taken_at: Option<UnixMs>,
    /// Which life of the job ended.
    pub life: Life,
    /// The job as published (or without its code).
    pub body: Bytes,
}

debug_without_body!(DeadLetter { job, reason, class, provider, route, attempts, detail });

impl DeadLetter {
    /// The life that a replay begins. The same for every replay of the same letter, so that a replay which is
    /// repeated after a crash is recognised as a duplicate; later than the life that ended, whatever clocks say.
    #[must_use]
    pub fn next_life(&self) -> Life {
        let ended_at = self.died_at.or(self.taken_at).unwrap_or_default();
        Life::from_number(ended_at.0.max(self.life.number().saturating_add(1)))
    }
}

/// Which dead letters are meant. An empty filter means all.
#[derive(Clone, Debug, Default)]
pub struct DeadFilter {
    /// Only this job.
    pub job: Option<JobId>,
    /// Only this reason.
    pub reason: Option<Reason>,
    /// Only this provider.
    pub provider: Option<ProviderName>,
    /// Only letters that died at least this long ago.
    pub older_than: Option<Duration>,
    /// Only letters that died at most this long ago.
    pub younger_than: Option<Duration>,
}

impl DeadFilter {
    /// Whether `letter` is meant.
    #[must_use]
    pub fn matches(&self, letter: &DeadLetter, now: UnixMs) -> bool {
        let age = letter.died_at.map(|at| now.since(at));
        self.job.as_ref().is_none_or(|j| *j == letter.job)
            && self.reason.is_none_or(|r| Some(r) == letter.reason)
            && self.provider.as_ref().is_none_or(|p| Some(p) == letter.provider.as_ref())
            && self.older_than.is_none_or(|d| age.is_some_and(|a| a >= d))
            && self.younger_than.is_none_or(|d| age.is_some_and(|a| a <= d))
    }
}

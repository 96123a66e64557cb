//! What is remembered of the last minutes, folded from facts: enough to know a job that comes back,
//! or comes twice, and nothing that could identify a recipient.
//!
//! Bounded in time and in number. A job is known by a 128-bit hash of its id, so an entry costs some
//! 60 bytes however long the id is. A job forgotten too early could be sent twice; with the default
//! bounds (10 minutes, 400,000 facts) that needs the same id to return later than its code is valid.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::clock::UnixMs;
use crate::fact::{Fact, FactKind};
use crate::names::{JobId, ProviderName};

/// What is known of a job, as the lane of one provider sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    Nothing,
    /// A provider took it.
    Accepted,
    /// Dead, expired or superseded.
    Ended,
    /// This lane handed it to the next one.
    MovedOn,
    /// Tried, and to be tried again.
    Tried {
        /// How often, over all providers.
        attempts: u32,
        /// When the next attempt is due.
        not_before: UnixMs,
    },
}

/// The view of the last minutes.
#[derive(Debug)]
pub struct Recent {
    jobs: HashMap<u128, Entry>,
    order: VecDeque<(u128, UnixMs)>,
    window: Duration,
    most: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: FactKind,
    provider: u64,
    attempts: u32,
    not_before: UnixMs,
    at: UnixMs,
}

/// How long a job is remembered.
pub const WINDOW: Duration = Duration::from_secs(600);
/// How many facts are remembered at most.
pub const MOST: usize = 400_000;

impl Default for Recent {
    fn default() -> Self {
        Self::new(WINDOW, MOST)
    }
}

impl Recent {
    /// A view of the last `window`, of at most `most` facts.
    #[must_use]
    pub fn new(window: Duration, most: usize) -> Self {
        Self { jobs: HashMap::new(), order: VecDeque::new(), window, most }
    }

    /// Adds what a fact says. An older fact than the one already known about the job changes nothing;
    /// a job once accepted stays accepted.
    pub fn fold(&mut self, fact: &Fact) {
        let key = key_of(fact.job.as_str());
        let entry = Entry {
            kind: fact.kind,
            provider: hash(fact.provider.as_str(), 2),
            attempts: fact.attempt,
            not_before: fact.next_attempt_at.unwrap_or(fact.at),
            at: fact.at,
        };
        let known = self.jobs.get(&key);
        let news = match fact.kind {
            FactKind::Duplicate | FactKind::Paused | FactKind::Resumed => false,
            FactKind::Accepted => true,
            FactKind::Sending
            | FactKind::Retrying
            | FactKind::FailedOver
            | FactKind::Superseded
            | FactKind::Expired
            | FactKind::Dead => known.is_none_or(|k| k.kind != FactKind::Accepted && k.at <= fact.at),
        };
        if news {
            self.jobs.insert(key, entry);
            self.order.push_back((key, fact.at));
            self.forget(fact.at);
        }
    }

    /// What the lane of `provider` should know about `job`.
    #[must_use]
    pub fn known(&self, job: &JobId, provider: &ProviderName) -> Known {
        let Some(entry) = self.jobs.get(&key_of(job.as_str())) else { return Known::Nothing };
        let tried = Known::Tried { attempts: entry.attempts, not_before: entry.not_before };
        match entry.kind {
            FactKind::Accepted => Known::Accepted,
            FactKind::Superseded | FactKind::Expired | FactKind::Dead => Known::Ended,
            FactKind::FailedOver if entry.provider == hash(provider.as_str(), 2) => Known::MovedOn,
            FactKind::FailedOver | FactKind::Retrying | FactKind::Sending => tried,
            FactKind::Duplicate | FactKind::Paused | FactKind::Resumed => Known::Nothing,
        }
    }

    /// How many jobs are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    fn forget(&mut self, now: UnixMs) {
        let horizon = now.minus(self.window);
        while let Some((key, at)) = self.order.front().copied() {
            if at >= horizon && self.order.len() <= self.most {
                return;
            }
            self.order.pop_front();
            if self.jobs.get(&key).is_some_and(|e| e.at <= at) {
                self.jobs.remove(&key);
            }
        }
    }
}

fn key_of(id: &str) -> u128 {
    (u128::from(hash(id, 0)) << 64) | u128::from(hash(id, 1))
}

fn hash(text: &str, salt: u8) -> u64 {
    let mut hasher = DefaultHasher::new();
    (salt, text).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(kind: FactKind, job: &str, provider: &str, at: u64) -> Fact {
        let mut fact =
            Fact::new(kind, JobId::parse(job).unwrap(), ProviderName::parse(provider).unwrap(), UnixMs(at));
        fact.attempt = 1;
        fact
    }

    fn known(recent: &Recent, job: &str, provider: &str) -> Known {
        recent.known(&JobId::parse(job).unwrap(), &ProviderName::parse(provider).unwrap())
    }

    #[test]
    fn the_last_fact_counts_and_accepted_stays() {
        let mut recent = Recent::default();
        assert_eq!(known(&recent, "a", "p"), Known::Nothing);
        recent.fold(&fact(FactKind::Retrying, "a", "p", 10));
        assert_eq!(known(&recent, "a", "p"), Known::Tried { attempts: 1, not_before: UnixMs(10) });
        recent.fold(&fact(FactKind::FailedOver, "a", "p", 20));
        assert_eq!(known(&recent, "a", "p"), Known::MovedOn);
        assert!(matches!(known(&recent, "a", "q"), Known::Tried { .. }));
        recent.fold(&fact(FactKind::Accepted, "a", "q", 15));
        assert_eq!(known(&recent, "a", "p"), Known::Accepted);
        recent.fold(&fact(FactKind::Retrying, "a", "p", 30));
        recent.fold(&fact(FactKind::Duplicate, "a", "p", 31));
        assert_eq!(known(&recent, "a", "q"), Known::Accepted);
    }

    #[test]
    fn forgets_by_time_and_by_number() {
        let mut recent = Recent::new(Duration::from_millis(100), 3);
        for (job, at) in [("a", 0), ("b", 50), ("c", 60), ("d", 70)] {
            recent.fold(&fact(FactKind::Accepted, job, "p", at));
        }
        assert_eq!((recent.len(), known(&recent, "a", "p")), (3, Known::Nothing));
        recent.fold(&fact(FactKind::Accepted, "e", "p", 165));
        assert_eq!((recent.len(), known(&recent, "d", "p")), (2, Known::Accepted));
    }
}

//! Which job is the newest for a recipient and purpose, so that an older code is not sent after, or instead
//! of, a newer one. Fed with the jobs of this process and with the facts of others.
//!
//! Of two jobs made at the same moment the later to come is the newer here, but a fact of another process
//! must tell of a strictly newer one: two processes that each hold one of them would otherwise drop both.
//!
//! Bounded: the oldest keys are forgotten beyond [`MOST`], and those whose code is no longer valid at any time.
//! Keys and jobs are known by 64-bit hashes, some 60 bytes an entry in all: two recipients among
//! 100,000 are taken for one with a chance of 1 in 3,000 million.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::clock::UnixMs;
use crate::fact::Fact;
use crate::names::JobId;
use crate::recipient::PurposeKey;

/// How many keys are remembered at most.
pub const MOST: usize = 100_000;
/// How long a job of another process is remembered after its fact: longer than codes usually are valid.
pub const KEPT: Duration = Duration::from_secs(3600);

/// The newest job of each key.
#[derive(Debug, Default)]
pub struct Newest {
    newest: HashMap<PurposeKey, Job>,
    /// Key and job, in the order in which they became the newest.
    order: VecDeque<(PurposeKey, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    job: u64,
    created_at: UnixMs,
    /// When it need not be remembered any longer.
    until: UnixMs,
}

impl Newest {
    /// Remembers `job` until `expires_at` if it is the newest of its key.
    pub fn note(
        &mut self,
        key: PurposeKey,
        job: &JobId,
        created_at: UnixMs,
        expires_at: UnixMs,
        now: UnixMs,
    ) {
        if !self.superseded(key, job, created_at) {
            self.remember(key, Job { job: hash(job), created_at, until: expires_at }, now);
        }
    }

    /// Remembers the job of a fact of another process if it is newer than all that are known of its key.
    pub fn note_fact(&mut self, fact: &Fact, now: UnixMs) {
        let (Some(key), Some(created_at)) = (fact.purpose, fact.created_at) else { return };
        // A clock that is wrong makes no job newer than all that are to come.
        let created_at = created_at.min(fact.at);
        let until = fact.at.min(now).plus(KEPT);
        if until <= now || self.newest.get(&key).is_some_and(|n| n.created_at >= created_at) {
            return;
        }
        self.remember(key, Job { job: hash(&fact.job), created_at, until }, now);
    }

    /// True if a newer job than this one is known. Of two made at the same moment the later to come is
    /// the newer.
    #[must_use]
    pub fn superseded(&self, key: PurposeKey, job: &JobId, created_at: UnixMs) -> bool {
        self.newest.get(&key).is_some_and(|n| n.created_at > created_at && n.job != hash(job))
    }

    /// True if `job` itself is still the newest of its key, or nothing is known of the key.
    #[must_use]
    pub fn is_newest(&self, key: PurposeKey, job: &JobId) -> bool {
        self.newest.get(&key).is_none_or(|n| n.job == hash(job))
    }

    fn remember(&mut self, key: PurposeKey, job: Job, now: UnixMs) {
        self.order.push_back((key, job.job));
        self.newest.insert(key, job);
        while let Some((key, job)) = self.order.front() {
            let current = self.newest.get(key).filter(|n| n.job == *job);
            if self.order.len() <= MOST && current.is_some_and(|n| n.until > now) {
                return;
            }
            if current.is_some() {
                self.newest.remove(key);
            }
            self.order.pop_front();
        }
    }
}

fn hash(job: &JobId) -> u64 {
    let mut hasher = DefaultHasher::new();
    job.as_str().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::FactKind;
    use crate::names::ProviderName;

    const KEY: PurposeKey = PurposeKey(1);

    fn id(text: &str) -> JobId {
        JobId::parse(text).unwrap()
    }

    fn note(newest: &mut Newest, job: &str, key: PurposeKey, created: u64) {
        newest.note(key, &id(job), UnixMs(created), UnixMs(1000), UnixMs(0));
    }

    fn fact(job: &str, created: u64, at: u64) -> Fact {
        let provider = ProviderName::parse("p").unwrap();
        let mut fact = Fact::new(FactKind::Sending, id(job), provider, UnixMs(at));
        (fact.purpose, fact.created_at) = (Some(KEY), Some(UnixMs(created)));
        fact
    }

    #[test]
    fn the_newer_wins_and_the_later_of_two_equals() {
        let mut newest = Newest::default();
        for (job, key, created) in [("b", KEY, 20), ("a", KEY, 10), ("c", PurposeKey(2), 5)] {
            note(&mut newest, job, key, created);
        }
        assert!(newest.superseded(KEY, &id("a"), UnixMs(10)) && !newest.is_newest(KEY, &id("a")));
        assert!(!newest.superseded(KEY, &id("b"), UnixMs(20)) && newest.is_newest(KEY, &id("b")));
        assert!(newest.is_newest(PurposeKey(2), &id("c")) && newest.is_newest(PurposeKey(3), &id("x")));
        note(&mut newest, "d", KEY, 20);
        assert!(newest.is_newest(KEY, &id("d")) && !newest.is_newest(KEY, &id("b")));
    }

    #[test]
    fn a_fact_supersedes_only_what_is_older() {
        for (created, at, is_newest) in [(30, 100, "b"), (20, 100, "a"), (10, 100, "a"), (30, 15, "a")] {
            let mut newest = Newest::default();
            note(&mut newest, "a", KEY, 20);
            newest.note_fact(&fact("b", created, at), UnixMs(100));
            assert!(newest.is_newest(KEY, &id(is_newest)), "created at {created}, told at {at}");
        }
        let mut newest = Newest::default();
        newest.note_fact(&fact("b", 30, 100), UnixMs(100 + 3_600_000));
        assert!(newest.newest.is_empty(), "too long ago");
    }

    #[test]
    fn forgets_what_is_no_longer_valid_and_what_is_too_much() {
        let mut newest = Newest::default();
        for key in 0..MOST as u64 + 10 {
            note(&mut newest, "a", PurposeKey(key), 10);
        }
        assert_eq!((newest.newest.len(), newest.order.len()), (MOST, MOST));
        newest.note(KEY, &id("z"), UnixMs(10), UnixMs(3000), UnixMs(2000));
        assert_eq!((newest.newest.len(), newest.order.len()), (1, 1));
    }
}

//! Who is the newest for a recipient and purpose: a memory of keys, so that an older code is not
//! sent after, or instead of, a newer one. Bounded: the oldest keys are forgotten beyond
//! [`MOST`], and those whose code is no longer valid at any time.
//!
//! Keys and jobs are known by 64-bit hashes, some 60 bytes an entry in all: two recipients among
//! 100,000 are taken for one with a chance of 1 in 3,000 million.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use otpd_core::{SendJob, UnixMs};

/// How many keys are remembered at most.
pub const MOST: usize = 100_000;

/// The newest job of each key.
#[derive(Debug, Default)]
pub struct Successors {
    newest: HashMap<u64, Newest>,
    /// Key and job, in the order in which they became the newest.
    order: VecDeque<(u64, u64)>,
}

#[derive(Debug)]
struct Newest {
    job: u64,
    created_at: UnixMs,
    expires_at: UnixMs,
}

impl Successors {
    /// Remembers `job` if it is the newest of its key.
    pub fn note(&mut self, job: &SendJob, expires_at: UnixMs, now: UnixMs) {
        if self.superseded(job) {
            return;
        }
        let (key, id) = (key_of(job), hash(&job.id));
        self.order.push_back((key, id));
        self.newest.insert(key, Newest { job: id, created_at: job.created_at, expires_at });
        self.forget(now);
    }

    /// Whether a newer job than `job` is known. Of two made at the same moment the later to come is
    /// the newer.
    #[must_use]
    pub fn superseded(&self, job: &SendJob) -> bool {
        let newest = self.newest.get(&key_of(job));
        newest.is_some_and(|n| n.created_at > job.created_at && n.job != hash(&job.id))
    }

    /// Whether `job` itself is still the newest of its key (true for a key that was forgotten).
    #[must_use]
    pub fn is_newest(&self, job: &SendJob) -> bool {
        self.newest.get(&key_of(job)).is_none_or(|n| n.job == hash(&job.id))
    }

    fn forget(&mut self, now: UnixMs) {
        while let Some((key, job)) = self.order.front() {
            let current = self.newest.get(key).filter(|n| n.job == *job);
            if self.order.len() <= MOST && current.is_some_and(|n| n.expires_at > now) {
                return;
            }
            if current.is_some() {
                self.newest.remove(key);
            }
            self.order.pop_front();
        }
    }
}

fn key_of(job: &SendJob) -> u64 {
    hash(&(job.to, &job.purpose))
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str, to: &str, created: u64) -> SendJob {
        let body = format!(r#"{{"id":"{id}","to":"{to}","code":"123456"}}"#);
        SendJob::parse(body.as_bytes(), UnixMs(created)).unwrap()
    }

    #[test]
    fn the_newer_wins_and_the_later_of_two_equals() {
        let mut successors = Successors::default();
        let (old, new, other) =
            (job("a", "+62812345678", 10), job("b", "+62812345678", 20), job("c", "+62812345679", 5));
        for j in [&new, &old, &other] {
            successors.note(j, UnixMs(1000), UnixMs(0));
        }
        assert!(successors.superseded(&old) && !successors.is_newest(&old));
        assert!(!successors.superseded(&new) && successors.is_newest(&new));
        assert!(successors.is_newest(&other));
        let equal = job("d", "+62812345678", 20);
        successors.note(&equal, UnixMs(1000), UnixMs(0));
        assert!(successors.is_newest(&equal) && !successors.is_newest(&new));
    }

    #[test]
    fn forgets_what_is_no_longer_valid_and_what_is_too_much() {
        let mut successors = Successors::default();
        for i in 0..MOST + 10 {
            successors.note(&job("a", &format!("+62{i:09}"), 10), UnixMs(1000), UnixMs(0));
        }
        assert_eq!((successors.newest.len(), successors.order.len()), (MOST, MOST));
        successors.note(&job("z", "+62999999999", 10), UnixMs(3000), UnixMs(2000));
        assert_eq!((successors.newest.len(), successors.order.len()), (1, 1));
    }
}

//! What is remembered of the last minutes, folded from facts: enough to know a job that comes back,
//! or comes twice, and nothing that could identify a recipient.
//!
//! Bounded in time and in number. A job is known by a 64-bit hash of its id, and an entry costs some 20
//! bytes however long the id is: two different ids among 230,000 are taken for one with a chance of 1 in
//! 700 million. Entries are kept in two generations, and the older one is dropped as a whole, so nothing
//! is spent on forgetting them one by one. A job forgotten too early could be sent twice; with the default
//! bounds (10 minutes, the last 110,000 facts at least) that needs the same id to come again after that.

use std::collections::HashMap;
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
    young: Generation,
    old: Generation,
    window: Duration,
    most: usize,
    /// The time of the last fact: what is older than the window before it is forgotten.
    last: UnixMs,
    /// Those whose lanes handed jobs on, as [`State::MovedOn`] names them.
    movers: Vec<ProviderName>,
}

#[derive(Debug, Default)]
struct Generation {
    jobs: HashMap<Key, Entry>,
    /// When it began; times in entries count from [`BEFORE`] before it.
    began: UnixMs,
}

/// Two halves of a hash: an entry then needs no padding.
type Key = [u32; 2];

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// When, in milliseconds from [`BEFORE`] before its generation.
    at: u32,
    /// How long after that the next attempt is due, in milliseconds.
    wait: u32,
    attempts: u16,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Accepted,
    Ended,
    /// Handed on by the lane of this one of the movers.
    MovedOn(u8),
    Tried,
}

/// How long a job is remembered.
pub const WINDOW: Duration = Duration::from_secs(600);
/// How many facts are remembered at most; the last half of them always, within the window. Two tables of
/// 2^17 places, each seven eighths full: one more fact would double them.
pub const MOST: usize = 229_376;
/// How far back from its beginning a generation can date: facts of other lanes come late.
const BEFORE: Duration = Duration::from_secs(20 * 86_400);

impl Default for Recent {
    fn default() -> Self {
        Self::new(WINDOW, MOST)
    }
}

impl Recent {
    /// A view of the last `window`, of at most `most` facts and at least half as many.
    #[must_use]
    pub fn new(window: Duration, most: usize) -> Self {
        Self {
            young: Generation::default(),
            old: Generation::default(),
            window,
            most,
            last: UnixMs::default(),
            movers: Vec::new(),
        }
    }

    /// Adds what a fact says. An older fact than the one already known about the job changes nothing;
    /// a job once accepted stays accepted.
    pub fn fold(&mut self, fact: &Fact) {
        let state = match fact.kind {
            FactKind::Duplicate | FactKind::Paused | FactKind::Resumed => return,
            FactKind::Accepted => State::Accepted,
            FactKind::Superseded | FactKind::Expired | FactKind::Dead => State::Ended,
            FactKind::FailedOver => self.moved_on(&fact.provider),
            FactKind::Sending | FactKind::Retrying => State::Tried,
        };
        let key = key_of(fact.job.as_str());
        let older = |(entry, at): (Entry, UnixMs)| entry.state != State::Accepted && at <= fact.at;
        if state == State::Accepted || self.find(key).is_none_or(older) {
            self.make_room(fact.at);
            let entry = Entry {
                at: self.young.offset(fact.at),
                wait: small(fact.next_attempt_at.map_or(Duration::ZERO, |due| due.since(fact.at))),
                attempts: u16::try_from(fact.attempt).unwrap_or(u16::MAX),
                state,
            };
            self.young.jobs.insert(key, entry);
            self.last = fact.at;
        }
    }

    /// What the lane of `provider` should know about `job`.
    #[must_use]
    pub fn known(&self, job: &JobId, provider: &ProviderName) -> Known {
        let horizon = self.last.minus(self.window);
        let found = self.find(key_of(job.as_str())).filter(|(_, at)| *at >= horizon);
        let Some((entry, at)) = found else { return Known::Nothing };
        let tried = Known::Tried {
            attempts: entry.attempts.into(),
            not_before: at.plus(Duration::from_millis(entry.wait.into())),
        };
        match entry.state {
            State::Accepted => Known::Accepted,
            State::Ended => Known::Ended,
            State::MovedOn(by) if self.movers.get(usize::from(by)) == Some(provider) => Known::MovedOn,
            State::MovedOn(_) | State::Tried => tried,
        }
    }

    /// How many facts are remembered, those included that are too old to count.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.jobs.len() + self.old.jobs.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find(&self, key: Key) -> Option<(Entry, UnixMs)> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// A job handed on by a lane beyond the 256th that does so is taken as tried, not as moved on.
    fn moved_on(&mut self, provider: &ProviderName) -> State {
        let place = self.movers.iter().position(|p| p == provider).unwrap_or_else(|| {
            self.movers.push(provider.clone());
            self.movers.len() - 1
        });
        u8::try_from(place).map_or(State::Tried, State::MovedOn)
    }

    /// Begins a new generation where the young one is full or a window long, and drops the old one.
    fn make_room(&mut self, now: UnixMs) {
        let young = &self.young;
        let is_full = young.jobs.len() >= self.most.div_ceil(2);
        let is_over = now.since(young.began) >= self.window;
        let clock_was_wrong = young.began.since(now) >= BEFORE / 2;
        if is_full || is_over || clock_was_wrong || young.jobs.is_empty() {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.jobs.clear();
            self.young.began = now;
        }
    }
}

impl Generation {
    fn get(&self, key: Key) -> Option<(Entry, UnixMs)> {
        let entry = self.jobs.get(&key)?;
        Some((*entry, self.origin().plus(Duration::from_millis(entry.at.into()))))
    }

    fn offset(&self, at: UnixMs) -> u32 {
        small(at.since(self.origin()))
    }

    fn origin(&self) -> UnixMs {
        self.began.minus(BEFORE)
    }
}

fn small(d: Duration) -> u32 {
    u32::try_from(d.as_millis()).unwrap_or(u32::MAX)
}

fn key_of(id: &str) -> Key {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let hash = hasher.finish();
    [(hash >> 32) as u32, hash as u32]
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
        let mut recent = Recent::new(Duration::from_millis(100), 4);
        for (job, at) in [("a", 0), ("b", 50), ("c", 60), ("d", 70), ("e", 80)] {
            recent.fold(&fact(FactKind::Accepted, job, "p", at));
        }
        assert_eq!((recent.len(), known(&recent, "a", "p")), (3, Known::Nothing));
        assert_eq!(known(&recent, "c", "p"), Known::Accepted);
        recent.fold(&fact(FactKind::Accepted, "f", "p", 165));
        assert_eq!((known(&recent, "c", "p"), known(&recent, "d", "p")), (Known::Nothing, Known::Accepted));
        recent.fold(&fact(FactKind::Accepted, "g", "p", 280));
        assert_eq!((recent.len(), known(&recent, "f", "p")), (3, Known::Nothing));
    }

    #[test]
    fn times_are_kept_over_generations() {
        let mut recent = Recent::new(Duration::from_secs(600), 4);
        let start = 1_800_000_000_000;
        for (n, job) in ["a", "b", "c"].into_iter().enumerate() {
            let mut tried = fact(FactKind::Retrying, job, "p", start + n as u64);
            (tried.attempt, tried.next_attempt_at) = (3, Some(UnixMs(start + 30_000)));
            recent.fold(&tried);
        }
        for job in ["a", "b", "c"] {
            let not_before = UnixMs(start + 30_000);
            assert_eq!(known(&recent, job, "p"), Known::Tried { attempts: 3, not_before }, "{job}");
        }
        // Late news of an older time changes nothing, in whichever generation the job is.
        recent.fold(&fact(FactKind::Dead, "a", "p", start - 1));
        assert!(matches!(known(&recent, "a", "p"), Known::Tried { .. }));
    }

    #[test]
    fn a_clock_that_was_wrong_does_not_stay_wrong() {
        let mut recent = Recent::default();
        let (now, day) = (1_800_000_000_000, 86_400_000);
        recent.fold(&fact(FactKind::Accepted, "future", "p", now + 300 * day));
        for (job, kind) in [("a", FactKind::Retrying), ("a", FactKind::Dead)] {
            recent.fold(&fact(kind, job, "p", now));
        }
        assert_eq!(known(&recent, "a", "p"), Known::Ended);
    }
}

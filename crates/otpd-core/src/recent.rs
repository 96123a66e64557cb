//! What is remembered of the last minutes, folded from facts: enough to recognise a job that comes back,
//! or comes twice, and nothing that could identify a recipient.
//!
//! Facts may be folded in any order, because the past is read while the present goes on. What counts about a
//! job is decided by the facts alone: its latest life, in that life an acceptance before anything else, and
//! otherwise the latest fact. A fact of another life never changes what a life came to.
//!
//! Bounded in time and in number. A job is known by a 64-bit hash of its id, and an entry takes 24 bytes
//! however long the id is: two different ids among 230,000 are taken for one with a chance of 1 in
//! 700 million. Entries are kept in two generations, and the older one is dropped as a whole, so nothing
//! is spent on forgetting them one by one. Generations follow the clock of the reader, never the times in
//! facts: an old fact, or a worker whose clock is wrong, cannot drop one. A job forgotten too early could be
//! sent twice; with the default bounds (10 minutes, the last 110,000 facts at least) that needs the same id
//! to come again after that.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::clock::UnixMs;
use crate::fact::{Fact, FactKind};
use crate::life::Life;
use crate::names::{JobId, ProviderName};
use crate::outcome::Class;

/// What is known of one life of a job, as the lane of one provider sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    Nothing,
    /// A provider accepted this life, or a later one.
    Accepted,
    /// This life, or a later one, ended as dead, expired or superseded.
    Ended {
        /// When: the number of the life that may follow ([`Life::after`]).
        at: UnixMs,
    },
    /// This life is over, and a later one has begun and not ended yet.
    Outlived,
    /// This lane handed the job on to the next one.
    MovedOn {
        /// When.
        at: UnixMs,
    },
    /// Tried, and to be tried again.
    Tried {
        /// Number of attempts, over all providers; at most 127.
        attempts: u32,
        /// When the next attempt is due. A wall clock that was set back since cannot put this off by more
        /// than the wait that was decided.
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
    /// The wall time at the last fold: what is older than the window before it is forgotten.
    now: UnixMs,
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

/// With its key 24 bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// When, in milliseconds from [`BEFORE`] before its generation.
    at: u32,
    /// How long after that the next attempt is due, in milliseconds.
    wait: u32,
    /// The number of the life, in 48 bits: good for 8,900 years.
    life: [u16; 3],
    /// In seven bits; the eighth says that nobody can tell what became of one of them.
    attempts: u8,
    state: u8,
}

/// What a life came to, in the order in which facts of the same moment count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Tried,
    /// Handed on by the lane of this one of the movers.
    MovedOn(u8),
    Ended,
    Accepted,
}

/// What an entry says, with its time as a time.
#[derive(Clone, Copy, Debug)]
struct Found {
    at: UnixMs,
    wait: Duration,
    life: Life,
    attempts: u8,
    /// Nobody can tell what became of an attempt.
    is_ambiguous: bool,
    state: State,
}

/// How long a job is remembered.
pub const WINDOW: Duration = Duration::from_secs(600);
/// How many facts are remembered at most; the last half of them always, within the window. Two tables of
/// 2^17 places, each seven eighths full: one more fact would double them.
pub const MOST: usize = 229_376;
/// How far back from its beginning a generation can date.
const BEFORE: Duration = Duration::from_secs(20 * 86_400);
/// A fact that is older than the young generation by less than this is not taken for one of the past: it was
/// on its way, or the clock of its worker is behind.
const LATE: Duration = Duration::from_secs(60);
/// The largest number of a life that an entry holds.
const LAST_LIFE: u64 = (1 << 48) - 1;
/// The largest number of attempts that an entry holds: more than a policy allows.
const MOST_ATTEMPTS: u8 = 127;
/// How many lanes can be told apart as movers.
const MOST_MOVERS: usize = 250;

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
            now: UnixMs::default(),
            movers: Vec::new(),
        }
    }

    /// Adds what a fact says; `now` is this process's wall time. The order in which facts are folded does
    /// not matter, except for two of the same moment that say equally much: then the later one counts.
    pub fn fold(&mut self, fact: &Fact, now: UnixMs) {
        let state = match fact.kind {
            FactKind::Duplicate
            | FactKind::Paused
            | FactKind::Resumed
            | FactKind::Delivery(_)
            | FactKind::Verified => return,
            FactKind::Accepted => State::Accepted,
            FactKind::Superseded | FactKind::Expired | FactKind::Dead => State::Ended,
            FactKind::FailedOver => self.moved_on(&fact.provider),
            FactKind::Sending | FactKind::Retrying => State::Tried,
        };
        self.now = now;
        self.turn(now);
        if fact.at < now.minus(self.window) {
            return;
        }
        let found = Found {
            // Whoever dates a fact later than that has a wrong clock; nothing would ever count over it.
            at: fact.at.min(now.plus(LATE)),
            wait: fact.next_attempt_at.map_or(Duration::ZERO, |due| due.since(fact.at)),
            life: fact.life,
            attempts: u8::try_from(fact.attempt).unwrap_or(u8::MAX).min(MOST_ATTEMPTS),
            is_ambiguous: fact.class == Some(Class::Ambiguous),
            state,
        };
        let key = key_of(fact.job.as_str());
        let known = self.find(key);
        let Some(known) = known else { return self.put(key, &found, now) };
        // Attempts of one life never go back, in whichever order they are told.
        let is_same_life = fitting(known.life) == fitting(found.life);
        let attempts = if is_same_life { known.attempts.max(found.attempts) } else { found.attempts };
        let is_ambiguous = found.is_ambiguous || (is_same_life && known.is_ambiguous);
        if found.counts_over(&known) {
            self.put(key, &Found { attempts, is_ambiguous, ..found }, now);
        } else if is_same_life && (attempts, is_ambiguous) != (known.attempts, known.is_ambiguous) {
            self.put(key, &Found { attempts, is_ambiguous, ..known }, now);
        }
    }

    /// What the lane of `provider` should know about this life of `job`.
    #[must_use]
    pub fn known(&self, job: &JobId, life: Life, provider: &ProviderName) -> Known {
        let horizon = self.now.minus(self.window);
        let found = self.find(key_of(job.as_str())).filter(|found| found.at >= horizon);
        let Some(found) = found.filter(|found| found.life >= fitting(life)) else { return Known::Nothing };
        let is_later = found.life > fitting(life);
        let tried = Known::Tried {
            attempts: found.attempts.into(),
            not_before: found.at.min(self.now).plus(found.wait),
        };
        match found.state {
            State::Accepted => Known::Accepted,
            State::Ended => Known::Ended { at: found.at },
            State::MovedOn(_) | State::Tried if is_later => Known::Outlived,
            State::MovedOn(by) if self.movers.get(usize::from(by)) == Some(provider) => {
                Known::MovedOn { at: found.at }
            }
            State::MovedOn(_) | State::Tried => tried,
        }
    }

    /// True if nobody can tell what became of an attempt of this life of `job`, in whichever lane.
    #[must_use]
    pub fn was_ambiguous(&self, job: &JobId, life: Life) -> bool {
        let found = self.find(key_of(job.as_str()));
        found.is_some_and(|found| found.life == fitting(life) && found.is_ambiguous)
    }

    /// True if anything, of whichever lane, is known of this life of `job`.
    #[must_use]
    pub fn knows(&self, job: &JobId, life: Life) -> bool {
        self.find(key_of(job.as_str())).is_some_and(|found| found.life >= fitting(life))
    }

    /// How far back jobs are remembered.
    #[must_use]
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// How many facts are remembered, those included that are too old to count.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.jobs.len() + self.old.jobs.len()
    }

    /// True if nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find(&self, key: Key) -> Option<Found> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    fn put(&mut self, key: Key, found: &Found, now: UnixMs) {
        let half = self.most.div_ceil(2);
        let is_past = found.at.plus(LATE) < self.young.began && !self.young.jobs.contains_key(&key);
        if is_past {
            // What is older than everything young has its place among the old, while there is room: newer
            // facts are never forgotten for it.
            if self.old.jobs.len() < half || self.old.jobs.contains_key(&key) {
                self.old.put(key, found);
            }
            return;
        }
        if self.young.jobs.len() >= half && !self.young.jobs.contains_key(&key) {
            self.begin_generation(now);
        }
        self.young.put(key, found);
    }

    /// A job handed on by a lane beyond those that can be told apart is taken as tried, not as moved on.
    fn moved_on(&mut self, provider: &ProviderName) -> State {
        let place = self.movers.iter().position(|p| p == provider).or_else(|| {
            (self.movers.len() < MOST_MOVERS).then(|| {
                self.movers.push(provider.clone());
                self.movers.len() - 1
            })
        });
        place.and_then(|place| u8::try_from(place).ok()).map_or(State::Tried, State::MovedOn)
    }

    /// Begins a new generation where the young one is a window long, or the clock was set back.
    fn turn(&mut self, now: UnixMs) {
        let began = self.young.began;
        if now.since(began) >= self.window || began.since(now) >= self.window {
            self.begin_generation(now);
        }
    }

    fn begin_generation(&mut self, now: UnixMs) {
        std::mem::swap(&mut self.young, &mut self.old);
        self.young.jobs.clear();
        self.young.began = now;
        if self.old.began == UnixMs::default() {
            self.old.began = now; // the first one: nothing is dated from it yet
        }
    }
}

impl Found {
    /// True if this says more about the job than what is known of it.
    fn counts_over(&self, known: &Self) -> bool {
        let of = |found: &Self| {
            // An end is final whatever the times, an acceptance most of all: workers' clocks differ.
            let finality = match found.state {
                State::Accepted => 2,
                State::Ended => 1,
                State::MovedOn(_) | State::Tried => 0,
            };
            let at = if finality == 2 { UnixMs::default() } else { found.at };
            (fitting(found.life), finality, at, found.attempts, found.state)
        };
        of(self) >= of(known)
    }
}

impl Generation {
    fn get(&self, key: Key) -> Option<Found> {
        let entry = self.jobs.get(&key)?;
        let [high, middle, low] = entry.life.map(u64::from);
        Some(Found {
            at: self.origin().plus(Duration::from_millis(entry.at.into())),
            wait: Duration::from_millis(entry.wait.into()),
            life: Life::from_number(high << 32 | middle << 16 | low),
            attempts: entry.attempts & MOST_ATTEMPTS,
            is_ambiguous: entry.attempts > MOST_ATTEMPTS,
            state: State::unpacked(entry.state),
        })
    }

    fn put(&mut self, key: Key, found: &Found) {
        let life = fitting(found.life).number();
        let entry = Entry {
            at: small(found.at.since(self.origin())),
            wait: small(found.wait),
            life: [(life >> 32) as u16, (life >> 16) as u16, life as u16],
            attempts: found.attempts.min(MOST_ATTEMPTS) | if found.is_ambiguous { !MOST_ATTEMPTS } else { 0 },
            state: found.state.packed(),
        };
        self.jobs.insert(key, entry);
    }

    fn origin(&self) -> UnixMs {
        self.began.minus(BEFORE)
    }
}

impl State {
    const fn packed(self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::Ended => 1,
            Self::Tried => 2,
            Self::MovedOn(by) => 3 + by,
        }
    }

    const fn unpacked(packed: u8) -> Self {
        match packed {
            0 => Self::Accepted,
            1 => Self::Ended,
            2 => Self::Tried,
            moved => Self::MovedOn(moved - 3),
        }
    }
}

/// The life as far as an entry can hold it.
fn fitting(life: Life) -> Life {
    Life::from_number(life.number().min(LAST_LIFE))
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
mod tests;

//! What is remembered of the last minutes, folded from facts: enough to recognise a job that comes back,
//! or comes twice, and nothing that could identify a recipient.
//!
//! Facts may be folded in any order, because the past is read while the present goes on. What counts about a
//! job is decided by the facts alone: its latest life, in that life the extra send before the first one, in a
//! stage ([`Stage`]) an acceptance before anything else, and otherwise the latest fact. A fact of another life
//! never changes what a life came to. What was heard of a life's messages is kept beside that.
//!
//! Bounded in time and in number. A job is known by a 64-bit hash of its id, and an entry takes 28 bytes
//! however long the id is: two different ids among 230,000 are taken for one with a chance of 1 in
//! 700 million. Entries are kept in two generations, and the older one is dropped as a whole, so nothing
//! is spent on forgetting them one by one. Generations follow the clock of the reader, never the times in
//! facts: an old fact, or a worker whose clock is wrong, cannot drop one. A job forgotten too early could be
//! sent twice; with the default bounds (10 minutes, the last 110,000 facts at least) that needs the same id
//! to come again after that.

use std::time::Duration;

use crate::clock::UnixMs;
use crate::fact::{Fact, FactKind};
use crate::life::{Life, Stage};
use crate::names::{JobId, ProviderName};
use crate::outcome::Class;
use crate::verdict::Verdict;

mod entry;

use entry::{Found, Generation, Key, MOST_LANES, SOMEBODY, State, Told, fitting, key_of, small_count};

/// What is known of one life of a job, as the lane of one provider sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    Nothing,
    /// A provider accepted this life, or a later one.
    Accepted,
    /// The provider of this lane accepted it, and it has not been sent once more since.
    AcceptedHere {
        /// When.
        at: UnixMs,
        /// Number of attempts, over all providers; at most 127.
        attempts: u32,
    },
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
    /// Whose lanes handed jobs on, or had them accepted, as entries name them.
    lanes: Vec<ProviderName>,
}

/// How long a job is remembered.
pub const WINDOW: Duration = Duration::from_secs(600);
/// How many facts are remembered at most; the last half of them always, within the window. Two tables of
/// 2^17 places, each seven eighths full: one more fact would double them.
pub const MOST: usize = 229_376;
/// A fact that is older than the young generation by less than this is not taken for one of the past: it was
/// on its way, or the clock of its worker is behind.
const LATE: Duration = Duration::from_secs(60);

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
            lanes: Vec::new(),
        }
    }

    /// Adds what a fact says; `now` is this process's wall time. The order in which facts are folded does
    /// not matter, except for two of the same moment that say equally much: then the later one counts.
    pub fn fold(&mut self, fact: &Fact, now: UnixMs) {
        let state = match fact.kind {
            FactKind::Duplicate | FactKind::Paused | FactKind::Resumed => return,
            FactKind::Delivery(_) | FactKind::Verified => return self.hear(fact, now),
            FactKind::Accepted => State::Accepted,
            FactKind::Superseded | FactKind::Expired | FactKind::Dead => State::Ended,
            FactKind::FailedOver => State::MovedOn,
            FactKind::Sending | FactKind::Retrying => State::Tried,
        };
        let found = Found {
            wait: fact.next_attempt_at.map_or(Duration::ZERO, |due| due.since(fact.at)),
            stage: fitting(fact.stage()),
            attempts: small_count(fact.attempt),
            is_ambiguous: fact.class == Some(Class::Ambiguous),
            by: match state {
                State::Accepted | State::MovedOn => self.number_of(&fact.provider),
                State::Heard | State::Tried | State::Ended => SOMEBODY,
            },
            ..Found::dated(fact.at, state)
        };
        self.add(&fact.job, found, now);
    }

    /// Adds what a fact says of a message's delivery, if that is anything: beside what is known of the job, or for
    /// the time when that will be known.
    fn hear(&mut self, fact: &Fact, now: UnixMs) {
        let Some(verdict) = Verdict::of(fact) else { return };
        let by = self.number_of(&fact.provider);
        let heard = Found {
            stage: fitting(fact.life.into()),
            told: Told::new(verdict, fact.attempt, by),
            ..Found::dated(fact.at, State::Heard)
        };
        self.add(&fact.job, heard, now);
    }

    fn add(&mut self, job: &JobId, mut found: Found, now: UnixMs) {
        self.now = now;
        self.turn(now);
        if found.at < now.minus(self.window) {
            return;
        }
        // Whoever dates a fact later than that has a wrong clock; nothing would ever count over it.
        found.at = found.at.min(now.plus(LATE));
        let key = key_of(job.as_str());
        match self.find(key) {
            None => self.put(key, &found, now),
            Some(known) => {
                let both = found.over(known);
                if both != known {
                    self.put(key, &both, now);
                }
            }
        }
    }

    /// What the lane of `provider` should know about this stage of `job`.
    #[must_use]
    pub fn known(&self, job: &JobId, stage: Stage, provider: &ProviderName) -> Known {
        let (horizon, stage) = (self.now.minus(self.window), fitting(stage));
        let found = self.find(key_of(job.as_str())).filter(|found| found.at >= horizon);
        let Some(found) = found.filter(|found| found.stage >= stage) else { return Known::Nothing };
        let is_later = found.stage.life > stage.life;
        if !is_later && found.stage.extra != stage.extra {
            return Known::Accepted; // that is why it is sent once more
        }
        let is_here = self.lanes.get(usize::from(found.by)) == Some(provider);
        let attempts = found.attempts.into();
        match found.state {
            State::Accepted if is_here && !is_later => Known::AcceptedHere { at: found.at, attempts },
            State::Accepted => Known::Accepted,
            State::Ended => Known::Ended { at: found.at },
            State::MovedOn | State::Tried | State::Heard if is_later => Known::Outlived,
            State::MovedOn if is_here => Known::MovedOn { at: found.at },
            State::MovedOn | State::Tried => {
                Known::Tried { attempts, not_before: found.at.min(self.now).plus(found.wait) }
            }
            State::Heard => Known::Nothing,
        }
    }

    /// What is known of the delivery of this life's message, which the lane of `provider` sent in its attempt
    /// `attempt`.
    #[must_use]
    pub fn verdict(&self, job: &JobId, life: Life, attempt: u32, provider: &ProviderName) -> Option<Verdict> {
        let found = self.find(key_of(job.as_str()))?;
        let by = self.lanes.iter().position(|known| known == provider);
        let by = by.and_then(|place| u8::try_from(place).ok()).unwrap_or(SOMEBODY);
        if found.stage.life == fitting(life.into()).life { found.told.of(attempt, by) } else { None }
    }

    /// True if nobody can tell what became of an attempt of this life of `job`, in whichever lane.
    #[must_use]
    pub fn was_ambiguous(&self, job: &JobId, life: Life) -> bool {
        let found = self.find(key_of(job.as_str()));
        found.is_some_and(|found| found.stage.life == fitting(life.into()).life && found.is_ambiguous)
    }

    /// True if a lane, whichever, is known to have worked on this life of `job`.
    #[must_use]
    pub fn knows(&self, job: &JobId, life: Life) -> bool {
        let found = self.find(key_of(job.as_str())).filter(|found| found.state != State::Heard);
        found.is_some_and(|found| found.stage >= fitting(life.into()))
    }

    /// How far back jobs are remembered.
    #[must_use]
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// How many facts are remembered, those included that are too old to count.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
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
        let is_past = found.at.plus(LATE) < self.young.began && !self.young.has(key);
        if is_past {
            // What is older than everything young has its place among the old, while there is room: newer
            // facts are never forgotten for it.
            if self.old.len() < half || self.old.has(key) {
                self.old.put(key, found);
            }
            return;
        }
        if self.young.len() >= half && !self.young.has(key) {
            self.begin_generation(now);
        }
        self.young.put(key, found);
    }

    /// The number of a lane in entries. One beyond those that can be told apart is nobody's in particular: a job
    /// that it handed on is taken as tried.
    fn number_of(&mut self, provider: &ProviderName) -> u8 {
        let place = self.lanes.iter().position(|known| known == provider).or_else(|| {
            (self.lanes.len() < MOST_LANES).then(|| {
                self.lanes.push(provider.clone());
                self.lanes.len() - 1
            })
        });
        place.and_then(|place| u8::try_from(place).ok()).unwrap_or(SOMEBODY)
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
        self.young.beginning(now);
        if self.old.began == UnixMs::default() {
            self.old.began = now; // the first one: nothing is dated from it yet
        }
    }
}

#[cfg(test)]
mod tests;

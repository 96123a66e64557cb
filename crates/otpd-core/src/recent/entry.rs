//! How a job is remembered: in 28 bytes with its key, so that 229,376 of them are some 7 MB.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::clock::UnixMs;
use crate::life::{Life, Stage};
use crate::reason::Reason;
use crate::verdict::Verdict;

/// Entries that began to be made at one time.
#[derive(Debug, Default)]
pub(super) struct Generation {
    jobs: HashMap<Key, Entry>,
    /// When it began; times in entries count from [`BEFORE`] before it.
    pub(super) began: UnixMs,
}

/// Two halves of a hash: an entry then needs no padding before it.
pub(super) type Key = [u32; 2];

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// When, in milliseconds from [`BEFORE`] before its generation.
    at: u32,
    /// How long after that the next attempt is due, in milliseconds.
    wait: u32,
    /// The number of the life, in 48 bits: good for 8,900 years.
    life: [u16; 3],
    /// In seven bits; the eighth says that nobody can tell what became of one of them.
    attempts: u8,
    /// In seven bits; the eighth says that it is the extra send.
    state: u8,
    /// In whose lane, where that counts; see [`SOMEBODY`].
    by: u8,
    /// What is known of its delivery, and of which attempt's.
    told: u8,
    told_of: u8,
    told_by: u8,
}

/// What a stage of a life came to, in the order in which facts of the same moment count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// Only a delivery is known.
    Heard,
    Tried,
    /// Handed on by a lane.
    MovedOn,
    Ended,
    /// By a lane's provider.
    Accepted,
}

/// What an entry says, with its time as a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) at: UnixMs,
    pub(super) wait: Duration,
    pub(super) stage: Stage,
    pub(super) attempts: u8,
    /// Nobody can tell what became of an attempt.
    pub(super) is_ambiguous: bool,
    pub(super) state: State,
    pub(super) by: u8,
    pub(super) told: Told,
}

/// What is known of the delivery of a life's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// 0: nothing; [`DELIVERED`]; otherwise the place of the reason among all, from 1.
    code: u8,
    /// Which attempt's message is lost; 0: nobody says.
    attempt: u8,
    /// The provider that lost it.
    by: u8,
}

/// How far back from its beginning a generation can date.
const BEFORE: Duration = Duration::from_secs(20 * 86_400);
/// The largest number of a life that an entry holds.
const LAST_LIFE: u64 = (1 << 48) - 1;
/// The largest number of attempts that an entry holds: more than a policy allows.
pub(super) const MOST_ATTEMPTS: u8 = 127;
/// How many lanes can be told apart, and what stands for all others.
pub(super) const MOST_LANES: usize = 250;
pub(super) const SOMEBODY: u8 = u8::MAX;
const DELIVERED: u8 = u8::MAX;
const EXTRA: u8 = 0x80;

impl Told {
    pub(super) fn new(verdict: Verdict, attempt: u32, by: u8) -> Self {
        match verdict {
            Verdict::Delivered => Self { code: DELIVERED, attempt: 0, by: SOMEBODY },
            Verdict::Undelivered(reason) => {
                let place = Reason::ALL.iter().position(|known| *known == reason).unwrap_or_default();
                let code = u8::try_from(place + 1).unwrap_or(DELIVERED - 1);
                Self { code, attempt: small_count(attempt), by }
            }
        }
    }

    /// What both say together: an arrival is final, and of losses the one of the latest attempt counts.
    pub(super) fn and(self, other: Self) -> Self {
        let weight = |told: Self| (told.code == DELIVERED, told.attempt, told.code, told.by);
        if weight(self) >= weight(other) { self } else { other }
    }

    /// What it says of the message of this attempt, made in the lane with this number. A loss that is told without its
    /// attempt is one of its provider's.
    pub(super) fn of(self, attempt: u32, by: u8) -> Option<Verdict> {
        match self.code {
            0 => None,
            DELIVERED => Some(Verdict::Delivered),
            place => {
                let reason = Reason::ALL.get(usize::from(place) - 1).copied();
                let is_meant =
                    if self.attempt == 0 { self.by == by } else { self.attempt == small_count(attempt) };
                is_meant.then_some(Verdict::Undelivered(reason.unwrap_or(Reason::UnknownError)))
            }
        }
    }
}

impl Found {
    /// Of the first life and nobody in particular.
    pub(super) fn dated(at: UnixMs, state: State) -> Self {
        Self {
            at,
            wait: Duration::ZERO,
            stage: Stage::default(),
            attempts: 0,
            is_ambiguous: false,
            state,
            by: SOMEBODY,
            told: Told::default(),
        }
    }

    /// True if this says more about the job than what is known of it.
    pub(super) fn counts_over(&self, known: &Self) -> bool {
        let of = |found: &Self| {
            // An end is final whatever the times, an acceptance most of all: workers' clocks differ.
            let finality = match found.state {
                State::Accepted => 3,
                State::Ended => 2,
                State::MovedOn | State::Tried => 1,
                State::Heard => 0,
            };
            let at = if finality == 3 { UnixMs::default() } else { found.at };
            (found.stage, finality, at, found.attempts, found.state, found.at)
        };
        of(self) >= of(known)
    }

    /// What this and an entry of the same job say together. Within a life attempts never go back, in whichever
    /// order they are told, and what was heard of its messages stays.
    pub(super) fn over(self, known: Self) -> Self {
        let more = if self.counts_over(&known) { self } else { known };
        if self.stage.life != known.stage.life {
            return more;
        }
        Self {
            attempts: self.attempts.max(known.attempts),
            is_ambiguous: self.is_ambiguous || known.is_ambiguous,
            told: self.told.and(known.told),
            ..more
        }
    }
}

impl Generation {
    pub(super) fn beginning(&mut self, now: UnixMs) {
        self.jobs.clear();
        self.began = now;
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn has(&self, key: Key) -> bool {
        self.jobs.contains_key(&key)
    }

    pub(super) fn get(&self, key: Key) -> Option<Found> {
        let entry = self.jobs.get(&key)?;
        let [high, middle, low] = entry.life.map(u64::from);
        let life = Life::from_number(high << 32 | middle << 16 | low);
        Some(Found {
            at: self.origin().plus(Duration::from_millis(entry.at.into())),
            wait: Duration::from_millis(entry.wait.into()),
            stage: Stage { life, extra: entry.state & EXTRA != 0 },
            attempts: entry.attempts & MOST_ATTEMPTS,
            is_ambiguous: entry.attempts > MOST_ATTEMPTS,
            state: State::unpacked(entry.state & !EXTRA),
            by: entry.by,
            told: Told { code: entry.told, attempt: entry.told_of, by: entry.told_by },
        })
    }

    pub(super) fn put(&mut self, key: Key, found: &Found) {
        let life = found.stage.life.number();
        let entry = Entry {
            at: small(found.at.since(self.origin())),
            wait: small(found.wait),
            life: [(life >> 32) as u16, (life >> 16) as u16, life as u16],
            attempts: found.attempts.min(MOST_ATTEMPTS) | if found.is_ambiguous { !MOST_ATTEMPTS } else { 0 },
            state: found.state.packed() | if found.stage.extra { EXTRA } else { 0 },
            by: found.by,
            told: found.told.code,
            told_of: found.told.attempt,
            told_by: found.told.by,
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
            Self::MovedOn => 3,
            Self::Heard => 4,
        }
    }

    const fn unpacked(packed: u8) -> Self {
        match packed {
            0 => Self::Accepted,
            1 => Self::Ended,
            2 => Self::Tried,
            3 => Self::MovedOn,
            _ => Self::Heard,
        }
    }
}

/// The stage as far as an entry can hold it.
pub(super) fn fitting(stage: Stage) -> Stage {
    Stage { life: Life::from_number(stage.life.number().min(LAST_LIFE)), ..stage }
}

pub(super) fn small_count(attempts: u32) -> u8 {
    u8::try_from(attempts).unwrap_or(u8::MAX).min(MOST_ATTEMPTS)
}

fn small(d: Duration) -> u32 {
    u32::try_from(d.as_millis()).unwrap_or(u32::MAX)
}

pub(super) fn key_of(id: &str) -> Key {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let hash = hasher.finish();
    [(hash >> 32) as u32, hash as u32]
}

//! When the next request may start. Two mechanisms, each for what it is good at: a token bucket
//! (`governor`) shapes the flow, and an exact log of the last starts proves the promise: in no
//! window of a limit's length more than its count, *measured at the provider*.
//!
//! What makes it exact there and not only here is the [`Stamp`]: a permit is charged when it is
//! taken, but its place in the window dates from the moment the request was written to the socket,
//! so waiting for a connection cannot squeeze two requests together on the wire. What remains (the
//! network, the provider's own scheduling) is covered by a margin of 0.5 % of the window, 5 ms at
//! least, by which each place is kept longer; and where an answer comes later than answers usually do,
//! or does not come, the request may have arrived late (a lost packet costs a second): its place then
//! dates from the answer ([`crate::arrival`]).
//!
//! After idling, a whole ceiling (or `burst`) is available at once. Under backlog the bucket does
//! not fill while the window is the one that denies, so a first burst is not repeated every window.
//!
//! Invariant: every place is held from [`Ceiling::take`] until the window has passed since its
//! stamp, or until the stamp says the request never left. One owner per ceiling; no locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::arrival::Answers;
use crate::clock::Mono;
use crate::limit::Limit;
use crate::rate::Rate;

const PENDING: u64 = 0;
const NEVER_LEFT: u64 = u64::MAX;

/// When one request left, written by whoever sends it and read by the ceiling.
#[derive(Clone, Debug, Default)]
pub struct Stamp(Arc<Marks>);

#[derive(Debug, Default)]
struct Marks {
    written: AtomicU64,
    /// When the request arrived at the latest, once its attempt is over; `PENDING` before.
    arrived: AtomicU64,
    /// The request left before there was anything to judge its answer by.
    unjudged: bool,
}

impl Stamp {
    /// The request is being written to the socket now. The first call counts.
    pub fn written(&self, at: Mono) {
        let at = at.0.clamp(1, NEVER_LEFT - 1);
        let _ = self.0.written.compare_exchange(PENDING, at, Ordering::Release, Ordering::Relaxed);
    }

    /// The attempt is over; where it was not written it now never will be, and its place is free.
    pub fn over(&self) {
        let _ = self.0.written.compare_exchange(PENDING, NEVER_LEFT, Ordering::Release, Ordering::Relaxed);
    }

    /// Whether the request was written, wholly or in part.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.written_at().is_some()
    }

    /// When the request was written.
    #[must_use]
    pub fn written_at(&self) -> Option<Mono> {
        match self.0.written.load(Ordering::Acquire) {
            PENDING | NEVER_LEFT => None,
            at => Some(Mono(at)),
        }
    }

    /// Of a request that left, and arrived, at a known time.
    pub(crate) fn left_at(at: Mono) -> Self {
        let stamp = Self::default();
        stamp.written(at);
        stamp.arrived(at);
        stamp
    }

    fn arrived(&self, at: Mono) {
        self.0.arrived.store(at.0.clamp(1, NEVER_LEFT - 1), Ordering::Release);
    }

    /// When its place is free again, as far as is known at `now`.
    pub(crate) fn place(&self, held_for: Duration, usual: Option<Duration>, now: Mono) -> Place {
        match (self.0.written.load(Ordering::Acquire), self.0.arrived.load(Ordering::Acquire)) {
            (PENDING, _) => Place::Unknown,
            (NEVER_LEFT, _) => Place::FreeAt(Mono(0)),
            (written, PENDING) => {
                // Not answered yet: fine as long as answers usually take that long.
                let free_at = Mono(written).plus(held_for);
                let in_time = !self.0.unjudged && usual.is_some_and(|u| now.since(Mono(written)) <= u);
                if in_time || now < free_at { Place::FreeAt(free_at) } else { Place::Unknown }
            }
            (_, arrived) => Place::FreeAt(Mono(arrived).plus(held_for)),
        }
    }
}

pub(crate) enum Place {
    /// Until its attempt says more.
    Unknown,
    FreeAt(Mono),
}

/// The answer to "not now": when to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadyAt {
    /// Not before this time.
    At(Mono),
    /// Every place is held by a request that has not left yet: ask when one of them ends.
    WhenOneEnds,
}

/// All limits of one provider account.
#[derive(Debug, Default)]
pub struct Ceiling {
    limits: Vec<Limit>,
    /// A limit that the provider named, below the configured ones, for as long as it is believed.
    learned: Option<Learned>,
    answers: Answers,
}

#[derive(Debug)]
struct Learned {
    limit: Limit,
    /// When it is raised by a step.
    step_at: Mono,
}

/// What of a named limit is used: the provider counts on its own clock, and others may use the account.
const TRUSTED: f64 = 0.9;
/// By how much of itself a learned limit is raised after each of its windows.
const STEP: f64 = 0.1;

impl Ceiling {
    /// A ceiling of all `rates` at once (none: no ceiling), at most `burst` at one moment.
    #[must_use]
    pub fn new(rates: &[Rate], burst: Option<u32>, now: Mono) -> Self {
        let mut ceiling = Self::default();
        ceiling.reconfigure(rates, burst, now);
        ceiling
    }

    /// Other rates from now on. What was sent before counts in their windows too, so none of them is
    /// passed from the first request on. A limit that stays as it was goes on; a new one begins paced,
    /// without a burst. What the provider named stays in force while it is below the new rates.
    ///
    /// Where there were no rates, nothing was counted before.
    pub fn reconfigure(&mut self, rates: &[Rate], burst: Option<u32>, now: Mono) {
        let mut before = std::mem::take(&mut self.limits);
        let memory = longest(&mut before).map(Limit::memory);
        for rate in rates {
            let limit = match before.iter().position(|limit| limit.is(*rate, burst)) {
                Some(place) => before.swap_remove(place),
                None => {
                    let mut limit = Limit::new(*rate, burst, now);
                    if let Some(memory) = &memory {
                        limit.count_earlier(memory, now);
                        limit.drain(now);
                    }
                    limit
                }
            };
            self.limits.push(limit);
        }
        if let Some(longest) = longest(&mut self.limits) {
            longest.remember(memory.unwrap_or_default());
        }
        let configured = self.configured();
        self.learned = self.learned.take().filter(|learned| {
            configured.is_none_or(|configured| learned.limit.rate().per_second() < configured)
        });
    }

    /// The rates alone, a second.
    fn configured(&self) -> Option<f64> {
        self.limits.iter().map(|l| l.rate().per_second()).min_by(f64::total_cmp)
    }

    /// Whether there is any limit.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.limits.is_empty() && self.learned.is_none()
    }

    /// Takes a permit for one request that starts now.
    ///
    /// # Errors
    /// [`ReadyAt`] where a limit says no; then nothing is charged.
    pub fn take(&mut self, now: Mono) -> Result<Stamp, ReadyAt> {
        let usual = self.answers.usual();
        let mut denied: Option<ReadyAt> = None;
        for limit in self.all_limits() {
            denied = later(denied, limit.denies(now, usual));
        }
        if let Some(ready_at) = denied {
            return Err(ready_at);
        }
        let stamp = Stamp(Arc::new(Marks { unjudged: usual.is_none(), ..Marks::default() }));
        for limit in self.all_limits() {
            limit.charge(stamp.clone());
        }
        Ok(stamp)
    }

    /// The attempt of `stamp` is over: an answer came (`answered`), or it ended without one.
    pub fn ended(&mut self, stamp: &Stamp, answered: bool, now: Mono) {
        stamp.over();
        if let (Some(written), false) = (stamp.written_at(), self.is_unlimited()) {
            stamp.arrived(self.answers.arrival(written, now, answered, stamp.0.unjudged));
        }
    }

    /// Takes the permit of `stamp` back: its request was never tried.
    pub fn not_tried(&mut self, stamp: &Stamp) {
        stamp.over();
        self.all_limits().for_each(Limit::refund);
    }

    /// Counts a request that another owner started at `at`, so that a hand-over is part of the promise.
    pub fn seed(&mut self, at: Mono) {
        for limit in &mut self.limits {
            limit.charge(Stamp::left_at(at));
        }
    }

    /// The provider named a limit. Where it is below what is in force, nine tenths of it are in force
    /// from now on, raised by a tenth after each of its windows until the configured ceiling is reached
    /// again. Says whether that changed anything.
    pub fn lower(&mut self, named: Rate, now: Mono) -> bool {
        let Some(rate) = scaled(named, TRUSTED) else { return false };
        if self.per_second().is_some_and(|current| current <= rate.per_second()) {
            return false;
        }
        self.learn(rate, now);
        true
    }

    /// Raises a learned limit when its time has come; says whether it did.
    pub fn recover(&mut self, now: Mono) -> bool {
        let Some(learned) = self.learned.as_ref().filter(|l| l.step_at <= now) else { return false };
        let raised = scaled(learned.limit.rate(), 1.0 + STEP);
        let configured = self.configured();
        match raised.filter(|r| configured.is_none_or(|c| r.per_second() < c)) {
            Some(rate) if configured.is_some() => self.learn(rate, now),
            Some(_) | None => self.learned = None,
        }
        true
    }

    fn learn(&mut self, rate: Rate, now: Mono) {
        // Evenly, one at a time: whoever has just refused us gets no bursts.
        let mut limit = Limit::new(rate, Some(1), now);
        limit.drain(now);
        if let Some(before) = self.learned.take() {
            limit.inherit(before.limit);
        }
        self.learned = Some(Learned { limit, step_at: now.plus(rate.per) });
    }

    /// How far apart requests are when they fill the slowest of the windows evenly; `None` when unlimited.
    #[must_use]
    pub fn spacing(&self) -> Option<Duration> {
        let learned = self.learned.as_ref().map(|l| &l.limit);
        self.limits.iter().chain(learned).map(|l| l.held_for() / l.rate().count.max(1)).max()
    }

    fn all_limits(&mut self) -> impl Iterator<Item = &mut Limit> {
        self.limits.iter_mut().chain(self.learned.as_mut().map(|l| &mut l.limit))
    }

    /// Empties the buckets: the flow starts paced, without the burst that idling earns.
    pub fn start_paced(&mut self, now: Mono) {
        for limit in &mut self.limits {
            limit.drain(now);
        }
    }

    /// The share of the fullest window that is in use, 0 to 1.
    #[must_use]
    pub fn used_ratio(&self, now: Mono) -> f64 {
        self.limits.iter().map(|l| l.used_ratio(now, self.answers.usual())).fold(0.0, f64::max)
    }

    /// The ceiling a second: the smallest of the limits; `None` when unlimited.
    #[must_use]
    pub fn per_second(&self) -> Option<f64> {
        let learned = self.learned.as_ref().map(|l| l.limit.rate());
        let all = self.limits.iter().map(Limit::rate).chain(learned);
        all.map(Rate::per_second).min_by(f64::total_cmp)
    }
}

/// The limit with the longest window: whatever counts in any counts in it.
fn longest(limits: &mut [Limit]) -> Option<&mut Limit> {
    limits.iter_mut().max_by_key(|limit| limit.held_for())
}

/// A rate with `factor` times the count, at least 1.
fn scaled(rate: Rate, factor: f64) -> Option<Rate> {
    let count = (f64::from(rate.count) * factor).clamp(1.0, f64::from(crate::rate::MAX_COUNT));
    // Rounded up when raised, or a small count would never grow; in range by the clamp.
    let count = if factor > 1.0 { count.ceil() } else { count.floor() } as u32;
    Rate::new(count.max(1), rate.per).ok()
}

fn later(a: Option<ReadyAt>, b: Option<ReadyAt>) -> Option<ReadyAt> {
    match (a, b) {
        (None, other) | (other, None) => other,
        (Some(ReadyAt::WhenOneEnds), _) | (_, Some(ReadyAt::WhenOneEnds)) => Some(ReadyAt::WhenOneEnds),
        (Some(ReadyAt::At(a)), Some(ReadyAt::At(b))) => Some(ReadyAt::At(a.max(b))),
    }
}

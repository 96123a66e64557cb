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
//! A ceiling is kept for as long as its process lives, over sessions: what other owners sent meanwhile is added
//! ([`Ceiling::count_foreign`], [`crate::HandOver`]), and a request that still connects keeps its place.
//! Thousands of places are kept exactly; in larger windows, older ones are counted together, a five-hundredth
//! of the window at most too late, so that a window of a day costs no more than one of a second.
//!
//! Invariant: every place is held from [`Ceiling::take`] until the window has passed since its
//! stamp, or until the stamp says the request never left. One owner per ceiling; no locks.

use std::time::Duration;

use crate::arrival::Answers;
use crate::checkpoint::{Checkpoint, LONG, LearnedFrom, LearnedLimit};
use crate::clock::{Mono, UnixMs};
use crate::counts::Counts;
use crate::learned::Learner;
use crate::limit::Limit;
use crate::rate::Rate;
use crate::reserve::Interactive;
pub use crate::stamp::Stamp;

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
    /// What refusals taught that named nothing, and its log of requests.
    learner: Learner,
    measured: Option<Limit>,
    was_learned: bool,
    answers: Answers,
    interactive: Interactive,
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
        self.follow_learner(now);
    }

    /// What the configured limits allow a second; `None` where there are none.
    #[must_use]
    pub fn configured(&self) -> Option<f64> {
        self.limits.iter().map(|l| l.rate().per_second()).min_by(f64::total_cmp)
    }

    /// Whether there is any limit.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.limits.is_empty() && !self.has_learned()
    }

    /// Takes a permit for one request that starts now.
    ///
    /// # Errors
    /// [`ReadyAt`] where a limit says no; then nothing is charged.
    pub fn take(&mut self, now: Mono) -> Result<Stamp, ReadyAt> {
        let usual = self.answers.usual();
        let ready_at = self.learner.ready_at();
        let mut denied = (ready_at > now).then_some(ReadyAt::At(ready_at));
        for limit in self.all_limits() {
            denied = later(denied, limit.denies(now, usual));
        }
        if let Some(ready_at) = denied {
            return Err(ready_at);
        }
        let stamp = Stamp::of(usual.is_none());
        for limit in self.all_limits() {
            limit.charge(stamp.clone());
        }
        self.learner.started(now);
        Ok(stamp)
    }

    /// The attempt of `stamp` is over: an answer came (`answered`), or it ended without one.
    pub fn ended(&mut self, stamp: &Stamp, answered: bool, now: Mono) {
        stamp.over();
        if let (Some(written), false) = (stamp.written_at(), self.is_unlimited()) {
            stamp.arrived(self.answers.arrival(written, now, answered, stamp.is_unjudged()));
        }
    }

    /// Takes the permit of `stamp` back: its request was never tried.
    pub fn not_tried(&mut self, stamp: &Stamp) {
        stamp.over();
        self.all_limits().for_each(Limit::refund);
    }

    /// Counts a request that another owner started at `at`, so that a hand-over is part of the promise.
    pub fn seed(&mut self, at: Mono) {
        self.count_foreign(at, 1);
    }

    /// Counts `count` requests that another owner made at `at`, beside our own, in every window; also of a
    /// time that is still to come, where a request may be written until then.
    pub fn count_foreign(&mut self, at: Mono, count: u32) {
        for limit in self.all_limits() {
            limit.count_foreign(at, count);
        }
    }

    /// Counts the requests of other owners: in windows up to [`LONG`] those of the last minute (`short`). In longer
    /// ones, and in those that may come, all that were read one by one (`long`), but at least as much as `view`
    /// says, which is an account of all requests, our own included.
    pub(crate) fn take_over(&mut self, short: &Counts, long: &Counts, view: &Counts, now: Mono) {
        for limit in self.all_limits() {
            let is_long = limit.rate().per > LONG;
            for (at, count) in if is_long { long } else { short }.iter() {
                limit.count_in_window(at, count);
            }
            for (at, count) in long.iter() {
                limit.remember_foreign(at, count);
            }
            if is_long && !view.is_empty() {
                limit.reconcile(view, now);
            }
            limit.bound(now);
        }
    }

    /// What the next owner must know that it cannot read from the last minute of facts, as of now: `at` on
    /// this process's wall clock. The lane adds its pause.
    #[must_use]
    pub fn checkpoint(&self, now: Mono, at: UnixMs) -> Checkpoint {
        let requests = match self.limits.iter().max_by_key(|limit| limit.held_for()) {
            Some(limit) if limit.rate().per > LONG => limit.requests(now),
            Some(_) | None => Default::default(),
        };
        let named = self.learned.as_ref().map(|learned| LearnedLimit {
            rate: learned.limit.rate(),
            raise_in: learned.step_at.since(now),
            from: LearnedFrom::Words,
        });
        let slower = |a: &LearnedLimit, b: &LearnedLimit| a.rate.per_second().total_cmp(&b.rate.per_second());
        let learned = named.into_iter().chain(self.learner.limit(now)).min_by(slower);
        let rates: Vec<Rate> = self.limits.iter().map(Limit::rate).collect();
        Checkpoint::new(at, requests, &rates, now).with_learned(learned)
    }

    /// Takes over what was learned from other owners' requests of how long answers take, where nothing was learned
    /// here: else requests would keep their places until they are answered, and the lane stand still for that.
    pub(crate) fn adopt_answers(&mut self, answers: &Answers) {
        if self.answers.usual().is_none() {
            self.answers = *answers;
        }
    }

    /// Takes over what the owner before had learned, or had not: then what was learned here before is over.
    pub(crate) fn adopt(&mut self, learned: Option<LearnedLimit>, now: Mono) {
        let believed = learned.filter(|l| self.configured().is_none_or(|c| l.rate.per_second() < c));
        self.learner.adopt(believed.filter(|l| l.from == LearnedFrom::Refusals), now);
        self.follow_learner(now);
        let named = believed.filter(|l| l.from == LearnedFrom::Words);
        let Some(LearnedLimit { rate, raise_in, .. }) = named else {
            self.learned = None;
            return;
        };
        if self.learned.as_ref().is_none_or(|mine| mine.limit.rate() != rate) {
            self.learn(rate, now);
        }
        if let Some(mine) = &mut self.learned {
            mine.step_at = now.plus(raise_in.min(rate.per));
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

    /// True while a limit is in force that the provider named or its refusals taught.
    #[must_use]
    pub const fn has_learned(&self) -> bool {
        self.learned.is_some() || self.measured.is_some()
    }

    /// True if a limit was ever learned here, even if it is over: the next owner must know that too.
    #[must_use]
    pub const fn was_learned(&self) -> bool {
        self.has_learned() || self.was_learned
    }

    /// The request of `stamp` was accepted by the provider.
    pub fn accepted(&mut self, stamp: &Stamp, now: Mono) {
        self.learner.accepted(stamp.written_at().unwrap_or(now), now);
    }

    /// True until a request is accepted after a pause that followed a refusal: one at a time is enough to ask
    /// whether it is over.
    #[must_use]
    pub const fn asks_one_at_a_time(&self) -> bool {
        self.learner.asks()
    }

    /// The request of `stamp` was refused because of the whole account's limit, of which the answer told nothing but
    /// perhaps a wait (`named`). From now on no more is sent than is really taken. Gives the pause that
    /// follows where the answer names none.
    pub fn refused(&mut self, stamp: &Stamp, named: Option<Duration>, now: Mono) -> Option<Duration> {
        let pause = self.learner.refused(stamp.written_at().unwrap_or(now), named, now);
        self.follow_learner(now);
        pause
    }

    /// Keeps the log of requests for the limit that was measured.
    fn follow_learner(&mut self, now: Mono) {
        self.learner.bound(self.configured());
        let before = self.measured.take();
        self.measured = self.learner.rate().map(|rate| match before {
            Some(limit) if limit.rate() == rate => limit,
            Some(before) => {
                let mut limit = Limit::measured(rate, now);
                limit.inherit(before);
                limit
            }
            None => Limit::measured(rate, now),
        });
        self.was_learned |= self.measured.is_some();
    }

    /// Raises a learned limit when its time has come; says whether it did.
    pub fn recover(&mut self, now: Mono) -> bool {
        let is_raised = self.learner.raise(now);
        if is_raised {
            self.follow_learner(now);
        }
        self.recover_named(now) || is_raised
    }

    fn recover_named(&mut self, now: Mono) -> bool {
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
        self.was_learned = true;
    }

    /// How far apart requests are when they fill the slowest of the windows evenly; `None` when unlimited.
    #[must_use]
    pub fn spacing(&self) -> Option<Duration> {
        let learned = self.learned.as_ref().map(|l| &l.limit);
        let limits = self.limits.iter().chain(learned).chain(&self.measured);
        limits.map(|l| l.held_for() / l.rate().count.max(1)).max()
    }

    fn all_limits(&mut self) -> impl Iterator<Item = &mut Limit> {
        let learned = self.learned.as_mut().map(|l| &mut l.limit);
        self.limits.iter_mut().chain(learned).chain(&mut self.measured)
    }

    /// Empties the buckets: the flow starts paced, without the burst that idling earns. The first request
    /// need not wait for a token, only for its place in the windows.
    pub fn start_paced(&mut self, now: Mono) {
        for limit in &mut self.limits {
            limit.drain_but_one(now);
        }
    }

    /// Counts an interactive request that starts now, so that bulk leaves as much for the next ones.
    pub fn interactive_started(&mut self, now: Mono) {
        let mut windows: Vec<_> = self.limits.iter().map(|limit| limit.rate().per).collect();
        windows.sort_unstable();
        self.interactive.started(&windows, now);
    }

    /// True if a bulk request leaves what is kept for interactive ones: as much of each window as they used
    /// lately, at most a tenth.
    #[must_use]
    pub fn has_room_for_bulk(&self, now: Mono) -> bool {
        let usual = self.answers.usual();
        self.limits
            .iter()
            .all(|limit| limit.has_room_beside(self.interactive.kept(limit.rate(), now), now, usual))
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
        let all = self.limits.iter().map(Limit::rate).chain(learned).chain(self.learner.rate());
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

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

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::arrival::Answers;
use crate::clock::{Mono, nanos};
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

    fn arrived(&self, at: Mono) {
        self.0.arrived.store(at.0.clamp(1, NEVER_LEFT - 1), Ordering::Release);
    }

    /// When its place is free again, as far as is known at `now`.
    fn place(&self, held_for: Duration, usual: Option<Duration>, now: Mono) -> Place {
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

enum Place {
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
    answers: Answers,
}

impl Ceiling {
    /// A ceiling of all `rates` at once (none: no ceiling), at most `burst` at one moment.
    #[must_use]
    pub fn new(rates: &[Rate], burst: Option<u32>, now: Mono) -> Self {
        Self {
            limits: rates.iter().map(|rate| Limit::new(*rate, burst, now)).collect(),
            answers: Answers::default(),
        }
    }

    /// Whether there is any limit.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.limits.is_empty()
    }

    /// Takes a permit for one request that starts now.
    ///
    /// # Errors
    /// [`ReadyAt`] where a limit says no; then nothing is charged.
    pub fn take(&mut self, now: Mono) -> Result<Stamp, ReadyAt> {
        let usual = self.answers.usual();
        let mut denied: Option<ReadyAt> = None;
        for limit in &mut self.limits {
            denied = later(denied, limit.denies(now, usual));
        }
        if let Some(ready_at) = denied {
            return Err(ready_at);
        }
        let stamp = Stamp(Arc::new(Marks { unjudged: usual.is_none(), ..Marks::default() }));
        for limit in &mut self.limits {
            limit.charge(stamp.clone());
        }
        Ok(stamp)
    }

    /// The attempt of `stamp` is over: an answer came (`answered`), or it ended without one.
    pub fn ended(&mut self, stamp: &Stamp, answered: bool, now: Mono) {
        stamp.over();
        if let (Some(written), false) = (stamp.written_at(), self.limits.is_empty()) {
            stamp.arrived(self.answers.arrival(written, now, answered, stamp.0.unjudged));
        }
    }

    /// Counts a request that another owner started at `at`, so that a hand-over is part of the promise.
    pub fn seed(&mut self, at: Mono) {
        for limit in &mut self.limits {
            let stamp = Stamp::default();
            stamp.written(at);
            stamp.arrived(at);
            limit.places.push_back(stamp);
        }
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
        self.limits.iter().map(|l| l.rate.per_second()).min_by(f64::total_cmp)
    }
}

fn later(a: Option<ReadyAt>, b: Option<ReadyAt>) -> Option<ReadyAt> {
    match (a, b) {
        (None, other) | (other, None) => other,
        (Some(ReadyAt::WhenOneEnds), _) | (_, Some(ReadyAt::WhenOneEnds)) => Some(ReadyAt::WhenOneEnds),
        (Some(ReadyAt::At(a)), Some(ReadyAt::At(b))) => Some(ReadyAt::At(a.max(b))),
    }
}

/// The bucket's clock: stands still while the window denies.
#[derive(Clone, Debug, Default)]
struct BucketClock(Arc<AtomicU64>);

impl Clock for BucketClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, BucketClock, NoOpMiddleware<Nanos>>;

#[derive(Debug)]
struct Limit {
    rate: Rate,
    /// How long a place is held after its stamp.
    held_for: Duration,
    places: VecDeque<Stamp>,
    bucket: Bucket,
    bucket_burst: NonZeroU32,
    clock: BucketClock,
    /// How much real time the bucket's clock has stood still.
    stood_still: Duration,
    /// Since when, and until when, the window denies.
    denied: Option<(Mono, Option<Mono>)>,
    /// The bucket has given a token that the window, or another limit, did not let us use.
    prepaid: bool,
}

/// What each place is kept longer than its window, for what happens after the socket.
fn margin(per: Duration) -> Duration {
    (per / 200).clamp(Duration::from_millis(5), Duration::from_millis(250))
}

impl Limit {
    fn new(rate: Rate, burst: Option<u32>, now: Mono) -> Self {
        let held_for = rate.per + margin(rate.per);
        let count = NonZeroU32::new(rate.count).unwrap_or(NonZeroU32::MIN);
        let bucket_burst = burst.and_then(NonZeroU32::new).map_or(count, |b| b.min(count));
        let pace = (held_for / count.get()).max(Duration::from_nanos(1));
        let quota =
            Quota::with_period(pace).unwrap_or_else(|| Quota::per_second(count)).allow_burst(bucket_burst);
        let clock = BucketClock::default();
        clock.0.store(now.0, Ordering::Relaxed);
        Self {
            rate,
            held_for,
            places: VecDeque::with_capacity(usize::try_from(rate.count.min(4096)).unwrap_or(0)),
            bucket: RateLimiter::direct_with_clock(quota, clock.clone()),
            bucket_burst,
            clock,
            stood_still: Duration::ZERO,
            denied: None,
            prepaid: false,
        }
    }

    fn capacity(&self) -> usize {
        usize::try_from(self.rate.count).unwrap_or(usize::MAX)
    }

    /// The bucket first: only a token that the window does not let us use stops the bucket's clock.
    fn denies(&mut self, now: Mono, usual: Option<Duration>) -> Option<ReadyAt> {
        self.turn_clock(now);
        if !self.prepaid {
            if let Err(not_until) = self.bucket.check() {
                let wait = not_until.wait_time_from(self.clock.now());
                return Some(ReadyAt::At(now.plus(wait.max(Duration::from_nanos(1)))));
            }
            self.prepaid = true;
        }
        let ready_at = self.window_denies(now, usual)?;
        let until = match ready_at {
            ReadyAt::At(at) => Some(at),
            ReadyAt::WhenOneEnds => None,
        };
        self.denied = Some((now, until));
        Some(ready_at)
    }

    /// Brings the bucket's clock to `now`, less the time the window denied.
    fn turn_clock(&mut self, now: Mono) {
        if let Some((since, until)) = self.denied.take() {
            let until = until.map_or(now, |u| u.min(now));
            self.stood_still += until.since(since);
        }
        self.clock.0.store(now.0.saturating_sub(nanos(self.stood_still)), Ordering::Relaxed);
    }

    fn window_denies(&mut self, now: Mono, usual: Option<Duration>) -> Option<ReadyAt> {
        let held_for = self.held_for;
        let free = |p: &Stamp| matches!(p.place(held_for, usual, now), Place::FreeAt(at) if at <= now);
        while self.places.front().is_some_and(free) {
            self.places.pop_front();
        }
        if self.places.len() < self.capacity() {
            return None;
        }
        // The oldest is not free, but one after it may be: a request that could not leave holds the front.
        self.places.retain(|p| !free(p));
        if self.places.len() < self.capacity() {
            return None;
        }
        let over = self.places.len() - self.capacity();
        let mut ends: Vec<Mono> = self
            .places
            .iter()
            .filter_map(|p| match p.place(held_for, usual, now) {
                Place::FreeAt(at) => Some(at),
                Place::Unknown => None,
            })
            .collect();
        ends.sort_unstable();
        Some(ends.get(over).map_or(ReadyAt::WhenOneEnds, |at| ReadyAt::At(*at)))
    }

    fn charge(&mut self, stamp: Stamp) {
        self.prepaid = false;
        self.places.push_back(stamp);
    }

    fn drain(&mut self, now: Mono) {
        self.turn_clock(now);
        let _ = self.bucket.check_n(self.bucket_burst);
    }

    fn used_ratio(&self, now: Mono, usual: Option<Duration>) -> f64 {
        let free = |p: &&Stamp| matches!(p.place(self.held_for, usual, now), Place::FreeAt(at) if at <= now);
        let held = self.places.iter().filter(|p| !free(p)).count();
        f64::from(u32::try_from(held).unwrap_or(u32::MAX)) / f64::from(self.rate.count)
    }
}

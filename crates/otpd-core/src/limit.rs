//! One limit of a ceiling: the bucket that shapes and the log of places that proves.
//! [`crate::ceiling`] says why there are two.

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

use crate::ceiling::ReadyAt;
use crate::checkpoint::WRITE_WITHIN;
use crate::clock::{Mono, nanos};
use crate::counts::{Counts, reconciled};
use crate::rate::Rate;
use crate::stamp::{Place, Stamp, Way};

/// The bucket's clock: stands still while the window denies.
#[derive(Clone, Debug, Default)]
struct BucketClock(Arc<AtomicU64>);

impl Clock for BucketClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }
}

/// How exactly what has left the longest window is remembered.
const SECOND: Duration = Duration::from_secs(1);
/// How many requests have a place each; where there are more, the older ones that are over are only counted.
const EXACT_PLACES: usize = 8192;
/// In how many cells of its window a limit counts what has no place, where that is much.
const STEPS: u32 = 512;
/// Up to how many different times are counted exactly.
const MOST_TIMES: usize = 2048;

type Bucket = RateLimiter<NotKeyed, InMemoryState, BucketClock, NoOpMiddleware<Nanos>>;

/// One limit.
#[derive(Debug)]
pub(crate) struct Limit {
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
    /// How many tokens the bucket has given that were not used: the window, or another limit, said no, or
    /// the request was never made.
    prepaid: u32,
    /// Requests beside the places that count in its window: of other owners, of before this limit, and
    /// those of long ago where there are too many for a place each.
    earlier: Counts,
    /// What has left the window, and `earlier`, where this limit is the one of its account that remembers.
    past: Option<Counts>,
}

/// What the longest limit of an account knows of earlier requests: a place each, or, where they are
/// further back than its window, their number.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    places: VecDeque<Stamp>,
    earlier: Counts,
    held_for: Duration,
    past: Counts,
}

/// How many may start at one moment.
fn bucket_burst(rate: Rate, burst: Option<u32>) -> NonZeroU32 {
    let count = NonZeroU32::new(rate.count).unwrap_or(NonZeroU32::MIN);
    burst.and_then(NonZeroU32::new).map_or(count, |b| b.min(count))
}

/// What each place is kept longer than its window, for what happens after the socket.
fn margin(per: Duration) -> Duration {
    (per / 200).clamp(Duration::from_millis(5), Duration::from_millis(250))
}

/// How long a place of `rate` is held after its stamp.
pub(crate) fn held_for(rate: Rate) -> Duration {
    rate.per + margin(rate.per)
}

/// How long a place of a rate is held that was measured from outside: requests take unequally long on their
/// way, and one that comes early meets a full window.
pub(crate) fn held_for_measured(rate: Rate) -> Duration {
    rate.per + rate.per / 100
}

impl Limit {
    pub(crate) fn new(rate: Rate, burst: Option<u32>, now: Mono) -> Self {
        Self::held(rate, held_for(rate), burst, now)
    }

    /// A limit that was measured from outside.
    pub(crate) fn measured(rate: Rate, now: Mono) -> Self {
        Self::held(rate, held_for_measured(rate), None, now)
    }

    fn held(rate: Rate, held_for: Duration, burst: Option<u32>, now: Mono) -> Self {
        let count = NonZeroU32::new(rate.count).unwrap_or(NonZeroU32::MIN);
        let bucket_burst = bucket_burst(rate, burst);
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
            prepaid: 0,
            earlier: Counts::default(),
            past: None,
        }
    }

    fn capacity(&self) -> usize {
        usize::try_from(self.rate.count).unwrap_or(usize::MAX)
    }

    /// The bucket first: only a token that the window does not let us use stops the bucket's clock.
    pub(crate) fn denies(&mut self, now: Mono, usual: Option<Duration>) -> Option<ReadyAt> {
        self.turn_clock(now);
        if self.prepaid == 0 {
            if let Err(not_until) = self.bucket.check() {
                let wait = not_until.wait_time_from(self.clock.now());
                return Some(ReadyAt::At(now.plus(wait.max(Duration::from_nanos(1)))));
            }
            self.prepaid = 1;
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
        let (held_for, capacity) = (self.held_for, self.capacity());
        self.earlier.forget(held_for, now);
        let earlier = self.earlier.len();
        let past = &mut self.past;
        let mut free = |p: &Stamp| match p.place(held_for, usual, now) {
            Place::FreeAt(at) if at <= now => {
                if let Some(past) = past.as_mut().filter(|_| at > Mono(0)) {
                    past.add_rounded(Mono(at.0.saturating_sub(nanos(held_for))), 1, SECOND);
                }
                true
            }
            Place::FreeAt(_) | Place::Unknown => false,
        };
        while self.places.front().is_some_and(&mut free) {
            self.places.pop_front();
        }
        if self.places.len() + earlier < capacity {
            return None;
        }
        // The oldest is not free, but one after it may be: a request that could not leave holds the front.
        self.places.retain(|p| !free(p));
        let held = self.places.len() + earlier;
        if held < capacity {
            return None;
        }
        let known = self.places.iter().filter_map(|p| match p.place(held_for, usual, now) {
            Place::FreeAt(at) => Some((at, 1_u32)),
            Place::Unknown => None,
        });
        let earlier = self.earlier.iter().map(|(at, count)| (at.plus(held_for), count));
        let mut ends: Vec<(Mono, u32)> = earlier.chain(known).collect();
        ends.sort_unstable();
        let mut too_many = held - capacity + 1;
        let enough = ends.into_iter().find(|(_, count)| {
            too_many = too_many.saturating_sub(usize::try_from(*count).unwrap_or(usize::MAX));
            too_many == 0
        });
        Some(enough.map_or(ReadyAt::WhenOneEnds, |(at, _)| ReadyAt::At(at)))
    }

    pub(crate) fn charge(&mut self, stamp: Stamp) {
        self.prepaid = self.prepaid.saturating_sub(1);
        if self.places.len() >= EXACT_PLACES {
            self.count_old_places();
        }
        self.places.push_back(stamp);
    }

    /// Takes back the token of a request that was never made.
    pub(crate) fn refund(&mut self) {
        self.prepaid = self.prepaid.saturating_add(1).min(self.bucket_burst.get());
    }

    /// Counts the older half of the places as numbers instead, as far as their requests are over.
    fn count_old_places(&mut self) {
        let mut to_visit = self.places.len() - EXACT_PLACES / 2;
        let (held_for, earlier, past) = (self.held_for, &mut self.earlier, &mut self.past);
        self.places.retain(|stamp| {
            if to_visit == 0 {
                return true;
            }
            to_visit -= 1;
            match stamp.way() {
                Way::Open => true,
                Way::NeverLeft => false,
                Way::Arrived(at) => {
                    earlier.add_rounded(at, 1, held_for / STEPS);
                    if let Some(past) = past {
                        past.add_rounded(at, 1, SECOND);
                    }
                    false
                }
            }
        });
    }

    /// Counts requests of others at `at`.
    pub(crate) fn count_foreign(&mut self, at: Mono, count: u32) {
        self.count_in_window(at, count);
        self.remember_foreign(at, count);
    }

    /// Counts requests of others at `at` in this limit's own window alone.
    pub(crate) fn count_in_window(&mut self, at: Mono, count: u32) {
        self.earlier.add(at, count);
    }

    /// Remembers requests of others at `at` for windows to come, where this limit is the one that does.
    pub(crate) fn remember_foreign(&mut self, at: Mono, count: u32) {
        if let Some(past) = &mut self.past {
            past.add_rounded(at, count, SECOND);
        }
    }

    /// Sees to it that at least as much is counted as `view` says of all requests of the account, our own
    /// included. Our own that are over lose their places: two accounts of one request differ a little in
    /// its time, and beside a place it would be counted twice.
    pub(crate) fn reconcile(&mut self, view: &Counts, now: Mono) {
        let (mut open, earlier) = (Counts::default(), &mut self.earlier);
        self.places.retain(|stamp| match stamp.way() {
            Way::NeverLeft => false,
            Way::Open => {
                // The view has it too, as late as it may have been written: later than we know it was.
                open.add(Mono(u64::MAX), 1);
                true
            }
            Way::Arrived(at) => {
                earlier.add(at, 1);
                false
            }
        });
        self.earlier = reconciled(&open, &self.earlier, view);
        self.earlier.forget(self.held_for, now);
        if let Some(past) = &mut self.past {
            *past = reconciled(&Counts::default(), past, &self.earlier);
        }
    }

    /// Keeps what it counts without places bounded.
    pub(crate) fn bound(&mut self, now: Mono) {
        self.earlier.forget(self.held_for, now);
        self.earlier.coarsen(&[self.held_for], STEPS, MOST_TIMES, now);
    }

    /// All requests that count in its window, each as late as it may have been written: now, if its answer is
    /// still to come, and later, if it may still be written.
    pub(crate) fn requests(&self, now: Mono) -> Counts {
        let mut requests = self.earlier.within(self.held_for, now);
        for stamp in &self.places {
            match (stamp.way(), stamp.written_at()) {
                (Way::NeverLeft, _) => {}
                (Way::Arrived(at), _) => requests.add(at.min(now), 1),
                (Way::Open, Some(_)) => requests.add(now, 1),
                (Way::Open, None) => {
                    let latest = stamp.write_before().min(now.plus(WRITE_WITHIN));
                    requests.add(latest.max(now), 1);
                }
            }
        }
        requests.forget(self.held_for, now);
        requests
    }

    /// The limit itself.
    pub(crate) const fn rate(&self) -> Rate {
        self.rate
    }

    /// Whether it is the limit that `rate` and `burst` mean.
    pub(crate) fn is(&self, rate: Rate, burst: Option<u32>) -> bool {
        self.rate == rate && self.bucket_burst == bucket_burst(rate, burst)
    }

    /// How long a place is held.
    pub(crate) const fn held_for(&self) -> Duration {
        self.held_for
    }

    /// Hands over what it knows of earlier requests, and no longer remembers what leaves its window.
    pub(crate) fn memory(&mut self) -> Memory {
        let past = self.past.take().unwrap_or_default();
        Memory { places: self.places.clone(), earlier: self.earlier.clone(), held_for: self.held_for, past }
    }

    /// Counts what another limit of the same account counted.
    pub(crate) fn count_earlier(&mut self, memory: &Memory, now: Mono) {
        self.places.clone_from(&memory.places);
        // What the past says of the last seconds is rounded: not asked where it is known better.
        let earlier = if self.held_for > memory.held_for { &memory.past } else { &memory.earlier };
        self.earlier = earlier.within(self.held_for, now);
    }

    /// Remembers from now on what leaves its window, as the one with the longest.
    pub(crate) fn remember(&mut self, memory: Memory) {
        self.places = memory.places;
        self.past = Some(memory.past);
    }

    /// Takes over the places of the limit it replaces.
    pub(crate) fn inherit(&mut self, before: Self) {
        self.places = before.places;
        self.earlier = before.earlier;
    }

    /// Empties the bucket, however full it is.
    pub(crate) fn drain(&mut self, now: Mono) {
        self.turn_clock(now);
        self.prepaid = 0;
        let mut tokens = Some(self.bucket_burst);
        while let Some(some) = tokens {
            if !matches!(self.bucket.check_n(some), Ok(Ok(()))) {
                tokens = NonZeroU32::new(some.get() / 2);
            }
        }
    }

    /// Leaves one token in the bucket: no burst, but no wait for the first token either.
    pub(crate) fn drain_but_one(&mut self, now: Mono) {
        self.drain(now);
        self.prepaid = 1;
    }

    /// How many places of the window are in use.
    pub(crate) fn used(&self, now: Mono, usual: Option<Duration>) -> usize {
        let free = |p: &&Stamp| matches!(p.place(self.held_for, usual, now), Place::FreeAt(at) if at <= now);
        let earlier = self.earlier.iter().filter(|(at, _)| at.plus(self.held_for) > now).map(|(_, n)| n);
        self.places.iter().filter(|p| !free(p)).count()
            + earlier.map(|n| usize::try_from(n).unwrap_or(usize::MAX)).sum::<usize>()
    }

    /// The share of the window that is in use; above 1 where a change of limits left more in it.
    pub(crate) fn used_ratio(&self, now: Mono, usual: Option<Duration>) -> f64 {
        f64::from(u32::try_from(self.used(now, usual)).unwrap_or(u32::MAX)) / f64::from(self.rate.count)
    }

    /// True if there is a place beside these that are kept free.
    pub(crate) fn has_room_beside(&self, kept: usize, now: Mono, usual: Option<Duration>) -> bool {
        self.used(now, usual).saturating_add(kept) < self.capacity()
    }
}

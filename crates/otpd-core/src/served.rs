//! How much a lane really serves, beside what its ceiling would allow: what jobs that wait can count on.
//!
//! Two estimates, and the smaller one holds. By latency: so many places divided by the time a request
//! takes (a moving average, or the mean age of the requests under way where that is longer: a provider
//! that has become slow is found out before it answers). By count: requests that ended while jobs waited,
//! over that time, both fading with [`FADES`]; it sees what latency does not, such as a slow broker.

use std::time::Duration;

use crate::clock::Mono;

/// In what time the past counts a third.
const FADES: Duration = Duration::from_secs(20);
/// The weight of one request in the average latency.
const WEIGHT: f64 = 1.0 / 16.0;
/// What the count must have seen before it says anything: requests, and seconds.
const ENOUGH: (f64, f64) = (5.0, 2.0);

/// The estimator of one lane.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Seconds from permit to answer.
    latency: Option<f64>,
    /// How many are under way, and the sum of their starts in nanoseconds.
    out: (u32, u128),
    /// Requests that ended while jobs waited, faded.
    ended: f64,
    /// Seconds in which jobs waited, faded.
    waited: f64,
    turned_at: Mono,
    is_backlogged: bool,
}

impl Served {
    /// A request starts.
    pub fn began(&mut self, at: Mono) {
        self.out = (self.out.0.saturating_add(1), self.out.1 + u128::from(at.0));
    }

    /// A request that began at `began` ended with an answer, or without one.
    pub fn ended(&mut self, began: Mono, now: Mono) {
        self.never_made(began);
        let took = now.since(began).as_secs_f64();
        self.latency = Some(self.latency.map_or(took, |before| before + (took - before) * WEIGHT));
        if self.is_backlogged {
            self.ended += 1.0;
        }
    }

    /// A request that began at `began` was never made.
    pub fn never_made(&mut self, began: Mono) {
        self.out = (self.out.0.saturating_sub(1), self.out.1.saturating_sub(u128::from(began.0)));
    }

    /// A turn of the lane: whether jobs are waiting that could be sent now.
    pub fn turn(&mut self, is_backlogged: bool, now: Mono) {
        let passed = now.since(self.turned_at).as_secs_f64();
        let kept = (-passed / FADES.as_secs_f64()).exp();
        (self.ended, self.waited) = (self.ended * kept, self.waited * kept);
        if self.is_backlogged {
            self.waited += passed;
        }
        (self.turned_at, self.is_backlogged) = (now, is_backlogged);
    }

    /// How many requests a second the lane can count on with this many at a time; `None` while
    /// nothing is known.
    #[must_use]
    pub fn per_second(&self, most_out: usize, now: Mono) -> Option<f64> {
        let places = f64::from(u32::try_from(most_out).unwrap_or(u32::MAX));
        let seconds = self.latency(now).as_secs_f64();
        let by_latency = (seconds > 0.0).then(|| places / seconds);
        let is_enough = self.ended >= ENOUGH.0 && self.waited >= ENOUGH.1;
        let by_count = is_enough.then(|| self.ended / self.waited);
        by_latency.into_iter().chain(by_count).reduce(f64::min)
    }

    /// How long a request takes, as far as is known; zero while nothing is known.
    #[must_use]
    pub fn latency(&self, now: Mono) -> Duration {
        let seconds = self.latency.into_iter().chain(self.mean_age(now)).fold(0.0, f64::max);
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }

    fn mean_age(&self, now: Mono) -> Option<f64> {
        let (count, sum) = self.out;
        let age = u128::from(now.0).saturating_sub(sum.checked_div(count.into())?);
        Some(Duration::from_nanos(u64::try_from(age).unwrap_or(u64::MAX)).as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Mono {
        Mono(1_000_000_000_000).plus(Duration::from_secs_f64(seconds))
    }

    #[test]
    fn a_slow_provider_is_found_out_before_it_answers() {
        let mut served = Served::default();
        assert_eq!(served.per_second(100, at(0.0)), None);
        for _ in 0..40 {
            served.began(at(0.0));
            served.ended(at(0.0), at(0.1));
        }
        assert!((served.per_second(100, at(1.0)).unwrap() - 1000.0).abs() < 1.0);
        (0..100).for_each(|_| served.began(at(1.0)));
        assert!((served.per_second(100, at(6.0)).unwrap() - 20.0).abs() < 0.1);
        (0..100).for_each(|_| served.ended(at(1.0), at(10.0)));
        let rate = served.per_second(100, at(10.0)).unwrap();
        assert!((11.0..11.5).contains(&rate), "{rate}");
    }

    #[test]
    fn what_ends_under_backlog_counts_and_fades() {
        let mut served = Served::default();
        served.turn(true, at(0.0));
        for tenth in 1..=100 {
            let now = at(f64::from(tenth) / 10.0);
            served.began(now);
            served.ended(now, now.plus(Duration::from_micros(1)));
            served.turn(true, now);
        }
        let rate = served.per_second(100, at(10.0)).unwrap();
        assert!((9.9..10.2).contains(&rate), "{rate}");
        served.turn(false, at(10.0));
        served.turn(false, at(100.0));
        assert!(served.per_second(100, at(100.0)).unwrap() > 1000.0, "long ago");
    }

    #[test]
    fn a_request_that_was_never_made_says_nothing() {
        let mut served = Served::default();
        served.began(at(0.0));
        served.never_made(at(0.0));
        assert_eq!(served.per_second(100, at(9.0)), None);
    }
}

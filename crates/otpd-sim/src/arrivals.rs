//! When jobs arrive, decided in advance: a rate that changes over time, and how arrivals are spread
//! under it.
//!
//! A load test that waits for one answer before it asks again slows down with the system it measures, and
//! so never sees the worst (coordinated omission). Here every arrival has its time before the run begins.
//!
//! The rate is a chain of straight [`Segment`]s, so its integral, the number of arrivals up to a time, is
//! exact, and so is its inverse. Evenly spread, arrival `n` is where the integral reaches `n + 0.5`; as a
//! Poisson process, where it reaches the sum of `n` draws of an exponential distribution with mean 1.
//!
//! Invariants: times never go back and never pass the end; the same seed gives the same times.

use std::time::Duration;

use crate::chance::Chance;

/// A part of a run in which the rate goes in a straight line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// How long it lasts, in seconds; above 0.
    pub seconds: f64,
    /// Arrivals a second at its beginning; at least 0.
    pub from: f64,
    /// Arrivals a second at its end; at least 0.
    pub to: f64,
}

impl Segment {
    /// A segment with one rate.
    #[must_use]
    pub const fn flat(seconds: f64, rate: f64) -> Self {
        Self { seconds, from: rate, to: rate }
    }

    /// How many arrivals are expected in it.
    #[must_use]
    pub fn expected(&self) -> f64 {
        self.seconds * f64::midpoint(self.from, self.to)
    }

    /// How many arrivals are expected in its first `seconds`.
    fn expected_within(&self, seconds: f64) -> f64 {
        let slope = (self.to - self.from) / self.seconds;
        self.from * seconds + slope * seconds * seconds / 2.0
    }

    /// After how many seconds `arrivals` are expected.
    fn reaches(&self, arrivals: f64) -> f64 {
        let slope = (self.to - self.from) / self.seconds;
        // The root of `slope/2 t^2 + from t = arrivals` in the form that stays exact as slope goes to 0.
        let root = (self.from * self.from + 2.0 * slope * arrivals).max(0.0).sqrt();
        let seconds = if self.from + root > 0.0 { 2.0 * arrivals / (self.from + root) } else { self.seconds };
        seconds.clamp(0.0, self.seconds)
    }
}

/// How arrivals are spread under the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// Evenly, as a metronome.
    Even,
    /// Independently of each other, as people do (a Poisson process).
    Poisson,
}

/// The times of all arrivals, in order, from the start of the run.
#[derive(Clone, Debug)]
pub struct Arrivals {
    segments: Vec<Segment>,
    spacing: Spacing,
    chance: Chance,
    /// What the integral of the rate is at the next arrival.
    next: f64,
    /// The segment of the last arrival, and the integral and the time at its beginning.
    place: (usize, f64, f64),
}

impl Arrivals {
    /// All arrivals of a run. Segments without length are left out.
    #[must_use]
    pub fn new(segments: &[Segment], spacing: Spacing, seed: u64) -> Self {
        let segments = segments.iter().copied().filter(|s| s.seconds > 0.0).collect();
        let mut chance = Chance::of(&[seed, 0x6172_7269]);
        let next = match spacing {
            Spacing::Even => 0.5,
            Spacing::Poisson => exponential(&mut chance),
        };
        Self { segments, spacing, chance, next, place: (0, 0.0, 0.0) }
    }

    /// How many arrivals are expected; evenly spread, exactly so many come (rounded).
    #[must_use]
    pub fn expected(&self) -> f64 {
        self.segments.iter().map(Segment::expected).sum()
    }

    /// How many arrivals are expected before `at`.
    #[must_use]
    pub fn expected_before(&self, at: Duration) -> f64 {
        let mut left = at.as_secs_f64();
        let mut sum = 0.0;
        for segment in &self.segments {
            sum += segment.expected_within(left.min(segment.seconds));
            left = (left - segment.seconds).max(0.0);
        }
        sum
    }

    /// How long the run is.
    #[must_use]
    pub fn length(&self) -> Duration {
        Duration::try_from_secs_f64(self.segments.iter().map(|s| s.seconds).sum()).unwrap_or(Duration::MAX)
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        loop {
            let (index, before, begins) = self.place;
            let segment = self.segments.get(index)?;
            let within = self.next - before;
            if within <= segment.expected() && segment.expected() > 0.0 {
                let at = begins + segment.reaches(within);
                self.next += match self.spacing {
                    Spacing::Even => 1.0,
                    Spacing::Poisson => exponential(&mut self.chance),
                };
                return Duration::try_from_secs_f64(at).ok();
            }
            self.place = (index + 1, before + segment.expected(), begins + segment.seconds);
        }
    }
}

/// A draw of the exponential distribution with mean 1.
fn exponential(chance: &mut Chance) -> f64 {
    -(1.0 - chance.share()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn even(segments: &[Segment]) -> Vec<f64> {
        Arrivals::new(segments, Spacing::Even, 1).map(|at| at.as_secs_f64()).collect()
    }

    #[test]
    fn a_constant_rate_is_a_metronome() {
        let at = even(&[Segment::flat(3.0, 100.0)]);
        assert_eq!(at.len(), 300);
        for (n, at) in (0u32..).zip(&at) {
            assert!((at - (f64::from(n) + 0.5) / 100.0).abs() < 1e-6, "{n}: {at}");
        }
    }

    #[test]
    fn tables() {
        let ramp = Segment { seconds: 10.0, from: 0.0, to: 50.0 };
        for (segments, count, by_half) in [
            (vec![ramp], 250, 63),
            (vec![Segment { from: 50.0, to: 0.0, ..ramp }], 250, 188),
            (vec![Segment::flat(4.0, 10.0), Segment::flat(2.0, 100.0), Segment::flat(4.0, 10.0)], 280, 140),
            (vec![Segment::flat(5.0, 0.0), Segment::flat(5.0, 20.0)], 100, 0),
            (vec![Segment::flat(0.0, 9.0), Segment::flat(10.0, 0.3)], 3, 2),
            (vec![Segment::flat(10.0, 0.0)], 0, 0),
            (vec![], 0, 0),
        ] {
            let at = even(&segments);
            let half = at.iter().filter(|at| **at <= 5.0).count();
            assert_eq!((at.len(), half), (count, by_half), "{segments:?}");
        }
    }

    #[test]
    fn a_poisson_process_has_the_mean_and_the_variance_of_one() {
        let counts: Vec<f64> = (0..400u32)
            .map(|seed| {
                let arrivals = Arrivals::new(&[Segment::flat(2.0, 50.0)], Spacing::Poisson, seed.into());
                f64::from(u32::try_from(arrivals.count()).unwrap())
            })
            .collect();
        let mean = counts.iter().sum::<f64>() / 400.0;
        let variance = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / 399.0;
        assert!((mean - 100.0).abs() < 2.5, "mean {mean}, expected 100 with a standard error of 0.5");
        assert!((70.0..135.0).contains(&variance), "variance {variance}, expected 100");
    }

    fn segments() -> impl Strategy<Value = Vec<Segment>> {
        let one = (0.1f64..20.0, 0.0f64..200.0, 0.0f64..200.0);
        proptest::collection::vec(one.prop_map(|(seconds, from, to)| Segment { seconds, from, to }), 1..5)
    }

    proptest! {
        #[test]
        fn as_many_arrivals_as_the_rate_has_area(segments in segments(), share in 0.0f64..1.0) {
            let arrivals = Arrivals::new(&segments, Spacing::Even, 1);
            let (expected, length) = (arrivals.expected(), arrivals.length());
            let cut = length.mul_f64(share);
            let until_cut = arrivals.expected_before(cut);
            let at: Vec<Duration> = arrivals.collect();
            prop_assert!((at.len() as f64 - expected).abs() <= 0.5 + 1e-6, "{} of {expected}", at.len());
            let counted = at.iter().filter(|at| **at <= cut).count() as f64;
            prop_assert!((counted - until_cut).abs() <= 0.5 + 1e-3, "{counted} of {until_cut} by {cut:?}");
        }

        #[test]
        fn times_are_in_order_and_within_the_run(segments in segments(), seed: u64) {
            for spacing in [Spacing::Even, Spacing::Poisson] {
                let arrivals = Arrivals::new(&segments, spacing, seed);
                let end = arrivals.length() + Duration::from_micros(1);
                let again: Vec<Duration> = arrivals.clone().collect();
                let at: Vec<Duration> = arrivals.collect();
                prop_assert!(at.windows(2).all(|pair| pair[0] <= pair[1]));
                prop_assert!(at.iter().all(|at| *at <= end));
                prop_assert_eq!(at, again);
            }
        }
    }
}

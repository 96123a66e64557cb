//! A distribution of times in constant memory: an HDR histogram that is made with its first value.
//!
//! Three digits are exact; what is longer than [`LONGEST`] counts as that. All in microseconds.

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest time that is told apart: an hour, in microseconds.
const LONGEST: u64 = 3_600_000_000;

/// Times, in microseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Spread(Option<Histogram<u32>>);

/// What a distribution comes to, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Percentiles {
    /// How many values.
    pub(super) count: u64,
    pub(super) mean_ms: f64,
    pub(super) p50_ms: f64,
    pub(super) p90_ms: f64,
    pub(super) p95_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    pub(super) max_ms: f64,
}

impl Spread {
    /// Takes a value.
    pub(super) fn record(&mut self, us: u64) {
        self.record_with(us, 3);
    }

    /// Takes a value; the first one decides how many digits are kept (two for small histograms).
    pub(super) fn record_with(&mut self, us: u64, digits: u8) {
        if self.0.is_none() {
            // With these arguments it cannot fail.
            self.0 = Histogram::new(digits).ok();
        }
        if let Some(histogram) = &mut self.0 {
            // It grows by itself, and the bound keeps it small; there is no value that it refuses.
            let _ = histogram.record(us.min(LONGEST));
        }
    }

    /// How many values.
    pub(super) fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// A percentile (0 to 100) in microseconds; `None` without values.
    pub(super) fn percentile(&self, percent: f64) -> Option<f64> {
        let histogram = self.0.as_ref().filter(|h| !h.is_empty())?;
        // A value stands for all that look like it; none is above the largest.
        Some(histogram.value_at_quantile(percent / 100.0).min(histogram.max()) as f64)
    }

    /// The largest value in microseconds.
    pub(super) fn max(&self) -> Option<f64> {
        self.percentile(100.0)
    }

    /// The mean in microseconds.
    pub(super) fn mean(&self) -> Option<f64> {
        self.0.as_ref().filter(|h| !h.is_empty()).map(Histogram::mean)
    }

    /// The numbers of a table.
    pub(super) fn percentiles(&self) -> Percentiles {
        let at = |percent| ms(self.percentile(percent).unwrap_or_default());
        Percentiles {
            count: self.count(),
            mean_ms: ms(self.mean().unwrap_or_default()),
            p50_ms: at(50.0),
            p90_ms: at(90.0),
            p95_ms: at(95.0),
            p99_ms: at(99.0),
            p999_ms: at(99.9),
            max_ms: at(100.0),
        }
    }

    /// Points of the percentile curve, percent and milliseconds: close together where the tail begins,
    /// and no further than there are values to tell it apart.
    pub(super) fn curve(&self) -> Vec<(f64, f64)> {
        let count = self.count();
        if count == 0 {
            return Vec::new();
        }
        let mut points = Vec::new();
        let mut step = 0;
        loop {
            // Ten points for each nine: 0, 20.6, 36.9, ... 90, 92.1, ... 99, ...
            let above = 10f64.powf(-f64::from(step) / 10.0);
            let percent = 100.0 * (1.0 - above);
            if above * (count as f64) < 1.0 || step > 60 {
                break;
            }
            points.extend(self.percentile(percent).map(|us| (round(percent, 5), ms(us))));
            step += 1;
        }
        points
    }
}

/// Microseconds as milliseconds, with microseconds for decimals.
pub(super) fn ms(us: f64) -> f64 {
    round(us / 1000.0, 3)
}

/// A number with so many decimals.
pub(super) fn round(number: f64, decimals: i32) -> f64 {
    let factor = 10f64.powi(decimals);
    (number * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_table() {
        let mut spread = Spread::default();
        assert_eq!((spread.percentile(50.0), spread.percentiles()), (None, Percentiles::default()));
        (1..=1000).for_each(|n| spread.record(n * 1000));
        let p = spread.percentiles();
        assert_eq!(p.count, 1000);
        for (got, want) in
            [(p.p50_ms, 500.0), (p.p90_ms, 900.0), (p.p99_ms, 990.0), (p.p999_ms, 999.0), (p.max_ms, 1000.0)]
        {
            assert!((got - want).abs() <= want / 500.0, "{got}, expected {want}");
        }
        let curve = spread.curve();
        assert!(curve.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1), "{curve:?}");
        assert!(curve.iter().all(|(percent, _)| *percent <= 99.9), "{curve:?}");
    }

    #[test]
    fn what_is_too_long_counts_as_an_hour() {
        let mut spread = Spread::default();
        spread.record(u64::MAX);
        let most = spread.max().unwrap();
        assert!((most / 3.6e9 - 1.0).abs() < 0.002, "{most}");
    }

    proptest! {
        #[test]
        fn percentiles_are_nearest_ranks(mut values in proptest::collection::vec(0u64..100_000_000, 1..300), percent in 1.0f64..100.0) {
            let mut spread = Spread::default();
            values.iter().for_each(|us| spread.record(*us));
            values.sort_unstable();
            let rank = ((percent / 100.0 * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let (got, want) = (spread.percentile(percent).unwrap(), values[rank - 1] as f64);
            prop_assert!((got - want).abs() <= want / 500.0 + 1.0, "{got}, expected {want}");
        }
    }
}

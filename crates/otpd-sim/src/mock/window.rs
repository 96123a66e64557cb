//! Sliding windows, both ways round: [`Limits`] refuses what would be too many, [`Arrivals`] counts
//! what came, refused or not.
//!
//! A window is half open: an arrival counts against the `width` that ends with it, and one exactly
//! `width` later does not meet it any more. Both are exact logs, not buckets; a bucket lets nearly
//! twice the limit through in some window, and the mock exists to catch exactly that.
//!
//! Times are nanoseconds on one monotonic clock. An arrival may be recorded after later ones: a mock on busy
//! cores reads its connections late, and not in the order in which they were written to. Then windows that
//! end after it count too: however late it is read, no window lets more through than its limit, and who
//! keeps to the limit is never refused.

use std::collections::VecDeque;
use std::time::Duration;

use otpd_core::Rate;
use otpd_core::clock::nanos;

/// The most by which a request is taken to be read late.
pub(crate) const LATEST: Duration = Duration::from_secs(1);

/// The limits of one account: for each, when requests were let through, as far back as it matters.
#[derive(Debug, Default)]
pub(crate) struct Limits(Vec<(Rate, VecDeque<u64>)>);

/// A limit that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    /// Which one; of several, the one that stays full longest.
    pub(crate) limit: Rate,
    /// Until it has room.
    pub(crate) wait: Duration,
}

impl Limits {
    /// Replaces the limits; what was let through before still counts where the limit is the same.
    pub(crate) fn set(&mut self, rates: &[Rate]) {
        let old = std::mem::take(&mut self.0);
        self.0 = rates
            .iter()
            .map(|rate| {
                let log = old.iter().find(|(r, _)| r == rate).map(|(_, log)| log.clone());
                (*rate, log.unwrap_or_default())
            })
            .collect();
    }

    /// The limits.
    pub(crate) fn rates(&self) -> impl Iterator<Item = Rate> {
        self.0.iter().map(|(rate, _)| *rate)
    }

    /// Lets a request through, or says which limit is full; then no limit is charged.
    pub(crate) fn admit(&mut self, at: u64) -> Result<(), Full> {
        let full = self.0.iter().filter_map(|(limit, log)| {
            let wait = wait_for(*limit, log, at)?;
            Some(Full { limit: *limit, wait: Duration::from_nanos(wait) })
        });
        if let Some(full) = full.max_by_key(|full| full.wait) {
            return Err(full);
        }
        for (limit, log) in &mut self.0 {
            log.insert(log.partition_point(|t| *t <= at), at);
            let kept = nanos(limit.per).saturating_add(nanos(LATEST));
            while log.back().zip(log.front()).is_some_and(|(last, first)| last - first >= kept) {
                log.pop_front();
            }
        }
        Ok(())
    }
}

/// For how long this limit has no room for a request at `at`; none where it has.
fn wait_for(limit: Rate, log: &VecDeque<u64>, at: u64) -> Option<u64> {
    let (count, width) = (limit.count as usize, nanos(limit.per));
    let place = log.partition_point(|t| *t <= at);
    let last_first = log.len().checked_sub(count)?;
    // Each window of `count` others that it would be in: from the one that ends with it to the one it begins.
    let is_full = (place.saturating_sub(count)..=place.min(last_first)).any(|first| {
        let others = first + count;
        let begins = if first == place { at } else { log[first] };
        let ends = if others == place { at } else { log[others - 1] };
        ends - begins < width
    });
    is_full.then(|| (log[last_first] + width).saturating_sub(at))
}

/// When requests arrived, and the most that ever fell into one window of each watched width.
#[derive(Debug)]
pub(crate) struct Arrivals {
    at: VecDeque<u64>,
    /// How many have been forgotten from the front.
    forgotten: u64,
    kept: usize,
    windows: Vec<Window>,
}

#[derive(Clone, Debug)]
struct Window {
    width: u64,
    most: u64,
    /// False once an arrival was forgotten while still inside.
    exact: bool,
}

/// The fullest window of one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fullest {
    pub(crate) width: Duration,
    pub(crate) most: u64,
    /// False: more arrived inside one window than are kept, and `most` is a lower bound.
    pub(crate) exact: bool,
}

impl Arrivals {
    /// Watches windows of these widths, and remembers the last `kept` arrivals.
    pub(crate) fn new(kept: usize, widths: impl IntoIterator<Item = Duration>) -> Self {
        let mut arrivals = Self { at: VecDeque::new(), forgotten: 0, kept: kept.max(1), windows: Vec::new() };
        for width in widths {
            arrivals.watch(width);
        }
        arrivals
    }

    /// Watches one more width, over what is remembered and what will come.
    pub(crate) fn watch(&mut self, width: Duration) {
        let width = nanos(width).max(1);
        if self.windows.iter().any(|w| w.width == width) {
            return;
        }
        let mut window = Window { width, most: 0, exact: self.forgotten == 0 };
        window.look(0, &self.at, self.forgotten > 0);
        self.windows.push(window);
    }

    /// Records an arrival.
    pub(crate) fn push(&mut self, at: u64) {
        if self.at.len() >= self.kept {
            self.at.pop_front();
            self.forgotten += 1;
        }
        let place = self.at.partition_point(|t| *t <= at);
        self.at.insert(place, at);
        for window in &mut self.windows {
            window.look(place, &self.at, self.forgotten > 0);
        }
    }

    /// The fullest window of each watched width.
    pub(crate) fn fullest(&self) -> impl Iterator<Item = Fullest> {
        self.windows.iter().map(|w| Fullest {
            width: Duration::from_nanos(w.width),
            most: w.most,
            exact: w.exact,
        })
    }

    /// The remembered arrivals, oldest first, in nanoseconds.
    pub(crate) fn times(&self) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator {
        self.at.iter().copied()
    }
}

impl Window {
    /// Counts the windows that end with the arrivals from this place on.
    fn look(&mut self, place: usize, log: &VecDeque<u64>, some_are_forgotten: bool) {
        for (last, at) in log.iter().enumerate().skip(place) {
            // Less than one width since the origin: nothing can have left yet.
            let first = at.checked_sub(self.width).map_or(0, |left| log.partition_point(|t| *t <= left));
            // What is forgotten may have been inside; nobody can tell, so do not claim it.
            self.exact &= first > 0 || !some_are_forgotten;
            self.most = self.most.max((last + 1 - first) as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn the_last_of_n_makes_it_full_until_the_first_leaves() {
        let mut limits = Limits::default();
        limits.set(&[rate("2/s")]);
        let s = 1_000_000_000;
        assert_eq!(limits.admit(10), Ok(()));
        assert_eq!(limits.admit(20), Ok(()));
        let full = limits.admit(30).unwrap_err();
        assert_eq!((full.limit, full.wait), (rate("2/s"), Duration::from_nanos(s - 20)));
        assert!(limits.admit(9 + s).is_err(), "one nanosecond early");
        assert_eq!(limits.admit(10 + s), Ok(()));
    }

    #[test]
    fn a_refusal_charges_no_limit() {
        let mut limits = Limits::default();
        limits.set(&[rate("3/s"), rate("1/100ms")]);
        let ms = 1_000_000;
        for at in [0, 10, 20, 30] {
            assert_eq!(limits.admit(at * ms).is_ok(), at == 0);
        }
        assert!(limits.admit(100 * ms).is_ok());
        assert!(limits.admit(200 * ms).is_ok());
        let full = limits.admit(250 * ms).unwrap_err();
        assert_eq!(full.limit, rate("3/s"), "the one that stays full longest");
    }

    #[test]
    fn unchanged_limits_keep_their_log() {
        let mut limits = Limits::default();
        limits.set(&[rate("1/s")]);
        assert!(limits.admit(0).is_ok());
        limits.set(&[rate("1/s"), rate("9/s")]);
        assert!(limits.admit(1).is_err());
        limits.set(&[]);
        assert!(limits.admit(2).is_ok());
    }

    #[test]
    fn too_little_memory_is_confessed() {
        let mut arrivals = Arrivals::new(3, [Duration::from_nanos(10), Duration::from_nanos(100)]);
        for at in [0, 20, 40, 60, 80] {
            arrivals.push(at);
        }
        let fullest: Vec<_> = arrivals.fullest().collect();
        assert_eq!((fullest[0].most, fullest[0].exact), (1, true));
        assert_eq!((fullest[1].most, fullest[1].exact), (3, false));
        assert_eq!(arrivals.times().collect::<Vec<_>>(), [40, 60, 80]);
    }

    fn most_by_hand(at: &[u64], width: u64) -> u64 {
        let inside = |end: u64| at.iter().filter(|t| **t <= end && end - **t < width).count();
        at.iter().map(|end| inside(*end)).max().unwrap_or(0) as u64
    }

    /// In order, or with neighbours swapped: some are recorded after later ones.
    fn times() -> impl Strategy<Value = Vec<u64>> {
        (in_order(), proptest::collection::vec(0usize..80, 0..6)).prop_map(|(mut at, late)| {
            for place in late {
                if place + 1 < at.len() {
                    at.swap(place, place + 1);
                }
            }
            at
        })
    }

    fn in_order() -> impl Strategy<Value = Vec<u64>> {
        proptest::collection::vec(0u64..40, 0..80).prop_map(|steps| {
            steps
                .into_iter()
                .scan(0, |now, step| {
                    *now += step;
                    Some(*now)
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_fullest_window_is_the_fullest(at in times(), width in 1u64..300, later in 0usize..80) {
            let mut arrivals = Arrivals::new(1000, [Duration::from_nanos(width)]);
            for (i, t) in at.iter().enumerate() {
                if i == later {
                    arrivals.watch(Duration::from_nanos(width + 1));
                }
                arrivals.push(*t);
            }
            arrivals.watch(Duration::from_nanos(width + 1));
            let most: Vec<_> = arrivals.fullest().map(|f| (f.most, f.exact)).collect();
            prop_assert_eq!(most, vec![(most_by_hand(&at, width), true), (most_by_hand(&at, width + 1), true)]);
        }

        #[test]
        fn late_reading_lets_nobody_through_and_refuses_nobody(
            at in times(), count in 1u32..8, per_ms in 1u64..4,
        ) {
            let limit = Rate::new(count, Duration::from_millis(per_ms)).unwrap();
            let mut limits = Limits::default();
            limits.set(&[limit]);
            let at: Vec<u64> = at.iter().map(|t| t * 50_000).collect();
            let through: Vec<u64> = at.iter().copied().filter(|t| limits.admit(*t).is_ok()).collect();
            prop_assert!(most_by_hand(&through, nanos(limit.per)) <= u64::from(count));
            // The same again from a client that keeps to it.
            let mut limits = Limits::default();
            limits.set(&[limit]);
            for t in &through {
                prop_assert_eq!(limits.admit(*t), Ok(()));
            }
        }

        #[test]
        fn never_more_than_the_limit_and_never_less_than_fits(
            at in in_order(), count in 1u32..8, per_ms in 1u64..4,
        ) {
            // Milliseconds, because a rate's window is at least one.
            let limit = Rate::new(count, Duration::from_millis(per_ms)).unwrap();
            let width = nanos(limit.per);
            let mut limits = Limits::default();
            limits.set(&[limit]);
            let mut through: Vec<u64> = Vec::new();
            for t in at.iter().map(|t| t * 50_000) {
                let before = through.iter().filter(|b| t - **b < width).count();
                let admitted = limits.admit(t);
                prop_assert_eq!(admitted.is_ok(), before < count as usize);
                match admitted {
                    Ok(()) => through.push(t),
                    Err(full) => {
                        let then = t + nanos(full.wait);
                        let left = through.iter().filter(|b| then - **b < width).count();
                        prop_assert!(left < count as usize, "waiting {:?} was not enough", full.wait);
                    }
                }
            }
            prop_assert!(most_by_hand(&through, width) <= u64::from(count));
        }
    }
}

//! How many requests left when: what a ceiling knows of requests that it has no stamp of, because another
//! owner made them or because they are long ago.
//!
//! Exact as long as that is little; where it becomes much, neighbours are counted together. A request is then
//! taken to be as late as the latest it is counted with, so counting together never makes a window emptier
//! than it was. Times are rounded to the same grid every time, so rounding again changes nothing.
//!
//! Bounded by whoever keeps it, with [`Counts::coarsen`], and to the longest window a rate may have.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::{Mono, nanos};

/// The longest window that a rate may have, and room for its margin.
const KEPT: Duration = Duration::from_secs(86_400 + 1);

/// Requests by time, oldest first, with the number of requests of each time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    by_time: VecDeque<(Mono, u32)>,
    total: usize,
}

impl Counts {
    /// Counts requests of `at`, in any order.
    pub(crate) fn add(&mut self, at: Mono, count: u32) {
        if count == 0 {
            return;
        }
        self.total = self.total.saturating_add(size(count));
        let place = self.by_time.partition_point(|(other, _)| *other < at);
        match self.by_time.get_mut(place) {
            Some((other, sum)) if *other == at => *sum = sum.saturating_add(count),
            Some(_) | None => self.by_time.insert(place, (at, count)),
        }
        if let Some((last, _)) = self.by_time.back().copied() {
            self.forget(KEPT, last);
        }
    }

    /// Counts a request together with all others of its grid cell of `width`.
    pub(crate) fn add_rounded(&mut self, at: Mono, count: u32, width: Duration) {
        self.add(rounded(at, width), count);
    }

    /// Those of the last `window` before `now`, and later ones.
    pub(crate) fn within(&self, window: Duration, now: Mono) -> Self {
        let mut lately = self.clone();
        lately.forget(window, now);
        lately
    }

    /// Forgets what is `window` old or older.
    pub(crate) fn forget(&mut self, window: Duration, now: Mono) {
        while let Some((_, count)) = self.by_time.front().copied().filter(|(at, _)| now.since(*at) >= window)
        {
            self.total = self.total.saturating_sub(size(count));
            self.by_time.pop_front();
        }
    }

    /// Counts neighbours together where there are more than `most` times: in `steps` cells for each of
    /// `windows` (ascending), as fine as the shortest window needs that a request can still count in.
    pub(crate) fn coarsen(&mut self, windows: &[Duration], steps: u32, most: usize, now: Mono) {
        if self.by_time.len() <= most {
            return;
        }
        for (at, count) in std::mem::take(self).by_time {
            let age = now.since(at);
            let place = windows.partition_point(|window| *window <= age);
            let width = windows.get(place).or(windows.last()).map_or(Duration::ZERO, |w| *w / steps.max(1));
            // What has left a shorter window stays out of it.
            let left = place.checked_sub(1).and_then(|shorter| windows.get(shorter)).copied();
            let latest = now.minus(left.unwrap_or_default()).max(at);
            self.add(rounded(at, width).min(latest), count);
        }
    }

    /// All times, oldest first, with the number of requests of each.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (Mono, u32)> + '_ {
        self.by_time.iter().copied()
    }

    /// The number of requests.
    pub(crate) fn len(&self) -> usize {
        self.total
    }

    /// The number of different times.
    #[cfg(test)]
    pub(crate) fn times(&self) -> usize {
        self.by_time.len()
    }

    /// True if nothing is counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }
}

/// What must be counted beside `places` and instead of `earlier`, so that since any time as many requests
/// are counted as either `places` and `earlier` together say, or `view`: two accounts of the same requests,
/// of which either may know more.
pub(crate) fn reconciled(places: &Counts, earlier: &Counts, view: &Counts) -> Counts {
    let mut times: Vec<Mono> =
        [places, earlier, view].into_iter().flat_map(|c| c.iter().map(|(at, _)| at)).collect();
    times.sort_unstable();
    times.dedup();
    let since = |counts: &mut dyn Iterator<Item = (Mono, u32)>| counts.map(|(_, n)| size(n)).sum::<usize>();
    let mut cursors = [places, earlier, view].map(|counts| (counts.iter().rev().peekable(), 0));
    let mut result = Counts::default();
    for at in times.into_iter().rev() {
        for (counts, sum) in &mut cursors {
            *sum += since(&mut std::iter::from_fn(|| counts.next_if(|(other, _)| *other >= at)));
        }
        let [(_, own), (_, before), (_, seen)] = &cursors;
        let wanted = (*before).max(seen.saturating_sub(*own));
        let more = u32::try_from(wanted.saturating_sub(result.len())).unwrap_or(u32::MAX);
        result.add(at, more);
    }
    result
}

fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// The end of the grid cell of `at`.
fn rounded(at: Mono, width: Duration) -> Mono {
    match nanos(width) {
        0 => at,
        width => Mono(at.0.checked_next_multiple_of(width).unwrap_or(at.0)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(100_000_000_000).plus(Duration::from_millis(ms))
    }

    fn counts(all: &[(u64, u32)]) -> Counts {
        let mut counts = Counts::default();
        for (ms, count) in all {
            counts.add(at(*ms), *count);
        }
        counts
    }

    fn all(counts: &Counts) -> Vec<(Mono, u32)> {
        counts.iter().collect()
    }

    /// How many are counted at `at` or later.
    fn since(counts: &Counts, at: Mono) -> usize {
        counts.iter().filter(|(other, _)| *other >= at).map(|(_, n)| n as usize).sum()
    }

    #[test]
    fn counts_each_as_late_as_its_second_and_forgets_after_a_day() {
        let mut past = Counts::default();
        for ms in [10, 900, 2500, 400] {
            past.add_rounded(at(ms), 1, Duration::from_secs(1));
        }
        let mut lately = past.within(Duration::from_secs(60), at(2600));
        assert_eq!((all(&lately), lately.len()), (vec![(at(1000), 3), (at(3000), 1)], 4));
        lately.forget(Duration::from_secs(1), at(2600));
        assert_eq!((all(&lately), lately.len()), (vec![(at(3000), 1)], 1));
        assert_eq!(all(&past.within(Duration::from_secs(1), at(3500))), [(at(3000), 1)]);
        past.add_rounded(at(86_403_000), 1, Duration::from_secs(1));
        assert_eq!(past.times(), 2, "the first second is more than a day ago");
    }

    #[test]
    fn two_accounts_of_the_same_requests_are_not_added_up() {
        for (places, earlier, view, is) in [
            (vec![], vec![], vec![(1, 2), (5, 1)], vec![(1, 2), (5, 1)]),
            (vec![(1, 1), (5, 1)], vec![], vec![(1, 1), (5, 1)], vec![]),
            (vec![(5, 1)], vec![(1, 1)], vec![(2, 2)], vec![(2, 1)]),
            (vec![(5, 1)], vec![(1, 3)], vec![(4, 2)], vec![(1, 2), (4, 1)]),
            // The view knows of one later than the place: both are kept.
            (vec![(1, 1)], vec![], vec![(5, 1)], vec![(5, 1)]),
        ] {
            let result = reconciled(&counts(&places), &counts(&earlier), &counts(&view));
            assert_eq!(result, counts(&is), "{places:?} {earlier:?} {view:?}");
        }
    }

    fn any_counts(most: usize) -> impl Strategy<Value = Counts> {
        proptest::collection::vec((0u64..5_000_000, 1u32..4), 0..most).prop_map(|all| counts(&all))
    }

    proptest! {
        #[test]
        fn reconciled_is_as_much_as_either_and_no_more_than_needed(
            places in any_counts(20), earlier in any_counts(20), view in any_counts(20),
        ) {
            let result = reconciled(&places, &earlier, &view);
            let both = places.len() + result.len();
            prop_assert!(both <= (places.len() + earlier.len()).max(view.len()) + places.len());
            for (time, _) in places.iter().chain(earlier.iter()).chain(view.iter()) {
                let sum = since(&places, time) + since(&result, time);
                prop_assert!(sum >= (since(&places, time) + since(&earlier, time)).max(since(&view, time)));
            }
        }

        #[test]
        fn coarse_is_never_earlier_and_not_much_later(fine in any_counts(400)) {
            let now = at(5_000_000);
            let windows = [Duration::from_secs(120), Duration::from_secs(3600)];
            let mut coarse = fine.clone();
            coarse.coarsen(&windows, 64, 0, now);
            prop_assert_eq!(coarse.len(), fine.len());
            prop_assert!(coarse.times() <= 2 * 65 + 30, "{}", coarse.times());
            for (time, _) in fine.iter() {
                prop_assert!(since(&coarse, time) >= since(&fine, time));
                prop_assert!(since(&coarse, time.plus(windows[1] / 64)) <= since(&fine, time));
            }
        }
    }
}

//! How many requests left when, further back than any window in force: kept so that a ceiling whose
//! windows become longer while it runs counts what was sent before ([`crate::Ceiling::reconfigure`]).
//!
//! Bounded: one number a second, for as long as the longest window a rate may have (a day: 1.4 MB at
//! the very most, and nothing for seconds without requests). Each request is taken to be as late as its
//! second allows, so what is kept never makes a window emptier than it was.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::{Mono, nanos};

const SECOND: Duration = Duration::from_secs(1);
/// The longest window that a rate may have, and room for its margin.
const KEPT: Duration = Duration::from_secs(86_400 + 1);

/// Requests, counted by the end of their second; oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past(VecDeque<(Mono, usize)>);

impl Past {
    /// Counts a request of `at`. One that is older than the last is counted with the last.
    pub(crate) fn count(&mut self, at: Mono) {
        match self.0.back_mut() {
            Some((end, count)) if *end >= at => *count += 1,
            Some(_) | None => {
                let end = Mono(at.0.next_multiple_of(nanos(SECOND)));
                self.0.push_back((end, 1));
                while self.0.front().is_some_and(|(first, _)| end.since(*first) > KEPT) {
                    self.0.pop_front();
                }
            }
        }
    }

    /// Those of the last `window` before `now`; none of them is later than `now`.
    pub(crate) fn within(&self, window: Duration, now: Mono) -> Self {
        let lately = self.0.iter().filter(|(end, _)| now.since(*end) < window);
        Self(lately.map(|(end, count)| ((*end).min(now), *count)).collect())
    }

    /// Forgets what is `window` old or older.
    pub(crate) fn forget(&mut self, window: Duration, now: Mono) {
        while self.0.front().is_some_and(|(end, _)| now.since(*end) >= window) {
            self.0.pop_front();
        }
    }

    /// All times, oldest first, with how many requests each stands for.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Mono, usize)> + '_ {
        self.0.iter().copied()
    }

    /// How many requests these are.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(100_000_000_000).plus(Duration::from_millis(ms))
    }

    fn all(past: &Past) -> Vec<(Mono, usize)> {
        past.iter().collect()
    }

    #[test]
    fn counts_each_as_late_as_its_second_and_forgets_after_a_day() {
        let mut past = Past::default();
        for ms in [10, 900, 400, 2500] {
            past.count(at(ms));
        }
        let mut lately = past.within(Duration::from_secs(60), at(2600));
        assert_eq!((all(&lately), lately.len()), (vec![(at(1000), 3), (at(2600), 1)], 4));
        lately.forget(Duration::from_secs(1), at(2600));
        assert_eq!(all(&lately), [(at(2600), 1)]);
        assert_eq!(all(&past.within(Duration::from_secs(1), at(3500))), [(at(3000), 1)]);
        past.count(at(86_403_000));
        assert_eq!(past.0.len(), 2, "the first second is more than a day ago");
    }
}

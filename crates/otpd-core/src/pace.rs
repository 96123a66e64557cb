//! Keeps bulk requests evenly apart, so that an interactive job never meets a window that bulk filled at
//! one moment.
//!
//! A ceiling's window that holds one burst stays full until the whole burst leaves it. Bulk requests
//! therefore start one spacing apart (the window over its count), and every request moves the time of the
//! next bulk one, interactive ones too: bulk fills exactly what interactive traffic leaves, without a
//! reserve. In an evenly filled window the oldest request leaves within one spacing; that is the longest an
//! interactive job waits for bulk.

use std::time::Duration;

use crate::clock::{Mono, nanos};

/// How late a bulk request may start without the ones after it starting later too: timers are not exact.
const LATE: Duration = Duration::from_millis(20);

/// The even flow of one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// When the requests so far, one spacing apart, leave room for another one.
    free_at: Mono,
}

impl Pace {
    /// Says when the next bulk request may start; a time that has come means now.
    #[must_use]
    pub const fn ready_at(self) -> Mono {
        self.free_at
    }

    /// Counts a request of any class that starts now.
    pub fn started(&mut self, spacing: Duration, now: Mono) {
        let earliest = Mono(now.0.saturating_sub(nanos(LATE)));
        self.free_at = self.free_at.max(earliest).plus(spacing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACING: Duration = Duration::from_millis(20);

    fn at(ms: u64) -> Mono {
        Mono(1_000_000_000_000).plus(Duration::from_millis(ms))
    }

    #[test]
    fn bulk_fills_what_others_leave() {
        let mut pace = Pace::default();
        assert!(pace.ready_at() <= at(0));
        let mut started = 0;
        for ms in 0..1000 {
            if ms == 500 {
                // Ten people at once: the next ten places are theirs.
                (0..10).for_each(|_| pace.started(SPACING, at(ms)));
            } else if pace.ready_at() <= at(ms) {
                pace.started(SPACING, at(ms));
                started += 1;
            }
        }
        assert!((40..=41).contains(&started), "{started}");
    }

    #[test]
    fn a_late_timer_costs_nothing_and_idling_earns_nothing() {
        let mut pace = Pace::default();
        pace.started(SPACING, at(0));
        pace.started(SPACING, at(25));
        assert_eq!(pace.ready_at(), at(25));
        pace.started(SPACING, at(5000));
        assert_eq!(pace.ready_at(), at(5000));
        pace.started(SPACING, at(5000));
        assert_eq!(pace.ready_at(), at(5020));
    }
}

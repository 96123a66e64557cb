//! Deferred jobs give their place back. A job that waits for its time (a retry, its recipient's limit)
//! occupies one of the deliveries that the lane may hold, and fresh jobs stay in the queue behind it.
//! Such a job is moved to the lane's own `later` queue, with its time and its attempts in its headers;
//! from there it is delivered again, and waits without being in anybody's way.
//!
//! The broker closes a channel on which a delivery is held too long (30 minutes by default), which would
//! bring back everything that the lane holds. So whatever has been held for [`OLD`] is moved the same way,
//! at a bounded rate.
//!
//! Where the lane has no such queue (lanes with several owners) nothing is moved.
//!
//! [`give_back`] decides and is pure. Invariant: a job leaves the room before its move is handed in, and
//! its delivery is acknowledged after the move is confirmed; a crash in between leaves two messages of
//! one id and life, of which the lane drops the second to come.

use std::time::Duration;

use otpd_core::Mono;
use otpd_queue::Section;

use crate::dispatch::Lane;
use crate::endpoint::Endpoint;

/// A job due later than this is not waited for with a delivery in hand.
const FAR: Duration = Duration::from_secs(120);
/// A job due sooner than this is not worth a move, however many are deferred.
const SOON: Duration = Duration::from_secs(1);
/// In a full `later` queue, a job due later than this makes room for those behind it.
const ROTATED: Duration = Duration::from_secs(30);
/// How long a delivery is held at most before it is renewed.
const OLD: Duration = Duration::from_secs(300);
/// How long it is held at most where its job could be sent now and would queue behind deferred ones.
const TOO_OLD: Duration = Duration::from_secs(900);
/// How many jobs are moved in one turn.
const TURN: usize = 64;
/// How many are renewed, or rotated, at a time, and how often: some 250 a second.
const RENEWED: usize = 32;
const RENEW_EVERY: Duration = Duration::from_millis(125);
/// How many moves may be under way, and how many a turn may add however many there are.
const UNDER_WAY: usize = 256;
const FEWEST: usize = 16;
/// How soon to look again where more is to be moved than may be under way.
const AGAIN: Duration = Duration::from_millis(5);

/// The deferred jobs of one queue.
#[derive(Clone, Copy, Debug)]
struct Deferred {
    section: Section,
    /// How many the lane holds; of the `later` queue all of them, deferred or not.
    held: usize,
    /// How many it may hold.
    prefetch: usize,
}

/// How far ahead a deferred job of this queue must be due to be moved now.
fn give_back(deferred: Deferred) -> Option<Duration> {
    match deferred.section {
        Section::Main | Section::Bulk if deferred.held > deferred.prefetch / 2 => Some(SOON),
        Section::Main | Section::Bulk => Some(FAR),
        // It waits where it should; only where others may be waiting behind it, it goes behind them.
        Section::Later if deferred.held >= deferred.prefetch => Some(ROTATED),
        Section::Later => None,
    }
}

impl<E: Endpoint> Lane<E> {
    /// Moves deferred jobs, and those held for long, to the lane's `later` queue; gives the time to look
    /// again where more is to be done.
    pub(crate) fn make_room(&mut self, now: Mono) -> Option<Mono> {
        let later = usize::from(self.prefetch.later?);
        if self.draining || self.room.is_empty() {
            return None;
        }
        let mut left = TURN.min(self.may_give_back());
        let mut again = None;
        for section in [Section::Main, Section::Bulk] {
            // Asked anew for each: one move may be enough.
            while let Some(far) = give_back(self.deferred(section, later)) {
                if left == 0 {
                    again = Some(now.plus(AGAIN));
                    break;
                }
                let Some((held, due)) = self.room.take_furthest(section, now.plus(far)) else { break };
                self.set_aside(held, Some(due));
                left -= 1;
            }
        }
        if now.since(self.renewed_at) >= RENEW_EVERY {
            self.renewed_at = now;
            if self.renew(now, left.min(RENEWED), later) {
                again = again.or(Some(now.plus(RENEW_EVERY)));
            }
        }
        again
    }

    /// Rotates a full `later` queue, and renews the deliveries that have been held longest; says whether
    /// there was anything to do.
    fn renew(&mut self, now: Mono, most: usize, later: usize) -> bool {
        let mut left = most;
        if let Some(far) = give_back(self.deferred(Section::Later, later)) {
            while left > 0 {
                let Some((held, due)) = self.room.take_furthest(Section::Later, now.plus(far)) else { break };
                self.set_aside(held, Some(due));
                left -= 1;
            }
        }
        let is_full = self.room.returned() >= later;
        let old = if is_full && !self.room.is_idle() { TOO_OLD } else { OLD };
        let before = Mono(now.0.saturating_sub(otpd_core::clock::nanos(old)));
        while left > 0 {
            let Some((held, due)) = self.room.take_oldest(before) else { break };
            self.set_aside(held, due);
            left -= 1;
        }
        left < most || most == 0
    }

    fn deferred(&self, section: Section, later: usize) -> Deferred {
        let (held, prefetch) = match section {
            Section::Main => (self.room.deferred(section), self.prefetch.main.into()),
            Section::Bulk => (self.room.deferred(section), self.prefetch.bulk.into()),
            Section::Later => (self.room.returned(), later),
        };
        Deferred { section, held: held + self.awaiting.held(section), prefetch }
    }

    /// How many jobs may be moved now. Where another lane confirms nothing, a few still may: the lane's own
    /// `later` queue is not to blame.
    pub(crate) fn may_give_back(&self) -> usize {
        UNDER_WAY.saturating_sub(self.settler.moving()).max(FEWEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_the_way_is_moved() {
        for (section, held, prefetch, is) in [
            (Section::Main, 0, 100, Some(FAR)),
            (Section::Main, 50, 100, Some(FAR)),
            (Section::Main, 51, 100, Some(SOON)),
            (Section::Bulk, 33, 64, Some(SOON)),
            (Section::Later, 99, 100, None),
            (Section::Later, 100, 100, Some(ROTATED)),
        ] {
            assert_eq!(give_back(Deferred { section, held, prefetch }), is, "{section:?} {held}");
        }
    }
}

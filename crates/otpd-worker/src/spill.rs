//! Where a job goes that would wait too long here: to the next provider of its route with room. Judged
//! when it arrives, and again while it waits, by what the lane really serves ([`otpd_core::Served`]) and
//! not by what its ceiling would allow.
//!
//! A look at the waiting jobs is bounded: so many are looked at and so many moved, and the next look goes
//! on where this one ended.

use std::time::Duration;

use otpd_core::admission::Admission;
use otpd_core::{Mono, Reason, Route, TrafficClass, UnixMs};

use crate::dispatch::Lane;
use crate::endpoint::Endpoint;
use crate::held::Held;
use crate::waiting_room::Order;

/// How long an open breaker is taken to stay open when a wait is estimated.
const OPEN_FOR: Duration = Duration::from_secs(30);
/// The longest wait that an estimate gives.
const LONGEST: f64 = 86_400.0;
/// How often waiting jobs are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How many are looked at, and moved, in one look.
const LOOK: usize = 1024;
const MOVED: usize = 32;

/// How far the looks at the waiting jobs have come.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    looked_at: Mono,
    /// The last job looked at and how many were before it; `None`: begin with the first.
    last: Option<(Order, usize)>,
}

impl<E: Endpoint> Lane<E> {
    /// Moves jobs that have another provider to go to: they need not wait for this one.
    pub(crate) fn move_on(&mut self, reason: Reason) {
        self.move_on_where(reason, |_| true);
    }

    pub(crate) fn move_on_where(&mut self, reason: Reason, which: impl Fn(&Held) -> bool) {
        let provider = self.settings.provider.clone();
        let movable = |held: &Held| held.route.after(&provider).is_some() && which(held);
        for held in self.room.take_where(movable) {
            self.fail_over_unsent(held, reason);
        }
    }

    /// Estimates how long a new job of this class would wait here for its permit.
    pub(crate) fn estimate(&self, class: TrafficClass, now: Mono) -> Duration {
        self.wait_behind(self.room.ahead_of(class), now)
    }

    /// Estimates the wait of a job with so many ahead of it. Where every place is taken, one has to end
    /// first; where the breaker lets out only a few yet, all of those.
    fn wait_behind(&self, ahead: usize, now: Mono) -> Duration {
        let few = self.breaker.most_out();
        let is_beginning = few < self.settings.max_in_flight && self.in_flight.len() >= few;
        let beginning = if is_beginning { self.served.latency(now) } else { Duration::ZERO };
        let ahead = ahead + usize::from(!self.has_room());
        let paused = self.paused_until.map_or(Duration::ZERO, |until| until.since(now));
        let open = if self.breaker.open_reason().is_some() { OPEN_FOR } else { Duration::ZERO };
        let ahead = f64::from(u32::try_from(ahead).unwrap_or(u32::MAX));
        let served = self.served.per_second(self.settings.max_in_flight, now);
        let rate = self.ceiling.per_second().into_iter().chain(served).reduce(f64::min);
        let wait = rate.map_or(0.0, |per_second| ahead / per_second);
        paused.max(open) + beginning + Duration::from_secs_f64(wait.min(LONGEST))
    }

    /// Moves a job that just came elsewhere, or ends it, where it would wait too long here; gives it back
    /// where it may stay.
    pub(crate) fn spill(&mut self, held: Held, now: UnixMs) -> Option<Held> {
        if self.is_outlived_by_pause(&held) {
            self.fail_over_unsent(held, self.pause_reason);
            return None;
        }
        let at = self.clock.mono();
        let wait = self.estimate(held.route.class, at);
        let probes = self.breaker.open_reason().is_some() && self.room.is_idle() && self.gate(at).is_ok();
        if wait.is_zero() || probes {
            return Some(held);
        }
        let next = held.route.after(&self.settings.provider);
        let elsewhere = next.map(|n| self.shared.board.wait(n));
        let too_long = held.route.spill_after.is_some_and(|after| wait > after);
        let refused = self.breaker.open_reason();
        if elsewhere.is_some_and(|e| e < wait) && (too_long || refused.is_some()) {
            self.fail_over_unsent(held, refused.unwrap_or(Reason::Overloaded));
            None
        } else if too_long && refused.is_none() && now.plus(wait) >= held.expires_at {
            self.expire(held);
            None
        } else {
            Some(held)
        }
    }

    /// Looks at some of the waiting jobs again: those that have waited, or will have waited, longer than
    /// their route's `spill_after` move to the next provider where that has more room; those that have
    /// waited longer than its `max_wait` end. Gives the time of the next look where this one saw not all.
    pub(crate) fn judge_waiting(&mut self, now: Mono) -> Option<Mono> {
        let is_judged = |route: &Route| route.spill_after.is_some() || route.max_wait.is_some();
        if self.draining || self.room.is_idle() || !self.routes.values().any(|route| is_judged(route)) {
            return None;
        }
        let next = self.looks.looked_at.plus(LOOK_EVERY);
        if next > now {
            return self.looks.last.map(|_| next);
        }
        self.looks.looked_at = now;
        let wall = self.clock.wall();
        let (after, before) = self.looks.last.take().map_or((None, 0), |(order, n)| (Some(order), n));
        let most = MOVED.min(self.may_give_back());
        let (mut seen, mut last, mut meant) = (0, None, Vec::new());
        for (order, held) in self.room.ready_after(after, LOOK) {
            if meant.len() == most {
                break;
            }
            let ahead = (before + seen).saturating_sub(meant.len());
            if held.route.max_wait.is_some() && self.admission(held, wall) == Admission::WaitedTooLong {
                meant.push((order, false));
            } else if self.is_better_off_elsewhere(held, ahead, now) {
                meant.push((order, true));
            }
            seen += 1;
            last = Some((order, (before + seen).saturating_sub(meant.len())));
        }
        self.looks.last = last.filter(|_| seen == LOOK || meant.len() == most);
        for (order, moves) in meant {
            let Some(held) = self.room.take(order) else { continue };
            if moves {
                self.fail_over_unsent(held, Reason::Overloaded);
            } else {
                self.bury(held, Reason::WaitedTooLong, None, None);
            }
        }
        self.looks.last.map(|_| now.plus(LOOK_EVERY))
    }

    fn is_better_off_elsewhere(&self, held: &Held, ahead: usize, now: Mono) -> bool {
        let Some(after) = held.route.spill_after else { return false };
        let Some(next) = held.route.after(&self.settings.provider) else { return false };
        // What may have been sent is not sent by another provider just because it waits.
        if held.unsure_since.is_some() {
            return false;
        }
        let wait = self.wait_behind(ahead, now);
        now.since(held.ready_at) + wait > after && self.shared.board.wait(next) < wait
    }
}

//! What stands between a waiting job and its permit beside the ceiling: the provider's pause, the account
//! breaker, the recipient's limit; and where a job goes that would wait too long for them.

use std::time::Duration;

use otpd_core::{Answered, Change, FactKind, Gate, Mono, Outcome, Reason, Scope, TrafficClass, UnixMs};
use otpd_queue::{Settlement, Then};

use crate::dispatch::Lane;
use crate::endpoint::Endpoint;
use crate::waiting_room::Held;

/// The share of a ceiling that bulk jobs may fill; the rest is kept for people who wait.
const BULK_SHARE: f64 = 0.9;
/// A pause that moves by less than this is the same pause.
const SAME_PAUSE: Duration = Duration::from_secs(1);
/// How long a closed breaker is taken to stay closed when the wait of a new job is estimated.
const CLOSED_FOR: Duration = Duration::from_secs(30);

/// Why nothing may start now.
pub(crate) enum Closed {
    /// Look again at this time.
    Until(Mono),
    /// Look again when a request ends.
    UntilOneEnds,
}

impl<E: Endpoint> Lane<E> {
    /// Whether the provider takes requests at all right now.
    pub(crate) fn gate(&mut self, now: Mono) -> Result<(), Closed> {
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Err(Closed::Until(until));
        }
        match self.breaker.gate(self.in_flight.len(), now) {
            Gate::Go => Ok(()),
            Gate::WhenOneEnds => Err(Closed::UntilOneEnds),
            Gate::At(at) => Err(Closed::Until(at)),
        }
    }

    /// Sees to it that the job at the head of the room may be sent to its recipient now: one that may
    /// not steps back until it may, or ends. Says whether the head is ready.
    pub(crate) fn recipient_is_ready(&mut self, now: Mono) -> bool {
        let Some(held) = self.room.next() else { return false };
        let ready_at = self.recipient_ready_at(held, now);
        if ready_at <= now {
            return true;
        }
        if let Some(held) = self.room.take_next() {
            let at = self.clock.wall_of(ready_at);
            if at < held.expires_at {
                self.room.enter(held, Some(at));
            } else {
                self.bury(held, Reason::RecipientLimited, None, None);
            }
        }
        false
    }

    fn recipient_ready_at(&self, held: &Held, now: Mono) -> Mono {
        let paused = self.pairs.ready_at(held.keys.recipient, now);
        if held.attempts > 0 {
            return paused; // counted when it was first sent
        }
        let limits = self.shared.recipients.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        limits.ready_at(held.keys.recipient, now).max(paused)
    }

    /// A job starts on its way to its recipient for the first time.
    pub(crate) fn count_recipient(&self, held: &Held, now: Mono) {
        let recipients = &self.shared.recipients;
        recipients.lock().unwrap_or_else(std::sync::PoisonError::into_inner).sent(held.keys.recipient, now);
    }

    /// An attempt that reached nobody is taken back: from the job, and from its recipient if it was the first.
    pub(crate) fn take_back(&self, held: &mut Held) {
        held.attempts = held.attempts.saturating_sub(1);
        if held.attempts == 0 {
            let recipients = &self.shared.recipients;
            recipients
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .not_sent(held.keys.recipient);
        }
    }

    /// Whether the ceiling has room for the class of the job at the head; bulk leaves some for others.
    pub(crate) fn class_has_room(&self, now: Mono) -> bool {
        let bulk = self.room.next().is_some_and(|h| h.route.class == TrafficClass::Bulk);
        !bulk || self.ceiling.is_unlimited() || self.ceiling.used_ratio(now) < BULK_SHARE
    }

    /// Learns from an answer: pauses, named limits, the breaker.
    pub(crate) fn learn(&mut self, held: &Held, answered: &Answered, now: Mono) {
        if let Outcome::RateLimited { reason, scope, wait, limit } = &answered.outcome {
            if limit.is_some_and(|named| self.ceiling.lower(named, now)) {
                self.show_ceiling();
            }
            if let Some(wait) = wait {
                self.pause(held, *scope, *reason, now.plus(*wait), now);
            }
        }
        match self.breaker.judge(&answered.outcome, now) {
            Change::None => {}
            Change::Opened(reason) => {
                tracing::warn!(provider = %self.settings.provider, %reason,
                    "the provider refuses or fails; asking with one job at a time");
                self.metrics.breaker_open.set(1);
                self.tell(FactKind::Paused, held, Some(reason), None);
                self.move_on(reason);
            }
            Change::Closed => {
                tracing::info!(provider = %self.settings.provider, "the provider takes messages again");
                self.metrics.breaker_open.set(0);
                self.tell(FactKind::Resumed, held, None, None);
            }
        }
    }

    fn pause(&mut self, held: &Held, scope: Scope, reason: Reason, until: Mono, now: Mono) {
        match scope {
            Scope::Pair | Scope::Recipient => self.pairs.pause(held.keys.recipient, until, now),
            Scope::Account
            | Scope::App
            | Scope::Sender
            | Scope::Unknown
            | Scope::Template
            | Scope::Country
            | Scope::Message => {
                let before = self.paused_until.filter(|b| *b > now);
                if before.is_none_or(|b| until > b.plus(SAME_PAUSE)) {
                    self.tell(FactKind::Paused, held, Some(reason), Some(self.clock.wall_of(until)));
                    self.resume_untold = true;
                }
                self.paused_until = before.max(Some(until));
                let stays = until.since(now);
                self.move_on_where(reason, |held| held.route.spill_after.is_some_and(|after| stays > after));
            }
        }
    }

    /// Says once that a pause is over, with the job that is the first to go.
    pub(crate) fn tell_resumed(&mut self, held: &Held) {
        if std::mem::take(&mut self.resume_untold) {
            self.paused_until = None;
            self.tell(FactKind::Resumed, held, None, None);
        }
    }

    fn tell(&self, kind: FactKind, held: &Held, reason: Option<Reason>, until: Option<UnixMs>) {
        let mut fact = self.fact(kind, held, None, self.clock.wall());
        fact.reason = reason;
        fact.next_attempt_at = until;
        self.settler.settle(Settlement { fact: Some(fact), then: Then::Keep });
    }

    /// Jobs that have another provider to go to need not wait for this one.
    pub(crate) fn move_on(&mut self, reason: Reason) {
        self.move_on_where(reason, |_| true);
    }

    fn move_on_where(&mut self, reason: Reason, which: impl Fn(&Held) -> bool) {
        let provider = self.settings.provider.clone();
        let movable = |held: &Held| held.route.after(&provider).is_some() && which(held);
        for held in self.room.take_where(movable) {
            self.fail_over_unsent(held, reason);
        }
    }

    /// How long a new job of this class would wait here for its permit.
    pub(crate) fn estimate(&self, class: TrafficClass, now: Mono) -> Duration {
        let paused = self.paused_until.map_or(Duration::ZERO, |until| until.since(now));
        let closed = if self.breaker.open_reason().is_some() { CLOSED_FOR } else { Duration::ZERO };
        let ahead = f64::from(u32::try_from(self.room.ahead_of(class)).unwrap_or(u32::MAX));
        let served = self.ceiling.per_second().map_or(0.0, |per_second| ahead / per_second);
        paused.max(closed) + Duration::from_secs_f64(served.min(86_400.0))
    }

    /// Whether a job that just came had better go elsewhere, or not wait at all.
    pub(crate) fn spill(&mut self, held: Held, now: UnixMs) -> Option<Held> {
        let at = self.clock.mono();
        let wait = self.estimate(held.route.class, at);
        let probes = self.breaker.open_reason().is_some() && self.room.is_empty() && self.gate(at).is_ok();
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

    pub(crate) fn show_ceiling(&self) {
        if let Some(per_second) = self.ceiling.per_second() {
            self.metrics.set_ceiling(per_second);
        }
    }
}

//! What stands between a waiting job and its permit beside the ceiling: the provider's pause, the account
//! breaker, the recipient's limit, and the even flow of bulk.

use std::time::Duration;

use otpd_core::{Answered, Change, FactKind, Gate, Mono, Outcome, Pass, Reason, Scope, TrafficClass, UnixMs};
use otpd_queue::{Settlement, Then};

use crate::dispatch::Lane;
use crate::endpoint::Endpoint;
use crate::held::Held;

/// A pause that moves by less than this is the same pause.
const SAME_PAUSE: Duration = Duration::from_secs(1);

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
            if self.clock.wall_of(ready_at) < held.expires_at {
                self.room.enter(held, Some(ready_at));
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
        let limited = self.shared.memory.with(|memory| memory.recipients.ready_at(held.keys.recipient, now));
        limited.max(paused)
    }

    /// A job starts on its way to its recipient for the first time.
    pub(crate) fn count_recipient(&self, held: &Held, now: Mono) {
        self.shared.memory.with(|memory| memory.recipients.sent(held.keys.recipient, now));
    }

    /// An attempt that reached nobody is taken back: from the job, and from its recipient if it was the first.
    pub(crate) fn take_back(&self, held: &mut Held) {
        held.attempts = held.attempts.saturating_sub(1);
        if held.attempts == 0 {
            self.shared.memory.with(|memory| memory.recipients.not_sent(held.keys.recipient));
        }
    }

    /// Says when the job at the head of the room may start as far as its class is concerned: bulk flows
    /// evenly, so that an interactive job waits for one request of it at most.
    pub(crate) fn class_ready_at(&self, now: Mono) -> Mono {
        let is_bulk = self.room.next().is_some_and(|h| h.route.class == TrafficClass::Bulk);
        if is_bulk && !self.ceiling.is_unlimited() { self.pace.ready_at() } else { now }
    }

    /// Learns from an answer: pauses, named limits, the breaker.
    pub(crate) fn learn(&mut self, held: &mut Held, pass: Pass, answered: &Answered, now: Mono) {
        if let Outcome::RateLimited { reason, scope, wait, limit } = &answered.outcome {
            if limit.is_some_and(|named| self.ceiling.lower(named, now)) {
                self.show_ceiling();
            }
            if let Some(wait) = wait {
                self.pause(held, *scope, *reason, now.plus(*wait), now);
            }
        }
        match self.breaker.judge(pass, &answered.outcome, &mut held.refusals, now) {
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
                self.room.forgive();
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

    pub(crate) fn show_ceiling(&self) {
        if let Some(per_second) = self.ceiling.per_second() {
            self.metrics.set_ceiling(per_second);
        }
    }
}

//! What stands between a waiting job and its permit beside the ceiling: the provider's pause, the account
//! breaker, the recipient's limit, and the even flow of bulk.

use std::time::Duration;

use otpd_core::{
    Answered, Change, FactKind, Gate, Mono, Outcome, Pass, Rate, Reason, Scope, Stamp, TrafficClass, UnixMs,
    Whose,
};
use otpd_queue::{Settlement, Then};

use crate::dispatch::Lane;
use crate::endpoint::Endpoint;
use crate::held::Held;

/// A pause that moves by less than this is the same pause.
const SAME_PAUSE: Duration = Duration::from_secs(1);
/// How long a job waits at least that a limit refused without naming a wait, and how much longer than the pause:
/// those that were not refused go first, and show whether it is the account.
const REFUSED_WITHOUT_WORDS: Duration = Duration::from_secs(1);
const OTHERS_FIRST: Duration = Duration::from_millis(100);

/// What a refusal for a limit says.
#[derive(Clone, Copy)]
struct Limited {
    reason: Reason,
    scope: Scope,
    wait: Option<Duration>,
    limit: Option<Rate>,
}

/// Why nothing may start now.
pub(crate) enum Closed {
    /// Look again at this time.
    Until(Mono),
    /// Look again when a request ends.
    UntilOneEnds,
}

/// True if the job is not to wait for a pause that stays for so long and is over at that time.
fn is_too_long(held: &Held, stays: Duration, over_at: UnixMs) -> bool {
    held.route.spill_after.is_some_and(|after| stays > after) || held.expires_at <= over_at
}

impl<E: Endpoint> Lane<E> {
    /// Whether the provider takes requests at all right now.
    pub(crate) fn gate(&mut self, now: Mono) -> Result<(), Closed> {
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Err(Closed::Until(until));
        }
        if self.ceiling.asks_one_at_a_time() && !self.in_flight.is_empty() {
            return Err(Closed::UntilOneEnds);
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
            let paused_until = self.pairs.ready_at(held.keys.recipient, now);
            if self.clock.wall_of(ready_at) < held.expires_at {
                self.room.enter(held, Some(ready_at));
            } else if self.clock.wall_of(paused_until) >= held.expires_at && self.has_next(&held) {
                self.fail_over_unsent(held, Reason::RatePair);
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

    /// Learns from an answer: pauses, limits, the breaker. Gives how long nothing may be sent here for this job.
    pub(crate) fn learn(
        &mut self,
        held: &mut Held,
        pass: Pass,
        answered: &Answered,
        stamp: &Stamp,
        now: Mono,
    ) -> Duration {
        let limited_for = match &answered.outcome {
            Outcome::RateLimited { reason, scope, wait, limit } => {
                let said = Limited { reason: *reason, scope: *scope, wait: *wait, limit: *limit };
                self.limited(held, said, stamp, now)
            }
            Outcome::Accepted { .. } | Outcome::Permanent { .. } => {
                self.ceiling.accepted(stamp, now);
                self.singled.accepted(held.keys.recipient);
                Duration::ZERO
            }
            // Whatever became of it, it was not too much.
            Outcome::Transient { .. } | Outcome::Ambiguous { .. } | Outcome::Account { .. } => {
                if answered.http_status.is_some() {
                    self.ceiling.accepted(stamp, now);
                }
                Duration::ZERO
            }
        };
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
        limited_for
    }

    /// A limit refused a job: whose it is decides who waits. Gives how long this job does.
    fn limited(&mut self, held: &Held, said: Limited, stamp: &Stamp, now: Mono) -> Duration {
        let Limited { reason, scope, wait, limit } = said;
        if let Some(named) = limit {
            self.ceiling.lower(named, now);
        }
        let whose = self.singled.refused(held.keys.recipient, scope, reason, now);
        // A guess never costs a code that has nowhere else to go.
        let half = held.expires_at.since(self.clock.wall()) / 2;
        let guessed = |backoff: Duration| if self.has_next(held) { backoff } else { backoff.min(half) };
        let (own, is_accounts) = match whose {
            Whose::Account => (Duration::ZERO, true),
            Whose::Recipient(backoff) => (wait.unwrap_or_else(|| guessed(backoff)), false),
            // Where a limit is known, it may be at its edge.
            Whose::Unknown(backoff) => (wait.unwrap_or_else(|| guessed(backoff)), self.ceiling.has_learned()),
        };
        if !own.is_zero() {
            self.pairs.pause(held.keys.recipient, now.plus(own), now);
        }
        // A wait that may be one recipient's is not the account's.
        let named = self.singled.wait_of_account(scope, wait).filter(|_| whose == Whose::Account);
        let measured = (is_accounts && limit.is_none()).then(|| self.ceiling.refused(stamp, named, now));
        if let Some(pause) = named.or(measured.flatten()) {
            self.pause(held, reason, now.plus(pause), now);
        }
        self.note_learned();
        let paused = self.paused_until.map_or(Duration::ZERO, |until| until.since(now));
        match wait {
            Some(wait) => wait.max(own).max(paused),
            None => own.max(paused).max(REFUSED_WITHOUT_WORDS) + OTHERS_FIRST,
        }
    }

    fn pause(&mut self, held: &Held, reason: Reason, until: Mono, now: Mono) {
        let before = self.paused_until.filter(|b| *b > now);
        if before.is_none_or(|b| until > b.plus(SAME_PAUSE)) {
            self.tell(FactKind::Paused, held, Some(reason), Some(self.clock.wall_of(until)));
            self.resume_untold = true;
        }
        self.paused_until = before.max(Some(until));
        self.pause_reason = reason;
        let (stays, over_at) = (until.since(now), self.clock.wall_of(until));
        self.move_on_where(reason, |held| is_too_long(held, stays, over_at));
    }

    /// True if a pause moves the job on: it is longer than the code lives, or than its route is to wait for a permit,
    /// and another provider comes after this one.
    pub(crate) fn is_moved_by_pause(&self, held: &Held) -> bool {
        let now = self.clock.mono();
        let pause = self.paused_until.filter(|until| *until > now);
        pause.is_some_and(|until| is_too_long(held, until.since(now), self.clock.wall_of(until)))
            && self.has_next(held)
    }

    /// True if the provider's pause is longer than the job's code lives, and another provider comes after this one.
    pub(crate) fn is_outlived_by_pause(&self, held: &Held) -> bool {
        let now = self.clock.mono();
        let pause = self.paused_until.filter(|until| *until > now);
        pause.is_some_and(|until| self.clock.wall_of(until) >= held.expires_at) && self.has_next(held)
    }

    fn has_next(&self, held: &Held) -> bool {
        held.route.after(&self.settings.provider).is_some()
    }

    /// Shows the ceiling in force, and says once when it begins and when it ends to be a learned one.
    pub(crate) fn note_learned(&mut self) {
        self.show_ceiling();
        let (is_learned, provider) = (self.ceiling.has_learned(), &self.settings.provider);
        if std::mem::replace(&mut self.is_learned, is_learned) == is_learned {
            return;
        }
        let configured = self.ceiling.configured().unwrap_or(f64::INFINITY);
        if is_learned {
            let per_second = self.ceiling.per_second().unwrap_or(configured);
            tracing::warn!(%provider, per_second, configured,
                "the provider takes less than the configured ceiling; sending what it takes, and more step by step");
        } else {
            tracing::info!(%provider, configured, "the provider takes the configured ceiling again");
            self.resume_untold = true;
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
        fact.ceiling_per_second = self.ceiling.per_second().filter(|_| self.ceiling.has_learned());
        self.settler.settle(Settlement { fact: Some(fact), then: Then::Keep });
    }

    pub(crate) fn show_ceiling(&self) {
        self.metrics.set_ceiling(self.ceiling.per_second(), self.ceiling.configured());
    }
}

//! How a job leaves the lane, or stays for another attempt: the only place that builds settlements.
//! Each function makes one fact, remembers it, and hands it in with what becomes of the delivery;
//! the queue publishes first and acknowledges after.

use std::time::Duration;

use otpd_core::fact::Timings;
use otpd_core::{
    Fact, FactKind, JobId, Malformed, Mono, ProviderName, Reason, SendJob, TrafficClass, UnixMs,
};
use otpd_queue::{Burial, Carried, Delivery, Move, Section, Settlement, Then};
use tracing::Span;

use crate::attempt::Answer;
use crate::burial;
use crate::dispatch::Lane;
use crate::endpoint::Endpoint;
use crate::held::Held;
use crate::trace;

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

impl<E: Endpoint> Lane<E> {
    /// A provider took it.
    pub(crate) fn accept(&mut self, held: Held, answer: &Answer, now: UnixMs) {
        let mut fact = self.fact(FactKind::Accepted, &held, Some(answer), now);
        fact.timings = Some(Timings {
            queued_ms: millis(self.clock.wall_of(held.arrived_at).since(held.waits_since())),
            permit_ms: millis(answer.permit_at.since(held.ready_at)),
            http_ms: millis(answer.http),
        });
        if let otpd_core::Outcome::Accepted { message_id, .. } = &answer.answered.outcome {
            fact.message_id.clone_from(message_id);
        }
        if self.awaits(&held.route, held.extra).is_none() {
            return self.hand_in(fact, Then::Acknowledge(held.tag), &held.span);
        }
        self.hand_in(fact, Then::Keep, &held.span);
        if self.draining || !self.lease.holds(held.tag.session) {
            return self.hand_back(held.tag.session); // the next owner reads the fact, and waits
        }
        self.await_delivery(held, now);
    }

    /// Nothing is left to do, and everything that is to be told was told before.
    pub(crate) fn acknowledge(&self, held: Held) {
        self.settler.settle(Settlement { fact: None, then: Then::Acknowledge(held.tag) });
    }

    /// It goes to the next provider although this one accepted it, because its message did not arrive, or nobody
    /// says so.
    pub(crate) fn send_once_more(&mut self, next: ProviderName, mut held: Held, reason: Reason) {
        held.extra = held.extra.saturating_add(1);
        let mut fact = self.fact(FactKind::FailedOver, &held, None, self.clock.wall());
        fact.reason = Some(reason);
        self.move_to(next, held, fact);
    }

    /// It is tried again here; it keeps its delivery, and its place in the room.
    pub(crate) fn retry(&mut self, held: Held, answer: &Answer, wait: Duration, now: UnixMs) {
        let mut fact = self.fact(FactKind::Retrying, &held, Some(answer), now);
        fact.next_attempt_at = Some(now.plus(wait));
        if answer.answered.outcome.may_have_been_sent() {
            self.metrics.possible_duplicates.inc();
        }
        self.hand_in(fact, Then::Keep, &held.span);
        if self.draining || !self.lease.holds(held.tag.session) {
            return self.hand_back(held.tag.session); // the next owner reads the fact
        }
        self.defer(held, wait);
    }

    /// Back into the room, not to be tried before `wait` is over.
    fn defer(&mut self, mut held: Held, wait: Duration) {
        let due = self.clock.mono().plus(wait);
        held.ready_at = due;
        if self.breaker.open_reason().is_some() {
            held.probed = held.probed.saturating_add(1);
        }
        self.back_to_the_room(held, Some(due));
    }

    /// It waits here, and the attempt is not counted against it: a limit refused it, or the account is refused and
    /// there is nowhere else to go.
    pub(crate) fn hold_on(&mut self, mut held: Held, answer: &Answer, wait: Duration, now: UnixMs) {
        let mut fact = self.fact(FactKind::Retrying, &held, Some(answer), now);
        fact.next_attempt_at = Some(now.plus(wait));
        self.hand_in(fact, Then::Keep, &held.span);
        self.take_back(&mut held);
        if self.draining || !self.lease.holds(held.tag.session) {
            return self.hand_back(held.tag.session);
        }
        self.defer(held, wait);
    }

    /// Into the room again, unless a newer code has come meanwhile, or the provider's pause is too long for it.
    pub(crate) fn back_to_the_room(&mut self, held: Held, due: Option<Mono>) {
        if self.is_moved_by_pause(&held) {
            self.fail_over_unsent(held, self.pause_reason);
        } else if !self.shared.memory.is_newest(&held) {
            self.end_without_request(held, FactKind::Superseded, Reason::Superseded);
        } else if let Some(replaced) = self.room.enter(held, due) {
            self.end_without_request(replaced, FactKind::Superseded, Reason::Superseded);
        }
    }

    /// It goes to the next provider of its route.
    pub(crate) fn fail_over(&mut self, held: Held, answer: &Answer, now: UnixMs) {
        let Some(next) = held.route.after(&self.settings.provider).cloned() else {
            let reason = answer.answered.outcome.reason().unwrap_or(Reason::UnknownError);
            return self.bury(held, reason, Some(answer), Some(now));
        };
        let fact = self.fact(FactKind::FailedOver, &held, Some(answer), now);
        if answer.answered.outcome.may_have_been_sent() {
            self.metrics.possible_duplicates.inc();
        }
        self.move_to(next, held, fact);
    }

    /// It goes to the next provider without having been tried here (now).
    pub(crate) fn fail_over_unsent(&mut self, held: Held, reason: Reason) {
        let Some(next) = held.route.after(&self.settings.provider).cloned() else {
            return self.bury(held, reason, None, None);
        };
        let mut fact = self.fact(FactKind::FailedOver, &held, None, self.clock.wall());
        fact.reason = Some(reason);
        self.move_to(next, held, fact);
    }

    fn move_to(&mut self, next: ProviderName, held: Held, mut fact: Fact) {
        fact.next_provider = Some(next.clone());
        let moved = Move {
            to: next,
            section: match held.route.class {
                TrafficClass::Interactive => Section::Main,
                TrafficClass::Bulk => Section::Bulk,
            },
            job: held.job.id.clone(),
            body: held.body,
            carried: Carried {
                attempts: held.attempts,
                hops: held.hops.saturating_add(1),
                route: Some(held.route.name.clone()),
                life: held.life,
                replayed_at: held.replayed_at,
                not_before: None,
                ambiguous: held.ambiguous,
                extra: held.extra,
                accepted_at: None,
            },
            taken_at: held.taken_at,
            trace: held.trace,
        };
        self.hand_in(fact, Then::Move(held.tag, Box::new(moved)), &held.span);
    }

    /// A fresh message in the same queue takes the place of its own: because that came back too often, or
    /// because it is the first of the job's next life.
    pub(crate) fn begin_anew(&mut self, held: Held, not_before: Option<UnixMs>) {
        self.renew_in(held.section, held, not_before);
    }

    /// A message in the lane's `later` queue takes the place of its own: the job is deferred until `due`,
    /// or was held for long. It always names a time: by that it is known as the lane's own.
    pub(crate) fn set_aside(&mut self, held: Held, due: Option<Mono>) {
        let not_before = self.clock.wall_of(due.unwrap_or_else(|| self.clock.mono()));
        self.renew_in(Section::Later, held, Some(not_before));
    }

    pub(crate) fn renew_in(&mut self, section: Section, held: Held, not_before: Option<UnixMs>) {
        let moved = Move {
            to: self.settings.provider.clone(),
            section,
            job: held.job.id,
            body: held.body,
            carried: Carried {
                attempts: held.attempts,
                hops: held.hops,
                route: Some(held.route.name.clone()),
                life: held.life,
                replayed_at: held.replayed_at,
                not_before,
                ambiguous: held.ambiguous,
                extra: held.extra,
                accepted_at: held.accepted_at,
            },
            taken_at: held.taken_at,
            trace: held.trace,
        };
        self.settler.settle(Settlement { fact: None, then: Then::Move(held.tag, Box::new(moved)) });
    }

    /// It failed for good.
    pub(crate) fn bury(&mut self, held: Held, reason: Reason, answer: Option<&Answer>, now: Option<UnixMs>) {
        let now = now.unwrap_or_else(|| self.clock.wall());
        let mut fact = self.fact(FactKind::Dead, &held, answer, now);
        fact.reason = Some(reason);
        let answered = answer.map(|a| &a.answered);
        let burial = Burial {
            job: held.job.id.clone(),
            body: burial::body(&held.body, self.shared.keep_code),
            reason,
            class: answered.map(|a| a.outcome.class()),
            provider: self.settings.provider.clone(),
            route: Some(held.route.name.clone()),
            http_status: answered.and_then(|a| a.http_status),
            attempts: held.attempts,
            detail: detail(reason, answered),
            died_at: now,
            taken_at: held.taken_at,
            life: held.life,
            trace: held.trace,
        };
        self.hand_in(fact, Then::Bury(held.tag, Box::new(burial)), &held.span);
    }

    /// Its code is of no use any more, and it never met a provider (or not lately).
    pub(crate) fn expire(&mut self, held: Held) {
        self.end_without_request(held, FactKind::Expired, Reason::Expired);
    }

    /// Its code would be of no use by the time of another attempt.
    pub(crate) fn expire_after(&mut self, held: Held, answer: &Answer, now: UnixMs) {
        let mut fact = self.fact(FactKind::Expired, &held, Some(answer), now);
        fact.reason = Some(Reason::Expired);
        self.hand_in(fact, Then::Acknowledge(held.tag), &held.span);
    }

    /// Ends a job that waits.
    pub(crate) fn end_without_request(&mut self, held: Held, kind: FactKind, reason: Reason) {
        let now = self.clock.wall();
        let mut fact = self.fact(kind, &held, None, now);
        fact.reason = Some(reason);
        self.hand_in(fact, Then::Acknowledge(held.tag), &held.span);
    }

    /// The same id came twice: this copy is dropped.
    pub(crate) fn drop_duplicate(&mut self, job: &SendJob, delivery: &Delivery, now: UnixMs) {
        let mut fact = Fact::new(FactKind::Duplicate, job.id.clone(), self.settings.provider.clone(), now)
            .about(job.to)
            .in_life(delivery.carried.life);
        fact.route.clone_from(&delivery.carried.route);
        fact.metadata.clone_from(&job.metadata);
        let span = trace::process(&self.names, &self.settings.provider, delivery, &job.id);
        self.hand_in(fact, Then::Acknowledge(delivery.tag), &span);
    }

    /// It is not a job at all.
    pub(crate) fn bury_malformed(&mut self, delivery: &Delivery, malformed: Malformed, now: UnixMs) {
        let job = malformed.id.or_else(|| delivery.message_id.clone()).unwrap_or_else(nameless);
        tracing::warn!(provider = %self.settings.provider, %job, detail = malformed.detail, "malformed job");
        let span = trace::process(&self.names, &self.settings.provider, delivery, &job);
        let mut fact = Fact::new(FactKind::Dead, job.clone(), self.settings.provider.clone(), now)
            .in_life(delivery.carried.life);
        fact.reason = Some(Reason::MalformedJob);
        fact.route.clone_from(&delivery.carried.route);
        let burial = Burial {
            job,
            body: burial::body(&delivery.body, self.shared.keep_code),
            reason: Reason::MalformedJob,
            class: None,
            provider: self.settings.provider.clone(),
            route: delivery.carried.route.clone(),
            http_status: None,
            attempts: delivery.carried.attempts,
            detail: Some(malformed.detail.into()),
            died_at: now,
            taken_at: delivery.taken_at.unwrap_or(now),
            life: delivery.carried.life,
            trace: delivery.trace.clone(),
        };
        self.hand_in(fact, Then::Bury(delivery.tag, Box::new(burial)), &span);
    }

    pub(crate) fn fact(&self, kind: FactKind, held: &Held, answer: Option<&Answer>, now: UnixMs) -> Fact {
        let mut fact = Fact::new(kind, held.job.id.clone(), self.settings.provider.clone(), now)
            .about(held.job.to)
            .in_life(held.life);
        fact.attempt = held.attempts;
        fact.extra = held.extra > 0;
        fact.route = Some(held.route.name.clone());
        fact.metadata.clone_from(&held.job.metadata);
        if let Some(answer) = answer {
            fact.class = Some(answer.answered.outcome.class());
            fact.reason = answer.answered.outcome.reason();
            fact.http_status = answer.answered.http_status;
            fact.sent_at = answer.sent_at;
        }
        self.shared.recipients.tell(fact, held.keys, held.job.created_at)
    }

    fn hand_in(&mut self, fact: Fact, then: Then, span: &Span) {
        trace::told(span, &fact);
        if fact.kind.is_final() || fact.kind == FactKind::Duplicate {
            self.metrics.job(&fact);
        }
        self.shared.memory.remember(&fact, self.clock.wall());
        self.settler.settle(Settlement { fact: Some(fact), then });
    }
}

/// What a dead letter says beside its reason: the provider's words, and, where the attempts ran out,
/// what the last one met.
fn detail(reason: Reason, answered: Option<&otpd_core::Answered>) -> Option<Box<str>> {
    let answered = answered?;
    let last = answered.outcome.reason().filter(|r| *r != reason);
    match (last, answered.detail.as_deref()) {
        (None, None) => None,
        (None, Some(words)) => Some(words.into()),
        (Some(last), None) => Some(format!("last: {last}").into()),
        (Some(last), Some(words)) => Some(format!("last: {last}: {words}").into()),
    }
}

/// An id for a body that has none: unique, so that its facts and its letter can be found.
fn nameless() -> JobId {
    JobId::parse(&format!("malformed-{:016x}", rand::random::<u64>())).unwrap_or_else(|_| nameless())
}

//! From the permit to the decision: the one place where requests start and where answers are judged.

use std::time::Duration;

use otpd_core::admission::{WAY, Waiting};
use otpd_core::checkpoint::WRITE_WITHIN;
use otpd_queue::Tag;
use tokio::sync::oneshot;
use tracing::{Instrument, Span};

use otpd_core::{
    Admission, Answered, Attempted, Class, Disposition, FactKind, Mono, Outcome, Pass, Reason, Stamp, UnixMs,
    Verdict, admit, decide,
};

use crate::clock::Clock;
use crate::dispatch::Lane;
use crate::endpoint::Endpoint;
use crate::held::Held;
use crate::lease::Lease;
use crate::trace;

/// A request under way.
#[derive(Debug)]
pub(crate) struct Flying {
    /// Where its end is settled; a redelivery brings another one.
    pub(crate) tag: Tag,
    pub(crate) stamp: Stamp,
    /// When it was announced, as its fact says.
    pub(crate) announced_at: UnixMs,
}

/// A request that ended.
pub(crate) struct Ended {
    pub(crate) held: Held,
    pub(crate) end: End,
    pub(crate) pass: Pass,
    pub(crate) stamp: Stamp,
    pub(crate) permit_at: Mono,
}

/// How a request ended.
pub(crate) enum End {
    /// With an answer, or as the transport reads having none.
    Answered(Answered),
    /// It was never made: it could not be announced, was called back, or its delivery is no longer ours.
    NotMade,
    /// It was never made: its code expired on the way.
    Expired,
    /// It was never made: what was to be looked for is not there.
    NotFound,
}

impl<E: Endpoint> Lane<E> {
    /// Settles, from the head of the room, what is not worth a permit; says whether someone is left.
    pub(crate) fn next_is_worth_it(&mut self, now: UnixMs) -> bool {
        while let Some(held) = self.room.next() {
            let admission = self.admission(held, now);
            if admission == Admission::Go {
                return true;
            }
            let Some(held) = self.room.take_next() else { return false };
            match admission {
                Admission::Go => {}
                Admission::Expired => self.expire(held),
                Admission::Superseded => {
                    self.end_without_request(held, FactKind::Superseded, Reason::Superseded);
                }
                Admission::Delivered => self.acknowledge(held),
                Admission::WaitedTooLong => self.bury(held, Reason::WaitedTooLong, None, None),
            }
        }
        false
    }

    /// Judges a waiting job by its own times.
    pub(crate) fn admission(&self, held: &Held, now: UnixMs) -> Admission {
        let waiting = Waiting {
            expires_at: held.expires_at,
            since: held.waits_since(),
            attempts: held.attempts,
            max_wait: held.route.max_wait,
            superseded: !self.shared.memory.is_newest(held),
            delivered: held.extra > 0 && self.verdict(held) == Some(Verdict::Delivered),
        };
        admit(&waiting, now)
    }

    /// Starts the request of the job at the head of the room.
    pub(crate) fn start(&mut self, permit_at: Mono, stamp: Stamp) {
        let Some(mut held) = self.room.take_next() else {
            stamp.over();
            return;
        };
        let permit_wait = permit_at.since(held.ready_at);
        self.metrics.permit_wait.observe(permit_wait.as_secs_f64());
        self.tell_resumed(&held);
        if held.attempts == 0 {
            self.count_recipient(&held, permit_at);
        }
        let pass = self.breaker.start();
        self.served.began(permit_at);
        if let Some(spacing) = self.ceiling.spacing() {
            self.pace.started(spacing, permit_at);
        }
        held.attempts = held.attempts.saturating_add(1);
        if !self.settings.ceiling.is_empty() {
            stamp.must_be_written_before(permit_at.plus(WRITE_WITHIN));
        }
        let announced_at = self.clock.wall();
        self.not_told_of(announced_at, permit_at);
        let flying = Flying { tag: held.tag, stamp: stamp.clone(), announced_at };
        self.flying.insert(held.job.id.clone(), flying);
        let announced = self.announce(&held, announced_at);
        let (endpoint, lease, clock) = (self.endpoint.clone(), self.lease.clone(), self.clock);
        let span = trace::attempt(&held, permit_wait);
        let attempt = async move {
            let end = attempt(&*endpoint, &held, &stamp, announced, &lease, clock).await;
            Ended { held, end, pass, stamp, permit_at }
        };
        self.in_flight.push(Box::pin(attempt.instrument(span)));
    }

    /// Under a ceiling every request is on the stream, confirmed, before it is sent: the next owner
    /// counts it, and an owner that the broker does not hear sends nothing. Without a ceiling there is
    /// nothing to count, and several owners.
    fn announce(&self, held: &Held, now: UnixMs) -> Option<oneshot::Receiver<()>> {
        if self.settings.ceiling.is_empty() {
            return None;
        }
        let fact = self.fact(FactKind::Sending, held, None, now);
        Some(self.settler.announce(fact))
    }

    /// Judges an answer and does what follows.
    pub(crate) fn finish(&mut self, ended: Ended) {
        let Ended { mut held, end, pass, stamp, permit_at } = ended;
        let mut answered = match end {
            End::Answered(answered) => answered,
            End::NotFound => {
                drop(pass);
                self.served.never_made(permit_at);
                let reason = held.moves_on.take();
                return self.not_sent(held, &stamp, reason);
            }
            End::NotMade | End::Expired => {
                drop(pass);
                self.served.never_made(permit_at);
                return self.not_sent(held, &stamp, None);
            }
        };
        self.unlisted.judge(&mut answered, held.keys.recipient);
        let now = self.clock.wall();
        let ended_at = self.clock.mono();
        self.served.ended(permit_at, ended_at);
        let http = ended_at.since(permit_at);
        self.ceiling.ended(&stamp, answered.http_status.is_some(), ended_at);
        self.metrics.request.observe(http.as_secs_f64());
        self.metrics.attempt(&answered);
        if let Some(flying) = self.flying.remove(&held.job.id) {
            held.tag = flying.tag;
        }
        let limited_for = self.learn(&mut held, pass, &answered, &stamp, ended_at);
        let attempted = Attempted {
            answered: &answered,
            attempts: held.attempts,
            expires_at: held.expires_at,
            providers_left: held.route.left_after(&self.settings.provider),
            refused_alone: held.refusals.alone(),
            ambiguous: self.ambiguous_before(&held),
            limited_for,
            now,
            jitter: rand::random::<f64>(),
        };
        if answered.outcome.may_have_been_sent() {
            held.unsure_since = held.unsure_since.or(Some(self.clock.wall_of(permit_at)));
        }
        let mut disposition = decide(&attempted, &self.shared.retry, self.settings.on_ambiguous);
        if answered.outcome.class() == Class::Ambiguous {
            held.ambiguous = held.ambiguous.saturating_add(1);
            if disposition == Disposition::NextProvider && self.endpoint.can_find(&held.job) {
                // It may be there: looked for first, a moment later.
                held.moves_on = answered.outcome.reason();
                disposition = Disposition::RetryAfter(self.shared.retry.delay(1, 0.5));
            }
        }
        let answer = Answer {
            answered,
            sent_at: stamp.written_at().map(|at| self.clock.wall_of(at)),
            http,
            permit_at,
        };
        match disposition {
            Disposition::Done => self.accept(held, &answer, now),
            Disposition::RetryAfter(wait) => self.retry(held, &answer, wait, now),
            Disposition::RetryUncounted(wait) => self.hold_on(held, &answer, wait, now),
            Disposition::NextProvider => self.fail_over(held, &answer, now),
            Disposition::Dead(reason) => self.bury(held, reason, Some(&answer), Some(now)),
            Disposition::Hold => {
                let wait = held.refusals.wait();
                self.hold_on(held, &answer, wait, now);
            }
            Disposition::Expired => self.expire_after(held, &answer, now),
        }
    }

    /// How many attempts before the one that ended nobody can tell about; an owner before may have told of one meanwhile.
    fn ambiguous_before(&self, held: &Held) -> u32 {
        let was = self.shared.memory.with(|memory| memory.recent.was_ambiguous(&held.job.id, held.life));
        held.ambiguous.max(u32::from(was))
    }

    /// A request that was never made: its job goes back to its place, where its delivery still is ours, or to the
    /// next provider where it is to move on for this reason, or ends if its code expired.
    fn not_sent(&mut self, mut held: Held, stamp: &Stamp, moves_on: Option<Reason>) {
        self.ceiling.not_tried(stamp);
        if let Some(flying) = self.flying.remove(&held.job.id) {
            held.tag = flying.tag;
        }
        self.take_back(&mut held);
        if self.draining || !self.lease.holds(held.tag.session) {
            return self.hand_back(held.tag.session);
        }
        if is_expired(&held, self.clock) {
            self.expire(held);
        } else if let Some(reason) = moves_on {
            self.fail_over_unsent(held, reason);
        } else {
            self.back_to_the_room(held, None);
        }
    }
}

/// One attempt. The code's expiry is looked at after everything that takes time: the announcement, the
/// look-up; the transport looks again when it has a connection.
async fn attempt<E: Endpoint>(
    endpoint: &E,
    held: &Held,
    stamp: &Stamp,
    announced: Option<oneshot::Receiver<()>>,
    lease: &Lease,
    clock: Clock,
) -> End {
    if let Some(announced) = announced {
        let in_time = tokio::time::timeout(WRITE_WITHIN, announced).await;
        let is_certain = in_time.is_ok_and(|answer| answer.is_ok());
        if !is_certain {
            stamp.over();
            return End::NotMade;
        }
    }
    if !lease.holds(held.tag.session) || !lease.is_fresh() {
        stamp.over();
        return End::NotMade;
    }
    if let Some(since) = held.unsure_since
        && let Some(message_id) = endpoint.find(&held.job, since).await
    {
        stamp.over();
        let outcome = Outcome::Accepted { message_id: Some(message_id), note: None };
        return End::Answered(Answered { outcome, http_status: None, code: None, detail: None });
    }
    if held.moves_on.is_some() {
        stamp.over();
        return End::NotFound;
    }
    if is_expired(held, clock) {
        stamp.over();
        return End::Expired;
    }
    let answered = endpoint.send(&held.job, held.expires_at, stamp).await;
    trace::answered(&Span::current(), &answered);
    if is_called_back(&answered, stamp) { End::NotMade } else { End::Answered(answered) }
}

/// True if the lane itself called the request back: it came too late for its announcement, or the lane is lost. That
/// says nothing of the provider, and nobody got anything.
fn is_called_back(answered: &Answered, stamp: &Stamp) -> bool {
    stamp.is_refused() && answered.http_status.is_none() && !answered.outcome.may_have_been_sent()
}

/// True if the code would have expired by the time it reaches its provider.
fn is_expired(held: &Held, clock: Clock) -> bool {
    clock.wall().plus(WAY) >= held.expires_at
}

/// An answer with its times, as facts need it.
pub(crate) struct Answer {
    pub(crate) answered: Answered,
    pub(crate) sent_at: Option<UnixMs>,
    pub(crate) http: Duration,
    pub(crate) permit_at: Mono,
}

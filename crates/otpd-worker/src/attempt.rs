//! From the permit to the decision: the one place where requests start and where answers are judged.

use std::time::Duration;

use otpd_core::admission::Waiting;
use otpd_queue::{Settlement, Then};
use tokio::sync::oneshot;
use tracing::{Instrument, Span};

use otpd_core::{
    Admission, Answered, Attempted, Disposition, FactKind, MessageId, Mono, Outcome, Reason, Stamp, UnixMs,
    admit, decide,
};

use crate::dispatch::Lane;
use crate::endpoint::Endpoint;
use crate::trace;
use crate::waiting_room::Held;

/// How long the announcement of a request may take to be confirmed. Below half of the broker's
/// heartbeat time-out (10 s): an owner that is cut off stops before another one starts.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(3);

/// A request that ended.
pub(crate) struct Ended {
    pub(crate) held: Held,
    /// `None`: it was never sent, because it could not be announced.
    pub(crate) answered: Option<Answered>,
    pub(crate) stamp: Stamp,
    pub(crate) permit_at: Mono,
}

impl<E: Endpoint> Lane<E> {
    /// Settles, from the head of the room, what is not worth a permit; says whether someone is left.
    pub(crate) fn next_is_worth_it(&mut self, now: UnixMs) -> bool {
        while let Some(held) = self.room.next() {
            let waiting = Waiting {
                expires_at: held.expires_at,
                taken_at: held.taken_at,
                attempts: held.attempts,
                max_wait: held.route.max_wait,
                superseded: !self.newest.is_newest(held.keys.purpose, &held.job.id),
            };
            let admission = admit(&waiting, now);
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
                Admission::WaitedTooLong => self.bury(held, Reason::WaitedTooLong, None, None),
            }
        }
        false
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
        self.breaker.started();
        held.attempts = held.attempts.saturating_add(1);
        self.flying.insert(held.job.id.clone(), held.tag);
        let announced = self.announce(&held);
        let (endpoint, lease) = (self.endpoint.clone(), self.lease.clone());
        let span = trace::attempt(&held, permit_wait);
        let attempt = async move {
            if let Some(announced) = announced {
                let in_time = tokio::time::timeout(ANNOUNCED_WITHIN, announced).await.is_ok();
                if !in_time || !lease.holds(held.tag.session) {
                    stamp.over();
                    return Ended { held, answered: None, stamp, permit_at };
                }
            }
            if let Some(message_id) = found(&*endpoint, &held).await {
                stamp.over();
                return Ended { held, answered: Some(found_again(message_id)), stamp, permit_at };
            }
            let answered = endpoint.send(&held.job, held.expires_at, &stamp).await;
            trace::answered(&Span::current(), &answered);
            Ended { held, answered: Some(answered), stamp, permit_at }
        };
        self.in_flight.push(Box::pin(attempt.instrument(span)));
    }

    /// Under a ceiling every request is on the stream, confirmed, before it is sent: the next owner
    /// counts it, and an owner that the broker does not hear sends nothing. Without a ceiling there is
    /// nothing to count, and several owners.
    fn announce(&self, held: &Held) -> Option<oneshot::Receiver<()>> {
        if self.settings.ceiling.is_empty() {
            return None;
        }
        let fact = self.fact(FactKind::Sending, held, None, self.clock.wall());
        Some(self.settler.confirmed(Settlement { fact: Some(fact), then: Then::Keep }))
    }

    /// Judges an answer and does what follows.
    pub(crate) fn finish(&mut self, ended: Ended) {
        let Ended { mut held, answered, stamp, permit_at } = ended;
        let Some(answered) = answered else { return self.not_sent(held, &stamp) };
        let now = self.clock.wall();
        let ended_at = self.clock.mono();
        let http = ended_at.since(permit_at);
        self.ceiling.ended(&stamp, answered.http_status.is_some(), ended_at);
        self.metrics.request.observe(http.as_secs_f64());
        self.metrics.attempt(&answered);
        if let Some(tag) = self.flying.remove(&held.job.id) {
            held.tag = tag;
        }
        self.learn(&held, &answered, ended_at);
        let attempted = Attempted {
            answered: &answered,
            attempts: held.attempts,
            expires_at: held.expires_at,
            providers_left: held.route.left_after(&self.settings.provider),
            now,
            jitter: rand::random::<f64>(),
        };
        if answered.outcome.may_have_been_sent() {
            held.unsure_since = held.unsure_since.or(Some(self.clock.wall_of(permit_at)));
        }
        let disposition = decide(&attempted, &self.shared.retry, self.settings.on_ambiguous);
        let answer = Answer {
            answered,
            sent_at: stamp.written_at().map(|at| self.clock.wall_of(at)),
            http,
            permit_at,
        };
        match disposition {
            Disposition::Done => self.accept(held, &answer, now),
            Disposition::RetryAt(at) => self.retry(held, &answer, at, now),
            Disposition::NextProvider => self.fail_over(held, &answer, now),
            Disposition::Dead(reason) => self.bury(held, reason, Some(&answer), Some(now)),
            Disposition::Hold => self.hold_on(held, &answer, now),
            Disposition::Expired => self.expire_after(held, &answer, now),
        }
    }

    /// A request that could not be announced goes back to its place, where its delivery still is ours.
    fn not_sent(&mut self, mut held: Held, stamp: &Stamp) {
        self.ceiling.ended(stamp, false, self.clock.mono());
        if let Some(tag) = self.flying.remove(&held.job.id) {
            held.tag = tag;
        }
        self.take_back(&mut held);
        if !self.draining && self.lease.holds(held.tag.session) {
            self.back_to_the_room(held, None);
        }
    }
}

/// The message of an earlier attempt, where the provider can be asked for it.
async fn found<E: Endpoint>(endpoint: &E, held: &Held) -> Option<MessageId> {
    endpoint.find(&held.job, held.unsure_since?).await
}

fn found_again(message_id: MessageId) -> Answered {
    let outcome = Outcome::Accepted { message_id: Some(message_id), note: None };
    Answered { outcome, http_status: None, code: None, detail: None }
}

/// An answer with its times, as facts need it.
pub(crate) struct Answer {
    pub(crate) answered: Answered,
    pub(crate) sent_at: Option<UnixMs>,
    pub(crate) http: Duration,
    pub(crate) permit_at: Mono,
}

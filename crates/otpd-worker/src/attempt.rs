//! From the permit to the decision: the one place where requests start and where answers are judged.

use std::time::Duration;

use otpd_core::admission::Waiting;
use otpd_core::{
    Admission, Answered, Attempted, Disposition, FactKind, Mono, Reason, Stamp, UnixMs, admit, decide,
};

use crate::dispatch::Lane;
use crate::endpoint::Endpoint;
use crate::waiting_room::Held;

/// A request that ended.
pub(crate) struct Ended {
    pub(crate) held: Held,
    pub(crate) answered: Answered,
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
                superseded: !self.successors.is_newest(&held.job),
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
        self.metrics.permit_wait.observe(permit_at.since(held.ready_at).as_secs_f64());
        held.attempts += 1;
        self.flying.insert(held.job.id.clone(), held.tag);
        let endpoint = self.endpoint.clone();
        self.in_flight.push(Box::pin(async move {
            let answered = endpoint.send(&held.job, held.expires_at, &stamp).await;
            Ended { held, answered, stamp, permit_at }
        }));
    }

    /// Judges an answer and does what follows.
    pub(crate) fn finish(&mut self, ended: Ended) {
        let Ended { mut held, answered, stamp, permit_at } = ended;
        let now = self.clock.wall();
        let ended_at = self.clock.mono();
        let http = ended_at.since(permit_at);
        self.ceiling.ended(&stamp, answered.http_status.is_some(), ended_at);
        self.metrics.request.observe(http.as_secs_f64());
        self.metrics.attempt(&answered);
        if let Some(tag) = self.flying.remove(&held.job.id) {
            held.tag = tag;
        }
        let attempted = Attempted {
            answered: &answered,
            attempts: held.attempts,
            expires_at: held.expires_at,
            providers_left: held.route.left_after(&self.settings.provider),
            now,
            jitter: rand::random::<f64>(),
        };
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
            Disposition::Expired => self.expire_after(held, &answer, now),
        }
    }
}

/// An answer with its times, as facts need it.
pub(crate) struct Answer {
    pub(crate) answered: Answered,
    pub(crate) sent_at: Option<UnixMs>,
    pub(crate) http: Duration,
    pub(crate) permit_at: Mono,
}

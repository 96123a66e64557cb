//! What earlier owners of a lane sent, as far as the stream tells: told piece by piece while a session
//! begins, counted once, before the session's first job.
//!
//! Every request of any owner was announced on the stream before it was sent; one whose answer is not there
//! too may have been sent as late as now.

use std::collections::HashMap;
use std::time::Duration;

use otpd_core::{Fact, FactKind, JobId, UnixMs};

/// The requests of earlier owners.
#[derive(Debug, Default)]
pub(crate) struct Predecessors {
    requests: HashMap<(JobId, u32), Request>,
    last: UnixMs,
}

#[derive(Clone, Copy, Debug)]
enum Request {
    /// Announced at this time, and nothing else is known.
    Announced(UnixMs),
    /// Written at this time.
    Sent(UnixMs),
}

impl Predecessors {
    /// Takes in what a fact says about a request.
    pub(crate) fn note(&mut self, fact: &Fact) {
        let request = (fact.job.clone(), fact.attempt);
        match (fact.kind, fact.sent_at) {
            (FactKind::Sending, _) => {
                self.requests.entry(request).or_insert(Request::Announced(fact.at));
            }
            (_, Some(sent_at)) => {
                self.requests.insert(request, Request::Sent(sent_at));
            }
            (_, None) => return,
        }
        self.last = self.last.max(fact.at);
    }

    /// Whether anything was sent within `horizon` before `now`.
    pub(crate) fn lately(&self, now: UnixMs, horizon: Duration) -> bool {
        !self.requests.is_empty() && now.since(self.last) <= horizon
    }

    /// When each request was sent at the latest; `None`: perhaps just now. What was announced longer ago than
    /// `horizon` has ended: it counts in no window yet, but would if the ceiling is given a longer one.
    pub(crate) fn sent(&self, now: UnixMs, horizon: Duration) -> impl Iterator<Item = Option<UnixMs>> {
        self.requests.values().map(move |request| match request {
            Request::Sent(at) => Some(*at),
            Request::Announced(at) => (now.since(*at) > horizon).then(|| now.minus(horizon)),
        })
    }
}

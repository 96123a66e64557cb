//! The account breaker: once a provider says that no message will be taken (key, balance, plan, allow
//! list), or fails too often in a row, the lane stops asking with every job, and asks with one at a time.
//!
//! It also opens gently: before the first success only a few requests are let out at once, and each
//! success doubles how many, so that an account that refuses everything is found out with a handful of
//! jobs and not with a whole burst.

use std::time::Duration;

use crate::clock::Mono;
use crate::outcome::Outcome;
use crate::reason::Reason;

/// How many transient failures in a row open the breaker.
pub const RUN: u32 = 20;
/// The first and the longest wait before the next probe.
const PROBES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How many requests may be out before any has succeeded.
const FIRST: usize = 2;
/// So many out at once are as good as any number.
const ENOUGH: usize = 1 << 20;

/// The breaker of one lane.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    /// Transient failures since the last success.
    failures: u32,
    /// How many requests may be out.
    most_out: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { reason: Reason, probe_at: Mono, wait: Duration, probing: bool },
}

/// What a judgement changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The lane stops sending, for this reason.
    Opened(Reason),
    /// The lane sends again.
    Closed,
}

/// Whether a request may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Go,
    /// Not before an answer has come.
    WhenOneEnds,
    /// Not before this time, and then only one.
    At(Mono),
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed, failures: 0, most_out: FIRST }
    }
}

impl Breaker {
    /// Whether one more request may start while `out` are under way.
    #[must_use]
    pub fn gate(&self, out: usize, now: Mono) -> Gate {
        match self.state {
            State::Closed if out < self.most_out => Gate::Go,
            State::Closed => Gate::WhenOneEnds,
            State::Open { probing: true, .. } => Gate::WhenOneEnds,
            State::Open { probe_at, .. } if probe_at > now => Gate::At(probe_at),
            State::Open { .. } if out > 0 => Gate::WhenOneEnds,
            State::Open { .. } => Gate::Go,
        }
    }

    /// A request starts: the probe, where the breaker is open.
    pub fn started(&mut self) {
        if let State::Open { probing, .. } = &mut self.state {
            *probing = true;
        }
    }

    /// Judges how a request ended.
    pub fn judge(&mut self, outcome: &Outcome, now: Mono) -> Change {
        match outcome {
            // A refusal of one message shows that the account is served.
            Outcome::Accepted { .. } | Outcome::Permanent { .. } => self.succeeded(),
            Outcome::Account { reason } => self.fail(*reason, now),
            Outcome::Transient { reason, .. } | Outcome::Ambiguous { reason } => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= RUN || self.open_reason().is_some() {
                    self.fail(*reason, now)
                } else {
                    Change::None
                }
            }
            // The account is served, only not so fast; that is the ceiling's affair.
            Outcome::RateLimited { .. } => {
                if let State::Open { probing, .. } = &mut self.state {
                    *probing = false;
                }
                Change::None
            }
        }
    }

    /// Something changed that may have been the cause: the next probe need not wait.
    pub fn probe_now(&mut self, now: Mono) {
        if let State::Open { probe_at, wait, .. } = &mut self.state {
            (*probe_at, *wait) = (now, PROBES.0);
        }
    }

    /// Why it is open; `None` while it is closed.
    #[must_use]
    pub const fn open_reason(&self) -> Option<Reason> {
        match self.state {
            State::Closed => None,
            State::Open { reason, .. } => Some(reason),
        }
    }

    fn succeeded(&mut self) -> Change {
        self.failures = 0;
        self.most_out = self.most_out.saturating_mul(2).min(ENOUGH);
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => Change::None,
            State::Open { .. } => Change::Closed,
        }
    }

    fn fail(&mut self, reason: Reason, now: Mono) -> Change {
        self.most_out = FIRST;
        let (change, wait) = match self.state {
            State::Closed => (Change::Opened(reason), PROBES.0),
            State::Open { wait, probing: true, .. } => (Change::None, (wait * 2).min(PROBES.1)),
            // One that was under way when it opened.
            State::Open { .. } => return Change::None,
        };
        self.state = State::Open { reason, probe_at: now.plus(wait), wait, probing: false };
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Scope;

    const NOW: Mono = Mono(1_000_000_000_000);

    fn accepted() -> Outcome {
        Outcome::Accepted { message_id: None, note: None }
    }

    fn broke() -> Outcome {
        Outcome::Account { reason: Reason::InsufficientBalance }
    }

    fn after(seconds: u64) -> Mono {
        NOW.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn begins_with_few_and_doubles() {
        let mut breaker = Breaker::default();
        for most in [2, 4, 8, 16] {
            assert_eq!(breaker.gate(most - 1, NOW), Gate::Go);
            assert_eq!(breaker.gate(most, NOW), Gate::WhenOneEnds);
            breaker.judge(&accepted(), NOW);
        }
    }

    #[test]
    fn an_account_refusal_opens_it_and_one_probe_at_a_time_closes_it() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.judge(&broke(), NOW), Change::Opened(Reason::InsufficientBalance));
        assert_eq!(breaker.judge(&broke(), NOW), Change::None, "the second that was under way");
        assert_eq!(breaker.gate(0, NOW), Gate::At(after(1)));
        assert_eq!(breaker.gate(0, after(1)), Gate::Go);
        breaker.started();
        assert_eq!(breaker.gate(1, after(1)), Gate::WhenOneEnds);
        assert_eq!(breaker.judge(&broke(), after(1)), Change::None);
        assert_eq!(breaker.gate(0, after(2)), Gate::At(after(3)));
        breaker.started();
        assert_eq!(breaker.judge(&accepted(), after(3)), Change::Closed);
        assert_eq!((breaker.gate(1, after(3)), breaker.open_reason()), (Gate::Go, None));
    }

    #[test]
    fn a_new_key_is_tried_at_once() {
        let mut breaker = Breaker::default();
        breaker.probe_now(NOW);
        assert_eq!(breaker.gate(0, NOW), Gate::Go, "a closed one stays closed");
        for probe in [0, 2, 6, 14] {
            breaker.started();
            breaker.judge(&broke(), after(probe));
        }
        assert!(matches!(breaker.gate(0, after(15)), Gate::At(at) if at > after(15)));
        breaker.probe_now(after(15));
        assert_eq!(breaker.gate(0, after(15)), Gate::Go);
        breaker.started();
        assert_eq!(breaker.gate(0, after(15)), Gate::WhenOneEnds, "still one at a time");
        breaker.judge(&broke(), after(15));
        assert_eq!(breaker.gate(0, after(15)), Gate::At(after(17)));
    }

    #[test]
    fn a_run_of_failures_opens_it_and_a_refused_message_does_not_count() {
        let mut breaker = Breaker::default();
        let transient = Outcome::Transient { reason: Reason::InternalError, wait: None, possibly_sent: true };
        let permanent = Outcome::Permanent { reason: Reason::RecipientBlocked, scope: Scope::Message };
        for _ in 0..RUN - 1 {
            assert_eq!(breaker.judge(&transient, NOW), Change::None);
        }
        breaker.judge(&permanent, NOW);
        for _ in 0..RUN - 1 {
            assert_eq!(breaker.judge(&transient, NOW), Change::None);
        }
        assert_eq!(breaker.judge(&transient, NOW), Change::Opened(Reason::InternalError));
    }
}

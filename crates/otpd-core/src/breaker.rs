//! The account breaker: once a provider says that no message will be taken (key, balance, plan, allow
//! list), or fails too often in a row, the lane stops asking with every job, and asks with one at a time.
//!
//! It also opens gently: before the first success only a few requests are let out at once, and each
//! success doubles how many, so that an account that refuses everything is found out with a handful of
//! jobs and not with a whole burst. A lane that is taken over from an owner who was just served needs
//! none of that: with slow answers it would be slow for half a minute.
//!
//! A request runs with a [`Pass`], and the breaker knows its probe by that pass alone. A pass that is
//! dropped without a judgement (the request was never announced, its session was lost, its future was
//! dropped) therefore frees the probe by itself: nobody can forget to say so.
//!
//! A connection that dies fails all requests that were open on it at one moment. Where others that started later were
//! served, that is one failure, however many they are.
//!
//! An account refusal that only ever meets one job is not the account's. Each job carries what it met
//! ([`Refusals`]): once others were accepted since its last refusal, another one of the same job neither
//! opens the breaker nor counts as a probe, and [`crate::decide()`] ends the job after a few of them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::clock::Mono;
use crate::outcome::Outcome;
use crate::reason::Reason;

/// How many transient failures in a row open the breaker.
pub const RUN: u32 = 20;
/// After how many refusals that met one job alone, while others were accepted, the job is dead.
pub const REFUSED_ALONE: u8 = 3;
/// The first and the longest wait before the next probe, and before a refused job is tried again.
const PROBES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How many requests may be out before any has succeeded.
const FIRST: usize = 2;
/// Failures that are no further apart may have one cause.
const AT_ONCE: Duration = Duration::from_millis(10);
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
    /// How many requests showed that the account is served; wraps.
    successes: u32,
    /// How many requests were started, and the last of them that was served.
    started: u64,
    served: u64,
    /// The last failure that counted although a later request was served.
    overtaken_at: Option<Mono>,
}

#[derive(Debug)]
enum State {
    Closed,
    Open {
        reason: Reason,
        probe_at: Mono,
        wait: Duration,
        /// Alive as long as the pass of the probe is.
        probe: Weak<()>,
    },
}

/// A request's leave to start. Give it to [`Breaker::judge`] with what the request came to; drop it
/// where the request was never made.
#[derive(Debug)]
#[must_use = "a pass that is dropped says that its request was never made"]
pub struct Pass {
    probe: Option<Arc<()>>,
    number: u64,
}

/// The account refusals that one job has met in a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// All of them.
    met: u8,
    /// Those that came although others had been accepted since the one before.
    alone: u8,
    /// [`Breaker::successes`] at the last one.
    successes: u32,
}

impl Refusals {
    /// How many of them were the job's own: others were accepted since the one before.
    #[must_use]
    pub const fn alone(self) -> u8 {
        self.alone
    }

    /// True if the job was refused, and for all that is known because of the account.
    #[must_use]
    pub const fn may_be_the_accounts(self) -> bool {
        self.met > 0 && self.alone == 0
    }

    /// How long the job waits after the last one: longer with each.
    #[must_use]
    pub fn wait(self) -> Duration {
        let doublings = u32::from(self.met.saturating_sub(1)).min(5);
        (PROBES.0 * 2u32.pow(doublings)).min(PROBES.1)
    }

    /// Records another refusal; says whether it is the job's own.
    fn met_another(&mut self, successes: u32) -> bool {
        let own = self.met > 0 && self.successes != successes;
        self.met = self.met.saturating_add(1);
        self.alone = self.alone.saturating_add(u8::from(own));
        self.successes = successes;
        own
    }
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
        Self {
            state: State::Closed,
            failures: 0,
            most_out: FIRST,
            successes: 0,
            started: 0,
            served: 0,
            overtaken_at: None,
        }
    }
}

impl Breaker {
    /// Says whether one more request may start while `out` are under way.
    #[must_use]
    pub fn gate(&self, out: usize, now: Mono) -> Gate {
        match &self.state {
            State::Closed if out < self.most_out => Gate::Go,
            State::Closed => Gate::WhenOneEnds,
            State::Open { probe, .. } if probe.strong_count() > 0 => Gate::WhenOneEnds,
            State::Open { probe_at, .. } if *probe_at > now => Gate::At(*probe_at),
            State::Open { .. } if out > 0 => Gate::WhenOneEnds,
            State::Open { .. } => Gate::Go,
        }
    }

    /// Starts a request: the probe, where the breaker is open.
    pub fn start(&mut self) -> Pass {
        self.started += 1;
        let number = self.started;
        match &mut self.state {
            State::Closed => Pass { probe: None, number },
            State::Open { probe, .. } => {
                let alive = Arc::new(());
                *probe = Arc::downgrade(&alive);
                Pass { probe: Some(alive), number }
            }
        }
    }

    /// Opens fully at once: another owner of the lane was served a moment ago.
    pub fn trust(&mut self) {
        self.most_out = ENOUGH;
    }

    /// Judges how a request ended; `refusals` are those of its job.
    pub fn judge(&mut self, pass: Pass, outcome: &Outcome, refusals: &mut Refusals, now: Mono) -> Change {
        let is_probe = self.is_probe(&pass);
        match outcome {
            // A refusal of one message shows that the account is served.
            Outcome::Accepted { .. } | Outcome::Permanent { .. } => {
                self.served = self.served.max(pass.number);
                self.succeeded()
            }
            Outcome::Account { reason } => {
                if refusals.met_another(self.successes) {
                    self.learned_nothing(is_probe, now);
                    Change::None
                } else {
                    self.fail(*reason, is_probe, now)
                }
            }
            Outcome::Transient { .. } | Outcome::Ambiguous { .. } if self.is_counted(&pass, now) => {
                Change::None
            }
            Outcome::Transient { reason, .. } | Outcome::Ambiguous { reason } => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= RUN || self.open_reason().is_some() {
                    self.fail(*reason, is_probe, now)
                } else {
                    Change::None
                }
            }
            // Too fast is the ceiling's affair, and says neither that the account is served nor that it is not: a
            // probe that met it found out nothing.
            Outcome::RateLimited { .. } => {
                self.learned_nothing(is_probe, now);
                Change::None
            }
        }
    }

    /// Lets the next probe start at once: something changed that may have been the cause.
    pub fn probe_now(&mut self, now: Mono) {
        if let State::Open { probe_at, wait, .. } = &mut self.state {
            (*probe_at, *wait) = (now, PROBES.0);
        }
    }

    /// How many requests may be out at once, as far as successes have shown.
    #[must_use]
    pub const fn most_out(&self) -> usize {
        self.most_out
    }

    /// The reason for which it is open; `None` while it is closed.
    #[must_use]
    pub const fn open_reason(&self) -> Option<Reason> {
        match &self.state {
            State::Closed => None,
            State::Open { reason, .. } => Some(*reason),
        }
    }

    fn is_probe(&self, pass: &Pass) -> bool {
        match (&self.state, &pass.probe) {
            (State::Open { probe, .. }, Some(alive)) => std::ptr::eq(probe.as_ptr(), Arc::as_ptr(alive)),
            (State::Open { .. }, None) | (State::Closed, _) => false,
        }
    }

    /// True for a failure that came with another one that counts, where a request that started later was served: what
    /// failed them may have been their connection.
    fn is_counted(&mut self, pass: &Pass, now: Mono) -> bool {
        if pass.number > self.served {
            return false;
        }
        let is_counted = self.overtaken_at.is_some_and(|at| now.since(at) < AT_ONCE);
        if !is_counted {
            self.overtaken_at = Some(now);
        }
        is_counted
    }

    fn succeeded(&mut self) -> Change {
        self.failures = 0;
        self.successes = self.successes.wrapping_add(1);
        self.most_out = self.most_out.saturating_mul(2).min(ENOUGH);
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => Change::None,
            State::Open { .. } => Change::Closed,
        }
    }

    /// A probe met a refusal that says nothing about the account: the next one waits as long again, or the
    /// breaker would let out one after the other.
    fn learned_nothing(&mut self, is_probe: bool, now: Mono) {
        if let (true, State::Open { probe_at, wait, .. }) = (is_probe, &mut self.state) {
            *probe_at = now.plus(*wait);
        }
    }

    fn fail(&mut self, reason: Reason, is_probe: bool, now: Mono) -> Change {
        self.most_out = FIRST;
        let (change, wait) = match &self.state {
            State::Closed => (Change::Opened(reason), PROBES.0),
            State::Open { wait, .. } if is_probe => (Change::None, (*wait * 2).min(PROBES.1)),
            // One that was under way when it opened.
            State::Open { .. } => return Change::None,
        };
        self.state = State::Open { reason, probe_at: now.plus(wait), wait, probe: Weak::new() };
        change
    }
}

#[cfg(test)]
mod tests;

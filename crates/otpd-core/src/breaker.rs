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
        Self { state: State::Closed, failures: 0, most_out: FIRST, successes: 0 }
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
        match &mut self.state {
            State::Closed => Pass { probe: None },
            State::Open { probe, .. } => {
                let alive = Arc::new(());
                *probe = Arc::downgrade(&alive);
                Pass { probe: Some(alive) }
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
            Outcome::Accepted { .. } | Outcome::Permanent { .. } => self.succeeded(),
            Outcome::Account { reason } => {
                if refusals.met_another(self.successes) {
                    self.learned_nothing(is_probe, now);
                    Change::None
                } else {
                    self.fail(*reason, is_probe, now)
                }
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

    /// How a request of a job of its own ends.
    fn ends(breaker: &mut Breaker, outcome: &Outcome, now: Mono) -> Change {
        let pass = breaker.start();
        breaker.judge(pass, outcome, &mut Refusals::default(), now)
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
            ends(&mut breaker, &accepted(), NOW);
        }
    }

    #[test]
    fn an_account_refusal_opens_it_and_one_probe_at_a_time_closes_it() {
        let mut breaker = Breaker::default();
        let (first, second) = (breaker.start(), breaker.start());
        let opened = breaker.judge(first, &broke(), &mut Refusals::default(), NOW);
        assert_eq!(opened, Change::Opened(Reason::InsufficientBalance));
        let late = breaker.judge(second, &broke(), &mut Refusals::default(), NOW);
        assert_eq!(late, Change::None, "the second that was under way");
        assert_eq!(breaker.gate(0, NOW), Gate::At(after(1)));
        assert_eq!(breaker.gate(0, after(1)), Gate::Go);
        let probe = breaker.start();
        assert_eq!(breaker.gate(1, after(1)), Gate::WhenOneEnds);
        assert_eq!(breaker.judge(probe, &broke(), &mut Refusals::default(), after(1)), Change::None);
        assert_eq!(breaker.gate(0, after(2)), Gate::At(after(3)));
        assert_eq!(ends(&mut breaker, &accepted(), after(3)), Change::Closed);
        assert_eq!((breaker.gate(1, after(3)), breaker.open_reason()), (Gate::Go, None));
    }

    #[test]
    fn a_probe_that_was_never_sent_is_not_under_way() {
        let mut breaker = Breaker::default();
        ends(&mut breaker, &broke(), NOW);
        let probe = breaker.start();
        assert_eq!(breaker.gate(1, after(1)), Gate::WhenOneEnds);
        drop(probe);
        assert_eq!(breaker.gate(0, after(1)), Gate::Go);
        let probe = breaker.start();
        let limited =
            Outcome::RateLimited { reason: Reason::RatePair, scope: Scope::Pair, wait: None, limit: None };
        assert_eq!(breaker.judge(probe, &limited, &mut Refusals::default(), after(1)), Change::None);
        assert_eq!(breaker.gate(0, after(1)), Gate::At(after(2)), "it learned nothing");
    }

    #[test]
    fn a_pass_of_before_is_no_probe() {
        let mut breaker = Breaker::default();
        let early = breaker.start();
        ends(&mut breaker, &broke(), NOW);
        let probe = breaker.start();
        assert_eq!(breaker.judge(early, &broke(), &mut Refusals::default(), after(1)), Change::None);
        assert_eq!(breaker.gate(0, after(9)), Gate::WhenOneEnds, "the probe is still under way");
        breaker.judge(probe, &broke(), &mut Refusals::default(), after(9));
        assert_eq!(breaker.gate(0, after(9)), Gate::At(after(11)));
    }

    #[test]
    fn what_only_ever_meets_one_job_is_not_the_accounts() {
        let mut breaker = Breaker::default();
        let mut refusals = Refusals::default();
        let mut refuse = |breaker: &mut Breaker, now| {
            let pass = breaker.start();
            let change = breaker.judge(pass, &broke(), &mut refusals, now);
            (change, refusals.alone(), refusals.wait().as_secs())
        };
        assert_eq!(refuse(&mut breaker, NOW), (Change::Opened(Reason::InsufficientBalance), 0, 1));
        assert_eq!(refuse(&mut breaker, after(1)), (Change::None, 0, 2), "nobody was accepted meanwhile");
        assert_eq!(ends(&mut breaker, &accepted(), after(3)), Change::Closed);
        assert_eq!(refuse(&mut breaker, after(4)), (Change::None, 1, 4));
        assert_eq!(breaker.open_reason(), None);
        assert_eq!(refuse(&mut breaker, after(8)), (Change::Opened(Reason::InsufficientBalance), 1, 8));
        assert_eq!(ends(&mut breaker, &accepted(), after(9)), Change::Closed);
        assert_eq!(refuse(&mut breaker, after(16)), (Change::None, 2, 16));
        ends(&mut breaker, &accepted(), after(17));
        assert_eq!(refuse(&mut breaker, after(32)), (Change::None, 3, 30));
    }

    #[test]
    fn a_new_key_is_tried_at_once() {
        let mut breaker = Breaker::default();
        breaker.probe_now(NOW);
        assert_eq!(breaker.gate(0, NOW), Gate::Go, "a closed one stays closed");
        for probe in [0, 2, 6, 14] {
            ends(&mut breaker, &broke(), after(probe));
        }
        assert!(matches!(breaker.gate(0, after(15)), Gate::At(at) if at > after(15)));
        breaker.probe_now(after(15));
        assert_eq!(breaker.gate(0, after(15)), Gate::Go);
        let probe = breaker.start();
        assert_eq!(breaker.gate(0, after(15)), Gate::WhenOneEnds, "still one at a time");
        breaker.judge(probe, &broke(), &mut Refusals::default(), after(15));
        assert_eq!(breaker.gate(0, after(15)), Gate::At(after(17)));
    }

    #[test]
    fn a_run_of_failures_opens_it_and_a_refused_message_does_not_count() {
        let mut breaker = Breaker::default();
        let transient = Outcome::Transient { reason: Reason::InternalError, wait: None, possibly_sent: true };
        let permanent = Outcome::Permanent { reason: Reason::RecipientBlocked, scope: Scope::Message };
        for _ in 0..RUN - 1 {
            assert_eq!(ends(&mut breaker, &transient, NOW), Change::None);
        }
        ends(&mut breaker, &permanent, NOW);
        for _ in 0..RUN - 1 {
            assert_eq!(ends(&mut breaker, &transient, NOW), Change::None);
        }
        assert_eq!(ends(&mut breaker, &transient, NOW), Change::Opened(Reason::InternalError));
    }
}

//! One account at one provider: its limits, its balance, and the book of everything that arrived.
//!
//! [`Account::book`] decides the fate of a request in the order a real provider does: who is it, is it
//! too much, is it valid; then whatever fault is due; then balance; then it is sent. One short lock per
//! account; answers are built outside it. Every arrival is booked before anything is decided, refused
//! ones too: what otpd promises is about requests started, not about requests accepted.
//!
//! Everything kept is bounded. Where a bound makes a number a lower bound, the statistics say so. What it tells of
//! messages afterwards is in `telling`.

mod telling;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use otpd_core::Phone;

use super::callbacks::journey::Journey;
use super::contract::Message;
use super::control::{Balance, Control};
use super::fault::{Effect, Fares, Fault};
use super::kind::Kind;
use super::outbox::{Outbox, Sent, fingerprint, hash};
use super::settings::{Proof, Settings};
use super::stats::{AccountStats, CallbackStats, WindowStats};
use super::window::{Arrivals, Full, Limits};
use crate::chance::Chance;

/// The most phones whose attempts are counted.
const MAX_PHONES: usize = 1 << 20;
/// The label of what proved no account.
pub(crate) const NOBODY: &str = "-";
/// Windows that are watched whatever the limits are.
const ALWAYS_WATCHED: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// An account.
pub(crate) struct Account {
    pub(crate) kind: Kind,
    /// Its name, masked where the name is a secret.
    pub(crate) label: Box<str>,
    /// What its draws and message ids depend on.
    origin: u64,
    seed: u64,
    kept: usize,
    state: Mutex<State>,
}

struct State {
    settings: Settings,
    limits: Limits,
    /// Those that the account is not told of.
    hidden: Limits,
    arrivals: Arrivals,
    attempts: HashMap<Phone, u32>,
    outbox: Outbox,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    callbacks: CallbackStats,
    attempts: u64,
    answers: BTreeMap<u16, u64>,
    resets: u64,
    stalls: u64,
    lookups: u64,
}

/// What becomes of a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Fate {
    Unauthorised,
    TooMany(Full),
    Invalid,
    /// A fault; the number is that of the message, where it was sent all the same.
    Fault(Fault, Option<u64>),
    OutOfBalance,
    Sent(u64),
}

impl Fate {
    /// The number of the message, where it was sent.
    pub(crate) const fn sent(&self) -> Option<u64> {
        match self {
            Self::Sent(number) => Some(*number),
            Self::Fault(_, number) => *number,
            Self::Unauthorised | Self::TooMany(_) | Self::Invalid | Self::OutOfBalance => None,
        }
    }
}

/// How a request ended for the client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Answered(u16),
    Reset,
    Stalled,
}

impl Account {
    pub(crate) fn new(kind: Kind, name: &str, settings: Settings, seed: u64, kept: usize) -> Self {
        let origin = hash(&(kind, name));
        let state = State {
            limits: Limits::default(),
            hidden: Limits::default(),
            arrivals: Arrivals::new(kept, ALWAYS_WATCHED),
            attempts: HashMap::new(),
            outbox: Outbox::default(),
            counts: Counts::default(),
            settings,
        };
        let account = Self { kind, label: label(kind, name), origin, seed, kept, state: Mutex::new(state) };
        account.lock().settle_limits();
        account
    }

    /// The account under which a kind books what proved no account.
    pub(crate) fn nobody(kind: Kind, seed: u64, kept: usize) -> Self {
        Self { label: NOBODY.into(), ..Self::new(kind, NOBODY, Settings::default(), seed, kept) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the state half changed in a way that matters to a mock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self, control: &Control) {
        let mut state = self.lock();
        state.settings.change(control);
        state.settle_limits();
    }

    /// Whether a request with this proof is this account's.
    pub(crate) fn is_proven(&self, proof: Proof<'_>) -> bool {
        self.lock().settings.is_proven(proof)
    }

    /// Books a request that arrived `at` (nanoseconds since the mock started) and decides its fate, and
    /// how long its answer takes. `message` is `None` where the request breaks the contract.
    pub(crate) fn book(&self, at: u64, proof: Proof<'_>, message: Option<&Message<'_>>) -> (Fate, Duration) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.counts.attempts += 1;
        state.arrivals.push(at);
        if !state.settings.is_proven(proof) {
            return (Fate::Unauthorised, Duration::ZERO);
        }
        let by_time = || Chance::of(&[self.seed, self.origin, at]);
        if !state.hidden_admit(at) {
            let wordless = Fault { effect: Effect::Wordless, message: Fares::NotSent };
            return (Fate::Fault(wordless, None), state.settings.latency.draw(&mut by_time()));
        }
        match (state.limits.admit(at), message) {
            (Err(full), _) => (Fate::TooMany(full), state.settings.latency.draw(&mut by_time())),
            (Ok(()), None) => (Fate::Invalid, state.settings.latency.draw(&mut by_time())),
            (Ok(()), Some(message)) => {
                let attempt = state.attempt(message.phone);
                // Without a count of its own, a phone's attempts differ by when they are made.
                let nth = attempt.map_or(at, u64::from);
                let mut chance = Chance::of(&[self.seed, self.origin, hash(&message.phone), nth]);
                let fault = state.fault(message.phone, attempt, chance.share());
                let latency = state.settings.latency.draw(&mut chance);
                (state.send(self, message, at, fault), latency)
            }
        }
    }

    /// Books how a request ended.
    pub(crate) fn ended(&self, ending: Ending) {
        let counts = &mut self.lock().counts;
        match ending {
            Ending::Answered(status) => *counts.answers.entry(status).or_default() += 1,
            Ending::Reset => counts.resets += 1,
            Ending::Stalled => counts.stalls += 1,
        }
    }

    /// What its message ids depend on.
    pub(crate) const fn origin(&self) -> u64 {
        self.origin
    }

    /// Shows the remembered messages, oldest first and with rising numbers, to `look`.
    pub(crate) fn messages<T>(&self, look: impl FnOnce(&VecDeque<Sent>) -> T) -> T {
        look(self.lock().outbox.last())
    }

    /// Books a look-up of what was sent.
    pub(crate) fn looked_up(&self) {
        self.lock().counts.lookups += 1;
    }

    /// The last `limit` arrivals, oldest first, in microseconds since the mock started.
    pub(crate) fn arrivals(&self, limit: usize) -> Vec<u64> {
        let state = self.lock();
        let times = state.arrivals.times();
        let skipped = times.len().saturating_sub(limit);
        times.skip(skipped).map(|ns| ns / 1000).collect()
    }

    /// Forgets what was counted and sent. What is true of the account stays: its settings, its balance,
    /// and how full its limits are.
    pub(crate) fn reset_stats(&self) {
        let mut state = self.lock();
        state.counts = Counts::default();
        state.arrivals = Arrivals::new(self.kept, ALWAYS_WATCHED);
        state.attempts.clear();
        state.outbox.clear();
        state.settle_limits();
    }

    pub(crate) fn stats(&self) -> AccountStats {
        let state = self.lock();
        let counts = &state.counts;
        let limit = |width: Duration| state.limits.rates().filter(|r| r.per == width).map(|r| r.count).min();
        let us = |ns: u64| ns / 1000;
        AccountStats {
            kind: self.kind,
            account: self.label.to_string(),
            attempts: counts.attempts,
            accepted: state.outbox.count,
            duplicates: state.outbox.duplicates,
            answers: counts.answers.clone(),
            resets: counts.resets,
            stalls: counts.stalls,
            lookups: counts.lookups,
            callbacks: counts.callbacks.clone(),
            balance: match state.settings.balance {
                Balance::Unlimited => None,
                Balance::Left(left) => Some(left),
            },
            first_arrival_us: state.arrivals.times().next().map(us),
            last_arrival_us: state.arrivals.times().next_back().map(us),
            windows: state
                .arrivals
                .fullest()
                .map(|f| WindowStats {
                    window_us: u64::try_from(f.width.as_micros()).unwrap_or(u64::MAX),
                    most: f.most,
                    limit: limit(f.width),
                    exact: f.exact,
                })
                .collect(),
            exact: !state.outbox.overflowed,
        }
    }
}

impl State {
    /// Brings limits and watched windows in line with the settings.
    fn settle_limits(&mut self) {
        self.limits.set(&self.settings.ceilings);
        for rate in &self.settings.ceilings {
            self.arrivals.watch(rate.per);
        }
    }

    /// Whether a request is within the limits that the account is not told of.
    fn hidden_admit(&mut self, at: u64) -> bool {
        let limits = self.settings.faults.as_ref().map(|plan| plan.hidden_limits(at)).unwrap_or_default();
        if !self.hidden.rates().eq(limits.iter().copied()) {
            self.hidden.set(&limits);
        }
        self.hidden.admit(at).is_ok()
    }

    /// The how-many-eth request for this phone that is valid and within the limits; `None` once too
    /// many phones are known to count another.
    fn attempt(&mut self, phone: Phone) -> Option<u32> {
        if self.attempts.len() >= MAX_PHONES && !self.attempts.contains_key(&phone) {
            return None;
        }
        let attempts = self.attempts.entry(phone).or_default();
        *attempts = attempts.saturating_add(1);
        Some(*attempts)
    }

    fn fault(&self, phone: Phone, attempt: Option<u32>, share: f64) -> Option<Fault> {
        self.settings.faults.as_ref()?.fault(phone, attempt.unwrap_or(u32::MAX), share)
    }

    fn send(&mut self, account: &Account, message: &Message<'_>, at: u64, fault: Option<Fault>) -> Fate {
        if let Some(fault) = fault
            && fault.message == Fares::NotSent
        {
            return Fate::Fault(fault, None);
        }
        match &mut self.settings.balance {
            Balance::Unlimited => {}
            Balance::Left(0) => return Fate::OutOfBalance,
            Balance::Left(left) => *left -= 1,
        }
        let fingerprint = fingerprint(account.seed, message.phone, &message.code);
        let text = (account.kind == Kind::Betatel).then(|| message.code.as_ref().into());
        let mut fate = account.fate(fingerprint, telling::BECOMES);
        let calling = self.settings.calling.as_ref();
        let journey = calling.map_or(Journey::ONLY_SENT, |calling| Journey::draw(calling, &mut fate));
        let number =
            self.outbox.put(Sent { number: 0, at, phone: message.phone, fingerprint, text, journey });
        fault.map_or(Fate::Sent(number), |fault| Fate::Fault(fault, Some(number)))
    }
}

/// An account's name as statistics show it: Msgai's is its key, so only the end of that is shown.
fn label(kind: Kind, name: &str) -> Box<str> {
    match kind {
        Kind::Msgai => {
            let end = name.char_indices().rev().nth(3).map_or(0, |(at, _)| at);
            format!("sk_live_***{}", name.get(end..).unwrap_or_default()).into()
        }
        Kind::OneMsg | Kind::MetaCloud | Kind::MetaOnprem | Kind::Verihubs | Kind::Betatel => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::fault::FaultPlan;

    fn message(phone: &str) -> Message<'static> {
        Message {
            phone: Phone::parse(phone).unwrap(),
            to: "".into(),
            code: "482910".into(),
            echo: None,
            callback_url: None,
        }
    }

    fn account(control: &Control) -> Account {
        let account = Account::new(control.kind, "a", Settings::default(), 1, 1000);
        account.change(control);
        account
    }

    #[test]
    fn the_order_of_decisions() {
        let plan: FaultPlan = "verihubs:500=to:*500,502+sent=to:*502".parse().unwrap();
        let account = account(&Control {
            secret: Some("right".into()),
            ceilings: Some(vec!["5/s".parse().unwrap()]),
            balance: Some(Balance::Left(2)),
            ..Control::faults(plan)
        });
        let (right, wrong) = (Proof::Secret("right"), Proof::Secret("wrong"));
        let (ok, fails, fails_after) =
            (message("628123456000"), message("628123456500"), message("628123456502"));
        let fate = |proof, message| account.book(0, proof, message).0;
        assert_eq!(fate(wrong, Some(&ok)), Fate::Unauthorised);
        assert_eq!(fate(Proof::Nothing, None), Fate::Unauthorised);
        assert_eq!(fate(right, None), Fate::Invalid);
        assert!(matches!(fate(right, Some(&fails)), Fate::Fault(_, None)));
        assert!(matches!(
            fate(right, Some(&fails_after)),
            Fate::Fault(Fault { effect: Effect::Failed { .. }, .. }, Some(0))
        ));
        assert_eq!(fate(right, Some(&ok)), Fate::Sent(1));
        assert_eq!(fate(right, Some(&ok)), Fate::OutOfBalance);
        assert!(matches!(fate(right, Some(&ok)), Fate::TooMany(_)));
        assert!(matches!(fate(right, None), Fate::TooMany(_)), "a limit counts whatever is in the request");
        let stats = account.stats();
        assert_eq!((stats.attempts, stats.accepted, stats.balance), (9, 2, Some(0)));
        assert!(stats.windows.iter().all(|w| w.most == 9), "refused arrivals count too");
    }

    #[test]
    fn a_limit_that_nobody_is_told_of_holds_in_every_second_stretch() {
        let plan: FaultPlan = "msgai:limit(2/s)=every:10s,limit(5/s)=always".parse().unwrap();
        let account = account(&Control::faults(plan));
        let second = 1_000_000_000;
        for (at, taken) in [(0, 2), (5, 2), (12, 5), (25, 2)] {
            let fates =
                (0..9).map(|_| account.book(at * second, Proof::Session, Some(&message("628123456000"))).0);
            let wordless = Fault { effect: Effect::Wordless, message: Fares::NotSent };
            let (sent, refused): (Vec<_>, Vec<_>) = fates.partition(|fate| matches!(fate, Fate::Sent(_)));
            assert!(refused.iter().all(|fate| *fate == Fate::Fault(wordless, None)), "{refused:?}");
            assert_eq!(sent.len(), taken, "{at} s");
        }
    }

    #[test]
    fn the_same_code_to_the_same_phone_is_a_duplicate() {
        let account = account(&Control::of(Kind::Verihubs));
        for (phone, code) in [
            ("628123456000", "1111"),
            ("628123456001", "1111"),
            ("628123456000", "2222"),
            ("628123456000", "1111"),
        ] {
            let message = Message { code: code.into(), ..message(phone) };
            assert!(matches!(account.book(0, Proof::Session, Some(&message)).0, Fate::Sent(_)));
        }
        assert_eq!((account.stats().accepted, account.stats().duplicates), (4, 1));
    }

    #[test]
    fn an_attempt_meets_the_same_fate_in_every_order() {
        let plan: FaultPlan = "verihubs:500=50%".parse().unwrap();
        let phones: Vec<String> = (0..40).map(|i| format!("6281234560{i:02}")).collect();
        let fates = |order: &mut dyn Iterator<Item = &String>| {
            let account = account(&Control::faults(plan.clone()));
            let mut fates = BTreeMap::new();
            for (at, phone) in order.enumerate() {
                let (fate, _) = account.book(at as u64, Proof::Session, Some(&message(phone)));
                fates.entry(phone.clone()).or_insert_with(Vec::new).push(matches!(fate, Fate::Sent(_)));
            }
            fates
        };
        let once = fates(&mut phones.iter().chain(&phones));
        assert_eq!(once, fates(&mut phones.iter().rev().chain(&phones)));
        assert!(once.values().any(|f| f[0] != f[1]), "the second attempt is drawn anew");
    }

    #[test]
    fn a_reset_forgets_what_was_counted_and_keeps_what_is() {
        let account = account(&Control {
            ceilings: Some(vec!["1/min".parse().unwrap()]),
            balance: Some(Balance::Left(9)),
            ..Control::of(Kind::Verihubs)
        });
        assert_eq!(account.book(0, Proof::Session, Some(&message("628123456000"))).0, Fate::Sent(0));
        account.reset_stats();
        let stats = account.stats();
        assert_eq!((stats.attempts, stats.accepted, stats.balance), (0, 0, Some(8)));
        assert!(stats.windows.iter().all(|w| w.most == 0 && w.exact));
        assert!(matches!(
            account.book(1, Proof::Session, Some(&message("628123456000"))).0,
            Fate::TooMany(_)
        ));
    }

    #[test]
    fn a_key_is_not_shown_as_a_name() {
        assert_eq!(&*label(Kind::Msgai, "sk_live_0123456789"), "sk_live_***6789");
        assert_eq!(&*label(Kind::Verihubs, "app-1"), "app-1");
    }
}

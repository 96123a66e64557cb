//! When callbacks leave: one queue by time for all accounts, and one task that takes from it.
//!
//! Bounded: so many callbacks wait (one that finds no room is dropped and counted), so many are under way, and one
//! that is not answered with success comes again only where the provider documents that, and only so often.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use otpd_core::clock::nanos;
use otpd_core::{Phone, UnixMs};
use tokio::sync::{Notify, Semaphore, oneshot};

use super::journey::{News, Telling};
use super::post::{Ended, Lines};
use super::report::Report;
use super::settings::{Address, CallTo, Calling};
use crate::mock::account::Account;
use crate::mock::world::World;

/// The most callbacks that wait, of all accounts.
const MAX_WAITING: usize = 300_000;
/// The most requests under way.
const MAX_UNDER_WAY: usize = 64;
/// How often a callback is sent at most, where it is repeated at all.
const MAX_TRIES: u32 = 12;
/// The wait before the second try; it doubles from try to try.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// The callbacks that wait.
#[derive(Default)]
pub(crate) struct Caller {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    /// By when they are due, in nanoseconds since the mock started, and in which order they came.
    due: BTreeMap<(u64, u64), Call>,
    next: u64,
}

/// A callback.
struct Call {
    letter: Arc<Letter>,
    news: News,
    tries: u32,
    /// Who waits for its answer.
    answered: Option<oneshot::Sender<()>>,
}

/// The message that callbacks are about.
pub(crate) struct Letter {
    pub(crate) account: Arc<Account>,
    pub(crate) id: String,
    pub(crate) to: Phone,
    pub(crate) taken_at: UnixMs,
    pub(crate) echo: Option<Box<str>>,
    pub(crate) text: Box<str>,
    pub(crate) address: Address,
    pub(crate) secret: Option<Box<str>>,
}

impl Caller {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in all that is to be told of a message whose request is answered at `at`. Where the first of it comes
    /// before that, gives what ends when it was answered.
    pub(crate) fn tell(&self, letter: Letter, telling: &Telling, at: u64) -> Option<oneshot::Receiver<()>> {
        let letter = Arc::new(letter);
        let (mut answered, early) = if telling.is_early { Some(oneshot::channel()) } else { None }.unzip();
        for news in &telling.news {
            let call = Call { letter: letter.clone(), news: *news, tries: 0, answered: answered.take() };
            let due = if call.answered.is_some() { 0 } else { at.saturating_add(nanos(news.after)) };
            self.put(call, due);
        }
        early
    }

    fn put(&self, call: Call, at: u64) {
        let mut waiting = self.lock();
        if waiting.due.len() >= MAX_WAITING {
            drop(waiting);
            call.letter.account.dropped_a_callback();
            return;
        }
        call.letter.account.callback_waits();
        let number = waiting.next;
        waiting.next += 1;
        let is_first = waiting.due.first_key_value().is_none_or(|((first, _), _)| at < *first);
        waiting.due.insert((at, number), call);
        drop(waiting);
        if is_first {
            self.news.notify_one();
        }
    }

    /// What one request tells of what is due `now`; else when the next is due, if there is one.
    fn take(&self, now: u64) -> Result<Vec<Call>, Option<u64>> {
        let mut waiting = self.lock();
        let mut calls: Vec<Call> = Vec::new();
        while let Some(entry) = waiting.due.first_entry() {
            let due = entry.key().0;
            if due > now {
                return if calls.is_empty() { Err(Some(due)) } else { Ok(calls) };
            }
            let is_together = calls.first().is_none_or(|first| first.letter.goes_with(&entry.get().letter));
            let most = entry.get().letter.account.kind.contract().callbacks().at_once;
            if !is_together || calls.len() >= most {
                return Ok(calls);
            }
            calls.push(entry.remove());
        }
        if calls.is_empty() { Err(None) } else { Ok(calls) }
    }
}

impl Letter {
    /// Whether one request can tell of both.
    fn goes_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.account, &other.account)
            && self.address == other.address
            && self.secret == other.secret
    }
}

/// Sends what is due until the mock ends.
pub(crate) async fn run(world: Arc<World>) {
    let (under_way, lines) = (Arc::new(Semaphore::new(MAX_UNDER_WAY)), Arc::new(Lines::default()));
    let work = async {
        loop {
            let Ok(permit) = under_way.clone().acquire_owned().await else { return };
            match world.caller.take(world.now()) {
                Ok(calls) => {
                    let (world, lines) = (world.clone(), lines.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = send(&world, &lines, calls) => {}
                            () = world.ending.cancelled() => {}
                        }
                        drop(permit);
                    });
                }
                Err(Some(due)) => {
                    let left = Duration::from_nanos(due.saturating_sub(world.now()));
                    let _ = tokio::time::timeout(left, world.caller.news.notified()).await;
                }
                Err(None) => world.caller.news.notified().await,
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = world.ending.cancelled() => {}
    }
}

/// Makes one request of these calls, which go together, and books its end.
async fn send(world: &World, lines: &Lines, calls: Vec<Call>) {
    let Some(letter) = calls.first().map(|call| call.letter.clone()) else { return };
    let contract = letter.account.kind.contract();
    let reports: Vec<Report<'_>> = calls.iter().map(Call::report).collect();
    let posted = contract.callback(&letter.account.label, &reports, letter.secret.as_deref());
    let count = reports.len() as u64;
    let is_again = calls.iter().any(|call| call.tries > 0);
    let ended = lines.send(&letter.address, posted).await;
    letter.account.called_back(ended, count, is_again);
    let is_repeated = contract.callbacks().are_repeated && ended != Ended::Taken;
    for mut call in calls {
        // Who waits for it waits no longer, whatever came of it.
        drop(call.answered.take());
        call.tries += 1;
        if is_repeated && call.tries < MAX_TRIES {
            let wait = FIRST_WAIT.saturating_mul(1 << call.tries.min(20));
            world.caller.put(call, world.now().saturating_add(nanos(wait)));
        }
    }
}

impl Call {
    fn report(&self) -> Report<'_> {
        let letter = &self.letter;
        Report {
            id: &letter.id,
            to: letter.to,
            step: self.news.step,
            taken_at: letter.taken_at,
            at: letter.taken_at.plus(self.news.reached),
            echo: letter.echo.as_deref(),
            text: &letter.text,
        }
    }
}

/// Where callbacks about a message go: to the address in its request, else to the account's. `None` for nowhere.
pub(crate) fn address(calling: &Calling, asked: Option<&str>) -> Option<Address> {
    match (&calling.to, asked) {
        (CallTo::Nowhere, _) => None,
        (CallTo::Address(own), None) => Some(own.clone()),
        (CallTo::Address(_), Some(asked)) => asked.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::callbacks::journey::Step;
    use crate::mock::kind::Kind;
    use crate::mock::settings::Settings;

    fn letter(account: &Arc<Account>, path: &str) -> Letter {
        Letter {
            account: account.clone(),
            id: "id".into(),
            to: Phone::parse("628123456000").unwrap(),
            taken_at: UnixMs(0),
            echo: None,
            text: "482910".into(),
            address: format!("http://127.0.0.1:9/{path}").parse().unwrap(),
            secret: None,
        }
    }

    fn telling(count: usize, after: Duration) -> Telling {
        Telling { news: vec![News { step: Step::Sent, reached: after, after }; count], is_early: false }
    }

    fn account(kind: Kind) -> Arc<Account> {
        Arc::new(Account::new(kind, "a", Settings::default(), 1, 10))
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let (caller, account) = (Caller::default(), account(Kind::Verihubs));
        for _ in 0..MAX_WAITING / 1000 + 1 {
            caller.tell(letter(&account, ""), &telling(1000, Duration::from_secs(1)), 0);
        }
        let callbacks = account.stats().callbacks;
        assert_eq!((callbacks.waiting, callbacks.dropped), (MAX_WAITING as u64, 1000));
        assert_eq!(caller.lock().due.len(), MAX_WAITING);
    }

    #[test]
    fn what_goes_together_goes_in_one_request() {
        for (kind, path, sizes) in [
            (Kind::MetaCloud, "a", &[20, 5][..]),
            (Kind::OneMsg, "a", &[10, 10, 5]),
            (Kind::Msgai, "a", &[1; 25]),
            (Kind::MetaCloud, "b", &[12, 13]),
        ] {
            let (caller, account) = (Caller::default(), account(kind));
            caller.tell(letter(&account, "a"), &telling(12, Duration::ZERO), 7);
            caller.tell(letter(&account, path), &telling(13, Duration::ZERO), 7);
            assert_eq!(caller.take(6).err(), Some(Some(7)));
            let taken: Vec<usize> = std::iter::from_fn(|| Some(caller.take(7).ok()?.len())).collect();
            assert_eq!(taken, sizes, "{kind} {path}");
            assert_eq!(caller.take(7).err(), Some(None));
        }
    }
}

//! All accounts of all kinds, and the clock they share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use otpd_core::UnixMs;
use otpd_core::clock::nanos;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::account::{Account, NOBODY};
use super::callbacks::caller::{Caller, Letter};
use super::contract::{Call, Credential, Message};
use super::control::{Accounts, Control};
use super::kind::{Kind, PerKind};
use super::kinds::meta_onprem::Login;
use super::outbox::Sent;
use super::reply::Reply;
use super::sessions::Sessions;
use super::settings::{Proof, Settings};
use super::stats::{SentMessage, Stats};
use super::{MAX_ACCOUNTS, MockConfig};

/// The mock's whole state.
pub(crate) struct World {
    seed: u64,
    pub(crate) started: Instant,
    started_at: UnixMs,
    kept: usize,
    token_ttl: Duration,
    kinds: PerKind<Accounting>,
    sessions: Sessions,
    pub(crate) strays: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) ending: CancellationToken,
    pub(crate) caller: Caller,
}

/// The accounts of one kind.
struct Accounting {
    newcomers: Mutex<(Settings, Accounts)>,
    by_name: RwLock<HashMap<Box<str>, Arc<Account>>>,
    /// Books what proved no account.
    nobody: Arc<Account>,
}

/// Who a request comes from, as far as it says.
pub(crate) struct Sender<'a> {
    pub(crate) account: Arc<Account>,
    pub(crate) proof: Proof<'a>,
    /// The answer, where it does not even say.
    pub(crate) refusal: Option<Reply>,
}

impl World {
    pub(crate) fn new(config: &MockConfig) -> Self {
        let (seed, kept) = (config.seed, config.arrivals_kept);
        let world = Self {
            seed,
            started: Instant::now(),
            started_at: wall_clock(),
            kept,
            token_ttl: config.token_ttl,
            kinds: PerKind::new(|kind| Accounting {
                newcomers: Mutex::default(),
                by_name: RwLock::default(),
                nobody: Arc::new(Account::nobody(kind, seed, kept)),
            }),
            sessions: Sessions::default(),
            strays: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            ending: CancellationToken::new(),
            caller: Caller::default(),
        };
        for control in &config.setup {
            world.control(control);
        }
        world
    }

    /// Nanoseconds since the mock started.
    pub(crate) fn now(&self) -> u64 {
        nanos(self.started.elapsed())
    }

    /// A time of this clock on the wall.
    pub(crate) fn wall(&self, at: u64) -> UnixMs {
        self.started_at.plus(Duration::from_nanos(at))
    }

    /// The account with this name; makes it where whoever comes may send.
    fn account(&self, kind: Kind, name: &str, named_by_control: bool) -> Option<Arc<Account>> {
        let accounting = self.kinds.of(kind);
        let known = accounting.by_name.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if known.is_some() {
            return known;
        }
        let mut by_name = accounting.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let newcomers = accounting.newcomers.lock().unwrap_or_else(PoisonError::into_inner);
        if by_name.len() >= MAX_ACCOUNTS || (newcomers.1 == Accounts::Known && !named_by_control) {
            return by_name.get(name).cloned();
        }
        let fresh = || Arc::new(Account::new(kind, name, newcomers.0.clone(), self.seed, self.kept));
        Some(by_name.entry(name.into()).or_insert_with(fresh).clone())
    }

    /// Who sends this request.
    pub(crate) fn sender<'a>(&self, kind: Kind, call: &Call<'a>, at: u64) -> Sender<'a> {
        let nobody =
            |refusal| Sender { account: self.kinds.of(kind).nobody.clone(), proof: Proof::Nothing, refusal };
        match kind.contract().credential(call) {
            Err(refusal) => nobody(Some(refusal)),
            Ok(Credential::Account { name, secret }) => match self.account(kind, name, false) {
                Some(account) => Sender { account, proof: Proof::Secret(secret), refusal: None },
                None => nobody(None),
            },
            Ok(Credential::Session(token)) => {
                let user = self.sessions.user(token, at);
                match user.and_then(|user| self.account(kind, &user, false)) {
                    Some(account) => Sender { account, proof: Proof::Session, refusal: None },
                    None => nobody(None),
                }
            }
        }
    }

    /// Opens a session (Meta on-premises).
    pub(crate) fn login(&self, login: &Login, at: u64) -> Reply {
        let account = self.account(Kind::MetaOnprem, &login.user, false);
        match account.filter(|account| account.is_proven(Proof::Secret(&login.password))) {
            None => Login::refused(),
            Some(account) => {
                account.looked_up();
                let until = at.saturating_add(nanos(self.token_ttl));
                let token = self.sessions.open(&login.user, self.id_origin(&account), at, until);
                Login::granted(&token, self.wall(until))
            }
        }
    }

    /// The provider's id of a message.
    pub(crate) fn message_id(&self, account: &Account, number: u64) -> String {
        account.kind.contract().message_id(self.id_origin(account), number)
    }

    /// Puts in the callbacks about a message that was taken at `at`, whose request is answered so much later. Where
    /// the first of them comes before the answer, gives what ends when that was answered.
    pub(crate) fn tell(
        &self,
        account: &Arc<Account>,
        number: u64,
        message: &Message<'_>,
        (at, latency): (u64, Duration),
    ) -> Option<oneshot::Receiver<()>> {
        let (telling, address, secret) = account.tells(number, message)?;
        let letter = Letter {
            account: account.clone(),
            id: self.message_id(account, number),
            to: message.phone,
            taken_at: self.wall(at),
            echo: message.echo.as_deref().map(Into::into),
            text: message.code.as_ref().into(),
            address,
            secret,
        };
        self.caller.tell(letter, &telling, at.saturating_add(nanos(latency)))
    }

    /// Ids differ between accounts and between runs.
    fn id_origin(&self, account: &Account) -> u64 {
        account.origin() ^ self.started_at.0
    }

    /// Carries out a control.
    pub(crate) fn control(&self, control: &Control) {
        let accounting = self.kinds.of(control.kind);
        if let Some(name) = &control.account {
            // `None` only where there are too many accounts already, which the stats show.
            if let Some(account) = self.account(control.kind, name, true) {
                account.change(control);
            }
        } else {
            let by_name = accounting.by_name.write().unwrap_or_else(PoisonError::into_inner);
            accounting.newcomers.lock().unwrap_or_else(PoisonError::into_inner).0.change(control);
            by_name.values().for_each(|account| account.change(control));
        }
        if let Some(accounts) = control.accounts {
            accounting.newcomers.lock().unwrap_or_else(PoisonError::into_inner).1 = accounts;
        }
        if control.expire_tokens {
            self.sessions.end_all();
        }
    }

    /// The accounts of `kind` (of every kind without one) whose label is `name` (any without one), in order.
    pub(crate) fn accounts(&self, kind: Option<Kind>, name: Option<&str>) -> Vec<Arc<Account>> {
        let mut all = Vec::new();
        for each in Kind::ALL.into_iter().filter(|each| kind.is_none_or(|kind| kind == *each)) {
            let accounting = self.kinds.of(each);
            let by_name = accounting.by_name.read().unwrap_or_else(PoisonError::into_inner);
            let mut of_kind: Vec<_> = by_name.values().cloned().collect();
            of_kind.sort_unstable_by(|a, b| a.label.cmp(&b.label));
            all.append(&mut of_kind);
            all.push(accounting.nobody.clone());
        }
        all.retain(|account| name.is_none_or(|name| *account.label == *name));
        all
    }

    pub(crate) fn stats(&self) -> Stats {
        let accounts = self.accounts(None, None);
        Stats {
            uptime_us: self.now() / 1000,
            strays: self.strays.load(Ordering::Relaxed),
            accounts: accounts
                .iter()
                .map(|account| account.stats())
                .filter(|stats| stats.account != NOBODY || stats.attempts > 0)
                .collect(),
        }
    }

    pub(crate) fn reset_stats(&self) {
        self.strays.store(0, Ordering::Relaxed);
        self.accounts(None, None).iter().for_each(|account| account.reset_stats());
    }

    /// The last messages of these accounts, newest first.
    pub(crate) fn messages(&self, kind: Option<Kind>, name: Option<&str>, limit: usize) -> Vec<SentMessage> {
        let mut found = Vec::new();
        for account in self.accounts(kind, name) {
            account.messages(|sent| {
                found.extend(sent.iter().rev().take(limit).map(|sent| self.shown(&account, sent)));
            });
        }
        found.sort_by_key(|message| std::cmp::Reverse(message.at_us));
        found.truncate(limit);
        found
    }

    fn shown(&self, account: &Account, sent: &Sent) -> SentMessage {
        SentMessage {
            kind: account.kind,
            account: account.label.to_string(),
            id: self.message_id(account, sent.number),
            to: sent.phone.to_string(),
            at_us: sent.at / 1000,
            fingerprint: format!("{:016x}", sent.fingerprint),
        }
    }
}

fn wall_clock() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMs(0).plus(since)
}

//! What the mock tells about what it saw: the JSON of `GET /stats`, `/stats/messages` and
//! `/stats/arrivals`, and the same as types.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kind::Kind;

/// Everything that was counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Microseconds since the mock started.
    pub uptime_us: u64,
    /// Requests that met no endpoint of any provider.
    pub strays: u64,
    /// Each account that was configured or sent something. Requests that proved no account are under `-`.
    pub accounts: Vec<AccountStats>,
}

/// One account. `attempts` is the sum of `answers`, `resets` and `stalls`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountStats {
    /// Its kind.
    pub kind: Kind,
    /// Its name: channel, phone number id, App-ID, account id, user, or the end of the API key.
    pub account: String,
    /// Requests that arrived to send something.
    pub attempts: u64,
    /// Messages sent, whatever the client was told.
    pub accepted: u64,
    /// Of those, how many repeated a code to the same phone.
    pub duplicates: u64,
    /// Answers by HTTP status.
    pub answers: BTreeMap<u16, u64>,
    /// Requests whose connection or stream was reset instead of an answer.
    pub resets: u64,
    /// Requests left without an answer.
    pub stalls: u64,
    /// Look-ups of what was sent (Betatel) and log-ins (Meta on-premises).
    pub lookups: u64,
    /// Its callbacks.
    #[serde(default)]
    pub callbacks: CallbackStats,
    /// How many messages it can still pay for; `None` is any number.
    pub balance: Option<u64>,
    /// The first arrival that is remembered, in microseconds since the mock started.
    pub first_arrival_us: Option<u64>,
    /// The last arrival, in microseconds since the mock started.
    pub last_arrival_us: Option<u64>,
    /// The fullest windows: of a second, of a minute, and of each limit.
    pub windows: Vec<WindowStats>,
    /// False once more codes were seen than are told apart; `duplicates` is a lower bound then.
    pub exact: bool,
}

/// The callbacks of one account. `sent` is the sum of `taken`, `refused` and `unanswered`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallbackStats {
    /// Reports that wait to be sent, or are under way.
    pub waiting: u64,
    /// Requests.
    pub sent: u64,
    /// Reports in them: more than one request has, where a provider sends several at once.
    pub reports: u64,
    /// Of the requests, how many had been sent before.
    pub repeated: u64,
    /// Requests that were answered with 2xx.
    pub taken: u64,
    /// Requests that were answered otherwise.
    pub refused: u64,
    /// Requests that were not answered.
    pub unanswered: u64,
    /// Reports that were not sent: too many waited, or their address was none.
    pub dropped: u64,
}

/// The fullest sliding window of one length, over all arrivals, accepted or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowStats {
    /// Its length in microseconds.
    pub window_us: u64,
    /// The most arrivals in any window of that length.
    pub most: u64,
    /// The account's limit for it.
    pub limit: Option<u32>,
    /// False: more arrived inside one window than are remembered, and `most` is a lower bound.
    pub exact: bool,
}

/// A message that was sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SentMessage {
    /// The kind of its provider.
    pub kind: Kind,
    /// Its account.
    pub account: String,
    /// The provider's id of it.
    pub id: String,
    /// The recipient, masked.
    pub to: String,
    /// When it was sent, in microseconds since the mock started.
    pub at_us: u64,
    /// What stands for phone and code ([`super::fingerprint()`]), in hexadecimal.
    pub fingerprint: String,
}

impl Stats {
    /// One account.
    #[must_use]
    pub fn account(&self, kind: Kind, name: &str) -> Option<&AccountStats> {
        self.accounts.iter().find(|a| a.kind == kind && a.account == name)
    }

    /// The accounts of one kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &AccountStats> {
        self.accounts.iter().filter(move |a| a.kind == kind)
    }

    /// Messages sent, by all accounts.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accounts.iter().map(|a| a.accepted).sum()
    }
}

impl AccountStats {
    /// The most arrivals in any sliding window of this length, where it was watched.
    #[must_use]
    pub fn most_in(&self, window: Duration) -> Option<u64> {
        self.windows.iter().find(|w| u128::from(w.window_us) == window.as_micros()).map(|w| w.most)
    }
}

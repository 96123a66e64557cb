//! Whose a refusal is: the account's, or one recipient's.
//!
//! Some providers answer 429 and do not say whom it concerns. It is a recipient's where only it is refused
//! again while others pass, and the account's where another recipient is refused soon after. Until either is
//! known only the recipient waits. Refusals that name the recipient, or the pair of sender and recipient,
//! without a wait let that recipient wait longer each time: 1 s, twice as long with each, up to 60 s; for
//! a pair four times as long with each, as Meta documents it.
//!
//! Bounded: so many recipients as [`MOST`]; those that were refused last are known.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Mono;
use crate::outcome::Scope;
use crate::reason::Reason;
use crate::recipient::RecipientKey;

/// How many refused recipients are known, and for how long after their last refusal.
const MOST: usize = 16_384;
const KNOWN_FOR: Duration = Duration::from_secs(600);
/// Another recipient that is refused before so many were accepted, and within this time, shows that it is the account.
const SOON: u64 = 8;
const SOON_WITHIN: Duration = LONGEST;
/// A recipient is refused for itself where at least so many others were accepted since its last refusal, and so
/// many for each other that was refused.
const OTHERS: u64 = 2;
const OTHERS_FOR_EACH: u64 = 4;
/// The longest wait of a recipient, and of a pair.
const LONGEST: Duration = Duration::from_secs(60);
const LONGEST_OF_PAIR: Duration = Duration::from_secs(256);

/// Whom a refusal concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The whole account.
    Account,
    /// The recipient, which is to wait so long.
    Recipient(Duration),
    /// Nobody knows yet: the recipient waits so long.
    Unknown(Duration),
}

/// The refused recipients of one lane.
#[derive(Debug, Default)]
pub struct Singled {
    met: HashMap<RecipientKey, Met>,
    accepted: u64,
    refused: u64,
    /// The last refusal that may be the account's, when it was, and how many had been accepted then.
    suspect: Option<(RecipientKey, Mono, u64)>,
    /// The wait that the last refusal named which did not say whom it concerns.
    named: Option<Duration>,
}

/// What a recipient has met.
#[derive(Clone, Copy, Debug)]
struct Met {
    times: u32,
    at: Mono,
    /// All acceptances and refusals of the lane until then.
    accepted: u64,
    refused: u64,
}

impl Singled {
    /// A message for `to` was accepted.
    pub fn accepted(&mut self, to: RecipientKey) {
        self.accepted = self.accepted.saturating_add(1);
        if !self.met.is_empty() {
            self.met.remove(&to);
        }
    }

    /// A message for `to` was refused for a limit of this scope.
    pub fn refused(&mut self, to: RecipientKey, scope: Scope, reason: Reason, now: Mono) -> Whose {
        let before = self.met.get(&to).copied().filter(|met| now.since(met.at) < KNOWN_FOR);
        let times = before.map_or(0, |met| met.times);
        self.note(to, times, now);
        let wait = if reason == Reason::RatePair {
            (SECOND * 4u32.saturating_pow(times.min(8))).min(LONGEST_OF_PAIR)
        } else {
            (SECOND * 2u32.saturating_pow(times.min(8))).min(LONGEST)
        };
        match scope {
            Scope::Pair | Scope::Recipient => Whose::Recipient(wait),
            Scope::Unknown => {
                if before.is_some_and(|met| self.is_refused_alone(met)) {
                    return Whose::Recipient(wait);
                }
                let suspect = self.suspect.replace((to, now, self.accepted));
                let is_accounts = suspect.is_some_and(|(other, at, then)| {
                    other != to && self.accepted - then < SOON && now.since(at) < SOON_WITHIN
                });
                if is_accounts { Whose::Account } else { Whose::Unknown(wait) }
            }
            Scope::Account
            | Scope::App
            | Scope::Sender
            | Scope::Template
            | Scope::Country
            | Scope::Message => Whose::Account,
        }
    }

    /// The wait that the account asks for, of a refusal that is the account's and names `wait`. Where it does not say whom
    /// it concerns, that may be its recipient's: what it names beyond the one before is not believed of the account.
    pub fn wait_of_account(&mut self, scope: Scope, wait: Option<Duration>) -> Option<Duration> {
        if scope != Scope::Unknown {
            return wait;
        }
        let before = std::mem::replace(&mut self.named, wait);
        wait.zip(before).map(|(this, before)| this.min(before))
    }

    fn is_refused_alone(&self, met: Met) -> bool {
        // Its own refusal is counted already.
        let others_refused = (self.refused - met.refused).saturating_sub(1);
        let others_accepted = self.accepted - met.accepted;
        others_accepted >= OTHERS && others_accepted >= others_refused.saturating_mul(OTHERS_FOR_EACH)
    }

    fn note(&mut self, to: RecipientKey, times: u32, now: Mono) {
        self.refused = self.refused.saturating_add(1);
        if self.met.len() >= MOST && !self.met.contains_key(&to) {
            self.met.retain(|_, met| now.since(met.at) < KNOWN_FOR);
            if self.met.len() >= MOST {
                return;
            }
        }
        let (accepted, refused) = (self.accepted, self.refused);
        self.met.insert(to, Met { times: times.saturating_add(1), at: now, accepted, refused });
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Mono = Mono(1_000_000_000_000);

    fn refuse(singled: &mut Singled, to: u64, scope: Scope) -> Whose {
        singled.refused(RecipientKey(to), scope, Reason::RateProvider, NOW)
    }

    fn accept(singled: &mut Singled, count: u64) {
        (0..count).for_each(|n| singled.accepted(RecipientKey(1000 + n)));
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn one_number_that_alone_is_refused_waits_longer_each_time() {
        let mut singled = Singled::default();
        assert_eq!(refuse(&mut singled, 1, Scope::Unknown), Whose::Unknown(secs(1)));
        for wait in [2, 4, 8, 16, 32, 60, 60] {
            accept(&mut singled, 9);
            assert_eq!(refuse(&mut singled, 1, Scope::Unknown), Whose::Recipient(secs(wait)));
        }
        // Another one, and a third, each with many others between.
        accept(&mut singled, 9);
        assert_eq!(refuse(&mut singled, 2, Scope::Unknown), Whose::Unknown(secs(1)));
        accept(&mut singled, 9);
        assert_eq!(refuse(&mut singled, 3, Scope::Unknown), Whose::Unknown(secs(1)));
        accept(&mut singled, 9);
        assert_eq!(refuse(&mut singled, 2, Scope::Unknown), Whose::Recipient(secs(2)));
    }

    #[test]
    fn two_numbers_in_a_row_are_the_accounts() {
        let mut singled = Singled::default();
        refuse(&mut singled, 1, Scope::Unknown);
        accept(&mut singled, 2);
        assert_eq!(refuse(&mut singled, 2, Scope::Unknown), Whose::Account);
        // Refused again while most others are too: not for itself.
        for n in 3..10 {
            assert_eq!(refuse(&mut singled, n, Scope::Unknown), Whose::Account);
        }
        accept(&mut singled, 3);
        assert_eq!(refuse(&mut singled, 1, Scope::Unknown), Whose::Account);
    }

    #[test]
    fn two_numbers_long_after_each_other_are_two_numbers() {
        let mut singled = Singled::default();
        let mut refuse =
            |to, at: Mono| singled.refused(RecipientKey(to), Scope::Unknown, Reason::RateProvider, at);
        assert_eq!(refuse(1, NOW), Whose::Unknown(secs(1)));
        assert_eq!(refuse(2, NOW.plus(SOON_WITHIN)), Whose::Unknown(secs(1)));
        assert_eq!(refuse(3, NOW.plus(SOON_WITHIN + secs(1))), Whose::Account);
    }

    #[test]
    fn a_wait_is_the_accounts_if_two_name_it() {
        let mut singled = Singled::default();
        let mut named = |scope, wait: Option<u64>| singled.wait_of_account(scope, wait.map(secs));
        assert_eq!(named(Scope::Account, Some(9)), Some(secs(9)));
        for (wait, is) in
            [(None, None), (Some(9), None), (Some(7), Some(7)), (Some(8), Some(7)), (None, None)]
        {
            assert_eq!(named(Scope::Unknown, wait), is.map(secs));
        }
    }

    #[test]
    fn who_is_alone_is_alone() {
        let mut singled = Singled::default();
        for wait in [1, 2, 4] {
            assert_eq!(refuse(&mut singled, 1, Scope::Unknown), Whose::Unknown(secs(wait)));
        }
        singled.accepted(RecipientKey(1));
        assert_eq!(refuse(&mut singled, 1, Scope::Unknown), Whose::Unknown(secs(1)), "accepted meanwhile");
    }

    #[test]
    fn what_is_named_is_believed() {
        let mut singled = Singled::default();
        assert_eq!(refuse(&mut singled, 1, Scope::Sender), Whose::Account);
        let mut pair = |to| singled.refused(RecipientKey(to), Scope::Pair, Reason::RatePair, NOW);
        let waits: Vec<Whose> = (0..6).map(|_| pair(2)).collect();
        assert_eq!(waits, [1, 4, 16, 64, 256, 256].map(|s| Whose::Recipient(secs(s))));
        assert_eq!(pair(3), Whose::Recipient(secs(1)));
    }

    #[test]
    fn is_bounded() {
        let mut singled = Singled::default();
        for n in 0..20_000 {
            refuse(&mut singled, n, Scope::Recipient);
        }
        assert_eq!(singled.met.len(), MOST);
        singled.refused(RecipientKey(30_000), Scope::Pair, Reason::RatePair, NOW.plus(KNOWN_FOR));
        assert_eq!(singled.met.len(), 1);
    }
}

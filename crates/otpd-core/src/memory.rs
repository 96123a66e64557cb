//! What a process knows of its fleet, folded from the stream by one reader: which jobs came to what, which
//! is the newest for a recipient, what recipients got, and what owners of other lanes' accounts sent. All lanes
//! of a process share it, so whichever of them has to take over knows what the owner knew.
//!
//! One call takes a fact in. Where a fact comes from decides what it counts for: our own requests are in
//! our own ceilings, and our own sends were counted for their recipients when they began.

use std::collections::HashMap;
use std::time::Duration;

use crate::checkpoint::Checkpoint;
use crate::clock::UnixMs;
use crate::fact::{Fact, FactKind};
use crate::hand_over::{HandOver, ReadAt};
use crate::names::ProviderName;
use crate::newest::Newest;
use crate::outcome::Class;
use crate::rate::Rate;
use crate::recent::Recent;
use crate::recipients::Recipients;

/// Who made a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// This process.
    Us,
    /// Another process, or a former one of this worker.
    Another,
}

/// The memory of a process.
#[derive(Debug, Default)]
pub struct Memory {
    /// Jobs of the last minutes.
    pub recent: Recent,
    /// The newest job of each recipient and purpose.
    pub newest: Newest,
    /// What each recipient got.
    pub recipients: Recipients,
    hand_overs: HashMap<ProviderName, HandOver>,
    /// When each account last took a message of another owner, or refused itself to one, and which.
    served: HashMap<ProviderName, (UnixMs, bool)>,
}

/// For how long an account that took a message is believed to take the next.
const SERVED_FOR: Duration = Duration::from_secs(10);

impl Memory {
    /// Of a process with these limits for each recipient.
    #[must_use]
    pub fn new(recipient_limits: Vec<Rate>) -> Self {
        Self { recipients: Recipients::new(recipient_limits), ..Self::default() }
    }

    /// Follows the account of `provider`, for a ceiling of these rates; again with other rates after a change.
    pub fn follow(&mut self, provider: &ProviderName, rates: &[Rate]) {
        match self.hand_overs.get_mut(provider) {
            Some(hand_over) => hand_over.set_rates(rates),
            None => {
                self.hand_overs.insert(provider.clone(), HandOver::new(rates));
            }
        }
    }

    /// What other owners sent to the account of `provider`; `None` if it is not followed.
    pub fn hand_over(&mut self, provider: &ProviderName) -> Option<&mut HandOver> {
        self.hand_overs.get_mut(provider)
    }

    /// Takes a fact in that was read from the stream.
    pub fn fold(&mut self, fact: &Fact, read: ReadAt, author: Author) {
        if author == Author::Another {
            self.count_recipient(fact, read);
            self.newest.note_fact(fact, read.wall());
            self.note_served(fact, read.wall());
            if let Some(hand_over) = self.hand_overs.get_mut(&fact.provider) {
                hand_over.note(fact, read);
            }
        }
        self.recent.fold(fact, read.wall());
    }

    /// True if the account of `provider` took a message of another owner a moment ago, by that owner's clock.
    #[must_use]
    pub fn was_served_lately(&self, provider: &ProviderName, now: UnixMs) -> bool {
        self.served.get(provider).is_some_and(|(at, served)| *served && now.since(*at) <= SERVED_FOR)
    }

    fn note_served(&mut self, fact: &Fact, read_at: UnixMs) {
        if matches!(fact.kind, FactKind::Delivery(_) | FactKind::Verified) {
            return; // what became of a message says nothing of the account
        }
        let served = fact.kind == FactKind::Accepted;
        // The past is read newest first.
        let refused = fact.kind == FactKind::Paused
            || matches!(fact.class, Some(Class::Account | Class::Transient | Class::Ambiguous));
        let at = fact.at.min(read_at);
        let is_news = self.served.get(&fact.provider).is_none_or(|(known, _)| *known <= at);
        if is_news && (served || refused) {
            self.served.insert(fact.provider.clone(), (at, served));
        }
    }

    /// Takes in what this process did itself, before the stream tells it.
    pub fn did(&mut self, fact: &Fact, now: UnixMs) {
        self.recent.fold(fact, now);
    }

    /// Takes in that an owner opened the lane of `provider`, or tells its state.
    pub fn opened(
        &mut self,
        provider: &ProviderName,
        claim: &str,
        checkpoint: Option<&Checkpoint>,
        read: ReadAt,
    ) {
        if let Some(hand_over) = self.hand_overs.get_mut(provider) {
            hand_over.note_opened(claim, checkpoint, read);
        }
    }

    /// Counts a job for its recipient once, with the first fact that shows an attempt. Of times before the
    /// jobs that are remembered only the answer to a first attempt counts, for it comes once.
    fn count_recipient(&mut self, fact: &Fact, read: ReadAt) {
        let Some(to) = fact.recipient.filter(|_| fact.attempt > 0) else { return };
        let is_attempt = match fact.kind {
            FactKind::Sending => true,
            FactKind::Accepted
            | FactKind::Retrying
            | FactKind::FailedOver
            | FactKind::Superseded
            | FactKind::Expired
            | FactKind::Dead => fact.sent_at.is_some(),
            FactKind::Duplicate
            | FactKind::Paused
            | FactKind::Resumed
            | FactKind::Delivery(_)
            | FactKind::Verified => false,
        };
        let horizon = read.wall().minus(self.recent.window());
        let is_first = if fact.at < horizon {
            fact.kind != FactKind::Sending && fact.attempt == 1
        } else {
            !self.recent.knows(&fact.job, fact.life)
        };
        if is_attempt && is_first {
            let sent = fact.sent_at.unwrap_or(fact.at);
            let at = read.latest(fact.at).minus(fact.at.since(sent));
            self.recipients.sent_at(to, at, read.mono());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ceiling::{Ceiling, ReadyAt};
    use crate::clock::Mono;
    use crate::life::Life;
    use crate::names::JobId;
    use crate::recent::Known;
    use crate::recipient::{JobKeys, PurposeKey, RecipientKey};

    const NOW: Mono = Mono(100_000_000_000_000);
    const WALL: UnixMs = UnixMs(1_800_000_000_000);
    const KEYS: JobKeys = JobKeys { recipient: RecipientKey(1), purpose: PurposeKey(2) };

    fn provider() -> ProviderName {
        ProviderName::parse("p").unwrap()
    }

    fn fact(kind: FactKind, attempt: u32, sent_at: Option<UnixMs>) -> Fact {
        let mut fact = Fact::new(kind, JobId::parse("a").unwrap(), provider(), WALL).keyed(KEYS, WALL);
        (fact.attempt, fact.sent_at) = (attempt, sent_at);
        fact
    }

    fn memory() -> (Memory, Vec<Rate>) {
        let mut memory = Memory::new(vec!["2/h".parse().unwrap()]);
        let rates = vec!["1/min".parse().unwrap()];
        memory.follow(&provider(), &rates);
        (memory, rates)
    }

    #[test]
    fn a_job_of_another_counts_once_for_its_recipient() {
        let (sending, accepted) = (FactKind::Sending, FactKind::Accepted);
        let sent = Some(WALL);
        let late = WALL.plus(Duration::from_secs(900));
        for (facts, wall, counts) in [
            (vec![fact(sending, 1, None), fact(accepted, 1, sent)], WALL, 1),
            (vec![fact(accepted, 1, sent), fact(sending, 1, None)], WALL, 1),
            (vec![fact(sending, 1, None), fact(sending, 2, None)], WALL, 1),
            (vec![fact(sending, 1, None).in_life(Life::after(UnixMs(5))), fact(sending, 1, None)], WALL, 1),
            (vec![fact(FactKind::Expired, 0, None)], WALL, 0),
            (vec![fact(FactKind::FailedOver, 1, None)], WALL, 0),
            (vec![fact(sending, 1, None), fact(accepted, 1, sent), fact(accepted, 2, sent)], late, 1),
        ] {
            let (mut memory, _) = memory();
            for fact in &facts {
                memory.fold(fact, ReadAt::past(NOW, wall), Author::Another);
            }
            // One more may go if at most one was counted, and none at once if two were.
            memory.recipients.sent(RecipientKey(1), NOW);
            let is_free = memory.recipients.ready_at(RecipientKey(1), NOW) == NOW;
            assert_eq!(is_free, counts == 0, "{facts:?}");
            memory.recipients.not_sent(RecipientKey(1));
            assert_eq!(memory.recipients.ready_at(RecipientKey(1), NOW), NOW, "{facts:?}");
        }
    }

    #[test]
    fn an_account_is_trusted_that_took_the_last_message() {
        let at = |mut fact: Fact, seconds| {
            fact.at = WALL.plus(Duration::from_secs(seconds));
            fact
        };
        let accepted = |seconds| at(fact(FactKind::Accepted, 1, None), seconds);
        let refused =
            |seconds| Fact { class: Some(Class::Account), ..at(fact(FactKind::Retrying, 1, None), seconds) };
        let failed = |seconds| Fact { class: Some(Class::Transient), ..refused(seconds) };
        for (facts, is_trusted) in [
            (vec![], false),
            (vec![accepted(0)], true),
            (vec![accepted(0), refused(1)], false),
            (vec![refused(1), accepted(0)], false),
            (vec![refused(1), accepted(2)], true),
            (vec![at(fact(FactKind::Expired, 1, None), 3)], false),
            (vec![accepted(0), at(fact(FactKind::Paused, 0, None), 1)], false),
            (vec![accepted(0), failed(1)], false),
            // By a clock that is ahead: as of its reading.
            (vec![accepted(3600)], true),
        ] {
            let (mut memory, _) = memory();
            for fact in &facts {
                memory.fold(fact, ReadAt::live(NOW, WALL.plus(Duration::from_secs(5))), Author::Another);
            }
            let asked_at = WALL.plus(Duration::from_secs(10));
            assert_eq!(memory.was_served_lately(&provider(), asked_at), is_trusted, "{facts:?}");
            assert!(!memory.was_served_lately(&provider(), asked_at.plus(Duration::from_secs(6))));
        }
    }

    #[test]
    fn our_own_facts_are_remembered_and_counted_nowhere_else() {
        for (author, counted) in [(Author::Us, false), (Author::Another, true)] {
            let (mut memory, rates) = memory();
            memory.fold(&fact(FactKind::Sending, 1, None), ReadAt::live(NOW, WALL), author);
            let known = memory.recent.known(&JobId::parse("a").unwrap(), Life::default().into(), &provider());
            assert_eq!(known, Known::Tried { attempts: 1, not_before: WALL });
            assert_eq!(memory.recipients.len(), usize::from(counted));
            assert_eq!(!memory.newest.is_newest(KEYS.purpose, &JobId::parse("b").unwrap()), counted);
            let mut ceiling = Ceiling::new(&rates, None, NOW);
            let taken = memory.hand_over(&provider()).unwrap().apply(&mut ceiling, NOW);
            assert_eq!(taken.requests, usize::from(counted));
            let after = NOW.plus(Duration::from_secs(63) + Duration::from_millis(250));
            assert_eq!(ceiling.take(NOW).err(), counted.then_some(ReadyAt::At(after)));
        }
    }
}

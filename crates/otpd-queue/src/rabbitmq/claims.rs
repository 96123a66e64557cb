//! Who owns which lane, as the stream tells it, and who waits for a record of this process to come back.
//!
//! A lane's owner claims it by a record on the stream (`otp.lane.opened`), and announces each request under a
//! ceiling by another. The stream has one order that every reader sees, so it decides who is the owner:
//! the one whose claim was written last. An announcement that is read back while the own claim is still
//! the last one was written before anybody else claimed the lane, and the next owner will find it there.
//! Neither a clock nor the state of a connection matters. Pure.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use otpd_core::ProviderName;
use tokio::sync::oneshot;

/// Identifies one claim: the process's name for itself, and a number.
pub(super) type ClaimId = Arc<str>;

/// Somebody who waits for a record: answered when it is read back, dropped when it has lost its meaning.
pub(super) type Echo = oneshot::Sender<()>;

/// The claims of this process and what was read of those of others.
#[derive(Debug, Default)]
pub(super) struct Claims {
    lanes: HashMap<ProviderName, Claim>,
    echoes: HashMap<String, Waiting>,
    /// The last claims of others to each lane: one that comes again takes nothing away.
    others: HashMap<ProviderName, VecDeque<Box<str>>>,
}

/// How many claims of others are remembered for each lane.
const OTHERS: usize = 16;

#[derive(Debug)]
struct Claim {
    id: ClaimId,
    /// It was read back, and no other claim after it.
    is_last: bool,
    /// Ends when another claim is read.
    lost: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Waiting {
    /// The claim under which the record was published.
    lane: Option<(ProviderName, ClaimId)>,
    echo: Echo,
}

impl Claims {
    /// Begins a claim to a lane; the one before is given up. The receiver ends when another owner's claim is
    /// read after this one.
    pub(super) fn begin(&mut self, provider: &ProviderName, id: ClaimId) -> oneshot::Receiver<()> {
        let (lost, ended) = oneshot::channel();
        self.lanes.insert(provider.clone(), Claim { id, is_last: false, lost: Some(lost) });
        ended
    }

    /// Gives a claim up: nothing published under it counts any more.
    pub(super) fn give_up(&mut self, provider: &ProviderName, id: &ClaimId) {
        if self.lanes.get(provider).is_some_and(|claim| claim.id == *id) {
            self.lanes.remove(provider);
            self.forget_silent();
        }
    }

    /// The claim of this process to a lane, if it has one.
    pub(super) fn current(&self, provider: &ProviderName) -> Option<ClaimId> {
        self.lanes.get(provider).map(|claim| claim.id.clone())
    }

    /// Answers `echo` when the record `id` is read back; drops it if another owner's claim comes first.
    pub(super) fn expect(&mut self, id: String, lane: Option<(ProviderName, ClaimId)>, echo: Echo) {
        if self.echoes.len() >= 1024 && self.echoes.len().is_power_of_two() {
            self.forget_silent();
        }
        self.echoes.insert(id, Waiting { lane, echo });
    }

    /// True if anybody waits for a record.
    pub(super) fn is_awaited(&mut self) -> bool {
        self.forget_silent();
        !self.echoes.is_empty()
    }

    /// True while a claim of this process is current: what speaks of another one is out of date.
    pub(super) fn is_current(&self, id: &str) -> bool {
        self.lanes.values().any(|claim| *claim.id == *id)
    }

    /// A claim was read that stands on the stream before all that this process has said: it takes nothing, now or
    /// when it comes again.
    pub(super) fn read_past_claim(&mut self, provider: &ProviderName, id: &str) {
        self.was_read_before(provider, id);
    }

    /// Remembers a claim of another. True if it was read before: a record may be published twice.
    fn was_read_before(&mut self, provider: &ProviderName, id: &str) -> bool {
        let others = self.others.entry(provider.clone()).or_default();
        if others.iter().any(|other| **other == *id) {
            return true;
        }
        others.push_back(id.into());
        if others.len() > OTHERS {
            others.pop_front();
        }
        false
    }

    /// A record of this process was read.
    pub(super) fn read_own(&mut self, id: &str) {
        if self.echoes.is_empty() {
            return;
        }
        let Some(waiting) = self.echoes.remove(id) else { return };
        let counts = waiting.lane.is_none_or(|(provider, claim)| {
            self.lanes.get(&provider).is_some_and(|held| held.is_last && held.id == claim)
        });
        if counts {
            // Whoever asked may have stopped waiting.
            let _ = waiting.echo.send(());
        }
    }

    /// A claim was read, of this process or another. Says whether this process lost the lane by it.
    pub(super) fn read_claim(&mut self, provider: &ProviderName, id: &str) -> bool {
        if let Some(claim) = self.lanes.get_mut(provider).filter(|claim| *claim.id == *id) {
            claim.is_last = true;
            return false;
        }
        if self.was_read_before(provider, id) {
            return false;
        }
        let Some(claim) = self.lanes.get_mut(provider) else { return false };
        // A claim that was read before the own one is the former owner's.
        if !std::mem::take(&mut claim.is_last) {
            return false;
        }
        if let Some(lost) = claim.lost.take() {
            let _ = lost.send(());
        }
        self.lanes.remove(provider);
        self.forget_silent();
        true
    }

    /// Drops what nobody waits for any more, or can still come true.
    fn forget_silent(&mut self) {
        let lanes = &self.lanes;
        self.echoes.retain(|_, waiting| {
            let alive = waiting
                .lane
                .as_ref()
                .is_none_or(|(provider, claim)| lanes.get(provider).is_some_and(|held| held.id == *claim));
            alive && !waiting.echo.is_closed()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> ProviderName {
        ProviderName::parse("verihubs").unwrap()
    }

    fn announced(claims: &mut Claims, id: &str) -> oneshot::Receiver<()> {
        let (echo, answered) = oneshot::channel();
        let claim = claims.current(&lane()).map(|claim| (lane(), claim));
        claims.expect(id.into(), claim, echo);
        answered
    }

    #[test]
    fn an_announcement_counts_only_under_the_last_claim() {
        let mut claims = Claims::default();
        let mut lost = claims.begin(&lane(), "a-1".into());
        let mut early = announced(&mut claims, "early");
        claims.read_own("early");
        assert!(early.try_recv().is_err(), "read before the own claim was");
        assert!(!claims.read_claim(&lane(), "b-1"), "the former owner's, read before the own claim");
        assert!(!claims.read_claim(&lane(), "a-1"));
        let mut mine = announced(&mut claims, "mine");
        claims.read_own("mine");
        assert!(mine.try_recv().is_ok());
        let mut late = announced(&mut claims, "late");
        assert!(lost.try_recv().is_err());
        assert!(claims.read_claim(&lane(), "b-2"), "another owner");
        assert!(lost.try_recv().is_ok());
        claims.read_own("late");
        assert!(late.try_recv().is_err());
        assert!(!claims.is_awaited(), "nothing is kept for what cannot come true");
    }

    #[test]
    fn a_claim_that_is_published_again_takes_no_lane_away() {
        let mut claims = Claims::default();
        assert!(!claims.read_claim(&lane(), "b-1"));
        claims.begin(&lane(), "a-1".into());
        claims.read_claim(&lane(), "a-1");
        assert!(claims.is_current("a-1") && !claims.is_current("b-1"));
        assert!(!claims.read_claim(&lane(), "b-1"), "the former owner's, a second time");
        assert!(claims.read_claim(&lane(), "b-2"));
    }

    #[test]
    fn a_new_claim_replaces_the_one_before() {
        let mut claims = Claims::default();
        claims.begin(&lane(), "a-1".into());
        claims.read_claim(&lane(), "a-1");
        let mut old = announced(&mut claims, "old");
        claims.begin(&lane(), "a-2".into());
        claims.read_own("old");
        assert!(old.try_recv().is_err());
        assert!(!claims.read_claim(&lane(), "a-1"), "its own former claim, read late, takes nothing away");
        claims.read_claim(&lane(), "a-2");
        let mut new = announced(&mut claims, "new");
        claims.read_own("new");
        assert!(new.try_recv().is_ok());
    }

    #[test]
    fn what_nobody_waits_for_is_forgotten() {
        let mut claims = Claims::default();
        for n in 0..5000 {
            drop(announced(&mut claims, &format!("n{n}")));
        }
        assert!(claims.echoes.len() < 3000);
    }
}

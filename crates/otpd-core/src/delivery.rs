//! What a provider says about a message after it took it, and the state of a job that follows from its facts.
//!
//! Callbacks come late, twice, and in any order, so a state is not moved along: it is the highest of what the
//! facts say ([`Progress`]). Folding the same facts in any order, any number of times, gives the same state, and
//! a state never goes back.

use crate::clock::UnixMs;
use crate::fact::{Fact, FactKind};
use crate::life::Life;
use crate::reason::Reason;

/// What a provider says about a message that it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeliveryStatus {
    /// It left the provider.
    Sent,
    /// The phone has it.
    Delivered,
    /// Its recipient opened it.
    Read,
    /// The provider checked the code that the recipient typed.
    Verified,
    /// It will not be delivered.
    Failed,
    /// It was not delivered within its validity, or the time to type its code is over
    /// ([`Reason::OtpTimeLimit`]).
    Expired,
    /// The provider refuses to deliver it.
    Rejected,
    /// The recipient is blocked at the provider.
    Blocked,
}

impl DeliveryStatus {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Sent,
        Self::Delivered,
        Self::Read,
        Self::Verified,
        Self::Failed,
        Self::Expired,
        Self::Rejected,
        Self::Blocked,
    ];

    /// The last word of the event's type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Verified => "verified",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Blocked => "blocked",
        }
    }

    /// The CloudEvents `type`.
    #[must_use]
    pub const fn event_type(self) -> &'static str {
        match self {
            Self::Sent => "otp.delivery.sent",
            Self::Delivered => "otp.delivery.delivered",
            Self::Read => "otp.delivery.read",
            Self::Verified => "otp.delivery.verified",
            Self::Failed => "otp.delivery.failed",
            Self::Expired => "otp.delivery.expired",
            Self::Rejected => "otp.delivery.rejected",
            Self::Blocked => "otp.delivery.blocked",
        }
    }

    /// True if the phone has the message.
    #[must_use]
    pub const fn is_delivered(self) -> bool {
        match self {
            Self::Delivered | Self::Read | Self::Verified => true,
            Self::Sent | Self::Failed | Self::Expired | Self::Rejected | Self::Blocked => false,
        }
    }

    /// True if the provider says that the message will not arrive. `reason` is the one it came with: a code that
    /// nobody typed in time may well have arrived.
    #[must_use]
    pub fn is_undelivered(self, reason: Option<Reason>) -> bool {
        match self {
            Self::Failed | Self::Rejected | Self::Blocked => true,
            Self::Expired => reason != Some(Reason::OtpTimeLimit),
            Self::Sent | Self::Delivered | Self::Read | Self::Verified => false,
        }
    }
}

/// The state of a job, as its producer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobState {
    /// It waits.
    Queued,
    /// An attempt began.
    Sending,
    /// A provider took the message.
    Accepted,
    /// The message left the provider.
    Sent,
    /// The provider says that the message will not arrive.
    Failed,
    /// A newer code replaced it.
    Superseded,
    /// Its code expired before it was sent.
    Expired,
    /// It is among the dead letters.
    Dead,
    /// The phone has the message.
    Delivered,
    /// Its recipient opened it.
    Read,
    /// The user typed the code.
    Verified,
}

impl JobState {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Queued,
        Self::Sending,
        Self::Accepted,
        Self::Sent,
        Self::Failed,
        Self::Superseded,
        Self::Expired,
        Self::Dead,
        Self::Delivered,
        Self::Read,
        Self::Verified,
    ];

    /// The state in a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Accepted => "accepted",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
            Self::Expired => "expired",
            Self::Dead => "dead",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Verified => "verified",
        }
    }

    /// True if nothing more is awaited. Callbacks may still tell more: `read` follows `delivered`.
    #[must_use]
    pub const fn is_end(self) -> bool {
        match self {
            Self::Failed
            | Self::Superseded
            | Self::Expired
            | Self::Dead
            | Self::Delivered
            | Self::Read
            | Self::Verified => true,
            Self::Queued | Self::Sending | Self::Accepted | Self::Sent => false,
        }
    }

    const fn is_delivered(self) -> bool {
        match self {
            Self::Delivered | Self::Read | Self::Verified => true,
            Self::Queued
            | Self::Sending
            | Self::Accepted
            | Self::Sent
            | Self::Failed
            | Self::Superseded
            | Self::Expired
            | Self::Dead => false,
        }
    }

    /// What one fact says; `None` where it says nothing about the job's state.
    #[must_use]
    pub fn told_by(fact: &Fact) -> Option<Self> {
        match fact.kind {
            FactKind::Sending | FactKind::Retrying | FactKind::FailedOver => Some(Self::Sending),
            FactKind::Accepted => Some(Self::Accepted),
            // The extra send was not made: the job is as the first one left it.
            FactKind::Superseded | FactKind::Expired if fact.extra => None,
            FactKind::Superseded => Some(Self::Superseded),
            FactKind::Expired => Some(Self::Expired),
            FactKind::Dead => Some(Self::Dead),
            FactKind::Verified => Some(Self::Verified),
            FactKind::Delivery(status) => match status {
                DeliveryStatus::Sent => Some(Self::Sent),
                DeliveryStatus::Delivered => Some(Self::Delivered),
                DeliveryStatus::Read => Some(Self::Read),
                DeliveryStatus::Verified => Some(Self::Verified),
                DeliveryStatus::Failed
                | DeliveryStatus::Expired
                | DeliveryStatus::Rejected
                | DeliveryStatus::Blocked => status.is_undelivered(fact.reason).then_some(Self::Failed),
            },
            FactKind::Duplicate | FactKind::Paused | FactKind::Resumed => None,
        }
    }
}

/// How far a job has come. Of two lives the later one counts; in a life a delivery before anything else, then the
/// latest attempt, then the state. A delivery that is told without its attempt counts for the latest one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    life: Life,
    delivered: Option<JobState>,
    /// The attempt and the state.
    otherwise: Option<(u32, JobState)>,
    /// Told without an attempt.
    unattributed: Option<JobState>,
}

impl Progress {
    /// Takes a fact in; gives whether the state has changed.
    pub fn fold(&mut self, fact: &Fact) -> bool {
        let Some(told) = JobState::told_by(fact) else { return false };
        if fact.life < self.life {
            return false;
        }
        let before = (self.life, self.state());
        if fact.life > self.life {
            *self = Self { life: fact.life, ..Self::default() };
        }
        if told.is_delivered() {
            self.delivered = self.delivered.max(Some(told));
        } else if fact.attempt == 0 && matches!(fact.kind, FactKind::Delivery(_)) {
            self.unattributed = self.unattributed.max(Some(told));
        } else {
            self.otherwise = self.otherwise.max(Some((fact.attempt, told)));
        }
        before != (self.life, self.state())
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> JobState {
        let otherwise = self.otherwise.map(|(_, state)| state);
        self.delivered.or(otherwise.max(self.unattributed)).unwrap_or(JobState::Queued)
    }

    /// Which life of the job it is about.
    #[must_use]
    pub const fn life(&self) -> Life {
        self.life
    }
}

/// How long a message took to the phone: from its request to `at`, by the provider's or our own clock.
#[must_use]
pub fn delivery_time(accepted: &Fact, at: UnixMs) -> std::time::Duration {
    at.since(accepted.sent_at.unwrap_or(accepted.at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{JobId, ProviderName};
    use proptest::prelude::*;

    fn fact(kind: FactKind, attempt: u32, life: u64) -> Fact {
        let (job, provider) = (JobId::parse("a").unwrap(), ProviderName::parse("p").unwrap());
        let mut fact = Fact::new(kind, job, provider, UnixMs(1)).in_life(Life::from_number(life));
        fact.attempt = attempt;
        fact
    }

    fn state(facts: &[Fact]) -> JobState {
        let mut progress = Progress::default();
        for fact in facts {
            progress.fold(fact);
        }
        progress.state()
    }

    #[test]
    fn tables() {
        use DeliveryStatus as D;
        use FactKind as F;
        for (facts, expected) in [
            (vec![], "queued"),
            (vec![(F::Sending, 1)], "sending"),
            (vec![(F::Sending, 1), (F::Accepted, 1)], "accepted"),
            (vec![(F::Accepted, 1), (F::Delivery(D::Sent), 1)], "sent"),
            (vec![(F::Delivery(D::Sent), 0), (F::Accepted, 1)], "sent"),
            (vec![(F::Delivery(D::Read), 1), (F::Delivery(D::Delivered), 1)], "read"),
            (vec![(F::Delivery(D::Failed), 1), (F::Delivery(D::Delivered), 1)], "delivered"),
            (vec![(F::Accepted, 1), (F::Delivery(D::Failed), 1)], "failed"),
            // Tried again elsewhere.
            (vec![(F::Delivery(D::Failed), 1), (F::FailedOver, 1), (F::Accepted, 2)], "accepted"),
            (vec![(F::Accepted, 1), (F::FailedOver, 1), (F::Dead, 2)], "dead"),
            (vec![(F::Accepted, 1), (F::Dead, 2), (F::Delivery(D::Delivered), 1)], "delivered"),
            (vec![(F::Delivery(D::Delivered), 1), (F::Verified, 0)], "verified"),
            (vec![(F::Accepted, 1), (F::Duplicate, 0), (F::Paused, 1)], "accepted"),
        ] {
            let facts: Vec<Fact> = facts.into_iter().map(|(kind, attempt)| fact(kind, attempt, 0)).collect();
            assert_eq!(state(&facts).as_str(), expected, "{facts:?}");
        }
    }

    #[test]
    fn a_code_that_nobody_typed_may_have_arrived() {
        let mut expired = fact(FactKind::Delivery(DeliveryStatus::Expired), 1, 0);
        assert_eq!(state(&[fact(FactKind::Accepted, 1, 0), expired.clone()]), JobState::Failed);
        expired.reason = Some(Reason::OtpTimeLimit);
        assert_eq!(state(&[fact(FactKind::Accepted, 1, 0), expired]), JobState::Accepted);
    }

    #[test]
    fn an_extra_send_that_is_not_made_leaves_the_job_as_it_was() {
        for (kind, is) in [
            (FactKind::Expired, JobState::Accepted),
            (FactKind::Superseded, JobState::Accepted),
            (FactKind::Dead, JobState::Dead),
        ] {
            let extra = |kind| Fact { extra: true, ..fact(kind, 1, 0) };
            let facts = [fact(FactKind::Accepted, 1, 0), extra(FactKind::FailedOver), extra(kind)];
            assert_eq!(state(&facts), is);
        }
    }

    fn facts() -> impl Strategy<Value = Vec<Fact>> {
        let one = (proptest::sample::select(FactKind::ALL.to_vec()), 0u32..4, 0u64..3);
        proptest::collection::vec(one.prop_map(|(kind, attempt, life)| fact(kind, attempt, life)), 0..12)
    }

    proptest! {
        #[test]
        fn neither_order_nor_repetition_matters(
            (facts, shuffled) in facts().prop_flat_map(|facts| (Just(facts.clone()), Just(facts).prop_shuffle())),
        ) {
            let twice: Vec<Fact> = shuffled.iter().chain(&facts).cloned().collect();
            prop_assert_eq!(state(&facts), state(&shuffled));
            prop_assert_eq!(state(&facts), state(&twice));
        }

        #[test]
        fn what_is_delivered_stays_delivered(facts in facts()) {
            let mut progress = Progress::default();
            let mut last = (progress.life(), progress.state());
            for fact in &facts {
                let changed = progress.fold(fact);
                let now = (progress.life(), progress.state());
                prop_assert_eq!(changed, now != last);
                prop_assert!(now.0 >= last.0);
                prop_assert!(now.0 > last.0 || !last.1.is_delivered() || now.1 >= last.1);
                last = now;
            }
        }
    }
}

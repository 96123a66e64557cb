//! What a provider, or a user, said of a message's delivery, as far as it decides whether the job is sent once
//! more (`confirm_within` of a route).

use crate::fact::{Fact, FactKind};
use crate::reason::Reason;

/// What is known of a message's delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It will not arrive, says the provider.
    Undelivered(Reason),
    /// The phone has it, or its code was typed.
    Delivered,
}

impl Verdict {
    /// What a fact says; `None` where it leaves the delivery open.
    #[must_use]
    pub fn of(fact: &Fact) -> Option<Self> {
        match fact.kind {
            FactKind::Verified => Some(Self::Delivered),
            FactKind::Delivery(status) if status.is_delivered() => Some(Self::Delivered),
            FactKind::Delivery(status) => {
                let is_lost = status.is_undelivered(fact.reason);
                is_lost.then(|| Self::Undelivered(fact.reason.unwrap_or(Reason::UnknownError)))
            }
            FactKind::Accepted
            | FactKind::Retrying
            | FactKind::FailedOver
            | FactKind::Superseded
            | FactKind::Expired
            | FactKind::Duplicate
            | FactKind::Dead
            | FactKind::Sending
            | FactKind::Paused
            | FactKind::Resumed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMs;
    use crate::delivery::DeliveryStatus as Status;
    use crate::names::{JobId, ProviderName};

    #[test]
    fn only_an_arrival_or_a_loss_is_a_verdict() {
        let lost = |reason| Some(Verdict::Undelivered(reason));
        for (kind, reason, is) in [
            (FactKind::Verified, None, Some(Verdict::Delivered)),
            (FactKind::Delivery(Status::Delivered), None, Some(Verdict::Delivered)),
            (FactKind::Delivery(Status::Read), Some(Reason::UnknownError), Some(Verdict::Delivered)),
            (FactKind::Delivery(Status::Verified), None, Some(Verdict::Delivered)),
            (FactKind::Delivery(Status::Sent), None, None),
            (FactKind::Delivery(Status::Failed), None, lost(Reason::UnknownError)),
            (FactKind::Delivery(Status::Failed), Some(Reason::WindowClosed), lost(Reason::WindowClosed)),
            (FactKind::Delivery(Status::Rejected), None, lost(Reason::UnknownError)),
            (
                FactKind::Delivery(Status::Blocked),
                Some(Reason::RecipientBlocked),
                lost(Reason::RecipientBlocked),
            ),
            (FactKind::Delivery(Status::Expired), Some(Reason::ExpiredTtl), lost(Reason::ExpiredTtl)),
            // Nobody typed it in time: it may well have arrived.
            (FactKind::Delivery(Status::Expired), Some(Reason::OtpTimeLimit), None),
            (FactKind::Accepted, None, None),
            (FactKind::Dead, Some(Reason::WindowClosed), None),
        ] {
            let (job, provider) = (JobId::parse("a").unwrap(), ProviderName::parse("p").unwrap());
            let fact = Fact { reason, ..Fact::new(kind, job, provider, UnixMs(1)) };
            assert_eq!(Verdict::of(&fact), is, "{kind:?} {reason:?}");
        }
    }
}

//! Retiring a provider that the config names no more: what is asked, and what came of it. Both backends
//! do the same, in this order: nothing new can arrive, what is left is moved or buried, the lane is gone.

use bytes::Bytes;
use otpd_core::{Fact, FactKind, JobId, ProviderName, Reason, RouteName, UnixMs};

use crate::error::QueueError;
use crate::plan::{LanePlan, Owners, Plan};
use crate::seam::{Burial, Carried, Delivery, Move, Section};

/// What becomes of the jobs that are left in the lane.
#[derive(Clone, Debug)]
pub enum Leftovers {
    /// There must be none.
    Refuse,
    /// They go to the lane of another provider, as if their attempts so far had been made there.
    MoveTo(ProviderName),
    /// They go to the dead letters (reason `unroutable`). The function makes the letter's body of the job's:
    /// whether it keeps its code is the config's decision.
    Bury(fn(&Bytes) -> Bytes),
}

/// Whether anything is to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Only looks, and refuses as it would.
    Look,
    /// Does it.
    Do,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// Jobs that waited in the lane at the beginning.
    pub waiting: u64,
    /// Jobs that went to another lane.
    pub moved: u64,
    /// Jobs that went to the dead letters.
    pub buried: u64,
}

/// What becomes of one job.
pub(crate) enum Fate {
    Move(Box<Move>),
    Bury(Box<Burial>),
}

/// A lane as it is left.
pub(crate) struct Leaving<'a> {
    pub(crate) provider: &'a ProviderName,
    pub(crate) leftovers: &'a Leftovers,
    /// The lane that takes the jobs, where one does.
    pub(crate) next: Option<&'a LanePlan>,
}

impl<'a> Leaving<'a> {
    /// Refuses what the plan alone shows to be wrong.
    pub(crate) fn new(
        plan: &'a Plan,
        provider: &'a ProviderName,
        leftovers: &'a Leftovers,
    ) -> Result<Self, QueueError> {
        let in_use = |why: String| Err(QueueError::InUse { why });
        if plan.lane(provider).is_some() {
            return in_use(format!(
                "the config still names {provider}: take it out of [providers] and of every route, run `otpd topology apply`, and end the rollout first"
            ));
        }
        let next = match leftovers {
            Leftovers::MoveTo(next) => match plan.lane(next) {
                Some(lane) => Some(lane),
                None => {
                    return in_use(format!("the config names no provider {next} that could take its jobs"));
                }
            },
            Leftovers::Refuse | Leftovers::Bury(_) => None,
        };
        Ok(Self { provider, leftovers, next })
    }

    /// Refuses to leave jobs behind.
    pub(crate) fn may_leave(&self, waiting: u64) -> Result<(), QueueError> {
        match self.leftovers {
            Leftovers::Refuse if waiting > 0 => Err(QueueError::InUse {
                why: format!(
                    "{waiting} jobs are left in the lane of {}: say --to OTHER to move them to another provider, or --bury to put them into the dead letters",
                    self.provider
                ),
            }),
            Leftovers::Refuse | Leftovers::MoveTo(_) | Leftovers::Bury(_) => Ok(()),
        }
    }

    /// What becomes of a job, and what is told of it.
    pub(crate) fn fate(&self, id: JobId, delivery: Delivery, section: Section, now: UnixMs) -> (Fate, Fact) {
        let Delivery { carried, body, trace, taken_at, .. } = delivery;
        let mut fact =
            Fact::new(FactKind::Dead, id.clone(), self.provider.clone(), now).in_life(carried.life);
        (fact.attempt, fact.route) = (carried.attempts, carried.route.clone());
        fact.reason = Some(Reason::Unroutable);
        // Its end was told when it was accepted.
        fact.extra = carried.extra > 0;
        let taken_at = taken_at.unwrap_or(now);
        let (Some(next), Leftovers::MoveTo(_) | Leftovers::Refuse) = (self.next, self.leftovers) else {
            let body = match self.leftovers {
                Leftovers::Bury(letter) => letter(&body),
                Leftovers::Refuse | Leftovers::MoveTo(_) => body,
            };
            let burial = Burial {
                job: id,
                body,
                reason: Reason::Unroutable,
                class: None,
                provider: self.provider.clone(),
                route: carried.route,
                http_status: None,
                attempts: carried.attempts,
                detail: Some("its provider was retired".into()),
                died_at: now,
                taken_at,
                life: carried.life,
                trace,
            };
            return (Fate::Bury(Box::new(burial)), fact);
        };
        (fact.kind, fact.next_provider) = (FactKind::FailedOver, Some(next.provider.clone()));
        let section = match next.owners {
            Owners::One => section,
            Owners::Many => Section::Main,
        };
        // The provider's own route is gone with it; the next one's own takes its place.
        let own = carried.route.as_ref().is_some_and(|route| route.as_str() == self.provider.as_str());
        let route = if own { RouteName::parse(next.provider.as_str()).ok() } else { carried.route.clone() };
        // Since when a delivery is awaited here is no concern of another provider.
        let carried = Carried { hops: carried.hops.saturating_add(1), route, accepted_at: None, ..carried };
        let to = next.provider.clone();
        (Fate::Move(Box::new(Move { to, section, job: id, body, carried, taken_at, trace })), fact)
    }
}

//! Where every recent job stands: a memory of the events stream, from which it is rebuilt at the start.
//!
//! Each gateway reads the whole stream, so each can answer for every job, whichever took it in, and may be
//! killed without loss. It is bounded: the newest [`KNOWN_JOBS`] jobs, none longer than [`KNOWN_FOR`] after its
//! first fact, [`TIMELINE`](crate::limits::TIMELINE) entries each. At the start the last [`READ_BACK`] of the stream is read.
//! A job that waits in its queue has no fact yet: until its first one only the gateway that took it knows it.
//!
//! Invariant: what is folded in twice, or in another order, gives the same state ([`otpd_core::Progress`]).
//!
//! [`READ_BACK`]: crate::limits::READ_BACK

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use otpd_core::{Fact, FactKind, JobId, JobState, MessageId, Mono, ProviderName, RouteName, SendJob, UnixMs};

use crate::limits::{KNOWN_FOR, KNOWN_JOBS};
use crate::record::{Message, Record, entry};
use crate::view::{EntryView, JobView};
use crate::watch::{Change, Watchers};

/// By what a callback names a message.
type MessageKey = (ProviderName, MessageId);

/// The memory.
pub struct Index {
    most: usize,
    jobs: Mutex<Jobs>,
    watchers: Watchers,
    has_caught_up: AtomicBool,
}

#[derive(Default)]
struct Jobs {
    records: HashMap<JobId, Record>,
    /// In the order of their first facts.
    order: VecDeque<JobId>,
    messages: HashMap<MessageKey, JobId>,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("has_caught_up", &self.has_caught_up).finish_non_exhaustive()
    }
}

/// A message that a callback speaks of, and what is known of its job.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) job: JobId,
    /// `None` where no provider's message of this job is known yet.
    pub(crate) message: Option<Message>,
    pub(crate) route: Option<RouteName>,
    pub(crate) to: Option<Box<str>>,
    pub(crate) metadata: Option<otpd_core::Metadata>,
    pub(crate) life: otpd_core::Life,
}

impl Default for Index {
    fn default() -> Self {
        Self::new(KNOWN_JOBS)
    }
}

impl Index {
    /// A memory of at most so many jobs.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            jobs: Mutex::default(),
            watchers: Watchers::default(),
            has_caught_up: AtomicBool::new(false),
        }
    }

    /// True once everything that was on the stream at the start was folded in.
    #[must_use]
    pub fn has_caught_up(&self) -> bool {
        self.has_caught_up.load(Ordering::Acquire)
    }

    pub(crate) fn caught_up(&self) {
        self.has_caught_up.store(true, Ordering::Release);
    }

    /// How many jobs are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs().records.len()
    }

    /// True if no job is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// This gateway has queued a job.
    pub(crate) fn queued(&self, job: &SendJob, route: &RouteName, at: UnixMs, now: Mono) {
        let mut jobs = self.jobs();
        jobs.record(&job.id, now, self.most).queued(job, route, at);
    }

    /// Takes a fact in; false if it was known, or says nothing of a job.
    pub fn fold(&self, fact: &Fact, now: Mono) -> bool {
        match fact.kind {
            // Told with a job that only met it.
            FactKind::Paused | FactKind::Resumed => return false,
            FactKind::Accepted
            | FactKind::Retrying
            | FactKind::FailedOver
            | FactKind::Superseded
            | FactKind::Expired
            | FactKind::Duplicate
            | FactKind::Dead
            | FactKind::Sending
            | FactKind::Delivery(_)
            | FactKind::Verified => {}
        }
        let mut jobs = self.jobs();
        let record = jobs.record(&fact.job, now, self.most);
        if !record.fold(fact) {
            return false;
        }
        let forgotten = record.forgotten();
        let change = || Change { state: record.state(), entry: Some(entry(fact)) };
        self.watchers.tell(&fact.job, change);
        for message in forgotten {
            jobs.messages.remove(&message);
        }
        if let Some(id) = &fact.message_id {
            jobs.messages.insert((fact.provider.clone(), id.clone()), fact.job.clone());
        }
        true
    }

    /// The job as callers read it, and its route.
    pub(crate) fn view(&self, id: &JobId) -> Option<(JobView, Option<RouteName>)> {
        let jobs = self.jobs();
        let record = jobs.records.get(id)?;
        Some((record.view(id), record.route.clone()))
    }

    /// What happened so far to a job, and where it stands. `and_then` is called before anything more can happen.
    pub(crate) fn so_far<T>(
        &self,
        id: &JobId,
        and_then: impl FnOnce(JobState, Vec<EntryView>) -> T,
    ) -> Option<T> {
        let jobs = self.jobs();
        let record = jobs.records.get(id)?;
        Some(and_then(record.state(), record.entries().collect()))
    }

    /// The job of a message, by the message's id or else by what the provider echoes.
    pub(crate) fn find(
        &self,
        provider: &ProviderName,
        message: Option<&MessageId>,
        job: Option<&JobId>,
    ) -> Option<Found> {
        let jobs = self.jobs();
        let by_message =
            message.and_then(|id| jobs.messages.get(&(provider.clone(), id.clone()))).or(job)?.clone();
        let record = jobs.records.get(&by_message)?;
        let message = record.message(provider, message).cloned();
        Some(Found {
            life: message.as_ref().map_or(record.progress.life(), |message| message.life),
            job: by_message,
            message,
            route: record.route.clone(),
            to: record.to.clone(),
            metadata: record.metadata.clone(),
        })
    }

    /// The job with the provider that accepted it last, and that message; `None` where none has.
    pub(crate) fn accepted(&self, id: &JobId) -> Option<(ProviderName, Found)> {
        let jobs = self.jobs();
        let record = jobs.records.get(id)?;
        let message = record.accepted()?;
        let found = Found {
            life: message.life,
            job: id.clone(),
            message: Some(message.clone()),
            route: record.route.clone(),
            to: record.to.clone(),
            metadata: record.metadata.clone(),
        };
        Some((message.provider.clone(), found))
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Jobs {
    /// The record of a job; makes room for a new one.
    fn record(&mut self, id: &JobId, now: Mono, most: usize) -> &mut Record {
        if !self.records.contains_key(id) {
            self.forget(now, most);
            self.order.push_back(id.clone());
        }
        self.records.entry(id.clone()).or_insert_with(|| Record::new(now))
    }

    fn forget(&mut self, now: Mono, most: usize) {
        while let Some(oldest) = self.order.front() {
            let is_old = self.records.get(oldest).is_none_or(|record| now.since(record.seen_at) >= KNOWN_FOR);
            if !is_old && self.records.len() < most {
                return;
            }
            if let Some(record) = self.records.remove(oldest) {
                for (provider, id) in record.message_ids() {
                    let key = (provider.clone(), id.clone());
                    if self.messages.get(&key) == Some(oldest) {
                        self.messages.remove(&key);
                    }
                }
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use otpd_core::DeliveryStatus;
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> JobId {
        JobId::parse(text).unwrap()
    }

    fn provider() -> ProviderName {
        ProviderName::parse("p").unwrap()
    }

    fn fact(kind: FactKind, job: &str, attempt: u32, at: u64) -> Fact {
        let mut fact = Fact::new(kind, id(job), provider(), UnixMs(at));
        fact.attempt = attempt;
        fact.route = RouteName::parse("login").ok();
        fact
    }

    fn accepted(job: &str, message: &str) -> Fact {
        Fact { message_id: MessageId::new(message), ..fact(FactKind::Accepted, job, 1, 5) }
    }

    #[test]
    fn a_message_leads_to_its_job_and_back_to_what_was_told() {
        let index = Index::default();
        assert!(index.fold(&fact(FactKind::Sending, "a", 1, 4), Mono(0)));
        assert!(index.fold(&accepted("a", "m-1"), Mono(0)));
        assert!(!index.fold(&accepted("a", "m-1"), Mono(0)), "a fact that is read twice");
        let m1 = MessageId::new("m-1");
        let found = index.find(&provider(), m1.as_ref(), None).unwrap();
        let message = found.message.unwrap();
        assert_eq!((found.job, message.attempt), (id("a"), 1));
        assert!(message.is_accepted() && !message.was_told(DeliveryStatus::Sent));
        let mut sent = fact(FactKind::Delivery(DeliveryStatus::Sent), "a", 1, 9);
        sent.message_id = m1.clone();
        assert!(index.fold(&sent, Mono(0)));
        sent.at = UnixMs(77);
        assert!(!index.fold(&sent, Mono(0)), "said again later");
        let message = index.find(&provider(), m1.as_ref(), None).unwrap().message.unwrap();
        assert!(message.was_told(DeliveryStatus::Sent) && !message.was_delivered());
        assert!(index.find(&ProviderName::parse("q").unwrap(), m1.as_ref(), None).is_none());
        // By the echo alone: a job whose message is not known yet.
        let echoed = index.find(&provider(), MessageId::new("m-2").as_ref(), Some(&id("a"))).unwrap();
        assert!(echoed.message.is_none());
    }

    #[test]
    fn the_newest_jobs_are_kept() {
        let index = Index::new(100);
        for n in 0..1_000 {
            index.fold(&accepted(&format!("job-{n}"), &format!("m-{n}")), Mono(0));
        }
        let jobs = index.jobs();
        assert_eq!((jobs.records.len(), jobs.order.len(), jobs.messages.len()), (100, 100, 100));
        drop(jobs);
        assert!(index.view(&id("job-999")).is_some() && index.view(&id("job-899")).is_none());
        let tomorrow = Mono::default().plus(KNOWN_FOR);
        index.fold(&accepted("new", "m"), tomorrow);
        assert_eq!(index.len(), 1);
    }

    #[test]
    fn a_long_timeline_keeps_its_beginning_and_its_end() {
        let index = Index::default();
        for n in 0..500 {
            index.fold(&fact(FactKind::Retrying, "a", n, u64::from(n)), Mono(0));
        }
        let (view, _) = index.view(&id("a")).unwrap();
        assert_eq!((view.timeline.len(), view.left_out), (crate::limits::TIMELINE, 436));
        assert_eq!((view.timeline[0].attempt, view.timeline[63].attempt), (0, 499));
    }

    fn facts() -> impl Strategy<Value = Vec<Fact>> {
        let one = (proptest::sample::select(FactKind::ALL.to_vec()), 0u32..4, 0u64..50, any::<bool>());
        let made = one.prop_map(|(kind, attempt, at, named)| Fact {
            message_id: named.then(|| MessageId::new(&format!("m-{attempt}"))).flatten(),
            ..fact(kind, "a", attempt, at)
        });
        proptest::collection::vec(made, 1..12)
    }

    proptest! {
        #[test]
        fn neither_order_nor_repetition_changes_the_state(
            (facts, shuffled) in facts().prop_flat_map(|facts| (Just(facts.clone()), Just(facts).prop_shuffle())),
        ) {
            let (one, other) = (Index::default(), Index::default());
            for fact in &facts {
                let _ = one.fold(fact, Mono(0));
            }
            for fact in shuffled.iter().chain(&facts) {
                let _ = other.fold(fact, Mono(0));
            }
            let state = |index: &Index| index.view(&id("a")).map(|(view, _)| view.state);
            prop_assert_eq!(state(&one), state(&other));
        }
    }
}

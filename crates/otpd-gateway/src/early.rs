//! Callbacks that came before our own record of the message they speak of: a provider may call back before its
//! answer to the request has reached the stream.
//!
//! They are kept for [`KEPT_FOR`], the newest [`KEPT`] of them, and told when the record comes. Only this process
//! has them, so whoever waits for one is held up for a moment first: what is answered as told is on the stream.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use otpd_core::{JobId, MessageId, Mono, ProviderName};
use tokio::sync::oneshot;

use crate::deliveries::Said;

/// How long one is kept.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(300);
/// The most that are kept. Some 300 bytes each.
pub(crate) const KEPT: usize = 20_000;

/// By what a record will name the message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Awaited {
    Message(ProviderName, MessageId),
    Job(ProviderName, JobId),
}

/// One that is kept.
struct Kept {
    said: Said,
    /// Its turn is told once: by the record, or by whoever gives up waiting.
    taken_over: oneshot::Sender<Said>,
    keys: Vec<Awaited>,
}

#[derive(Default)]
struct Inner {
    kept: HashMap<u64, Kept>,
    by: HashMap<Awaited, Vec<u64>>,
    order: VecDeque<(Mono, u64)>,
    next: u64,
    /// Whose were dropped before their record came, since this was last asked for.
    dropped: Vec<ProviderName>,
}

/// All that are kept.
#[derive(Default)]
pub(crate) struct Early(Mutex<Inner>);

impl fmt::Debug for Early {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Early").field("kept", &self.inner().kept.len()).finish()
    }
}

impl Early {
    /// Keeps what was said. The receiver gets it back when the record comes, and ends where it is dropped before.
    pub(crate) fn keep(&self, said: Said, now: Mono) -> (u64, oneshot::Receiver<Said>) {
        let (taken_over, resolved) = oneshot::channel();
        let mut inner = self.inner();
        inner.forget(now);
        inner.next += 1;
        let number = inner.next;
        let by_message = said.message_id.clone().map(|id| Awaited::Message(said.provider.clone(), id));
        let by_job = said.job.clone().map(|job| Awaited::Job(said.provider.clone(), job));
        let keys: Vec<Awaited> = by_message.into_iter().chain(by_job).collect();
        for key in &keys {
            inner.by.entry(key.clone()).or_default().push(number);
        }
        inner.kept.insert(number, Kept { said, taken_over, keys });
        inner.order.push_back((now, number));
        (number, resolved)
    }

    /// The record of a message has come: gives it what was said to whoever waits.
    pub(crate) fn resolve(&self, provider: &ProviderName, message: Option<&MessageId>, job: &JobId) {
        let mut inner = self.inner();
        let by_message = message.map(|id| Awaited::Message(provider.clone(), id.clone()));
        let by_job = Awaited::Job(provider.clone(), job.clone());
        let numbers: Vec<u64> = by_message
            .iter()
            .chain([&by_job])
            .filter_map(|key| inner.by.get(key))
            .flatten()
            .copied()
            .collect();
        for number in numbers {
            if let Some(kept) = inner.remove(number) {
                // Whoever waited may just have given up.
                let _ = kept.taken_over.send(kept.said);
            }
        }
    }

    /// Gives those of which this says so to whoever waits.
    pub(crate) fn resolve_all(&self, is_known: impl Fn(&Said) -> bool) {
        let mut inner = self.inner();
        let known = inner.kept.iter().filter(|(_, kept)| is_known(&kept.said));
        let numbers: Vec<u64> = known.map(|(number, _)| *number).collect();
        for number in numbers {
            if let Some(kept) = inner.remove(number) {
                // Whoever waited may just have given up.
                let _ = kept.taken_over.send(kept.said);
            }
        }
    }

    /// Takes one back, if nobody has resolved it.
    pub(crate) fn take_back(&self, number: u64) -> Option<Said> {
        self.inner().remove(number).map(|kept| kept.said)
    }

    /// Forgets what is too old; gives whose was dropped since the last time.
    pub(crate) fn sweep(&self, now: Mono) -> Vec<ProviderName> {
        let mut inner = self.inner();
        inner.forget(now);
        std::mem::take(&mut inner.dropped)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn remove(&mut self, number: u64) -> Option<Kept> {
        let kept = self.kept.remove(&number)?;
        for key in &kept.keys {
            if let Some(numbers) = self.by.get_mut(key) {
                numbers.retain(|other| *other != number);
                if numbers.is_empty() {
                    self.by.remove(key);
                }
            }
        }
        Some(kept)
    }

    fn forget(&mut self, now: Mono) {
        while let Some((at, number)) = self.order.front().copied() {
            if now.since(at) < KEPT_FOR && self.order.len() < KEPT {
                return;
            }
            self.order.pop_front();
            if let Some(kept) = self.remove(number)
                && self.dropped.len() < KEPT
            {
                self.dropped.push(kept.said.provider);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use otpd_core::DeliveryStatus;

    use super::*;

    fn said(message: &str, job: Option<&str>) -> Said {
        Said {
            provider: ProviderName::parse("p").unwrap(),
            message_id: MessageId::new(message),
            job: job.map(|job| JobId::parse(job).unwrap()),
            status: DeliveryStatus::Delivered,
            at: None,
            reason: None,
            class: None,
        }
    }

    #[test]
    fn one_is_told_once_by_either_name() {
        let (early, provider) = (Early::default(), ProviderName::parse("p").unwrap());
        let (_, mut by_message) = early.keep(said("m", None), Mono(0));
        let (number, mut by_job) = early.keep(said("n", Some("a")), Mono(0));
        early.resolve(&provider, MessageId::new("m").as_ref(), &JobId::parse("a").unwrap());
        assert_eq!(by_message.try_recv().unwrap().message_id, MessageId::new("m"));
        assert_eq!(by_job.try_recv().unwrap().message_id, MessageId::new("n"));
        assert!(early.take_back(number).is_none());
        let inner = early.inner();
        assert!(inner.kept.is_empty() && inner.by.is_empty());
    }

    #[test]
    fn they_are_bounded_in_number_and_time() {
        let early = Early::default();
        let waiting: Vec<_> =
            (0..KEPT + 5).map(|n| early.keep(said(&format!("m-{n}"), None), Mono(0))).collect();
        assert!(early.inner().kept.len() <= KEPT && early.inner().dropped.len() >= 5);
        assert_eq!(early.sweep(Mono::default().plus(KEPT_FOR)).len(), KEPT);
        assert!(early.sweep(Mono::default()).is_empty());
        assert!(early.inner().kept.is_empty() && early.inner().by.is_empty());
        assert!(waiting.into_iter().all(|(_, mut waits)| waits.try_recv().is_err()));
    }
}

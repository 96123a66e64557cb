//! The account that must balance at the end of every end-to-end run:
//!
//! ```text
//! published = accepted + dead + expired + superseded + still queued
//! ```
//!
//! …for each job, not only in sum, or a job lost and a job settled twice would hide each other. The
//! ledger is told what was published, every event, and what is still queued, in any order, and says at
//! the end what does not fit. It reads events by the contract (CloudEvents JSON), not by otpd's own code.
//!
//! A job that a provider accepted counts as that, whatever becomes of its one extra send (`extra_send` in its events).
//!
//! A stream delivers at least once: an event whose bytes were seen before is the same event again, not a
//! second settlement. Two events of one meaning but different in anything (time, worker, message id)
//! happened twice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use otpd_core::FactKind;
use serde::Deserialize;

/// How many jobs of each kind of trouble are named in the text of [`Unbalanced`].
const SHOWN: usize = 10;

/// Everything that was said about jobs.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    jobs: HashMap<Box<str>, Entry>,
    events: HashSet<u64>,
    seen: BTreeMap<FactKind, u64>,
    repeated: u64,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    published: u64,
    queued: bool,
    settled: Vec<FactKind>,
    /// Ends of the extra send of a job that was accepted: no ends of the job.
    extra: Vec<FactKind>,
}

/// An event that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// Not JSON, or without `type` or (of a job) `subject`.
    #[error("not a CloudEvent in JSON with a type and a subject")]
    Unreadable,
    /// `otp.job.` and something that the contract does not have.
    #[error("the contract has no event type {0}")]
    UnknownType(String),
}

/// A ledger that balances.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Summary {
    /// Jobs published: distinct ids.
    pub published: u64,
    /// Jobs that a provider took.
    pub accepted: u64,
    /// Jobs that failed for good.
    pub dead: u64,
    /// Jobs whose code ran out.
    pub expired: u64,
    /// Jobs that a newer one replaced.
    pub superseded: u64,
    /// Jobs still queued.
    pub queued: u64,
    /// Copies dropped because their id was known.
    pub duplicates: u64,
    /// Attempts that another followed.
    pub retries: u64,
    /// Moves to the next provider.
    pub failed_over: u64,
    /// Accepted jobs that were sent once more.
    pub extra_sends: u64,
    /// Events that were delivered more than once.
    pub repeated: u64,
}

/// A ledger that does not balance. Ids are in order.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Unbalanced {
    /// What does balance.
    pub summary: Summary,
    /// Published, and neither settled nor queued: lost.
    pub missing: Vec<String>,
    /// Settled more than once, with how.
    pub settled_twice: Vec<(String, Vec<FactKind>)>,
    /// Settled, and still queued.
    pub settled_and_queued: Vec<String>,
    /// Spoken of or queued, and never published.
    pub unknown: Vec<String>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    event_type: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    data: EventData,
}

#[derive(Default, Deserialize)]
struct EventData {
    #[serde(default)]
    extra_send: bool,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A job was published (and confirmed).
    pub fn published(&mut self, id: &str) {
        self.entry(id).published += 1;
    }

    /// A job is still queued, on whatever lane.
    pub fn queued(&mut self, id: &str) {
        self.entry(id).queued = true;
    }

    /// An event came. Events that are not about jobs (`otp.delivery.…`, `otp.provider.…`) are passed over.
    ///
    /// # Errors
    /// [`InvalidEvent`]: not an event of the contract.
    pub fn event(&mut self, body: &[u8]) -> Result<(), InvalidEvent> {
        let event: Event = serde_json::from_slice(body).map_err(|_| InvalidEvent::Unreadable)?;
        if !event.event_type.starts_with("otp.job.") {
            return Ok(());
        }
        let kind = FactKind::parse(&event.event_type)
            .ok_or_else(|| InvalidEvent::UnknownType(event.event_type.clone()))?;
        if event.subject.is_empty() {
            return Err(InvalidEvent::Unreadable);
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(body);
        if !self.events.insert(hasher.finish()) {
            self.repeated += 1;
            return Ok(());
        }
        *self.seen.entry(kind).or_default() += 1;
        let entry = self.entry(&event.subject);
        if kind.is_final() {
            let ends = if event.data.extra_send { &mut entry.extra } else { &mut entry.settled };
            ends.push(kind);
        }
        Ok(())
    }

    /// How many published jobs are settled so far.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.jobs.values().filter(|entry| entry.published > 0 && !entry.settled.is_empty()).count() as u64
    }

    /// Draws the line.
    ///
    /// # Errors
    /// [`Unbalanced`] says for which jobs the equation does not hold.
    pub fn close(&self) -> Result<Summary, Box<Unbalanced>> {
        let mut found = Unbalanced::default();
        let seen = |kind: FactKind| self.seen.get(&kind).copied().unwrap_or_default();
        found.summary.duplicates = seen(FactKind::Duplicate);
        found.summary.retries = seen(FactKind::Retrying);
        found.summary.failed_over = seen(FactKind::FailedOver);
        found.summary.repeated = self.repeated;
        for (id, entry) in &self.jobs {
            found.add(id, entry);
        }
        let Unbalanced { summary, missing, settled_twice, settled_and_queued, unknown } = &mut found;
        missing.sort_unstable();
        settled_twice.sort_unstable();
        settled_and_queued.sort_unstable();
        unknown.sort_unstable();
        let balances = missing.is_empty()
            && settled_twice.is_empty()
            && settled_and_queued.is_empty()
            && unknown.is_empty();
        if balances { Ok(summary.clone()) } else { Err(Box::new(found)) }
    }

    fn entry(&mut self, id: &str) -> &mut Entry {
        self.jobs.entry(id.into()).or_default()
    }
}

impl Unbalanced {
    fn add(&mut self, id: &str, entry: &Entry) {
        if entry.published == 0 {
            self.unknown.push(id.to_owned());
            return;
        }
        self.summary.published += 1;
        if !entry.extra.is_empty() {
            self.summary.extra_sends += 1;
            let is_one_more = entry.extra.len() == 1 && entry.settled.contains(&FactKind::Accepted);
            if !is_one_more {
                let all = entry.settled.iter().chain(&entry.extra).copied().collect();
                return self.settled_twice.push((id.to_owned(), all));
            }
        }
        match (entry.settled.as_slice(), entry.queued) {
            ([], false) => self.missing.push(id.to_owned()),
            ([], true) => self.summary.queued += 1,
            ([_], true) => self.settled_and_queued.push(id.to_owned()),
            ([once], false) => *self.summary.settled_as(*once) += 1,
            (twice, _) => self.settled_twice.push((id.to_owned(), twice.to_vec())),
        }
    }
}

impl Summary {
    fn settled_as(&mut self, kind: FactKind) -> &mut u64 {
        match kind {
            FactKind::Accepted => &mut self.accepted,
            FactKind::Dead => &mut self.dead,
            FactKind::Expired => &mut self.expired,
            FactKind::Superseded => &mut self.superseded,
            // Not final, so never a settlement; counted where they are counted anyway.
            FactKind::Retrying
            | FactKind::Sending
            | FactKind::Paused
            | FactKind::Resumed
            | FactKind::Delivery(_)
            | FactKind::Verified => &mut self.retries,
            FactKind::FailedOver => &mut self.failed_over,
            FactKind::Duplicate => &mut self.duplicates,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { published, accepted, dead, expired, superseded, queued, .. } = self;
        write!(
            f,
            "{published} published = {accepted} accepted + {dead} dead + {expired} expired + {superseded} superseded + {queued} queued"
        )
    }
}

impl fmt::Display for Unbalanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list(f: &mut fmt::Formatter<'_>, what: &str, ids: &[String]) -> fmt::Result {
            if ids.is_empty() {
                return Ok(());
            }
            let shown: Vec<&str> = ids.iter().take(SHOWN).map(String::as_str).collect();
            let more = if ids.len() > SHOWN { ", …" } else { "" };
            write!(f, "; {} {what}: {}{more}", ids.len(), shown.join(", "))
        }
        write!(f, "the ledger does not balance: {}", self.summary)?;
        list(f, "missing", &self.missing)?;
        let twice: Vec<String> = self
            .settled_twice
            .iter()
            .map(|(id, how)| {
                let how: Vec<&str> = how.iter().map(|kind| kind.as_str()).collect();
                format!("{id} ({})", how.join(" and "))
            })
            .collect();
        list(f, "settled twice", &twice)?;
        list(f, "settled and still queued", &self.settled_and_queued)?;
        list(f, "never published", &self.unknown)
    }
}

impl std::error::Error for Unbalanced {}

#[cfg(test)]
mod tests {
    use otpd_core::{Fact, JobId, ProviderName, UnixMs, fact_json};
    use proptest::prelude::*;

    use super::*;

    fn event(kind: FactKind, id: &str, attempt: u32) -> Vec<u8> {
        let (job, provider) = (JobId::parse(id).unwrap(), ProviderName::parse("verihubs").unwrap());
        fact_json::encode(&Fact { attempt, ..Fact::new(kind, job, provider, UnixMs(5)) }, "otpd/test")
    }

    fn ledger(published: &[&str], events: &[(FactKind, &str, u32)], queued: &[&str]) -> Ledger {
        let mut ledger = Ledger::new();
        // Events first: the order must not matter.
        for (kind, id, attempt) in events {
            ledger.event(&event(*kind, id, *attempt)).unwrap();
        }
        published.iter().for_each(|id| ledger.published(id));
        queued.iter().for_each(|id| ledger.queued(id));
        ledger
    }

    use FactKind::{Accepted, Dead, Duplicate, Expired, FailedOver, Retrying, Superseded};

    #[test]
    fn balances() {
        let ledger = ledger(
            &["a", "b", "c", "d", "e", "a"],
            &[
                (Retrying, "a", 1),
                (FailedOver, "a", 2),
                (Accepted, "a", 3),
                (Accepted, "a", 3),
                (Duplicate, "a", 0),
                (Dead, "b", 1),
                (Expired, "c", 0),
                (Superseded, "d", 0),
            ],
            &["e"],
        );
        let summary = ledger.close().unwrap();
        let one_each = Summary {
            published: 5,
            accepted: 1,
            dead: 1,
            expired: 1,
            superseded: 1,
            queued: 1,
            duplicates: 1,
            retries: 1,
            failed_over: 1,
            extra_sends: 0,
            repeated: 1,
        };
        assert_eq!(summary, one_each);
        assert_eq!(ledger.settled(), 4);
        assert_eq!(
            summary.to_string(),
            "5 published = 1 accepted + 1 dead + 1 expired + 1 superseded + 1 queued"
        );
    }

    #[test]
    fn says_what_does_not_fit() {
        let ledger = ledger(
            &["lost", "retried", "twice", "both", "ok"],
            &[
                (Retrying, "retried", 1),
                (Accepted, "twice", 1),
                (Accepted, "twice", 2),
                (Dead, "both", 1),
                (Accepted, "ghost", 1),
                (Accepted, "ok", 1),
            ],
            &["both", "phantom"],
        );
        let found = ledger.close().unwrap_err();
        assert_eq!(found.missing, ["lost", "retried"]);
        assert_eq!(found.settled_twice, [("twice".to_owned(), vec![Accepted, Accepted])]);
        assert_eq!(found.settled_and_queued, ["both"]);
        assert_eq!(found.unknown, ["ghost", "phantom"]);
        assert_eq!(
            found.to_string(),
            "the ledger does not balance: 5 published = 1 accepted + 0 dead + 0 expired + 0 superseded + 0 queued; \
             2 missing: lost, retried; 1 settled twice: twice (accepted and accepted); \
             1 settled and still queued: both; 2 never published: ghost, phantom"
        );
    }

    #[test]
    fn the_same_attempt_accepted_by_two_workers_is_twice() {
        let mut ledger = ledger(&["a"], &[(Accepted, "a", 1)], &[]);
        let other = String::from_utf8(event(Accepted, "a", 1)).unwrap().replace("otpd/test", "otpd/other");
        ledger.event(other.as_bytes()).unwrap();
        assert_eq!(ledger.close().unwrap_err().settled_twice.len(), 1);
    }

    #[test]
    fn an_extra_send_is_no_second_end_and_there_is_one_at_most() {
        let extra = |kind, attempt| {
            let (job, provider) = (JobId::parse("a").unwrap(), ProviderName::parse("msgai").unwrap());
            let fact = Fact { attempt, extra: true, ..Fact::new(kind, job, provider, UnixMs(5)) };
            fact_json::encode(&fact, "otpd/test")
        };
        for kind in [Accepted, Dead, Expired, Superseded] {
            let mut once = ledger(&["a"], &[(Accepted, "a", 1)], &[]);
            once.event(&extra(kind, 2)).unwrap();
            let summary = once.close().unwrap();
            assert_eq!((summary.accepted, summary.dead, summary.extra_sends), (1, 0, 1), "{kind:?}");
            // Another one, and one without the first.
            once.event(&extra(Accepted, 3)).unwrap();
            assert_eq!(once.close().unwrap_err().settled_twice.len(), 1, "{kind:?}");
            let mut alone = ledger(&["a"], &[], &[]);
            alone.event(&extra(kind, 2)).unwrap();
            assert!(alone.close().is_err(), "{kind:?}");
        }
    }

    #[test]
    fn reads_only_events_of_the_contract() {
        let mut ledger = Ledger::new();
        for other in [
            r#"{"type":"otp.delivery.read","subject":"a","data":{}}"#,
            r#"{"type":"otp.provider.paused","data":{}}"#,
        ] {
            assert_eq!(ledger.event(other.as_bytes()), Ok(()));
        }
        assert_eq!(ledger.close().unwrap(), Summary::default());
        for (bad, error) in [
            ("", InvalidEvent::Unreadable),
            ("{}", InvalidEvent::Unreadable),
            (r#"{"type":"otp.job.dead"}"#, InvalidEvent::Unreadable),
            (
                r#"{"type":"otp.job.vanished","subject":"a"}"#,
                InvalidEvent::UnknownType("otp.job.vanished".into()),
            ),
        ] {
            assert_eq!(ledger.event(bad.as_bytes()), Err(error));
        }
    }

    proptest! {
        #[test]
        fn every_published_job_is_in_exactly_one_place(
            jobs in proptest::collection::vec((0u8..4, any::<bool>(), any::<bool>()), 1..60),
        ) {
            let mut ledger = Ledger::new();
            let finals = [Accepted, Dead, Expired, Superseded];
            let (mut fits, mut missing, mut both) = (0, 0, 0);
            for (i, (how, settled, queued)) in jobs.iter().enumerate() {
                let id = format!("job-{i}");
                ledger.published(&id);
                if *settled {
                    ledger.event(&event(finals[usize::from(*how)], &id, 1)).unwrap();
                }
                if *queued {
                    ledger.queued(&id);
                }
                match (settled, queued) {
                    (false, false) => missing += 1,
                    (true, true) => both += 1,
                    (true, false) | (false, true) => fits += 1,
                }
            }
            let (summary, found) = match ledger.close() {
                Ok(summary) => (summary, Unbalanced::default()),
                Err(found) => (found.summary.clone(), *found),
            };
            prop_assert_eq!((found.missing.len(), found.settled_and_queued.len()), (missing, both));
            let Summary { published, accepted, dead, expired, superseded, queued, .. } = summary;
            prop_assert_eq!(published, jobs.len() as u64);
            prop_assert_eq!(accepted + dead + expired + superseded + queued, fits);
        }
    }
}

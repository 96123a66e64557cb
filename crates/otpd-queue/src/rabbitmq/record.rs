//! What was applied to the broker, told by whoever applied it: one JSON document a change on the small
//! stream `otp.topology`, of which the last one counts.
//!
//! AMQP shows no bindings, so this is how anybody knows where routes lead. A change is recorded before
//! it begins ([`State::Applying`], with every queue to which a route may be bound until it is over) and
//! when it is done; whoever finds the first without the second knows what may be left over.
//!
//! A stream's end cannot be asked for over AMQP. A reader takes what the last chunk holds; where the
//! stream is silent it is empty, or its broker slow. That is enough for a worker, which asks again. Who
//! is about to change something must not mistake the one for the other, and finds out by publishing a
//! knock: what comes before it was there before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use otpd_core::{ProviderName, UnixMs};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::clock;
use super::link::Link;
use super::publisher::{Fate, Publisher};
use super::stream::{Start, StreamReader};
use super::topology::{self, TOPOLOGY_KEY};
use super::wire::{Parcel, short};
use crate::error::QueueError;
use crate::plan::{Difference, Owners, Plan};

/// The form of the document. A reader that knows only older ones touches nothing.
const VERSION: u32 = 1;
/// How long a stream that holds anything may take to give it.
const SILENCE: Duration = Duration::from_secs(2);
/// How long the rest of the last chunk may take: it comes with its first record.
const REST: Duration = Duration::from_millis(25);
/// How often a record is published before the apply is given up.
const ATTEMPTS: u32 = 5;
/// The `type` of a record, and of a knock.
const RECORD: &str = "otp.topology.applied";
const KNOCK: &str = "otp.topology.knock";

/// Whether a change is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It began. Each route is bound to one of the queues named for it.
    Applying,
    /// It is done. Each route is bound to the one queue named for it.
    Applied,
}

/// A lane that was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecordedLane {
    pub(super) provider: String,
    pub(super) owners: String,
}

/// What was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// Counts the changes, from 1.
    pub(super) generation: u64,
    pub(super) state: State,
    /// Who applied it, and when (RFC 3339).
    pub(super) by: String,
    pub(super) at: String,
    /// The planned lanes.
    pub(super) lanes: Vec<RecordedLane>,
    /// The queues to which each route leads, by their keys on `otp.lanes` (`verihubs`, `verihubs.bulk`).
    pub(super) routes: BTreeMap<String, BTreeSet<String>>,
    /// Providers that are planned no more, and whose lanes are still there.
    pub(super) to_retire: BTreeSet<String>,
}

impl Record {
    /// What is recorded when `plan` is applied over what is there.
    pub(super) fn of(plan: &Plan, by: &str, before: Option<&Self>) -> Self {
        let lane = |lane: &crate::plan::LanePlan| RecordedLane {
            provider: lane.provider.to_string(),
            owners: lane.owners.as_str().to_owned(),
        };
        let routes = topology::routes(plan).into_iter().map(|(route, key)| (route, BTreeSet::from([key])));
        let left = before.into_iter().flat_map(|before| {
            before.lanes.iter().map(|lane| &lane.provider).chain(&before.to_retire).cloned()
        });
        let planned = |name: &String| plan.lanes.iter().any(|lane| lane.provider.as_str() == name);
        Self {
            version: VERSION,
            generation: before.map_or(0, |before| before.generation) + 1,
            state: State::Applied,
            by: by.to_owned(),
            at: clock::now().to_string(),
            lanes: plan.lanes.iter().map(lane).collect(),
            routes: routes.collect(),
            to_retire: left.filter(|name| !planned(name)).collect(),
        }
    }

    /// The record of the same change before it begins, when routes may still lead where `before` says.
    pub(super) fn begun(&self, before: Option<&Self>) -> Self {
        let mut begun = Self { state: State::Applying, ..self.clone() };
        for (route, keys) in before.into_iter().flat_map(|before| &before.routes) {
            begun.routes.entry(route.clone()).or_default().extend(keys.iter().cloned());
        }
        begun
    }

    /// The record without a provider that was retired.
    pub(super) fn without(&self, provider: &ProviderName, by: &str) -> Self {
        let mut rest = Self {
            generation: self.generation + 1,
            by: by.to_owned(),
            at: clock::now().to_string(),
            ..self.clone()
        };
        rest.to_retire.remove(provider.as_str());
        rest
    }

    /// Whether it says the same of the broker, whoever said it and when.
    pub(super) fn says_the_same_as(&self, other: &Self) -> bool {
        let said = |one: &Self| (one.state, one.lanes.clone(), one.routes.clone(), one.to_retire.clone());
        said(self) == said(other)
    }

    /// Whether a lane was applied as it is planned.
    pub(super) fn has_lane(&self, provider: &ProviderName, owners: Owners) -> bool {
        self.lanes.iter().any(|lane| lane.provider == provider.as_str() && lane.owners == owners.as_str())
    }

    /// How the routes, and the lanes that are there, differ from the plan.
    pub(super) fn differences(&self, plan: &Plan) -> Vec<Difference> {
        let mut differences = Vec::new();
        if self.state == State::Applying {
            let how = format!(
                "generation {} was begun by {} at {}, and is not done",
                self.generation, self.by, self.at
            );
            differences.push(Difference::Different { what: "the topology".to_owned(), how });
        }
        let planned = topology::routes(plan);
        for (route, key) in &planned {
            let what = format!("route {route}");
            match self.routes.get(route) {
                None => differences.push(Difference::Missing { what }),
                Some(keys) if keys.len() == 1 && keys.contains(key) => {}
                Some(keys) => differences.push(Difference::Different {
                    what,
                    how: format!("leads to {}, planned is {key}", list(keys)),
                }),
            }
        }
        for (route, keys) in self.routes.iter().filter(|(route, _)| !planned.contains_key(*route)) {
            let how = format!("leads to {}, planned is no such route", list(keys));
            differences.push(Difference::Different { what: format!("route {route}"), how });
        }
        for provider in &self.to_retire {
            let how = format!("is planned no more and still there; run `otpd topology retire {provider}`");
            differences.push(Difference::Different { what: format!("lane {provider}"), how });
        }
        differences
    }

    fn parcel(&self, plan: &Plan) -> Parcel {
        let body = serde_json::to_vec(self).unwrap_or_default();
        parcel(plan, RECORD, body.into())
    }

    /// Publishes it, confirmed.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Unroutable`], [`QueueError::Refused`].
    pub(super) async fn publish(&self, plan: &Plan, publisher: &mut Publisher) -> Result<(), QueueError> {
        publish(publisher, &self.parcel(plan)).await
    }
}

fn list(keys: &BTreeSet<String>) -> String {
    keys.iter().map(String::as_str).collect::<Vec<_>>().join(" or ")
}

fn parcel(plan: &Plan, kind: &str, body: Bytes) -> Parcel {
    let id = short(&Uuid::now_v7().to_string());
    let UnixMs(now) = clock::now();
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_type(short(kind))
        .with_message_id(id.clone())
        .with_timestamp(now / 1000)
        .with_content_type("application/json".into())
        .with_app_id("otpd".into());
    Parcel {
        exchange: short(&plan.topology()),
        key: TOPOLOGY_KEY.into(),
        id,
        body,
        properties,
        mandatory: true,
    }
}

async fn publish(publisher: &mut Publisher, parcel: &Parcel) -> Result<(), QueueError> {
    for _ in 0..ATTEMPTS {
        match publisher.window(&[parcel]).await?.first() {
            Some(Fate::Confirmed) => return Ok(()),
            Some(Fate::Returned) => return Err(parcel.unroutable()),
            Some(Fate::Unknown) | None => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
    Err(QueueError::Away { url: "-".into(), why: "the stream of the topology confirms nothing".into() })
}

/// What one message of the stream says.
enum Said {
    Record(Box<Record>),
    /// A knock, or nothing that can be read.
    Nothing,
}

fn read(kind: Option<&str>, body: &[u8]) -> Result<Said, QueueError> {
    if kind != Some(RECORD) {
        return Ok(Said::Nothing);
    }
    match serde_json::from_slice::<Record>(body) {
        Ok(record) if record.version == VERSION => Ok(Said::Record(Box::new(record))),
        Ok(_) | Err(_) => Err(QueueError::Refused {
            why: "the topology was applied by another version of otpd, which records it in another form; use that version, or a newer one".into(),
        }),
    }
}

/// The last record, as far as a reader can tell: `None` where the stream gives nothing.
///
/// # Errors
/// [`QueueError::Away`] (a stream that does not exist included), [`QueueError::Refused`].
pub(super) async fn last(link: &Link, plan: &Plan) -> Result<Option<Record>, QueueError> {
    let mut reader = StreamReader::open(link, &plan.topology(), Start::Last).await?;
    let mut record = None;
    let mut patience = SILENCE;
    while let Ok(next) = tokio::time::timeout(patience, reader.next()).await {
        let next = next?;
        let kind = next.message.properties.kind().as_ref().map(lapin::types::ShortString::as_str);
        if let Said::Record(said) = read(kind, &next.message.data)? {
            record = Some(*said);
        }
        patience = REST;
    }
    reader.close().await;
    Ok(record)
}

/// The last record, for sure: for whoever holds the lock and is about to change something.
///
/// # Errors
/// As [`last`].
pub(super) async fn last_for_sure(
    link: &Link,
    plan: &Plan,
    publisher: &mut Publisher,
) -> Result<Option<Record>, QueueError> {
    if let Some(record) = last(link, plan).await? {
        return Ok(Some(record));
    }
    // From the beginning: a few hundred kilobytes, and the last chunk may hold nothing but a knock.
    let mut reader = StreamReader::open(link, &plan.topology(), Start::Offset(0)).await?;
    let knock = parcel(plan, KNOCK, Bytes::new());
    publish(publisher, &knock).await?;
    let mut record = None;
    loop {
        let next = reader.next_within(Duration::from_secs(10)).await?;
        let properties = &next.message.properties;
        if properties.message_id().as_ref() == Some(&knock.id) {
            reader.close().await;
            return Ok(record);
        }
        let kind = properties.kind().as_ref().map(lapin::types::ShortString::as_str);
        if let Said::Record(said) = read(kind, &next.message.data)? {
            record = Some(*said);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::LanePlan;
    use otpd_core::RouteName;

    fn plan(lanes: &[(&str, &[&str])]) -> Plan {
        let lane = |(provider, routes): &(&str, &[&str])| {
            let routes = routes.iter().map(|route| RouteName::parse(route).unwrap()).collect();
            LanePlan::new(ProviderName::parse(provider).unwrap(), routes)
        };
        Plan { lanes: lanes.iter().map(lane).collect(), ..Plan::default() }
    }

    #[test]
    fn a_record_is_read_back_and_compared() {
        let before = plan(&[("a", &["a", "login"]), ("b", &["b"])]);
        let record = Record::of(&before, "otpd/test", None);
        assert_eq!((record.generation, record.differences(&before)), (1, vec![]));
        let Ok(Said::Record(back)) = read(Some(RECORD), &record.parcel(&before).body) else { panic!() };
        assert_eq!(*back, record);

        let after = plan(&[("b", &["b", "login"]), ("c", &["c"])]);
        let next = Record::of(&after, "otpd/test", Some(&record));
        assert_eq!((next.generation, next.to_retire.clone()), (2, BTreeSet::from(["a".to_owned()])));
        let told: Vec<String> = record.differences(&after).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "route c is missing",
                "route login differs: leads to a, planned is b",
                "route a differs: leads to a, planned is no such route"
            ]
        );
        // Until it is done a route may lead to either.
        let begun = next.begun(Some(&record));
        assert_eq!(begun.routes["login"], BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        assert!(begun.differences(&after)[0].to_string().contains("is not done"));
        assert!(
            !begun.says_the_same_as(&next) && next.says_the_same_as(&Record::of(&after, "x", Some(&next)))
        );
        let rest = next.without(&ProviderName::parse("a").unwrap(), "otpd/test");
        assert_eq!((rest.generation, rest.to_retire.len()), (3, 0));
    }

    #[test]
    fn a_document_of_another_version_is_refused_and_a_knock_passed_over() {
        let plan = plan(&[]);
        let mut newer = Record::of(&plan, "otpd/test", None);
        newer.version = 2;
        assert!(read(Some(RECORD), &newer.parcel(&plan).body).is_err());
        assert!(read(Some(RECORD), b"{}").is_err());
        assert!(matches!(read(Some(KNOCK), b""), Ok(Said::Nothing)));
        assert!(matches!(read(None, b""), Ok(Said::Nothing)));
    }
}

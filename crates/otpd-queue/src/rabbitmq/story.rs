//! The facts of one job up to now (`otpd explain`).
//!
//! A stream does not say where it ends. So a mark is published once the reading has begun: what stands before the
//! mark is everything that was confirmed before the question was asked.

use std::time::Duration;

use otpd_core::{Fact, JobId, fact_json};
use uuid::Uuid;

use super::clock;
use super::link::Link;
use super::nodes::Nodes;
use super::publisher::{Fate, Publisher};
use super::stream::{Start, StreamReader};
use super::wire;
use crate::error::QueueError;
use crate::plan::Plan;
use crate::seam::Proof;

/// How long the stream may give nothing although the mark is still to come.
const STALL: Duration = Duration::from_secs(10);
/// How often the mark is published, should the broker refuse it for now.
const TRIES: u32 = 50;
/// The pause between two of these.
const PAUSE: Duration = Duration::from_millis(100);
/// The most facts that are kept of one job.
const MOST: usize = 10_000;

/// The connections and names that it takes.
pub(super) struct Sources<'a> {
    pub(super) consume: &'a Link,
    pub(super) publish: &'a Link,
    pub(super) nodes: &'a Nodes,
    pub(super) plan: &'a Plan,
    pub(super) source: &'a str,
}

/// Reads the facts of `job` from the last `back`, in the order of the stream.
///
/// # Errors
/// [`QueueError::Away`], [`QueueError::Refused`].
pub(super) async fn story(
    sources: Sources<'_>,
    job: &JobId,
    back: Duration,
) -> Result<Vec<Fact>, QueueError> {
    let start = Start::At(clock::now().minus(back));
    let mut reader = StreamReader::open(sources.consume, &sources.plan.events(), start).await?;
    let id = Uuid::now_v7().to_string();
    let facts = match mark(&sources, &id).await {
        Ok(()) => read(&mut reader, job, &id).await,
        Err(error) => Err(error),
    };
    reader.close().await;
    facts
}

async fn mark(sources: &Sources<'_>, id: &str) -> Result<(), QueueError> {
    let parcel = wire::mark(sources.plan, sources.source, sources.source, id, clock::now());
    let mut publisher = Publisher::new(sources.publish.clone(), Proof::default());
    for _ in 0..TRIES {
        match publisher.window(&[&parcel]).await?.first() {
            Some(Fate::Confirmed) => return Ok(()),
            Some(Fate::Returned) => return Err(parcel.unroutable()),
            Some(Fate::Unknown) | None => tokio::time::sleep(PAUSE).await,
        }
    }
    Err(QueueError::Away {
        url: sources.nodes.shown(),
        why: "the events stream takes no records; has it a majority of its nodes?".into(),
    })
}

async fn read(reader: &mut StreamReader, job: &JobId, mark: &str) -> Result<Vec<Fact>, QueueError> {
    let mut facts = Vec::new();
    loop {
        let record = reader.next_within(STALL).await?;
        let id = record.message.properties.message_id();
        if id.as_ref().is_some_and(|id| id.as_str() == mark) {
            return Ok(facts);
        }
        if facts.len() < MOST
            && let Some(fact) = fact_json::decode(&record.message.data)
            && fact.job == *job
        {
            facts.push(fact);
        }
    }
}

//! What the last minutes of the stream say, up to a moment of our own choosing.
//!
//! A lane must not act on a job that came back before it knows every fact that was confirmed by
//! then. So it first begins to read, then publishes a marker of its own, and reads until the marker
//! comes by: a stream has one order, so everything confirmed before the marker has been read. To
//! begin before publishing matters: wherever a wrong clock makes the reading begin, the marker lies ahead.

use std::sync::Arc;
use std::time::Duration;

use otpd_core::{Fact, ProviderName, fact_json, recent};
use tokio::sync::mpsc;
use tracing::{info, warn};
use uuid::Uuid;

use super::backoff::Backoff;
use super::clock;
use super::link::Link;
use super::publisher::{Fate, Publisher};
use super::stream::{Start, StreamReader};
use super::wire;
use crate::error::QueueError;
use crate::plan::Plan;
use crate::seam::Inbound;

/// How long the stream may give nothing before the reading is begun again.
const STALL: Duration = Duration::from_secs(10);

/// How often the marker is published before the reading is begun again.
const MARKER_ATTEMPTS: u32 = 3;

/// What a lane needs to read its history.
pub(super) struct Historian {
    pub(super) plan: Arc<Plan>,
    pub(super) source: Arc<str>,
    pub(super) provider: ProviderName,
    pub(super) consume: Link,
    pub(super) publisher: Publisher,
    /// Whom it is told to.
    pub(super) lane: mpsc::UnboundedSender<Inbound>,
}

/// Facts told at a time: a lane of a busy fleet reads hundreds of thousands, and keeps 20 bytes of each.
const PIECE: usize = 1000;

/// Where a session's first history begins.
pub(super) fn first() -> Start {
    Start::At(clock::now().minus(recent::WINDOW))
}

impl Historian {
    /// Reads until it works, and tells the lane; says once that it does not. Gives where the next history of the
    /// same session begins: after the marker.
    pub(super) async fn read(mut self, mut start: Start) -> Start {
        let mut backoff = Backoff::default();
        let mut told = false;
        loop {
            match self.read_once(start).await {
                Ok(next) => {
                    if told {
                        info!(provider = %self.provider, "the history is read; the lane goes on");
                    }
                    return next;
                }
                Err(error) => {
                    if !told {
                        warn!(provider = %self.provider,
                            "the history of the last minutes cannot be read: {error}; trying again, no job is handed out before");
                        told = true;
                    }
                    // A stream that was deleted and made anew counts from 0 again.
                    start = first();
                    backoff.pause().await;
                }
            }
        }
    }

    async fn read_once(&mut self, start: Start) -> Result<Start, QueueError> {
        let mut reader = StreamReader::open(&self.consume, &self.plan.events(), start).await?;
        let marker = self.publish_marker().await?;
        let mut facts = Vec::new();
        loop {
            let record = reader.next_within(STALL).await?;
            if record.message.properties.message_id().as_ref().is_some_and(|id| id.as_str() == marker) {
                reader.close().await;
                self.tell(facts);
                return Ok(Start::Offset(record.offset + 1));
            }
            if let Some(fact) = fact_json::decode(&record.message.data) {
                facts.push(fact);
                if facts.len() == PIECE {
                    self.tell(std::mem::take(&mut facts));
                }
            }
        }
    }

    /// A lane that does not listen any more has closed, or is about to.
    fn tell(&self, facts: Vec<Fact>) {
        let _ = self.lane.send(Inbound::History(facts));
    }

    async fn publish_marker(&mut self) -> Result<String, QueueError> {
        let id = Uuid::now_v7().to_string();
        let parcel = wire::marker(&self.plan, &self.source, &self.provider, &id, clock::now());
        for _ in 0..MARKER_ATTEMPTS {
            match self.publisher.window(&[&parcel]).await?.first() {
                Some(Fate::Confirmed) => return Ok(id),
                Some(Fate::Returned) => return Err(parcel.unroutable()),
                // Published again under the same id: the first one that comes by will do.
                Some(Fate::Unknown) | None => Backoff::default().pause().await,
            }
        }
        Err(QueueError::Away { url: "-".into(), why: "the events stream confirms nothing".into() })
    }
}

//! Following facts for whoever asks (the gateway's states, `explain`).

use std::sync::Arc;
use std::time::Duration;

use otpd_core::{Fact, fact_json};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};
use uuid::Uuid;

use super::backoff::Backoff;
use super::clock;
use super::link::Link;
use super::publisher::{Fate, Publisher};
use super::stream::{Start, StreamReader};
use super::wire;
use crate::error::QueueError;
use crate::listen::Following;
use crate::plan::Plan;

/// How many facts may wait for the receiver.
const ROOM: usize = 1024;

/// How a follower finds out that it has caught up: by a record of its own that it reads back.
pub(super) struct Mark {
    pub(super) publisher: Publisher,
    pub(super) source: Arc<str>,
}

impl Mark {
    /// Publishes the mark, until it is confirmed or nobody waits for it.
    async fn publish(mut self, plan: Arc<Plan>, id: String, following: mpsc::Sender<Fact>) {
        let mark = wire::mark(&plan, &self.source, "", &id, clock::now());
        while !following.is_closed() {
            match self.publisher.window_at_last(&[&mark]).await.as_deref() {
                Some([Fate::Confirmed]) | None => return,
                Some(_) => Backoff::default().pause().await,
            }
        }
    }
}

/// What a follower still waits for.
struct End {
    id: String,
    reached: Option<oneshot::Sender<()>>,
}

/// Facts of the last `back`, then new ones, until the receiver is dropped or the queue closed. After
/// a loss it goes on where it was. Without a mark it never says that it has caught up.
///
/// # Errors
/// [`QueueError::Away`], [`QueueError::Refused`], where the reading cannot begin.
pub(super) async fn follow(
    link: Link,
    plan: Arc<Plan>,
    back: Duration,
    mark: Option<Mark>,
) -> Result<Following, QueueError> {
    let start = Start::At(clock::now().minus(back));
    let reader = StreamReader::open(&link, &plan.events(), start).await?;
    let (facts, receiver) = mpsc::channel(ROOM);
    let (reached, caught_up) = oneshot::channel();
    let end = End { id: Uuid::now_v7().to_string(), reached: mark.is_some().then_some(reached) };
    if let Some(mark) = mark {
        tokio::spawn(mark.publish(plan.clone(), end.id.clone(), facts.clone()));
    }
    tokio::spawn(async move {
        let gone = facts.clone();
        tokio::select! {
            () = gone.closed() => {}
            () = pass_on(link, plan, (reader, start), end, facts) => {}
        }
    });
    Ok(Following { facts: receiver, caught_up })
}

async fn pass_on(
    link: Link,
    plan: Arc<Plan>,
    (mut reader, mut start): (StreamReader, Start),
    mut end: End,
    facts: mpsc::Sender<Fact>,
) {
    loop {
        let error = loop {
            match reader.next().await {
                Ok(record) => {
                    start = Start::Offset(record.offset + 1);
                    if let Some(fact) = fact_json::decode(&record.message.data)
                        && facts.send(fact).await.is_err()
                    {
                        return;
                    }
                    let id = record.message.properties.message_id();
                    if end.reached.is_some() && id.as_ref().is_some_and(|id| id.as_str() == end.id) {
                        // Whoever follows may not care.
                        let _ = end.reached.take().map(|reached| reached.send(()));
                    }
                }
                Err(error) => break error,
            }
        };
        warn!("following the events is interrupted: {error}; going on as soon as the broker is back");
        let mut backoff = Backoff::default();
        reader = loop {
            backoff.pause().await;
            match StreamReader::open(&link, &plan.events(), start).await {
                Ok(reader) => break reader,
                Err(_) if link.is_closed() => return,
                Err(_) => {}
            }
        };
        info!("following the events again");
    }
}

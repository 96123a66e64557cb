//! Following facts for whoever asks (the gateway's states, `explain`).

use std::sync::Arc;
use std::time::Duration;

use otpd_core::{Fact, fact_json};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::backoff::Backoff;
use super::clock;
use super::link::Link;
use super::stream::{Start, StreamReader};
use crate::error::QueueError;
use crate::plan::Plan;

/// How many facts may wait for the receiver.
const ROOM: usize = 1024;

/// Facts of the last `back`, then new ones, until the receiver is dropped or the queue closed. After
/// a loss it goes on where it was.
///
/// # Errors
/// [`QueueError::Away`], [`QueueError::Refused`], where the reading cannot begin.
pub(super) async fn follow(
    link: Link,
    plan: Arc<Plan>,
    back: Duration,
) -> Result<mpsc::Receiver<Fact>, QueueError> {
    let start = Start::At(clock::now().minus(back));
    let reader = StreamReader::open(&link, &plan.events(), start).await?;
    let (facts, receiver) = mpsc::channel(ROOM);
    tokio::spawn(async move {
        let gone = facts.clone();
        tokio::select! {
            () = gone.closed() => {}
            () = pass_on(link, plan, reader, start, facts) => {}
        }
    });
    Ok(receiver)
}

async fn pass_on(
    link: Link,
    plan: Arc<Plan>,
    mut reader: StreamReader,
    mut start: Start,
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

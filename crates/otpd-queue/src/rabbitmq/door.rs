//! Putting jobs on routes, and facts on the stream, for many callers at once (the gateway's requests).
//!
//! One task owns the channel and publishes what has gathered, up to a window at a time. A caller
//! waits at most 5 s: then it is told that nobody knows, and may ask again with the same id. Jobs and facts
//! have a door each, so that a full lane does not hold up facts.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::link::Link;
use super::nodes::Nodes;
use super::publisher::{Fate, Publisher, WINDOW};
use super::wire::Parcel;
use crate::error::QueueError;
use crate::seam::Proof;

/// How long a caller waits for the confirm.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many callers may wait; the next one waits to be let in, within its own 5 s.
const ROOM: usize = 4096;

type Answer = oneshot::Sender<Result<(), QueueError>>;

/// The way in.
#[derive(Clone)]
pub(super) struct Door(mpsc::Sender<(Parcel, Answer)>);

impl Door {
    /// Opens the door; its task ends with the last clone.
    pub(super) fn open(link: Link) -> Self {
        let (jobs, inside) = mpsc::channel(ROOM);
        tokio::spawn(serve(link, inside));
        Self(jobs)
    }

    /// Publishes one message and waits for its confirm.
    ///
    /// # Errors
    /// [`QueueError::Unroutable`], [`QueueError::Away`], [`QueueError::Refused`].
    pub(super) async fn bring(&self, parcel: Parcel, nodes: &Nodes) -> Result<(), QueueError> {
        let (answer, wait) = oneshot::channel();
        let brought = async {
            self.0.send((parcel, answer)).await.ok()?;
            wait.await.ok()
        };
        let away = |why: &str| QueueError::Away { url: nodes.shown(), why: why.into() };
        match tokio::time::timeout(PATIENCE, brought).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(away("this queue was closed")),
            Err(_) => Err(away("no confirm within 5 s; the message may or may not be there")),
        }
    }
}

async fn serve(link: Link, mut inside: mpsc::Receiver<(Parcel, Answer)>) {
    let mut publisher = Publisher::new(link, Proof::default());
    let mut waiting: Vec<(Parcel, Answer)> = Vec::with_capacity(WINDOW);
    loop {
        if waiting.is_empty() && inside.recv_many(&mut waiting, WINDOW).await == 0 {
            return;
        }
        // Who has stopped waiting is not published for.
        waiting.retain(|(_, answer)| !answer.is_closed());
        if waiting.is_empty() {
            continue;
        }
        let window: Vec<&Parcel> = waiting.iter().map(|(parcel, _)| parcel).collect();
        match publisher.window(&window).await {
            Ok(fates) => {
                let mut again = Vec::new();
                for ((parcel, answer), fate) in waiting.drain(..).zip(fates) {
                    let outcome = match fate {
                        Fate::Confirmed => Ok(()),
                        Fate::Returned => Err(parcel.unroutable()),
                        Fate::Unknown => {
                            again.push((parcel, answer));
                            continue;
                        }
                    };
                    // Whoever asked may just have stopped waiting.
                    let _ = answer.send(outcome);
                }
                waiting = again;
            }
            Err(error) => waiting.drain(..).for_each(|(_, answer)| {
                // Whoever asked may just have stopped waiting.
                let _ = answer.send(Err(error.clone()));
            }),
        }
        if !waiting.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

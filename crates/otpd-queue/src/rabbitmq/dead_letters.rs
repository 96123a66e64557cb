//! Operators' work on dead letters: list, replay, purge.
//!
//! The whole pile is taken, without acknowledging, on private channels; closing them puts back all
//! that was not removed. The broker puts back behind what it put back before, so taking only a part
//! would turn the pile; taking all of it keeps its order. All is what there was at the start, so that
//! letters which come meanwhile cannot keep it busy for ever. Two who look through the pile at the
//! same time see a part each.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lapin::Consumer;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use otpd_core::{RouteName, UnixMs};
use tokio::time::Instant;
use tracing::warn;

use super::dial::refused_or_away;
use super::letter;
use super::link::{Link, Open};
use super::publisher::{Fate, Publisher, WINDOW};
use super::topology::{message_count, waiting_and_consumers};
use super::wire::{self, Parcel, short};
use crate::dead::{DeadFilter, DeadLetter};
use crate::error::QueueError;
use crate::plan::Plan;

/// How long the broker may take to put letters back after it has closed the channel.
const PUT_BACK: Duration = Duration::from_secs(1);
/// How long the next letter may take before the broker is asked whether there is one.
const NEXT: Duration = Duration::from_millis(250);
/// How long the broker may take to hand out a letter that it says is there.
const HANDED_OUT: Duration = Duration::from_secs(10);

/// The pile of dead letters, while somebody looks through it.
pub(super) struct Pile {
    link: Link,
    plan: Arc<Plan>,
    takers: Vec<Taker>,
    /// How many may still be taken.
    left: u64,
    /// How many are to be there afterwards.
    stay: u64,
}

/// A channel that takes as many letters as its prefetch allows.
struct Taker {
    open: Open,
    consumer: Consumer,
    room: u16,
}

impl Taker {
    /// The next letter. `None` where the broker has none any more.
    async fn next(&mut self, dead: &str) -> Result<Option<lapin::Result<Delivery>>, QueueError> {
        let deadline = Instant::now() + HANDED_OUT;
        loop {
            match tokio::time::timeout(NEXT, self.consumer.next()).await {
                Ok(got) => return Ok(got),
                Err(_) if Instant::now() >= deadline => return Ok(None),
                Err(_) => {}
            }
            if message_count(&self.open, dead).await? == 0 {
                // What was handed out before that answer is here by now.
                return Ok(self.consumer.next().now_or_never().flatten());
            }
        }
    }
}

/// A letter with its place in the pile.
struct Taken {
    letter: DeadLetter,
    message: Delivery,
}

impl Pile {
    /// Begins to look through the pile.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`].
    pub(super) async fn open(link: &Link, plan: Arc<Plan>) -> Result<Self, QueueError> {
        let open = link.channel().await?;
        let (left, others) = waiting_and_consumers(&open, &plan.dead()).await?;
        open.close().await;
        if others > 0 {
            warn!(
                consumers = others,
                "somebody else looks through the dead letters at this moment; those that they hold are not looked at"
            );
        }
        Ok(Self { link: link.clone(), plan, takers: Vec::new(), left, stay: left })
    }

    /// The taker with room.
    async fn taker(&mut self) -> Result<Option<&mut Taker>, QueueError> {
        if self.takers.last().is_none_or(|t| t.room == 0) {
            let open = self.link.channel().await?;
            let room = u16::try_from(self.left).unwrap_or(u16::MAX);
            open.call(open.channel.basic_qos(room, BasicQosOptions::default())).await?;
            let (queue, options) = (short(&self.plan.dead()), BasicConsumeOptions::default());
            let consume = open.channel.basic_consume(queue, "".into(), options, FieldTable::default());
            let consumer = open.call(consume).await?;
            self.takers.push(Taker { open, consumer, room });
        }
        Ok(self.takers.last_mut())
    }

    /// The next letter that `filter` means, if there is one.
    async fn next(&mut self, filter: &DeadFilter, now: UnixMs) -> Result<Option<Taken>, QueueError> {
        let dead = self.plan.dead();
        while self.left > 0 {
            let Some(taker) = self.taker().await? else { break };
            let Some(got) = taker.next(&dead).await? else {
                warn!(
                    letters = self.left,
                    "these dead letters were taken by somebody else meanwhile, or grew too old; they are not looked at"
                );
                self.left = 0;
                break;
            };
            let message = got.map_err(|error| refused_or_away(taker.open.url(), &error))?;
            taker.room -= 1;
            self.left -= 1;
            let letter = letter::read(&self.plan, &message);
            if filter.matches(&letter, now) {
                return Ok(Some(Taken { letter, message }));
            }
        }
        Ok(None)
    }

    async fn remove(&mut self, message: &Delivery) -> Result<(), QueueError> {
        if let Some(taker) = self.takers.last() {
            taker.open.call(message.ack(BasicAckOptions::default())).await?;
            self.stay = self.stay.saturating_sub(1);
        }
        Ok(())
    }

    /// Puts back what was taken and not removed. The broker does that after it has answered; who
    /// looks again at once is to see it there.
    async fn put_back(mut self) -> Result<(), QueueError> {
        for taker in self.takers.drain(..) {
            taker.open.close().await;
        }
        let open = self.link.channel().await?;
        let back = async {
            while message_count(&open, &self.plan.dead()).await? < self.stay {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        };
        // Letters that somebody else took, or that grew too old meanwhile, will not come back.
        let waited = tokio::time::timeout(PUT_BACK, back).await.unwrap_or(Ok(()));
        open.close().await;
        waited
    }

    /// The `most` oldest letters that `filter` means, oldest first; those that do not say when they
    /// died come before.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`].
    pub(super) async fn list(
        mut self,
        filter: &DeadFilter,
        now: UnixMs,
        most: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let mut letters = Vec::new();
        let keep_oldest = |letters: &mut Vec<DeadLetter>| {
            letters.sort_by_key(|l| l.died_at);
            letters.truncate(most);
        };
        while let Some(taken) = self.next(filter, now).await? {
            letters.push(taken.letter);
            if letters.len() >= most.saturating_mul(2).max(1024) {
                keep_oldest(&mut letters);
            }
        }
        keep_oldest(&mut letters);
        self.put_back().await?;
        Ok(letters)
    }

    /// Removes the letters that `filter` means; how many.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`].
    pub(super) async fn purge(mut self, filter: &DeadFilter, now: UnixMs) -> Result<usize, QueueError> {
        let mut removed = 0;
        while let Some(taken) = self.next(filter, now).await? {
            self.remove(&taken.message).await?;
            removed += 1;
        }
        self.put_back().await?;
        Ok(removed)
    }

    /// Publishes again what `filter` means and `wanted` agrees to, and removes each once confirmed.
    /// A crash in between leaves the letter in the pile although it was replayed; the life that
    /// the letter names keeps it from being sent twice.
    ///
    /// # Errors
    /// [`QueueError::Unroutable`] where a route is not there any more (its letters stay),
    /// [`QueueError::Away`], [`QueueError::Refused`].
    pub(super) async fn replay(
        mut self,
        mut publisher: Publisher,
        filter: &DeadFilter,
        now: UnixMs,
        wanted: &(dyn Fn(&DeadLetter) -> bool + Send + Sync),
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let mut replayed = Vec::new();
        let mut unroutable = None;
        loop {
            let batch = self.batch(filter, now, wanted).await?;
            if batch.is_empty() {
                break;
            }
            let window: Vec<&Parcel> = batch.iter().map(|(_, parcel)| parcel).collect();
            let fates = publisher.window(&window).await?;
            for ((taken, parcel), fate) in batch.into_iter().zip(fates) {
                match fate {
                    Fate::Confirmed => {
                        self.remove(&taken.message).await?;
                        replayed.push(taken.letter);
                    }
                    Fate::Returned => unroutable = Some(parcel.unroutable()),
                    Fate::Unknown => warn!(job = %taken.letter.job, "no confirm; this dead letter stays"),
                }
            }
        }
        self.put_back().await?;
        unroutable.map_or(Ok(replayed), Err)
    }

    /// The next letters to be replayed, at most a window.
    async fn batch(
        &mut self,
        filter: &DeadFilter,
        now: UnixMs,
        wanted: &(dyn Fn(&DeadLetter) -> bool + Send + Sync),
    ) -> Result<Vec<(Taken, Parcel)>, QueueError> {
        let mut batch = Vec::new();
        while batch.len() < WINDOW {
            let Some(taken) = self.next(filter, now).await? else { break };
            match self.parcel(&taken, now) {
                Some(parcel) if wanted(&taken.letter) => batch.push((taken, parcel)),
                Some(_) => {}
                None => warn!(job = %taken.letter.job, "this dead letter names no route; it stays"),
            }
        }
        Ok(batch)
    }

    fn parcel(&self, taken: &Taken, now: UnixMs) -> Option<Parcel> {
        let route: &RouteName = taken.letter.route.as_ref()?;
        let trace = wire::trace(taken.message.properties.headers().as_ref());
        Some(wire::replayed(&self.plan, route, &taken.letter, now, &trace))
    }
}

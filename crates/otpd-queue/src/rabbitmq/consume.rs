//! The consuming side of one lane: one task that owns the lane's channel through all its sessions.
//!
//! It opens a session, hands out deliveries once the lane is claimed, acknowledges what the
//! settling task says, and begins again after a loss. What happens inside a session is in
//! [`super::session`].
//!
//! Invariants: `Opened` and `Lost` alternate; a flush is always answered; after `Stopped` no session is opened any more.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lapin::Consumer;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::backoff::Backoff;
use super::link::{Link, Open};
use super::reader::Reader;
use super::session::{End, Inflow, Session};
use super::settle::Settled;
use super::wire::short;
use crate::alive::Alive;
use crate::error::QueueError;
use crate::plan::Plan;
use crate::seam::{Checkpoint, Inbound, LaneSpec, Prefetch, Section, StopOrder};

/// A session that lasted this long was a good one: after it the shortest pause is enough.
const GOOD: Duration = Duration::from_secs(10);

/// How many bulk jobs are held at once: enough to keep any ceiling busy while acknowledgements are on their way.
const BULK_PREFETCH: u16 = 500;
/// How many deferred jobs are held at once.
const LATER_PREFETCH: u16 = 40_000;

/// How many deliveries a lane takes at most of each of its queues.
pub(super) const fn prefetch(spec: &LaneSpec, has_single_owner: bool) -> Prefetch {
    let later = if has_single_owner { Some(LATER_PREFETCH) } else { None };
    Prefetch { main: spec.prefetch, bulk: BULK_PREFETCH, later }
}

/// What does not change from session to session.
pub(super) struct Lane {
    pub(super) spec: LaneSpec,
    pub(super) plan: Arc<Plan>,
    pub(super) source: Arc<str>,
    pub(super) consume: Link,
    pub(super) reader: Reader,
    pub(super) inbox: mpsc::UnboundedSender<Inbound>,
    /// What the lane's next owner must know.
    pub(super) checkpoint: Checkpoint,
    /// Told of every answer on the consuming channel.
    pub(super) alive: Alive,
    /// The number of the session that is open, for the settling side; 0 while there is none.
    pub(super) open_session: watch::Sender<u32>,
}

/// What others say to the lane.
pub(super) struct Orders {
    pub(super) settled: mpsc::UnboundedReceiver<Settled>,
    pub(super) stops: mpsc::UnboundedReceiver<StopOrder>,
}

/// How waiting for a session ended.
enum Opening {
    Opened(Box<(Open, Inflow)>),
    Stopped,
    Closed(Option<oneshot::Sender<()>>),
}

impl Lane {
    /// Works until the lane is closed.
    pub(super) async fn run(self, mut orders: Orders) {
        let mut backoff = Backoff::default();
        for number in 1.. {
            let pause = if number > 1 { backoff.next(rand::random_range(0.0..1.0)) } else { Duration::ZERO };
            let (open, inflow) = match self.open(&mut orders, pause).await {
                Opening::Opened(opened) => *opened,
                Opening::Stopped => return self.stopped(&mut orders).await,
                Opening::Closed(done) => return answer(done),
            };
            info!(provider = %self.spec.provider, session = number, broker = %open.url(), "the lane is open");
            self.open_session.send_replace(number);
            self.say(Inbound::Opened { session: number });
            let began = Instant::now();
            let end = Session::new(&self, number, open, inflow).serve(&mut orders).await;
            self.open_session.send_replace(0);
            match end {
                End::Closed(done) => return answer(done),
                End::LostAfterStop => return self.stopped(&mut orders).await,
                End::Lost(why) => {
                    warn!(provider = %self.spec.provider, session = number, "the lane is lost: {why}; opening it again");
                }
            }
            if began.elapsed() >= GOOD {
                backoff.reset();
            }
        }
    }

    /// Opens a consumer after a pause, however long it takes, and stays within call meanwhile.
    async fn open(&self, orders: &mut Orders, pause: Duration) -> Opening {
        let opening = async {
            tokio::time::sleep(pause).await;
            self.open_at_last().await
        };
        tokio::pin!(opening);
        loop {
            tokio::select! {
                opened = &mut opening => return match opened {
                    Some(opened) => Opening::Opened(Box::new(opened)),
                    None => Opening::Closed(None),
                },
                Some(settled) = orders.settled.recv() => void(settled),
                order = orders.stops.recv() => return match order {
                    Some(StopOrder::Stop) => {
                        self.say(Inbound::Stopped);
                        Opening::Stopped
                    }
                    Some(StopOrder::Close(done)) => Opening::Closed(Some(done)),
                    None => Opening::Closed(None),
                },
            }
        }
    }

    /// `None` once the queue is closed. A worker that does not know the last seconds yet does not stand in
    /// line: it could not start at once.
    async fn open_at_last(&self) -> Option<(Open, Inflow)> {
        self.reader.known_since().wait_for(Option::is_some).await.ok()?;
        let mut backoff = Backoff::default();
        let mut told = None;
        loop {
            let open = self.consume.channel_at_last().await?;
            match self.consume_on(&open).await {
                Ok(inflow) => return Some((open, inflow)),
                Err(error) => {
                    open.abandon();
                    let why = error.to_string();
                    if told.as_ref() != Some(&why) {
                        warn!(provider = %self.spec.provider,
                            "the lane cannot be opened: {why}; trying again (`otpd topology check` says whether it is there)");
                        told = Some(why);
                    }
                    backoff.pause().await;
                }
            }
        }
    }

    /// Consumes the lane's queues, always in the same order, so that workers stand in the same line for each.
    async fn consume_on(&self, open: &Open) -> Result<Inflow, QueueError> {
        let mut inflow = Inflow::new();
        for section in self.sections() {
            let prefetch = match section {
                Section::Main => self.spec.prefetch,
                Section::Bulk => BULK_PREFETCH,
                Section::Later => LATER_PREFETCH,
            };
            let consumer = self.consume_section(open, *section, prefetch).await?;
            let (section, ended) = (*section, futures::stream::once(async { None }));
            inflow.push(consumer.map(Some).chain(ended).map(move |got| (section, got)).boxed());
        }
        Ok(inflow)
    }

    async fn consume_section(
        &self,
        open: &Open,
        section: Section,
        prefetch: u16,
    ) -> Result<Consumer, QueueError> {
        open.call(open.channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let queue = short(&self.plan.section_queue(&self.spec.provider, section));
        let (tag, options) = (self.consumer_tag(section), BasicConsumeOptions::default());
        open.call(open.channel.basic_consume(queue, tag, options, FieldTable::default())).await
    }

    /// The queues that are consumed: those of bulk and deferred jobs only where one worker owns the lane.
    pub(super) fn sections(&self) -> &'static [Section] {
        if self.has_single_owner() { &Section::ALL } else { &[Section::Main] }
    }

    /// Tags are the channel's own, and each of its consumers needs another.
    pub(super) fn consumer_tag(&self, section: Section) -> ShortString {
        short(&format!("{}{}", self.source, section.suffix()))
    }

    /// After `Stopped`, without a session: nothing can be acknowledged, and nothing will come.
    async fn stopped(&self, orders: &mut Orders) {
        loop {
            tokio::select! {
                Some(settled) = orders.settled.recv() => void(settled),
                order = orders.stops.recv() => match order {
                    Some(StopOrder::Stop) => {}
                    Some(StopOrder::Close(done)) => return answer(Some(done)),
                    None => return,
                },
            }
        }
    }

    /// True if at most one worker at a time may own the lane.
    pub(super) fn has_single_owner(&self) -> bool {
        self.plan.has_single_owner(&self.spec.provider)
    }

    /// A lane that does not listen any more has closed, or is about to.
    pub(super) fn say(&self, inbound: Inbound) {
        let _ = self.inbox.send(inbound);
    }
}

/// Without a session there is nothing to acknowledge: the broker hands everything out again.
fn void(settled: Settled) {
    match settled {
        Settled::Tags(_) | Settled::HandBack(_, _) => {}
        Settled::Flush(done) => answer(Some(done)),
    }
}

/// Whoever asked may have stopped waiting.
pub(super) fn answer(done: Option<oneshot::Sender<()>>) {
    if let Some(done) = done {
        let _ = done.send(());
    }
}

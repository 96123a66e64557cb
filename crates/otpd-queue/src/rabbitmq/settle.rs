//! Carrying out settlements: the only place that makes a delivery acknowledgeable.
//!
//! One task a lane, with a publishing channel of its own. It takes what has gathered, up to a
//! window, and: (1) publishes moves and burials and waits for their confirms; (2) publishes the
//! facts, in order, and waits for their confirms; (3) hands the tags to the lane's consuming task,
//! which acknowledges.
//!
//! Message before fact: a crash between the two repeats the move or the burial (the next lane knows
//! the job by its id), the other way round it would lose the job, because its redelivery would be
//! taken for settled. Fact before acknowledgement: a crash between the two brings the job again, and
//! the fact says what became of it.
//!
//! A message that no queue takes (its lane was never declared, or has no majority of its replicas)
//! steps aside with its fact and is tried again, 0.2 s to 10 s apart, for ever; the rest of the lane
//! overtakes it. The broker does not show its bindings over AMQP, so trying is the way to learn that
//! the topology was mended. A fact that is not taken holds the lane: without facts nothing may be
//! acknowledged.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use otpd_core::ProviderName;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{error, info};

use super::backoff::Backoff;
use super::clock::until;
use super::observe::Observers;
use super::publisher::{Fate, Publisher, WINDOW};
use super::reader::Reader;
use super::wire::{self, Parcel};
use crate::plan::Plan;
use crate::seam::{Order, Settlement, Tag, Then, Ticket};

/// What the consuming task is told.
#[derive(Debug)]
pub(super) enum Settled {
    /// These may be acknowledged.
    Tags(Vec<Tag>),
    /// Answer when everything told before is acknowledged, or cannot be any more.
    Flush(oneshot::Sender<()>),
}

/// The settling task of one lane.
pub(super) struct Settling {
    pub(super) plan: Arc<Plan>,
    pub(super) source: Arc<str>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) settled: mpsc::UnboundedSender<Settled>,
    /// Reads back what the lane waits for.
    pub(super) reader: Reader,
    pub(super) provider: ProviderName,
    pub(super) publisher: Publisher,
    /// Who else is told, once the stream has it.
    pub(super) observers: Observers,
    pub(super) aside: Aside,
}

/// What no queue took, oldest first, and the flushes that wait for it.
#[derive(Default)]
pub(super) struct Aside {
    works: Vec<Work>,
    /// The keys that nothing is bound to and of which that was said.
    told: HashSet<String>,
    flushes: Vec<oneshot::Sender<()>>,
    backoff: Backoff,
    due: Option<Instant>,
}

/// What is left to do of a settlement.
struct Work {
    message: Option<Parcel>,
    fact: Option<Parcel>,
    tag: Option<Tag>,
    _ticket: Ticket,
}

impl Settling {
    /// Works until every settler is gone and everything is done, or the queue is closed.
    pub(super) async fn run(mut self) {
        let mut orders = Vec::with_capacity(WINDOW);
        loop {
            tokio::select! {
                biased;
                () = until(self.aside.due) => if self.retry_aside().await.is_none() { return },
                taken = self.orders.recv_many(&mut orders, WINDOW) => if taken == 0 { break },
            }
            if self.carry_out(orders.drain(..)).await.is_none() {
                return;
            }
        }
        while !self.aside.works.is_empty() {
            until(self.aside.due).await;
            if self.retry_aside().await.is_none() {
                return;
            }
        }
    }

    async fn carry_out(&mut self, orders: impl Iterator<Item = Order>) -> Option<()> {
        let mut works = Vec::new();
        let mut flushes = Vec::new();
        for order in orders {
            match order {
                Order::Settle(settlement, mut ticket) => {
                    if let (Some(echo), Some(fact)) = (ticket.take_awaited(), &settlement.fact) {
                        self.reader.echo(fact.event_id(), &self.provider, echo);
                    }
                    works.push(Work::new(self, settlement, ticket));
                }
                Order::Flush(done) => flushes.push(done),
            }
        }
        let left = self.publish_all(works).await?;
        self.aside.keep(left);
        // Later than it need be for a flush in the middle, by at most a window.
        if self.aside.works.is_empty() {
            flushes.into_iter().for_each(|done| self.tell(Settled::Flush(done)));
        } else {
            self.aside.flushes.extend(flushes);
        }
        Some(())
    }

    /// Publishes and makes acknowledgeable; gives back the works whose message no queue took.
    async fn publish_all(&mut self, works: Vec<Work>) -> Option<Vec<Work>> {
        let (mut works, left) = self.publish_messages(works).await?;
        self.publish_facts(&mut works).await?;
        let tags: Vec<Tag> = works.iter().filter_map(|w| w.tag).collect();
        if !tags.is_empty() {
            self.tell(Settled::Tags(tags));
        }
        Some(left)
    }

    /// Moves and burials, in any order: the works that have none, or none any more, and the others.
    async fn publish_messages(&mut self, mut works: Vec<Work>) -> Option<(Vec<Work>, Vec<Work>)> {
        let window: Vec<&Parcel> = works.iter().filter_map(|w| w.message.as_ref()).collect();
        if window.is_empty() {
            return Some((works, Vec::new()));
        }
        let fates = self.publisher.window_at_last(&window).await?;
        for (work, fate) in works.iter_mut().filter(|w| w.message.is_some()).zip(fates) {
            match fate {
                Fate::Confirmed => work.message = None,
                Fate::Returned => self.aside.tell(work.message.as_ref()),
                Fate::Unknown => {}
            }
        }
        Some(works.into_iter().partition(|w| w.message.is_none()))
    }

    /// Facts in order. Where one is not confirmed, it and all after it are published again: a reader
    /// may see some twice, and never the last word too early.
    async fn publish_facts(&mut self, works: &mut [Work]) -> Option<()> {
        let mut facts: VecDeque<Parcel> = works.iter_mut().filter_map(|w| w.fact.take()).collect();
        let mut backoff = Backoff::default();
        let mut told = false;
        while !facts.is_empty() {
            let window: Vec<&Parcel> = facts.iter().take(WINDOW).collect();
            let fates = self.publisher.window_at_last(&window).await?;
            let confirmed = fates.iter().take_while(|f| **f == Fate::Confirmed).count();
            self.observers.offer(facts.drain(..confirmed));
            let Some(first) = facts.front() else { break };
            if !told && fates.get(confirmed) == Some(&Fate::Returned) {
                error!("{}; the lane waits for that", first.unroutable());
                told = true;
            }
            backoff.pause().await;
        }
        if told {
            info!("facts are published again");
        }
        Some(())
    }

    async fn retry_aside(&mut self) -> Option<()> {
        let mut works = std::mem::take(&mut self.aside.works);
        let mut left = Vec::new();
        while !works.is_empty() {
            let rest = works.split_off(works.len().min(WINDOW));
            left.extend(self.publish_all(works).await?);
            works = rest;
        }
        self.aside.works = left;
        if self.aside.works.is_empty() {
            let flushes = self.aside.done();
            flushes.into_iter().for_each(|done| self.tell(Settled::Flush(done)));
        } else {
            self.aside.retry_later();
        }
        Some(())
    }

    /// The consuming task ends before this one only when the lane is closed: then every delivery is
    /// handed back, there is nothing to acknowledge, and a flush is answered by being dropped.
    fn tell(&self, settled: Settled) {
        let _ = self.settled.send(settled);
    }
}

impl Aside {
    /// Says once for each key that nothing is bound to it.
    fn tell(&mut self, parcel: Option<&Parcel>) {
        if let Some(parcel) = parcel
            && self.told.insert(format!("{} {}", parcel.exchange, parcel.key))
        {
            error!("{}; the jobs are kept, and tried again until there is", parcel.unroutable());
        }
    }

    fn keep(&mut self, left: Vec<Work>) {
        // Newcomers do not put off the others.
        if !left.is_empty() && self.due.is_none() {
            self.retry_later();
        }
        self.works.extend(left);
    }

    fn retry_later(&mut self) {
        self.due = Some(Instant::now() + self.backoff.next(rand::random_range(0.0..1.0)));
    }

    /// Everything has found its place; gives the flushes that waited for that.
    fn done(&mut self) -> Vec<oneshot::Sender<()>> {
        if !self.told.is_empty() {
            info!("every job that had nowhere to go has found its place");
        }
        std::mem::take(self).flushes
    }
}

impl Work {
    fn new(settling: &Settling, settlement: Settlement, ticket: Ticket) -> Self {
        let Settling { plan, source, reader, .. } = settling;
        let (message, tag) = match settlement.then {
            Then::Keep => (None, None),
            Then::Acknowledge(tag) => (None, Some(tag)),
            Then::Move(tag, m) => (Some(wire::moved(plan, &m)), Some(tag)),
            Then::Bury(tag, b) => (Some(wire::buried(plan, &b)), Some(tag)),
        };
        Self {
            message,
            fact: settlement.fact.map(|f| wire::fact(plan, source, reader.origin(), &f)),
            tag,
            _ticket: ticket,
        }
    }
}

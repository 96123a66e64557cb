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
//! A message that no queue wants (a lane that was never declared) steps aside with its fact and is
//! tried again, 0.2 s to 10 s apart, for ever; the rest of the lane overtakes it. The broker does
//! not show its bindings over AMQP, so trying is the way to learn that the topology was mended.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tracing::{error, info};

use super::backoff::Backoff;
use super::clock::until;
use super::publisher::{Fate, Publisher, WINDOW};
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
    /// Rung when the lane holds jobs and nothing has been confirmed for a while.
    pub(super) prove_life: Arc<Notify>,
    pub(super) publisher: Publisher,
    pub(super) aside: Aside,
}

/// What no queue wanted, oldest first, and the flushes that wait for it.
#[derive(Default)]
pub(super) struct Aside {
    works: Vec<Work>,
    flushes: Vec<oneshot::Sender<()>>,
    backoff: Backoff,
    due: Option<Instant>,
}

/// What is left to do of a settlement.
struct Work {
    message: Option<Parcel>,
    fact: Option<Parcel>,
    tag: Option<Tag>,
    /// The message came back just now.
    unwanted: bool,
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
                () = self.prove_life.notified() => {
                    let plan = &self.plan;
                    self.publisher.prove_life(|at| wire::sign_of_life(plan, at)).await;
                }
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
                Order::Settle(settlement, ticket) => {
                    works.push(Work::new(&self.plan, &self.source, settlement, ticket));
                }
                Order::Flush(done) => flushes.push(done),
            }
        }
        let unwanted = self.publish_all(works).await?;
        if !unwanted.is_empty() {
            self.put_aside(unwanted);
        }
        // Later than it need be for a flush in the middle, by at most a window.
        if self.aside.works.is_empty() {
            flushes.into_iter().for_each(|done| self.tell(Settled::Flush(done)));
        } else {
            self.aside.flushes.extend(flushes);
        }
        Some(())
    }

    /// Publishes and makes acknowledgeable; gives back the works whose message no queue wants.
    async fn publish_all(&mut self, mut works: Vec<Work>) -> Option<Vec<Work>> {
        let unwanted = self.publish_messages(&mut works).await?;
        self.publish_facts(&mut works).await?;
        let tags: Vec<Tag> = works.iter().filter_map(|w| w.tag).collect();
        if !tags.is_empty() {
            self.tell(Settled::Tags(tags));
        }
        Some(unwanted)
    }

    /// Moves and burials, in any order, until each is confirmed or returned.
    async fn publish_messages(&mut self, works: &mut Vec<Work>) -> Option<Vec<Work>> {
        while works.iter().any(Work::has_message_to_send) {
            let window: Vec<&Parcel> =
                works.iter().filter(|w| w.has_message_to_send()).filter_map(|w| w.message.as_ref()).collect();
            let fates = self.publisher.window_at_last(&window).await?;
            for (work, fate) in works.iter_mut().filter(|w| w.has_message_to_send()).zip(fates) {
                match fate {
                    Fate::Confirmed => work.message = None,
                    Fate::Returned => work.unwanted = true,
                    Fate::Unknown => {}
                }
            }
        }
        Some(works.extract_if(.., |w| std::mem::take(&mut w.unwanted)).collect())
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
            facts.drain(..confirmed);
            if let (Some(Fate::Returned), Some(first)) = (fates.get(confirmed), facts.front()) {
                if !told {
                    error!("{}; the lane waits for that", first.unroutable());
                    told = true;
                }
                backoff.pause().await;
            }
        }
        if told {
            info!("facts are published again");
        }
        Some(())
    }

    fn put_aside(&mut self, unwanted: Vec<Work>) {
        for parcel in unwanted.iter().filter_map(|w| w.message.as_ref()) {
            error!(job = %parcel.id, "{}; the job is kept and tried again", parcel.unroutable());
        }
        self.aside.works.extend(unwanted);
        self.aside.due = Some(Instant::now() + self.aside.backoff.next(rand::random_range(0.0..1.0)));
    }

    async fn retry_aside(&mut self) -> Option<()> {
        let mut works = std::mem::take(&mut self.aside.works);
        let mut still_unwanted = Vec::new();
        while !works.is_empty() {
            let rest = works.split_off(works.len().min(WINDOW));
            still_unwanted.extend(self.publish_all(works).await?);
            works = rest;
        }
        if still_unwanted.is_empty() {
            info!("every job that had nowhere to go has found its place");
            self.aside.due = None;
            self.aside.backoff.reset();
            std::mem::take(&mut self.aside.flushes)
                .into_iter()
                .for_each(|done| self.tell(Settled::Flush(done)));
        } else {
            self.aside.due = Some(Instant::now() + self.aside.backoff.next(rand::random_range(0.0..1.0)));
        }
        self.aside.works = still_unwanted;
        Some(())
    }

    /// The consuming task ends before this one only when the lane is closed: then every delivery is
    /// handed back, there is nothing to acknowledge, and a flush is answered by being dropped.
    fn tell(&self, settled: Settled) {
        let _ = self.settled.send(settled);
    }
}

impl Work {
    fn new(plan: &Plan, source: &str, settlement: Settlement, ticket: Ticket) -> Self {
        let (message, tag) = match settlement.then {
            Then::Keep => (None, None),
            Then::Acknowledge(tag) => (None, Some(tag)),
            Then::Move(tag, m) => (Some(wire::moved(plan, &m)), Some(tag)),
            Then::Bury(tag, b) => (Some(wire::buried(plan, &b)), Some(tag)),
        };
        Self {
            message,
            fact: settlement.fact.map(|f| wire::fact(plan, source, &f)),
            tag,
            unwanted: false,
            _ticket: ticket,
        }
    }

    fn has_message_to_send(&self) -> bool {
        self.message.is_some() && !self.unwanted
    }
}

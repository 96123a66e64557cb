//! Carrying out settlements: the only place that makes a delivery acknowledgeable.
//!
//! One task a lane, with a publishing channel of its own for facts. It takes what has gathered, up to a
//! window, publishes the facts, in order, waits for their confirms, and hands the tags to the lane's
//! consuming task, which acknowledges. Moves and burials go to their destinations first ([`Moving`]);
//! their facts follow here once their message is confirmed, together with what has gathered meanwhile.
//!
//! Message before fact: a crash between the two repeats the move or the burial (the next lane knows
//! the job by its id), the other way round it would lose the job, because its redelivery would be
//! taken for settled. Fact before acknowledgement: a crash between the two brings the job again, and
//! the fact says what became of it. An acknowledgement from the lane's memory comes after both, because
//! facts are confirmed in the order of this task and messages are asked for in [`Moving`].
//!
//! A fact that is not taken holds the lane: without facts nothing may be acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;

use otpd_core::{Fact, FactKind, ProviderName};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use super::backoff::Backoff;
use super::moving::{Moving, Rest, WithMessage};
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
    /// Hand back the deliveries of this session, apart from these.
    HandBack(u32, Vec<Tag>),
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
    pub(super) moving: Moving,
    /// They wait until nothing is on its way to a destination.
    pub(super) flushes: Vec<oneshot::Sender<()>>,
}

impl Settling {
    /// Works until every settler is gone and everything is done, or the queue is closed.
    pub(super) async fn run(mut self) {
        let mut orders = Vec::with_capacity(WINDOW);
        let mut open = true;
        while open || !self.moving.is_idle() {
            let mut rests = Vec::new();
            tokio::select! {
                biased;
                news = self.moving.news() => rests = self.moving.hear(news),
                taken = self.orders.recv_many(&mut orders, WINDOW), if open => open = taken > 0,
            }
            if self.carry_out(rests, orders.drain(..)).await.is_none() {
                return;
            }
        }
    }

    async fn carry_out(&mut self, mut rests: Vec<Rest>, orders: impl Iterator<Item = Order>) -> Option<()> {
        let mut handed_back = Vec::new();
        for order in orders {
            match order {
                Order::Settle(settlement, ticket) => rests.extend(self.begin(settlement, ticket)),
                Order::Flush(done) => self.flushes.push(done),
                Order::HandBack(session, kept) => handed_back.push((session, kept)),
            }
        }
        self.publish_facts(&mut rests).await?;
        let tags: Vec<Tag> = rests.iter().filter_map(|w| w.tag).collect();
        if !tags.is_empty() {
            self.tell(Settled::Tags(tags));
        }
        for (session, mut kept) in handed_back {
            // The job of a message that is on its way would be in two places.
            kept.extend(self.moving.tags());
            self.tell(Settled::HandBack(session, kept));
        }
        // Later than it need be for a flush in the middle, by at most a window.
        if self.moving.is_idle() {
            std::mem::take(&mut self.flushes).into_iter().for_each(|done| self.tell(Settled::Flush(done)));
        }
        Some(())
    }

    /// Sends the settlement's message on its way; gives what is left to do where there is none.
    fn begin(&mut self, settlement: Settlement, mut ticket: Ticket) -> Option<Rest> {
        let Settlement { fact, then } = settlement;
        if let (Some(echo), Some(fact)) = (ticket.take_awaited(), &fact) {
            self.reader.echo(fact.event_id(), &self.provider, echo);
        }
        if let Some(fact) = fact.as_ref().filter(|fact| is_of_work(fact)) {
            self.moving.forget_withheld(&fact.job, fact.life);
        }
        let fact = fact.map(|f| wire::fact(&self.plan, &self.source, self.reader.origin(), &f));
        let (job, life, tag, message) = match then {
            Then::Keep => return Some(Rest { fact, tag: None, _ticket: ticket }),
            Then::Acknowledge(tag) => return Some(Rest { fact, tag: Some(tag), _ticket: ticket }),
            Then::AcknowledgeSettled { tag, job, life } => {
                let ticket = self.moving.hold(&job, life, tag, ticket)?;
                return Some(Rest { fact, tag: Some(tag), _ticket: ticket });
            }
            Then::Move(tag, m) => (m.job.clone(), m.carried.life, tag, wire::moved(&self.plan, &m)),
            Then::Bury(tag, b) => (b.job.clone(), b.life, tag, wire::buried(&self.plan, &b)),
        };
        self.moving.begin(WithMessage { job, life, tag, message, fact, ticket });
        None
    }

    /// Facts in order. Where one is not confirmed, it and all after it are published again: a reader
    /// may see some twice, and never the last word too early.
    async fn publish_facts(&mut self, rests: &mut [Rest]) -> Option<()> {
        let mut facts: VecDeque<Parcel> = rests.iter_mut().filter_map(|w| w.fact.take()).collect();
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

    /// The consuming task ends before this one only when the lane is closed: then every delivery is
    /// handed back, there is nothing to acknowledge, and a flush is answered by being dropped.
    fn tell(&self, settled: Settled) {
        let _ = self.settled.send(settled);
    }
}

/// Whether the lane works on the job, or has ended it, in the life that the fact names.
fn is_of_work(fact: &Fact) -> bool {
    match fact.kind {
        FactKind::Accepted
        | FactKind::Retrying
        | FactKind::FailedOver
        | FactKind::Superseded
        | FactKind::Expired
        | FactKind::Dead
        | FactKind::Sending => true,
        FactKind::Duplicate
        | FactKind::Paused
        | FactKind::Resumed
        | FactKind::Delivery(_)
        | FactKind::Verified => false,
    }
}

//! Retiring a provider's lane on a broker.
//!
//! The order is what keeps a job from being lost or sent twice. (1) Nothing is touched while the config,
//! what was applied last, or a consumer still has to do with the lane: during a rollout its old owner
//! works, and jobs that were moved under its hands would be sent by both. (2) Its keys are unbound, the
//! provider's own route included, so that publishing to it comes back to the producer. (3) What is left is
//! published elsewhere, confirmed, told on the stream, and only then acknowledged; a crash in between
//! repeats a job, which the next lane knows by its id. (4) The queues are deleted, and that is recorded.
//! Broken off anywhere, it is run again.
//!
//! An empty queue whose leader is away looks like an empty one. So each queue gets an end mark before its
//! key is unbound: whoever has got the mark has got everything before it.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Consumer};
use otpd_core::ProviderName;
use tokio::time::Instant;
use uuid::Uuid;

use super::apply::{Writer, lead};
use super::clock;
use super::desk::Desk;
use super::dial::{away, refused_or_away};
use super::letter;
use super::link::Open;
use super::lock::Lock;
use super::publisher::{Fate as Sent, Publisher, WINDOW};
use super::record::{self, Record, State};
use super::topology;
use super::wire::{self, Parcel, short};
use crate::error::QueueError;
use crate::plan::Plan;
use crate::retire::{Fate, Leaving, Leftovers, Retired, Trial};
use crate::seam::{Proof, Section};

/// How long the broker may take to hand out the next job of a queue that has one.
const NEXT: Duration = Duration::from_secs(10);
/// How long a full or slow lane may refuse before the rest stays where it is.
const REFUSED: Duration = Duration::from_secs(60);
/// The `type` of an end mark.
const END: &str = "otp.retire.end";

impl Writer<'_> {
    /// See [`crate::Queue::retire`].
    pub(super) async fn retire(
        &self,
        provider: &ProviderName,
        leftovers: &Leftovers,
        trial: Trial,
    ) -> Result<Retired, QueueError> {
        let leaving = Leaving::new(self.plan, provider, leftovers)?;
        let lock = Lock::take(self.source, self.nodes, self.plan).await?;
        let retired = self.retire_under(&lock, &leaving, trial).await;
        lock.release().await;
        retired
    }

    async fn retire_under(
        &self,
        lock: &Lock,
        leaving: &Leaving<'_>,
        trial: Trial,
    ) -> Result<Retired, QueueError> {
        let (plan, provider) = (self.plan, leaving.provider);
        let mut desk = Desk::new(lock.link());
        let record = self.applied(lock, &mut desk, leaving).await?;
        let mut retired = Retired::default();
        let mut sections = Vec::new();
        for section in Section::ALL {
            let queue = plan.section_queue(provider, section);
            let Some(count) = desk.count(&queue).await? else { continue };
            if count.consumers > 0 {
                return Err(QueueError::InUse {
                    why: format!(
                        "a worker still consumes {queue}: it has the old config; end the rollout first, or both would send the same jobs"
                    ),
                });
            }
            retired.waiting += count.waiting;
            sections.push(section);
        }
        if sections.is_empty() && !record.to_retire.contains(provider.as_str()) {
            return Err(QueueError::InUse { why: format!("there is no lane of {provider}") });
        }
        leaving.may_leave(retired.waiting)?;
        if trial == Trial::Look {
            return Ok(retired);
        }
        let keys = [Section::Main, Section::Bulk].map(|section| Plan::section_key(provider, section));
        lead(&mut desk, plan, provider.as_str(), &keys.into(), None).await?;
        let mut publisher = Publisher::new(lock.link().clone(), Proof::default());
        for binding in topology::lane_bindings(plan, provider).iter().filter(|binding| {
            sections.iter().any(|section| plan.section_queue(provider, *section) == binding.queue)
        }) {
            desk.bind(binding).await?;
            let mark = end_mark(plan, &binding.key);
            at_last(&mut publisher, std::slice::from_ref(&mark)).await?;
            desk.unbind(binding).await?;
        }
        for section in sections {
            let mut emptying = Emptying {
                writer: self,
                leaving,
                lock,
                section,
                publisher: &mut publisher,
                retired: &mut retired,
            };
            emptying.run(&mut desk).await?;
            lock.still_held()?;
            desk.delete(&plan.section_queue(provider, section)).await?;
        }
        record.without(provider, self.source).publish(plan, &mut publisher).await?;
        Ok(retired)
    }

    /// What was applied last, if that has nothing to do with the lane any more.
    async fn applied(
        &self,
        lock: &Lock,
        desk: &mut Desk,
        leaving: &Leaving<'_>,
    ) -> Result<Record, QueueError> {
        let (plan, provider) = (self.plan, leaving.provider);
        let in_use = |why: String| Err(QueueError::InUse { why });
        let (record_parts, _) = topology::record_parts(plan);
        for part in &record_parts {
            if !desk.has(part).await? {
                return in_use(
                    "nothing was applied to this broker yet: run `otpd topology apply` first".into(),
                );
            }
        }
        let mut publisher = Publisher::new(lock.link().clone(), Proof::default());
        let Some(record) = record::last_for_sure(lock.link(), plan, &mut publisher).await? else {
            return in_use("nothing was applied to this broker yet: run `otpd topology apply` first".into());
        };
        if record.state == State::Applying
            || record.lanes.iter().any(|lane| lane.provider == provider.as_str())
        {
            return in_use(format!(
                "what was applied last (generation {}, by {}) still has routes to {provider}, or is not done: run `otpd topology apply` with the config that does not name it",
                record.generation, record.by
            ));
        }
        if let Some(next) = leaving.next
            && !record.has_lane(&next.provider, next.owners)
        {
            return in_use(format!(
                "the lane of {} is not there yet: run `otpd topology apply`",
                next.provider
            ));
        }
        Ok(record)
    }
}

/// What comes after everything that was in the queue.
fn end_mark(plan: &Plan, key: &str) -> Parcel {
    let id = short(&Uuid::now_v7().to_string());
    let properties =
        BasicProperties::default().with_delivery_mode(2).with_type(END.into()).with_message_id(id.clone());
    let body = bytes::Bytes::new();
    Parcel { exchange: short(&plan.lanes_exchange()), key: short(key), id, body, properties, mandatory: true }
}

/// Publishes until all are confirmed.
async fn at_last(publisher: &mut Publisher, parcels: &[Parcel]) -> Result<(), QueueError> {
    let mut left: Vec<&Parcel> = parcels.iter().collect();
    let until = Instant::now() + REFUSED;
    loop {
        let fates = publisher.window(&left).await?;
        let mut again = Vec::new();
        for (parcel, fate) in left.into_iter().zip(fates) {
            match fate {
                Sent::Confirmed => {}
                Sent::Returned => return Err(parcel.unroutable()),
                Sent::Unknown => again.push(parcel),
            }
        }
        if again.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            let why = "jobs are refused or not confirmed, perhaps because the next lane is full; the rest is where it was: run it again";
            return Err(QueueError::InUse { why: why.into() });
        }
        left = again;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// One queue on its way to being empty.
struct Emptying<'a> {
    writer: &'a Writer<'a>,
    leaving: &'a Leaving<'a>,
    lock: &'a Lock,
    section: Section,
    publisher: &'a mut Publisher,
    retired: &'a mut Retired,
}

impl Emptying<'_> {
    async fn run(&mut self, desk: &mut Desk) -> Result<(), QueueError> {
        let queue = self.writer.plan.section_queue(self.leaving.provider, self.section);
        let open = self.lock.link().channel().await?;
        let window = u16::try_from(WINDOW).unwrap_or(u16::MAX);
        open.call(open.channel.basic_qos(window, BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions::default();
        let consume = open.channel.basic_consume(short(&queue), "".into(), options, FieldTable::default());
        let mut consumer = open.call(consume).await?;
        let mut ended = false;
        while !ended || desk.count(&queue).await?.is_some_and(|count| count.waiting > 0) {
            self.lock.still_held()?;
            ended |= self.take_window(&open, &mut consumer).await?;
        }
        // The mark was the last one, or something slipped in behind it and is here by now.
        while let Some(got) = consumer.next().now_or_never().flatten() {
            let got = got.map_err(|error| refused_or_away(open.url(), &error))?;
            self.settle(&open, vec![got]).await?;
        }
        open.close().await;
        Ok(())
    }

    /// Takes what there is, at most a window; says whether the end mark was among it.
    async fn take_window(&mut self, open: &Open, consumer: &mut Consumer) -> Result<bool, QueueError> {
        let Ok(first) = tokio::time::timeout(NEXT, consumer.next()).await else {
            return Err(away(
                open.url(),
                "a queue hands out nothing, although something is in it; run it again",
            ));
        };
        let mut next = Some(first);
        let mut window = Vec::new();
        while let Some(got) = next {
            let ended = || away(open.url(), "the broker ended the consuming");
            window.push(got.ok_or_else(ended)?.map_err(|error| refused_or_away(open.url(), &error))?);
            next = if window.len() < WINDOW { consumer.next().now_or_never() } else { None };
        }
        self.settle(open, window).await
    }

    async fn settle(&mut self, open: &Open, window: Vec<Delivery>) -> Result<bool, QueueError> {
        let plan = self.writer.plan;
        let (mut messages, mut facts, mut acks) = (Vec::new(), Vec::new(), Vec::new());
        let (mut moved, mut buried, mut ended) = (0, 0, false);
        for got in window {
            acks.push(got.acker.clone());
            if got.properties.kind().as_ref().is_some_and(|kind| kind.as_str() == END) {
                ended = true;
                continue;
            }
            let id = wire::message_id(&got.properties).unwrap_or_else(|| letter::name_of(&got.data));
            let (fate, fact) =
                self.leaving.fate(id, wire::delivery(0, self.section, got), self.section, clock::now());
            messages.push(match fate {
                Fate::Move(to) => {
                    moved += 1;
                    wire::moved(plan, &to)
                }
                Fate::Bury(burial) => {
                    buried += 1;
                    wire::buried(plan, &burial)
                }
            });
            facts.push(wire::fact(plan, self.writer.source, "otpd-topology-retire", &fact));
        }
        if !messages.is_empty() {
            at_last(self.publisher, &messages).await?;
            at_last(self.publisher, &facts).await?;
        }
        for acker in acks {
            open.call(acker.ack(BasicAckOptions::default())).await?;
        }
        self.retired.moved += moved;
        self.retired.buried += buried;
        Ok(ended)
    }
}

//! One session of a lane: from `Opened` to the loss of the channel or the end of the lane.
//!
//! A lane's three queues are consumed on one channel. Each has one active consumer, which for a moment may be
//! that of another worker: whoever gets a job claims the whole lane, the other one loses it by that, and
//! stands in line again for all three. So ownership comes together by itself, and what counts is the
//! claim, not which consumer the broker calls active.
//!
//! Invariants: no delivery is handed on before this process's claim to the lane was read back, nor a
//! redelivered one before every fact that was confirmed when it came; the session ends when another worker's
//! claim is read, or when the broker does not answer on the consuming channel for [`SILENT`]. After a claim the
//! channel stays until the requests that were under way have ended.

mod leaving;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures::future::join_all;
use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicQosOptions};
use otpd_core::admission::SKEW;
use otpd_core::{UnixMs, recent};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use self::leaving::OVERTAKEN;
use super::acks::Acks;
use super::claims::ClaimId;
use super::clock::{self, until};
use super::consume::{Lane, Orders, answer};
use super::link::Open;
use super::settle::Settled;
use super::wire;
use crate::seam::{Inbound, Section, StopOrder};

/// How many settled deliveries are acknowledged together at most...
const ACKS: usize = 256;
/// ...and how long the first of them waits for the others.
const LINGER: Duration = Duration::from_millis(5);
/// How often the broker is asked on the consuming channel whether it is there: while the lane holds none too,
/// because the consumer of a worker that stands by at a node that hung is in the way of all others...
const ASK: Duration = Duration::from_millis(500);
/// ...and how long it may take to answer. Together below 3 s.
const SILENT: Duration = Duration::from_millis(2400);
/// How long a claim may take to be read back before it is published again: the stream was made anew.
const CLAIM_AGAIN: Duration = Duration::from_secs(10);
/// How often a claim is renewed, with the lane's checkpoint.
const RENEW: Duration = Duration::from_secs(5);

/// How a session ended. The lane was told where it was lost.
pub(super) enum End {
    /// The lane is another worker's, or the channel is gone; why.
    Lost(String),
    /// The channel is gone, after the lane was stopped: no other will be opened.
    LostAfterStop,
    /// The lane is closed; whom to tell.
    Closed(Option<oneshot::Sender<()>>),
}

/// What came from one of the lane's queues; `None` at its end.
pub(super) type Got = (Section, Option<lapin::Result<Delivery>>);

/// What comes from all of the lane's queues.
pub(super) type Inflow = SelectAll<BoxStream<'static, Got>>;

/// A session.
pub(super) struct Session<'a> {
    lane: &'a Lane,
    number: u32,
    open: Open,
    /// What comes from the lane's queues.
    inflow: Inflow,
    acks: Acks,
    /// When the waiting acknowledgements are due.
    acks_due: Option<Instant>,
    /// Came in, and waits for a barrier.
    held: VecDeque<(Section, Delivery)>,
    /// Behind its barrier, and waits until older facts have been read.
    early: VecDeque<(Section, Delivery)>,
    barrier: Option<Barrier>,
    known_since: watch::Receiver<Option<UnixMs>>,
    claim: Option<ClaimId>,
    /// Ends when another worker's claim is read.
    lost: Option<oneshot::Receiver<()>>,
    is_claimed: bool,
    /// The requests that count against the ceiling were known once: from then on this process counts itself.
    has_window: bool,
    renew_at: Option<Instant>,
    /// The question whether the broker is there, while it is not answered.
    asked: Option<Pin<Box<dyn Future<Output = Option<Instant>> + Send>>>,
    stopped: bool,
    /// Another worker has the lane: until when what is under way may still be settled here.
    leaves_by: Option<Instant>,
}

/// A record of our own that is to be read back.
struct Barrier {
    /// How many of the held deliveries came before it.
    covers: usize,
    reached: oneshot::Receiver<()>,
    again_at: Instant,
}

impl<'a> Session<'a> {
    pub(super) fn new(lane: &'a Lane, number: u32, open: Open, inflow: Inflow) -> Self {
        lane.alive.heard(std::time::Instant::now());
        Self {
            lane,
            number,
            open,
            inflow,
            acks: Acks::new(number),
            acks_due: None,
            held: VecDeque::new(),
            early: VecDeque::new(),
            barrier: None,
            known_since: lane.reader.known_since(),
            claim: None,
            lost: None,
            is_claimed: false,
            has_window: false,
            renew_at: None,
            asked: None,
            stopped: false,
            leaves_by: None,
        }
    }

    /// Works until the session ends.
    pub(super) async fn serve(mut self, orders: &mut Orders) -> End {
        let end = self.serve_to_the_end(orders).await;
        if let Some(claim) = &self.claim {
            self.lane.reader.give_up(&self.lane.spec.provider, claim);
        }
        match end {
            End::Closed(done) => {
                // Where the channel is gone, the broker has taken everything back already.
                let _ = self.write_acks().await;
                self.open.close().await;
                End::Closed(done)
            }
            End::Lost(_) | End::LostAfterStop => {
                if self.leaves_by.is_some() {
                    self.open.close().await; // it may be alive, and hold what did not end in time
                } else {
                    self.lane.say(Inbound::Lost { session: self.number });
                }
                end
            }
        }
    }

    async fn serve_to_the_end(&mut self, orders: &mut Orders) -> End {
        let mut ask = tokio::time::interval(ASK);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                Some(got) = self.inflow.next(), if !self.stopped => self.take_in(got),
                Some(settled) = orders.settled.recv() => self.settled(settled).await,
                () = until(self.acks_due) => self.write_acks().await,
                reached = reached(&mut self.barrier) => { self.passed(reached); Ok(()) }
                _ = self.known_since.changed(), if !self.early.is_empty() => { self.hand_on_early(); Ok(()) }
                () = lost(&mut self.lost) => self.overtaken().await,
                () = until(self.leaves_by) => Err(OVERTAKEN.into()),
                answer = answered(&mut self.asked) => self.heard(answer),
                _ = ask.tick() => { self.ask(); Ok(()) }
                () = self.lane.checkpoint.asked_for() => { self.renew(); Ok(()) }
                order = orders.stops.recv() => match order {
                    Some(StopOrder::Stop) => self.stop().await,
                    Some(StopOrder::Close(done)) => return End::Closed(Some(done)),
                    None => return End::Closed(None),
                },
            };
            match step {
                Ok(()) if self.has_left() => return End::Lost(OVERTAKEN.into()),
                Ok(()) => {}
                Err(_) if self.stopped => return End::LostAfterStop,
                Err(why) => return End::Lost(why),
            }
        }
    }

    fn take_in(&mut self, got: Got) -> Result<(), String> {
        let mut next = Some(Some(got));
        // All that is there already: one barrier then covers it.
        while let Some(Some(got)) = next {
            match got {
                (section, Some(Ok(delivery))) => {
                    self.acks.delivered(delivery.delivery_tag);
                    self.held.push_back((section, delivery));
                }
                (_, Some(Err(error))) => return Err(error.to_string()),
                (_, None) => return Err("the broker ended the consuming; the queue may be deleted".into()),
            }
            next = self.inflow.next().now_or_never();
        }
        self.hand_on();
        Ok(())
    }

    /// Hands on what may be handed on; sets a barrier for what may not.
    fn hand_on(&mut self) {
        while let Some((_, first)) = self.held.front() {
            if self.barrier.is_some() {
                return;
            }
            if self.is_claimed && !first.redelivered {
                self.hand_on_one();
            } else {
                self.set_barrier();
            }
        }
    }

    /// Publishes a record of our own behind everything that is held. The first one of a session is the claim.
    fn set_barrier(&mut self) {
        let (reader, provider) = (&self.lane.reader, &self.lane.spec.provider);
        let reached = if !self.lane.has_single_owner() {
            reader.barrier()
        } else if let Some(claim) = &self.claim {
            reader.opened(provider, claim, self.is_claimed, self.lane.checkpoint.get().as_deref())
        } else {
            let (claim, lost) = reader.claim(provider);
            let reached = reader.opened(provider, &claim, false, None);
            (self.claim, self.lost) = (Some(claim), Some(lost));
            reached
        };
        self.barrier =
            Some(Barrier { covers: self.held.len(), reached, again_at: Instant::now() + CLAIM_AGAIN });
    }

    fn passed(&mut self, is_reached: bool) {
        let Some(barrier) = self.barrier.take() else { return };
        if !is_reached {
            return self.set_barrier();
        }
        self.is_claimed = true;
        self.renew_at = Some(Instant::now() + RENEW);
        for _ in 0..barrier.covers {
            self.hand_on_one();
        }
        self.hand_on();
    }

    fn hand_on_one(&mut self) {
        let Some((section, delivery)) = self.held.pop_front() else { return };
        if self.is_known(&delivery) {
            self.lane.say(Inbound::Delivery(wire::delivery(self.number, section, delivery)));
        } else {
            self.early.push_back((section, delivery));
        }
    }

    /// True if enough of the past is known for this delivery: the requests that count against the
    /// ceiling, and, if it was handed out or accepted before, the facts since it was published.
    fn is_known(&mut self, delivery: &Delivery) -> bool {
        let Some(since) = *self.known_since.borrow() else { return false };
        let published_at = wire::taken_at(&delivery.properties).unwrap_or_default();
        // The last second is known since reading began, whatever the clock says now.
        let is_enough = !wire::looks_back(delivery)
            || since <= published_at.minus(SKEW).max(clock::now().minus(recent::WINDOW - SKEW));
        self.has_window = self.has_window || self.lane.reader.knows_window(&self.lane.spec.provider);
        is_enough && self.has_window
    }

    fn hand_on_early(&mut self) {
        for _ in 0..self.early.len() {
            let Some(delivery) = self.early.pop_front() else { return };
            self.held.push_front(delivery);
            self.hand_on_one();
        }
    }

    /// Asks for a sign of life on the consuming channel; renews the claim when that is due.
    fn ask(&mut self) {
        // What a listener knows of a window may change without the reader's doing.
        self.hand_on_early();
        if self.asked.is_none() {
            let channel = self.open.channel.clone();
            // The prefetch of consumers to come, of which there are none.
            let prefetch = self.lane.spec.prefetch;
            self.asked = Some(Box::pin(async move {
                let question = channel.basic_qos(prefetch, BasicQosOptions::default());
                let asked_at = Instant::now();
                let answer = tokio::time::timeout(SILENT, question).await;
                answer.is_ok_and(|answer| answer.is_ok()).then_some(asked_at)
            }));
        }
        if self.renew_at.is_some_and(|at| at <= Instant::now()) && !self.stopped {
            self.renew();
        }
    }

    /// Publishes the lane's checkpoint with a renewal of the claim.
    fn renew(&mut self) {
        if !self.is_claimed || self.leaves_by.is_some() || self.acks.outstanding() == 0 {
            return;
        }
        self.renew_at = Some(Instant::now() + RENEW);
        if let (Some(claim), Some(checkpoint)) = (&self.claim, self.lane.checkpoint.get()) {
            // Nobody waits for it: the next one says the same.
            drop(self.lane.reader.opened(&self.lane.spec.provider, claim, true, Some(&checkpoint)));
        }
    }

    fn heard(&mut self, answered: Option<Instant>) -> Result<(), String> {
        self.asked = None;
        if let Some(asked_at) = answered {
            self.lane.alive.heard(asked_at.into_std());
            return Ok(());
        }
        if self.stopped || self.leaves_by.is_some() {
            // Nothing starts any more. A broker may be busy with what was handed back, and what is under way would
            // be repeated if the channel were given up.
            return Ok(());
        }
        self.open.suspect();
        Err(format!(
            "the broker does not answer on the consuming connection within {} s",
            SILENT.as_secs_f64()
        ))
    }

    async fn settled(&mut self, settled: Settled) -> Result<(), String> {
        match settled {
            Settled::Tags(tags) => {
                for tag in tags {
                    self.acks.settle(tag);
                }
                if self.acks.waiting() >= ACKS {
                    return self.write_acks().await;
                }
                if self.acks.waiting() > 0 && self.acks_due.is_none() {
                    self.acks_due = Some(Instant::now() + LINGER);
                }
                Ok(())
            }
            Settled::Flush(done) => {
                let written = self.write_acks().await;
                answer(Some(done));
                written
            }
            Settled::HandBack(session, kept) => self.hand_back(session, &kept).await,
        }
    }

    async fn write_acks(&mut self) -> Result<(), String> {
        self.acks_due = None;
        let channel = &self.open.channel;
        let writes = self.acks.take().into_iter().map(|ack| {
            let (number, multiple) = ack.parts();
            channel.basic_ack(number, BasicAckOptions { multiple })
        });
        let written =
            self.open.call(join_all(writes).map(|all| all.into_iter().collect::<lapin::Result<()>>())).await;
        written.map_err(|error| format!("acknowledgements cannot be written: {error}"))
    }
}

/// True when the barrier is reached, false when it must be set again.
async fn reached(barrier: &mut Option<Barrier>) -> bool {
    match barrier {
        Some(barrier) => {
            tokio::time::timeout_at(barrier.again_at, &mut barrier.reached).await.is_ok_and(|r| r.is_ok())
        }
        None => std::future::pending().await,
    }
}

async fn lost(lost: &mut Option<oneshot::Receiver<()>>) {
    let is_lost = match lost {
        Some(ended) => ended.await.is_ok(),
        None => false,
    };
    if !is_lost {
        std::future::pending::<()>().await;
    }
}

async fn answered(
    asked: &mut Option<Pin<Box<dyn Future<Output = Option<Instant>> + Send>>>,
) -> Option<Instant> {
    match asked {
        Some(asked) => asked.as_mut().await,
        None => std::future::pending().await,
    }
}

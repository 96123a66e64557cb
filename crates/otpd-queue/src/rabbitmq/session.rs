//! One session of a lane: from `Opened` to the loss of the channel or the end of the lane.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use lapin::Consumer;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior};

use super::acks::{Ack, Acks};
use super::clock::{self, until};
use super::consume::{Ears, Lane, answer};
use super::history;
use super::link::Open;
use super::settle::Settled;
use super::stream::Start;
use super::wire;
use crate::seam::{Inbound, StopOrder};

/// How many settled deliveries are acknowledged together at most...
const ACKS: usize = 256;
/// ...and how long the first of them waits for the others.
const LINGER: Duration = Duration::from_millis(5);
/// While the lane holds jobs, the broker's last sign of life is to be no older than this.
const LIFE: Duration = Duration::from_secs(2);

/// How a session ended.
pub(super) enum End {
    /// The channel is gone; why.
    Lost(String),
    /// The channel is gone, after the lane was stopped: no other will be opened.
    LostAfterStop,
    /// The lane is closed; whom to tell.
    Closed(Option<oneshot::Sender<()>>),
}

/// A session.
pub(super) struct Session<'a> {
    lane: &'a Lane,
    number: u32,
    open: Open,
    consumer: Consumer,
    acks: Acks,
    /// When the waiting acknowledgements are due.
    acks_due: Option<Instant>,
    /// Came in, and not handed on yet: the history is not known.
    held: VecDeque<Delivery>,
    reading: Option<Reading>,
    /// Where the next history begins.
    next_history: Start,
    history_known: bool,
    stopped: bool,
}

/// A history being read.
struct Reading {
    /// How many of the held deliveries it covers.
    covers: usize,
    /// Gives where the next one begins.
    history: Pin<Box<dyn Future<Output = Start> + Send>>,
}

impl<'a> Session<'a> {
    pub(super) fn new(lane: &'a Lane, number: u32, open: Open, consumer: Consumer) -> Self {
        Self {
            lane,
            number,
            open,
            consumer,
            acks: Acks::new(number),
            acks_due: None,
            held: VecDeque::new(),
            reading: None,
            next_history: history::first(),
            history_known: false,
            stopped: false,
        }
    }

    /// Works until the session ends.
    pub(super) async fn serve(mut self, ears: &mut Ears) -> End {
        let mut life = tokio::time::interval(LIFE / 2);
        life.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                got = self.consumer.next(), if !self.stopped => self.take_in(got),
                Some(settled) = ears.settled.recv() => self.settled(settled).await,
                () = until(self.acks_due) => self.write_acks().await,
                next = read(&mut self.reading) => { self.learned(next); Ok(()) }
                _ = life.tick() => { self.ask_for_life(); Ok(()) }
                order = ears.stops.recv() => match order {
                    Some(StopOrder::Stop) => self.stop().await,
                    Some(StopOrder::Close(done)) => return self.close(Some(done)).await,
                    None => return self.close(None).await,
                },
            };
            match step {
                Ok(()) => {}
                Err(_) if self.stopped => return End::LostAfterStop,
                Err(why) => return End::Lost(why),
            }
        }
    }

    fn take_in(&mut self, got: Option<lapin::Result<Delivery>>) -> Result<(), String> {
        let mut next = Some(got);
        // All that is there already: one history then covers it.
        while let Some(got) = next {
            match got {
                Some(Ok(delivery)) => {
                    self.acks.delivered(delivery.delivery_tag);
                    self.held.push_back(delivery);
                }
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("the broker ended the consuming; the queue may be deleted".into()),
            }
            next = self.consumer.next().now_or_never();
        }
        self.ask_for_life();
        self.hand_on();
        Ok(())
    }

    /// Hands on what may be handed on; begins to read the history for what may not.
    fn hand_on(&mut self) {
        while let Some(first) = self.held.front() {
            if self.reading.is_some() {
                return;
            }
            if self.history_known && !first.redelivered {
                self.hand_on_one();
            } else {
                let (historian, start) = (self.lane.historian(), self.next_history);
                self.reading =
                    Some(Reading { covers: self.held.len(), history: Box::pin(historian.read(start)) });
            }
        }
    }

    fn hand_on_one(&mut self) {
        if let Some(delivery) = self.held.pop_front() {
            self.lane.say(Inbound::Delivery(wire::delivery(self.number, delivery)));
        }
    }

    fn learned(&mut self, next: Start) {
        let covers = self.reading.take().map_or(0, |r| r.covers);
        self.next_history = next;
        self.history_known = true;
        for _ in 0..covers {
            self.hand_on_one();
        }
        self.hand_on();
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
        }
    }

    async fn write_acks(&mut self) -> Result<(), String> {
        self.acks_due = None;
        let channel = &self.open.channel;
        let writes = self.acks.take().into_iter().map(|ack| {
            let (number, multiple) = match ack {
                Ack::One(number) => (number, false),
                Ack::UpTo(number) => (number, true),
            };
            channel.basic_ack(number, BasicAckOptions { multiple })
        });
        let written =
            self.open.call(join_all(writes).map(|all| all.into_iter().collect::<lapin::Result<()>>())).await;
        written.map_err(|error| format!("acknowledgements cannot be written: {error}"))
    }

    /// Asks for a confirm where the lane holds jobs and the last one is a while ago.
    fn ask_for_life(&self) {
        if self.acks.outstanding() > 0 && clock::now().since(self.lane.proof.at()) >= LIFE {
            self.lane.prove_life.notify_one();
        }
    }

    /// No more deliveries. What is held here was never handed on; it goes back with the channel.
    async fn stop(&mut self) -> Result<(), String> {
        if self.stopped {
            return Ok(());
        }
        self.stopped = true;
        self.reading = None;
        self.held.clear();
        let cancel = self.open.channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default());
        let cancelled = self.open.call(cancel).await;
        self.lane.say(Inbound::Stopped);
        cancelled.map_err(|error| error.to_string())
    }

    async fn close(mut self, done: Option<oneshot::Sender<()>>) -> End {
        // Where the channel is gone, the broker has taken everything back already.
        let _ = self.write_acks().await;
        self.open.close().await;
        End::Closed(done)
    }
}

async fn read(reading: &mut Option<Reading>) -> Start {
    match reading {
        Some(reading) => reading.history.as_mut().await,
        None => std::future::pending().await,
    }
}

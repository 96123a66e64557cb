//! The open lanes of this process, as the writer sees them: where each stands in its queue, how much
//! it has out, and the small task that brings it a lane's orders.
//!
//! Invariants: a lane never has more than `prefetch` deliveries out; a delivery leaves only after
//! the transaction that marked it as handed out was committed; after `Stopped` none leaves.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use otpd_core::{ProviderName, UnixMs};
use rusqlite::Connection;
use tokio::sync::mpsc;

use super::commands::{Change, Command, Work};
use super::jobs::{self, SESSION, row_of};
use crate::seam::{Delivery, Inbound, Order, Proof, Section, StopOrder};

/// Names one opening of a lane. Never used again, so that what a closed lane still says is not
/// taken for the words of the next one.
pub(super) type LaneKey = u64;

/// The most jobs handed to a lane in one transaction: what a lane with a deep backlog may make the
/// others wait for.
const AT_ONCE: usize = 1_000;

/// The most orders of a lane that are brought to the writer at once.
const ORDERS: usize = 256;

/// A lane that is to be opened.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) key: LaneKey,
    pub(super) provider: ProviderName,
    pub(super) prefetch: usize,
    pub(super) inbox: mpsc::UnboundedSender<Inbound>,
    pub(super) proof: Proof,
}

/// The open lanes.
#[derive(Debug, Default)]
pub(super) struct Lanes(BTreeMap<LaneKey, Lane>);

#[derive(Debug)]
struct Lane {
    opening: Opening,
    /// The row of the lane.
    row: i64,
    /// The last job of the main section handed out.
    cursor: i64,
    /// How many deliveries are not settled.
    out: usize,
    stopped: bool,
}

impl Lanes {
    /// The row and provider of a lane, if it is open.
    pub(super) fn get(&self, key: LaneKey) -> Option<(i64, &ProviderName)> {
        self.0.get(&key).map(|lane| (lane.row, &lane.opening.provider))
    }

    /// Whether there is anybody to deliver to.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A lane begins; the listeners know what happened before.
    pub(super) fn open(&mut self, opening: Opening, row: i64, now: UnixMs) {
        opening.proof.seen(now);
        let _ = opening.inbox.send(Inbound::Opened { session: SESSION });
        self.0.insert(opening.key, Lane { opening, row, cursor: 0, out: 0, stopped: false });
    }

    /// No more deliveries for this lane.
    pub(super) fn stop(&mut self, key: LaneKey) {
        if let Some(lane) = self.0.get_mut(&key) {
            lane.stopped = true;
            let _ = lane.opening.inbox.send(Inbound::Stopped);
        }
    }

    /// The lane is gone; says whose it was.
    pub(super) fn close(&mut self, key: LaneKey) -> Option<ProviderName> {
        self.0.remove(&key).map(|lane| lane.opening.provider)
    }

    /// The file answered at `now`.
    pub(super) fn prove(&self, now: UnixMs) {
        for lane in self.0.values() {
            lane.opening.proof.seen(now);
        }
    }

    /// Marks in the file what each lane has room for, given what this transaction `settled`.
    pub(super) fn hand_out(
        &self,
        file: &Connection,
        settled: &BTreeMap<LaneKey, usize>,
        now: UnixMs,
    ) -> rusqlite::Result<Vec<(LaneKey, Vec<Delivery>)>> {
        let mut handed = Vec::new();
        for (key, lane) in self.0.iter().filter(|(_, lane)| !lane.stopped) {
            let out = lane.out.saturating_sub(settled.get(key).copied().unwrap_or(0));
            let room = lane.opening.prefetch.saturating_sub(out).min(AT_ONCE);
            if room > 0 {
                handed.push((*key, jobs::hand_out(file, lane.row, lane.cursor, room, now)?));
            }
        }
        Ok(handed)
    }

    /// Delivers what was marked, now that it is committed. Says whether a lane may have more to get.
    pub(super) fn deliver(
        &mut self,
        handed: Vec<(LaneKey, Vec<Delivery>)>,
        settled: &BTreeMap<LaneKey, usize>,
    ) -> bool {
        for (key, count) in settled {
            if let Some(lane) = self.0.get_mut(key) {
                lane.out = lane.out.saturating_sub(*count);
            }
        }
        let mut more = false;
        for (key, deliveries) in handed {
            let Some(lane) = self.0.get_mut(&key) else { continue };
            more |= deliveries.len() == AT_ONCE;
            lane.out += deliveries.len();
            for delivery in deliveries {
                match delivery.section {
                    Section::Main => lane.cursor = row_of(delivery.tag),
                    Section::Bulk | Section::Later => {}
                }
                // Nobody listens any more: the rest waits for the next owner.
                lane.stopped |= lane.opening.inbox.send(Inbound::Delivery(delivery)).is_err();
            }
        }
        more
    }
}

/// Brings a lane's orders to the writer. Orders go before a stop or close that came after them.
/// When the lane is dropped without being closed, it is closed; what it settles after its end is
/// still brought.
pub(super) async fn bring(
    key: LaneKey,
    mut orders: mpsc::UnboundedReceiver<Order>,
    mut stops: mpsc::UnboundedReceiver<StopOrder>,
    writer: Sender<Command>,
) {
    let (mut settling, mut stopping, mut open) = (true, true, true);
    let mut waiting = Vec::new();
    while settling || stopping {
        let command = tokio::select! {
            biased;
            received = orders.recv_many(&mut waiting, ORDERS), if settling => {
                settling = received > 0;
                None
            }
            stop = stops.recv(), if stopping => {
                stopping = stop.is_some();
                stop.map(|stop| match stop {
                    StopOrder::Stop => Change::Stop(key),
                    StopOrder::Close(done) => {
                        open = false;
                        Change::Close(key, Some(done))
                    }
                })
            }
        };
        for order in waiting.drain(..) {
            let work = match order {
                Order::Settle(settlement, ticket) => Work::Settle(key, settlement, ticket),
                Order::Flush(done) => Work::Flush(done),
                // One process works on the file, so nobody waits for what closing the lane hands back.
                Order::HandBack(_, _) => continue,
            };
            if writer.send(Command::Work(work)).is_err() {
                tracing::error!("settled after the queue was closed: this is lost");
            }
        }
        if let Some(change) = command {
            let _ = writer.send(Command::Change(change));
        }
    }
    if open {
        let _ = writer.send(Command::Change(Change::Close(key, None)));
    }
}

//! The lane's hand on settling, and how far its settlements are.
//!
//! What is handed in is counted until it is confirmed: facts and acknowledgements, which a crash would let
//! happen again, apart from moves and burials, which wait for their destination as long as it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use otpd_core::{Fact, UnixMs};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::seam::{Settlement, Tag, Then};

/// An order to the backend's settling task.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every order is a settlement; a box would cost each an allocation"
)]
pub enum Order {
    /// Carry this out; drop the ticket when its publishing is confirmed.
    Settle(Settlement, Ticket),
    /// Say when everything before this is confirmed and acknowledged (or can no longer be).
    Flush(oneshot::Sender<()>),
    /// Hand the deliveries of this session back, apart from these and from those whose end is on its way.
    HandBack(u32, Vec<Tag>),
}

/// A settlement that is not confirmed yet. Whoever carries it out holds this until it is.
#[derive(Debug)]
pub struct Ticket {
    under_way: Arc<UnderWay>,
    kind: Kind,
    /// Somebody waits for this very settlement.
    awaited: Option<oneshot::Sender<()>>,
}

impl Ticket {
    /// Takes over who waits for the settlement, to answer when it is certain that this process still owns the
    /// lane; dropped instead, it says that nobody can tell.
    pub fn take_awaited(&mut self) -> Option<oneshot::Sender<()>> {
        self.awaited.take()
    }
}

/// What a settlement waits for.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// The stream, which takes every lane's facts.
    Telling,
    /// Another queue, which may take nothing for hours.
    Moving,
}

#[derive(Debug, Default)]
struct UnderWay {
    telling: AtomicUsize,
    moving: AtomicUsize,
    fewer: Notify,
}

impl UnderWay {
    fn count(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::Telling => &self.telling,
            Kind::Moving => &self.moving,
        }
    }
}

impl Kind {
    fn of(then: &Then) -> Self {
        match then {
            Then::Keep | Then::Acknowledge(_) => Self::Telling,
            // Waits for a move or a burial, where there is one.
            Then::AcknowledgeSettled { .. } | Then::Move(_, _) | Then::Bury(_, _) => Self::Moving,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.under_way.count(self.kind).fetch_sub(1, Ordering::Relaxed);
        self.under_way.fewer.notify_one();
    }
}

/// The lane's hand on settling: cheap to call, never blocks. What waits here is bounded by what
/// the lane holds: each delivery is settled once a session, and kept ones wait for their next attempt.
#[derive(Clone, Debug)]
pub struct Settler {
    orders: mpsc::UnboundedSender<Order>,
    proof: Proof,
    under_way: Arc<UnderWay>,
}

impl Settler {
    /// A settler over a backend's order channel.
    #[must_use]
    pub fn new(orders: mpsc::UnboundedSender<Order>, proof: Proof) -> Self {
        Self { orders, proof, under_way: Arc::default() }
    }

    /// Hands in a settlement. The backend outlives its lanes, so this cannot be refused.
    pub fn settle(&self, settlement: Settlement) {
        self.hand_in(settlement, None);
    }

    /// Announces a request. The receiver is answered once the announcement is on the stream and this process
    /// was still the owner of the lane when it was written; otherwise it ends without an answer.
    #[must_use]
    pub fn announce(&self, fact: Fact) -> oneshot::Receiver<()> {
        let (awaited, certain) = oneshot::channel();
        self.hand_in(Settlement { fact: Some(fact), then: Then::Keep }, Some(awaited));
        certain
    }

    fn hand_in(&self, settlement: Settlement, awaited: Option<oneshot::Sender<()>>) {
        let kind = Kind::of(&settlement.then);
        self.under_way.count(kind).fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket { under_way: self.under_way.clone(), kind, awaited };
        let _ = self.orders.send(Order::Settle(settlement, ticket));
    }

    /// Hands back at once what a session that is at its end still holds, apart from `kept`: deliveries whose requests
    /// are under way, which are settled as they end. Changes nothing while a session takes deliveries.
    pub fn hand_back(&self, session: u32, kept: Vec<Tag>) {
        let _ = self.orders.send(Order::HandBack(session, kept));
    }

    /// How many facts are not confirmed yet: what a crash would let happen again. Moves and burials are
    /// not among them: a crash repeats no request of theirs, and another queue must not stop this lane.
    #[must_use]
    pub fn unconfirmed(&self) -> usize {
        self.under_way.telling.load(Ordering::Relaxed)
    }

    /// How many moves and burials are not confirmed yet, with the deliveries that came back and wait for
    /// them.
    #[must_use]
    pub fn moving(&self) -> usize {
        self.under_way.moving.load(Ordering::Relaxed)
    }

    /// Waits until there are fewer of either. Cancel-safe.
    pub async fn fewer(&self) {
        self.under_way.fewer.notified().await;
    }

    /// Waits until all that was handed in is confirmed, and acknowledged where its session still is.
    /// Moves and burials of a lost session are not waited for: the broker has their deliveries again.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.orders.send(Order::Flush(done)).is_ok() {
            let _ = wait.await;
        }
    }

    /// The broker's last sign of life.
    #[must_use]
    pub fn proof(&self) -> &Proof {
        &self.proof
    }
}

/// When the broker last proved that it hears this process: a confirm came back. In wall-clock
/// milliseconds; 0 before the first. An embedded queue is its own proof.
#[derive(Clone, Debug, Default)]
pub struct Proof(Arc<AtomicU64>);

impl Proof {
    /// A confirm for something published at `sent_at` came.
    pub fn seen(&self, sent_at: UnixMs) {
        self.0.fetch_max(sent_at.0, Ordering::Relaxed);
    }

    /// The latest moment at which this process is known to have been heard.
    #[must_use]
    pub fn at(&self) -> UnixMs {
        UnixMs(self.0.load(Ordering::Relaxed))
    }
}

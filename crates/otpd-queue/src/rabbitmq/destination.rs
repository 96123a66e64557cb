//! Where moves and burials go: one task and one publishing channel per destination of a lane.
//!
//! A queue that is full, that nothing is bound to, or that has no majority of its replicas holds only what
//! goes to it: each destination waits for its own confirms, at its own pace. In trouble that pace is one
//! message at a time, 0.2 s to 10 s apart, so that a queue which takes messages and never confirms them is
//! not filled with copies; it doubles with each success. The broker does not show its bindings over AMQP,
//! so trying is the way to learn that the topology was mended.
//!
//! Invariant: a message is published only while the session that handed out its delivery is open.
//! Afterwards the broker hands the job out again, perhaps to another owner, and the message goes back to
//! the settling task, which keeps it until the delivery comes back here.

use std::collections::{HashMap, VecDeque};

use lapin::types::ShortString;
use otpd_core::UnixMs;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::backoff::Backoff;
use super::clock::{self, until};
use super::link::Link;
use super::publisher::{Fate, Publisher, WINDOW};
use super::wire::Parcel;
use crate::seam::Proof;

/// The session that is open, as the settling side sees it; 0 while there is none.
pub(super) type OpenSession = watch::Receiver<u32>;

/// A message on its way.
pub(super) struct Outgoing {
    /// By which the settling task knows it.
    pub(super) number: u64,
    /// The session of its delivery.
    pub(super) session: u32,
    pub(super) parcel: Parcel,
}

/// What a destination tells the settling task.
pub(super) enum News {
    /// These have reached a queue.
    Taken(Vec<u64>),
    /// These have not been confirmed, and their session is over.
    Withheld(Vec<Outgoing>),
}

/// All destinations of a lane. A task is begun with the first message for it and ends with the lane.
pub(super) struct Destinations {
    link: Link,
    proof: Proof,
    session: OpenSession,
    news: mpsc::UnboundedSender<News>,
    open: HashMap<(ShortString, ShortString), mpsc::UnboundedSender<Outgoing>>,
}

impl Destinations {
    pub(super) fn new(
        link: Link,
        proof: Proof,
        session: OpenSession,
        news: mpsc::UnboundedSender<News>,
    ) -> Self {
        Self { link, proof, session, news, open: HashMap::new() }
    }

    /// Hands a message to its destination.
    pub(super) fn send(&mut self, outgoing: Outgoing) {
        let place = (outgoing.parcel.exchange.clone(), outgoing.parcel.key.clone());
        let to = self.open.entry(place).or_insert_with(|| {
            let (to, incoming) = mpsc::unbounded_channel();
            let destination = Destination {
                link: self.link.clone(),
                publisher: Publisher::new(self.link.clone(), self.proof.clone()),
                session: self.session.clone(),
                news: self.news.clone(),
                incoming,
                waiting: VecDeque::new(),
                room: WINDOW,
                due: None,
                backoff: Backoff::default(),
                trouble: None,
            };
            tokio::spawn(destination.run());
            to
        });
        // The task outlives this handle to it.
        let _ = to.send(outgoing);
    }
}

/// One destination, at work.
struct Destination {
    link: Link,
    publisher: Publisher,
    session: OpenSession,
    news: mpsc::UnboundedSender<News>,
    incoming: mpsc::UnboundedReceiver<Outgoing>,
    /// Oldest first.
    waiting: VecDeque<Outgoing>,
    /// How many messages are tried at once, 1 to [`WINDOW`].
    room: usize,
    due: Option<Instant>,
    backoff: Backoff,
    /// Since when it takes nothing, if it was said.
    trouble: Option<UnixMs>,
}

impl Destination {
    async fn run(mut self) {
        loop {
            if self.waiting.is_empty() {
                let Some(first) = self.incoming.recv().await else { return };
                self.waiting.push_back(first);
            }
            while let Ok(next) = self.incoming.try_recv() {
                self.waiting.push_back(next);
            }
            self.withhold();
            if self.waiting.is_empty() {
                continue;
            }
            if self.due.is_some() {
                tokio::select! {
                    () = until(self.due) => {}
                    Ok(()) = self.session.changed() => continue,
                }
            }
            self.due = None;
            self.publish().await;
        }
    }

    /// Gives back what belongs to another session, or all where this queue was closed.
    fn withhold(&mut self) {
        let open = if self.link.is_closed() { 0 } else { *self.session.borrow_and_update() };
        if self.waiting.iter().all(|o| o.session == open) {
            return;
        }
        let (stays, goes): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(|o| o.session == open);
        self.waiting = stays.into();
        let _ = self.news.send(News::Withheld(goes));
    }

    async fn publish(&mut self) {
        let window: Vec<&Parcel> = self.waiting.iter().take(self.room).map(|o| &o.parcel).collect();
        let Ok(fates) = self.publisher.window(&window).await else {
            // No channel: the link has said why.
            return self.retry_later();
        };
        let mut taken = Vec::with_capacity(fates.len());
        let mut left = VecDeque::new();
        for (outgoing, fate) in self.waiting.drain(..fates.len()).zip(&fates) {
            match fate {
                Fate::Confirmed => taken.push(outgoing.number),
                Fate::Returned | Fate::Unknown => left.push_back(outgoing),
            }
        }
        left.append(&mut self.waiting);
        self.waiting = left;
        self.pace(&fates);
        if !taken.is_empty() {
            let _ = self.news.send(News::Taken(taken));
        }
    }

    fn pace(&mut self, fates: &[Fate]) {
        let confirmed = fates.iter().filter(|f| **f == Fate::Confirmed).count();
        if confirmed > 0 {
            self.backoff.reset();
        }
        if confirmed == fates.len() {
            self.room = (self.room * 2).min(WINDOW);
            self.tell_recovery();
            return;
        }
        self.room = if confirmed > 0 { (self.room / 2).max(1) } else { 1 };
        self.tell_trouble(fates.contains(&Fate::Returned));
        self.retry_later();
    }

    fn retry_later(&mut self) {
        self.due = Some(Instant::now() + self.backoff.next(rand::random_range(0.0..1.0)));
    }

    /// Says once that a destination takes nothing.
    fn tell_trouble(&mut self, unroutable: bool) {
        let Some(first) = self.waiting.front().filter(|_| self.trouble.is_none()) else { return };
        self.trouble = Some(clock::now());
        if unroutable {
            error!("{}; the jobs are kept, and tried again until there is", first.parcel.unroutable());
        } else {
            let (exchange, key) = (&first.parcel.exchange, &first.parcel.key);
            warn!(%exchange, %key,
                "this destination refuses or does not confirm messages (its queue may be full or without a majority of its replicas); the jobs are kept, and tried again until it does");
        }
    }

    fn tell_recovery(&mut self) {
        if let Some(since) = self.trouble.take() {
            let seconds = clock::now().since(since).as_secs();
            info!(seconds, "a destination that took nothing takes messages again");
        }
    }
}

//! Copies of facts for observers: whoever binds a queue to the topic exchange `otp.events`.
//!
//! A send waits for the stream alone, which has an exchange of its own. A queue that somebody bound may be
//! bounded and full, or have lost its majority, or be on a node that hangs: were facts published to it and
//! to the stream at once, every one of these would refuse or delay the publish, and a refused one is
//! published again although the stream has it. So observers get a copy once the stream has confirmed the
//! fact: on a connection of their own, because one that a slow queue holds up is held up for all that is
//! written to it; unconfirmed; and dropped, and counted, where more than [`ROOM`] wait. What an observer
//! misses is on the stream.
//!
//! AMQP does not tell whether anybody observes, and copies for nobody would cost a tenth of a job's CPU.
//! So each key is asked for with a copy that must come back where nobody is bound to it (`mandatory`, with
//! a confirm). While nobody is, one copy a second asks again, and the others are not made: who has just
//! bound a queue gets what happens from a second later on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::types::ShortString;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::link::{Link, Open};
use super::publisher::{Fate, Publisher, WINDOW, publish_unconfirmed};
use super::wire::{Parcel, short};
use crate::error::QueueError;
use crate::plan::Plan;
use crate::seam::Proof;

/// How many copies may wait: a few seconds of a busy worker, some 4 MB.
const ROOM: usize = 4096;
/// How long the last copies may take at the end.
const AT_THE_END: Duration = Duration::from_secs(1);

/// After how long a key is asked for again to which nobody was bound...
const NOBODY: Duration = Duration::from_secs(1);
/// ...or somebody was.
const SOMEBODY: Duration = Duration::from_secs(60);

/// What is known of a key. There are as many as kinds of facts, times providers.
#[derive(Clone, Copy)]
enum Bound {
    /// A copy is on its way that will tell; until then others are made.
    Asking,
    Nobody(Instant),
    Somebody(Instant),
}

/// The way to observers. Clones are the same one.
#[derive(Clone)]
pub(super) struct Observers(Arc<Inner>);

struct Inner {
    link: Link,
    exchange: ShortString,
    copies: mpsc::Sender<Parcel>,
    /// Until the task that publishes them is started.
    taken: Mutex<Option<mpsc::Receiver<Parcel>>>,
    dropped: AtomicU64,
    keys: Mutex<HashMap<ShortString, Bound>>,
}

impl Observers {
    pub(super) fn new(link: Link, plan: &Plan) -> Self {
        let (copies, taken) = mpsc::channel(ROOM);
        let taken = Mutex::new(Some(taken));
        Self(Arc::new(Inner {
            link,
            exchange: short(&plan.events()),
            copies,
            taken,
            dropped: AtomicU64::new(0),
            keys: Mutex::default(),
        }))
    }

    /// Starts to publish copies, unless that was done.
    pub(super) fn start(&self) {
        let taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(copies) = taken {
            tokio::spawn(pass_on(self.clone(), copies));
        }
    }

    /// Makes copies of facts that the stream has. Never waits.
    pub(super) fn offer(&self, facts: impl Iterator<Item = Parcel>) {
        let now = Instant::now();
        let mut keys = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        for fact in facts {
            let asks = match keys.get(&fact.key) {
                Some(Bound::Nobody(at)) if now < *at + NOBODY => continue,
                Some(Bound::Somebody(at)) if now < *at + SOMEBODY => false,
                Some(Bound::Asking) => false,
                Some(Bound::Nobody(_) | Bound::Somebody(_)) | None => true,
            };
            let key = asks.then(|| fact.key.clone());
            let copy = Parcel { exchange: self.0.exchange.clone(), mandatory: asks, ..fact };
            match (self.0.copies.try_send(copy), key) {
                (Ok(()), Some(key)) => drop(keys.insert(key, Bound::Asking)),
                (Ok(()), None) => {}
                (Err(_), _) => self.drop_some(1),
            }
        }
    }

    fn learn(&self, key: &ShortString, bound: Option<Bound>) {
        let mut keys = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        match bound {
            Some(bound) => drop(keys.insert(key.clone(), bound)),
            None => drop(keys.remove(key)),
        }
    }

    fn drop_some(&self, count: usize) {
        let before = self.0.dropped.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
        if before == 0 && count > 0 {
            warn!(
                "observers of {} cannot keep up, or the broker is away: copies of events are dropped (otpd_observer_events_dropped_total counts them); they are on the stream",
                self.0.exchange
            );
        }
    }

    /// How many copies were dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Ends, with the last copies if they go out within a second.
    pub(super) async fn close(&self) {
        let gone = async {
            while self.0.copies.capacity() < ROOM {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if self.0.link.is_up() {
            // Whatever is left then is on the stream.
            let _ = tokio::time::timeout(AT_THE_END, gone).await;
        }
        self.0.link.close().await;
    }
}

/// Publishes copies until the queue is closed.
async fn pass_on(observers: Observers, mut copies: mpsc::Receiver<Parcel>) {
    let link = &observers.0.link;
    let mut asking = Publisher::new(link.clone(), Proof::default());
    let mut open = None;
    let mut window = Vec::with_capacity(WINDOW);
    let mut away = false;
    while !link.is_closed() && copies.recv_many(&mut window, WINDOW).await > 0 {
        let (asks, others): (Vec<Parcel>, Vec<Parcel>) = window.drain(..).partition(|copy| copy.mandatory);
        let asked =
            ask(&observers, &mut asking, &asks).await.inspect_err(|_| observers.drop_some(asks.len()));
        let told = publish(link, &mut open, &others).await.inspect_err(|_| observers.drop_some(others.len()));
        match asked.and(told) {
            Ok(()) if away => {
                away = false;
                info!("observers get copies of events again");
            }
            Ok(()) => {}
            Err(error) => {
                if !away {
                    debug!("copies for observers cannot be published: {error}");
                }
                away = true;
            }
        }
    }
}

/// Publishes copies that tell whether anybody is bound to their keys. None of them is published again: whoever
/// refuses it or does not answer is somebody.
async fn ask(observers: &Observers, publisher: &mut Publisher, asks: &[Parcel]) -> Result<(), QueueError> {
    if asks.is_empty() {
        return Ok(());
    }
    let fates = match publisher.window(&asks.iter().collect::<Vec<_>>()).await {
        Ok(fates) => fates,
        Err(error) => {
            asks.iter().for_each(|copy| observers.learn(&copy.key, None));
            return Err(error);
        }
    };
    let now = Instant::now();
    for (copy, fate) in asks.iter().zip(fates) {
        let bound = match fate {
            Fate::Returned => Bound::Nobody(now),
            Fate::Confirmed | Fate::Unknown => Bound::Somebody(now),
        };
        observers.learn(&copy.key, Some(bound));
    }
    Ok(())
}

async fn publish(link: &Link, open: &mut Option<Open>, window: &[Parcel]) -> Result<(), QueueError> {
    if window.is_empty() {
        return Ok(());
    }
    let channel = match open.take() {
        Some(open) if open.channel.status().connected() => open,
        Some(_) | None => link.channel().await?,
    };
    // However long it takes: what waits meanwhile is bounded, and a dead connection ends it.
    publish_unconfirmed(&channel.channel, window)
        .await
        .map_err(|error| super::dial::refused_or_away(channel.url(), &error))?;
    *open = Some(channel);
    Ok(())
}

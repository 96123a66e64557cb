//! One connection to the broker, made again whenever it is gone.
//!
//! There are two links in a process: one consumes and acknowledges, one publishes, because an alarm
//! that blocks a publishing connection stops everything written to it. lapin's own recovery is not
//! used: it can wedge for ever when a second fault meets the first one's recovery.
//!
//! Invariants: at most one attempt at a time, whoever asks; between attempts the [`Backoff`] passes,
//! for all who ask; each change of state (connected, lost, refused) is logged once. Credentials are read for each
//! attempt, after a refusal too ([`Nodes`]).

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::{Channel, Connection};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::address::BrokerUrl;
use super::backoff::Backoff;
use super::dial::{PATIENCE, away, dial, refused_or_away};
use super::nodes::{Access, Nodes};
use crate::error::QueueError;

/// A link. Clones share the connection.
#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

struct Inner {
    /// `consume` or `publish`, for logs and for the broker's list of connections.
    role: &'static str,
    name: String,
    nodes: Nodes,
    frames: Frames,
    /// The node that is tried next: after a loss another one than before, which may hang.
    next_url: AtomicUsize,
    live: Mutex<Option<Live>>,
    dialing: tokio::sync::Mutex<Dialing>,
    used: AtomicBool,
    closed: AtomicBool,
    waking: AtomicBool,
}

#[derive(Clone)]
struct Live {
    connection: Arc<Connection>,
    url: BrokerUrl,
}

/// How large the frames of a connection may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frames {
    /// As the broker wants them.
    AsOffered,
    /// Small ones; see [`BrokerUrl::in_small_frames`].
    Small,
}

/// What is known of the attempts so far.
struct Dialing {
    backoff: Backoff,
    not_before: Option<Instant>,
    failed: u64,
    /// The last failure's words, while nothing else has happened since.
    last: Option<(BrokerUrl, String)>,
}

/// A channel with the connection that carries it.
pub(super) struct Open {
    /// The channel.
    pub(super) channel: Channel,
    live: Live,
    link: Link,
}

impl Link {
    pub(super) fn new(role: &'static str, name: &str, nodes: &Nodes, frames: Frames) -> Self {
        let start = rand::random_range(0..nodes.count().max(1));
        Self(Arc::new(Inner {
            role,
            name: format!("{name} {role}"),
            nodes: nodes.clone(),
            frames,
            next_url: AtomicUsize::new(start),
            live: Mutex::new(None),
            dialing: tokio::sync::Mutex::new(Dialing {
                backoff: Backoff::default(),
                not_before: None,
                failed: 0,
                last: None,
            }),
            used: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            waking: AtomicBool::new(false),
        }))
    }

    /// The connection, if it is up right now.
    fn live(&self) -> Option<Live> {
        let live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.clone().filter(|l| l.connection.status().connected())
    }

    /// Whether it is up right now.
    pub(super) fn is_up(&self) -> bool {
        self.live().is_some()
    }

    /// Whether anything has asked for it.
    pub(super) fn is_used(&self) -> bool {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Whether [`Link::close`] was called.
    pub(super) fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    /// Begins to connect in the background, unless that is under way: for a process that has had
    /// nothing to send yet and is asked whether it could.
    pub(super) fn wake(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.is_closed() || self.0.waking.swap(true, Ordering::Relaxed) {
            return;
        }
        let link = self.clone();
        runtime.spawn(async move {
            let _ = link.connection().await;
            link.0.waking.store(false, Ordering::Relaxed);
        });
    }

    /// The connection; makes one attempt where there is none, unless the last one failed just now.
    async fn connection(&self) -> Result<Live, QueueError> {
        self.0.used.store(true, Ordering::Relaxed);
        if let Some(live) = self.live() {
            return Ok(live);
        }
        let mut dialing = self.0.dialing.lock().await;
        if let Some(live) = self.live() {
            return Ok(live);
        }
        if self.is_closed() {
            return Err(closed());
        }
        if let (Some(until), Some((url, why))) = (dialing.not_before, &dialing.last)
            && Instant::now() < until
        {
            return Err(away(url, why.clone()));
        }
        self.attempt(&mut dialing).await
    }

    async fn attempt(&self, dialing: &mut Dialing) -> Result<Live, QueueError> {
        self.report_loss();
        let next = self.0.next_url.load(Ordering::Relaxed);
        // Read for this attempt: a password may have been rotated since the last one.
        let Access { urls, ca } = self.0.nodes.access().await;
        let Some(url) = urls.get(next % urls.len().max(1)) else {
            return Err(QueueError::Away { url: "-".into(), why: "no broker URL is configured".into() });
        };
        let small = url.in_small_frames();
        let framed = match self.0.frames {
            Frames::AsOffered => url,
            Frames::Small => &small,
        };
        match dial(framed, ca, &self.0.name).await {
            Ok(connection) => {
                let attempts = dialing.failed + 1;
                info!(role = self.0.role, broker = %url, attempts, "connected to RabbitMQ");
                let live = Live { connection: Arc::new(connection), url: url.clone() };
                if self.is_closed() {
                    return Err(closed());
                }
                *self.0.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(live.clone());
                dialing.backoff.reset();
                (dialing.not_before, dialing.failed, dialing.last) = (None, 0, None);
                Ok(live)
            }
            Err(error) => {
                let wait = dialing.backoff.next(rand::random_range(0.0..1.0));
                let why = error.to_string();
                let known = dialing.last.as_ref().is_some_and(|(_, last)| *last == why);
                if known {
                    debug!(role = self.0.role, broker = %url, "still no connection: {why}");
                } else {
                    warn!(role = self.0.role, broker = %url,
                        "no connection to RabbitMQ: {why}; trying again, 0.2 s to 10 s apart, until there is one");
                }
                dialing.failed += 1;
                dialing.not_before = Some(Instant::now() + wait);
                self.try_another_node();
                dialing.last = Some((url.clone(), why));
                Err(error)
            }
        }
    }

    /// Says once that the connection is gone.
    fn report_loss(&self) {
        let mut live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gone) = live.take() {
            warn!(role = self.0.role, broker = %gone.url, "the connection to RabbitMQ is lost; connecting again");
            self.try_another_node();
        }
    }

    /// The next attempt goes to another node, where there is one.
    fn try_another_node(&self) {
        self.0.next_url.fetch_add(1, Ordering::Relaxed);
    }

    /// A new channel; one attempt.
    ///
    /// # Errors
    /// [`QueueError::Away`], [`QueueError::Refused`].
    pub(super) async fn channel(&self) -> Result<Open, QueueError> {
        let live = self.connection().await?;
        match within(&live.connection, PATIENCE, live.connection.create_channel()).await {
            Some(Ok(channel)) => Ok(Open { channel, live, link: self.clone() }),
            Some(Err(error)) => Err(refused_or_away(&live.url, &error)),
            None => {
                self.suspect(&live.connection);
                Err(away(&live.url, "a channel was not opened in time"))
            }
        }
    }

    /// A new channel, however long it takes; `None` once the link is closed.
    pub(super) async fn channel_at_last(&self) -> Option<Open> {
        loop {
            match self.channel().await {
                Ok(open) => return Some(open),
                Err(_) if self.is_closed() => return None,
                Err(_) => self.until_next_attempt().await,
            }
        }
    }

    async fn until_next_attempt(&self) {
        let until = self.0.dialing.lock().await.not_before;
        // Never less than a moment: a connection that opens and cannot open a channel must not spin.
        let least = Instant::now() + Duration::from_millis(100);
        tokio::time::sleep_until(until.map_or(least, |u| u.max(least))).await;
    }

    /// Gives up a connection on which not even a channel can be opened; the next who asks gets a new
    /// one. Nothing less is a reason: the connection is shared, and a queue without a majority keeps
    /// its own callers waiting, but not the others.
    fn suspect(&self, connection: &Arc<Connection>) {
        let mut live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gone) = live.take_if(|l| Arc::ptr_eq(&l.connection, connection)) {
            warn!(role = self.0.role, broker = %gone.url, "RabbitMQ does not answer; connecting again");
            self.try_another_node();
        }
    }

    /// Gives the connection up although it answers, and closes it, so that all who use it get another one.
    pub(super) fn give_up(&self, why: &str) {
        let gone = self.0.live.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(gone) = gone else { return };
        warn!(role = self.0.role, broker = %gone.url, "{why}; connecting to another node, where there is one");
        self.try_another_node();
        tokio::spawn(async move {
            // A connection that cannot be closed is gone, and that is what is wanted.
            let _ = tokio::time::timeout(PATIENCE, gone.connection.close(200, "another node".into())).await;
        });
    }

    /// Ends the connection in order, for good.
    pub(super) async fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
        if let Some(live) = self.live() {
            // Whatever comes of it, the connection ends with the process.
            let _ = tokio::time::timeout(PATIENCE, live.connection.close(200, "otpd ends".into())).await;
        }
    }
}

impl Open {
    /// Waits for `future` as long as [`PATIENCE`] says, longer only while the broker blocks publishers.
    pub(super) async fn within<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        within(&self.live.connection, PATIENCE, future).await
    }

    /// A request and its answer.
    ///
    /// # Errors
    /// [`QueueError::Refused`] and [`QueueError::Away`].
    pub(super) async fn call<T>(
        &self,
        request: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, QueueError> {
        match self.within(request).await {
            Some(answer) => answer.map_err(|e| refused_or_away(&self.live.url, &e)),
            None => Err(away(&self.live.url, "no answer in time")),
        }
    }

    /// Gives up the connection of this channel; the next who asks gets a new one, at another node where there
    /// is one.
    pub(super) fn suspect(&self) {
        self.link.suspect(&self.live.connection);
    }

    /// The broker behind it.
    pub(super) fn url(&self) -> &BrokerUrl {
        &self.live.url
    }

    /// Closes the channel without waiting for that: because something asked on it was not answered, and a broker
    /// that gets round to it later must not do it for nobody. A consumer that was made so would be handed the
    /// whole queue, and block the lane for as long as the connection lives.
    pub(super) fn abandon(self) {
        tokio::spawn(self.close());
    }

    /// Closes the channel and waits for that, at most [`PATIENCE`].
    pub(super) async fn close(self) {
        if self.channel.status().connected() {
            // A channel that cannot be closed is gone, and that is what is wanted.
            let _ = tokio::time::timeout(PATIENCE, self.channel.close(200, "done".into())).await;
        }
    }
}

fn closed() -> QueueError {
    QueueError::Away { url: "-".into(), why: "this queue was closed".into() }
}

/// Waits for `future`, `patience` at a time while the broker blocks this connection: what was
/// published is then on its way, and publishing it again would only make it arrive twice.
async fn within<T>(
    connection: &Connection,
    patience: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(future);
    let mut told = false;
    loop {
        match tokio::time::timeout(patience, &mut future).await {
            Ok(value) => return Some(value),
            Err(_) if connection.status().blocked() && connection.status().connected() => {
                if !told {
                    warn!(
                        "RabbitMQ blocks publishers (memory or disk alarm); waiting until it lets them through"
                    );
                }
                told = true;
            }
            Err(_) => return None,
        }
    }
}

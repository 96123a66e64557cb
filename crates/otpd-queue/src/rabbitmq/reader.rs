//! The process's one reader of the events stream.
//!
//! It starts with the first lane and never stops, so that a worker that stands by knows what the owner
//! knows. It begins at the end of the stream and stays there; meanwhile `past` reads what was written
//! before, in pieces that begin ever further back.
//!
//! Whatever a lane must be sure of is a record of its own, published and read back ([`Reader::claim`],
//! [`Reader::echo`]): a stream has one order, so everything that was confirmed before that record has been
//! read by then. Records of this process carry its origin in their correlation id; they are told to nobody,
//! because whoever published them knows what they say, and are not even parsed.
//!
//! Invariants: nothing is passed over, a loss of the connection included (reading goes on at the record after
//! the last); what is awaited and does not come costs the connection, because a node that was cut off from
//! its cluster may go on answering everything but the stream.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use otpd_core::{ProviderName, UnixMs, fact_json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use super::backoff::Backoff;
use super::claims::{ClaimId, Claims, Echo};
use super::clock;
use super::link::Link;
use super::past;
use super::publisher::{Attempt, Fate, Publisher, WINDOW};
use super::stream::{Record, Start, StreamReader};
use super::wire::{self, Parcel};
use crate::error::QueueError;
use crate::listen::{Listener, Listeners, News, When};
use crate::plan::Plan;
use crate::seam::Proof;

/// How far back reading begins again where the stream was made anew.
const AGAIN: Duration = Duration::from_secs(30);
/// How long a record of our own may take to be read back before the reading is begun anew, at another node.
const SILENCE: Duration = Duration::from_secs(5);
/// The most news told at once.
const PIECE: usize = 500;

/// The reader. Clones are the same reader.
#[derive(Clone)]
pub(super) struct Reader(pub(super) Arc<Shared>);

/// What the reader's tasks share.
pub(super) struct Shared {
    pub(super) plan: Arc<Plan>,
    pub(super) source: Arc<str>,
    /// What the correlation ids of this process begin with.
    pub(super) origin: Arc<str>,
    pub(super) link: Link,
    publish: Link,
    claims: Mutex<Claims>,
    listeners: Mutex<Listeners>,
    /// Everything from this time on has been read; `None` until the last records have.
    pub(super) known_since: watch::Sender<Option<UnixMs>>,
    markers: OnceLock<mpsc::UnboundedSender<Parcel>>,
    /// When a marker was confirmed last.
    confirmed_at: Mutex<Option<Instant>>,
}

/// How far the reader has come.
struct Place {
    start: Start,
    /// When the last record was read.
    read_at: UnixMs,
    past: Option<past::Task>,
}

/// Why the reading broke off.
struct Broken {
    error: QueueError,
    reached_the_end: bool,
}

/// Which reading a record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// The standing one, which has begun before this process said anything.
    Standing,
    /// That of what was written before.
    Before,
}

impl Reader {
    /// A reader that begins with [`Reader::start`].
    pub(super) fn new(plan: Arc<Plan>, source: Arc<str>, link: Link, publish: Link) -> Self {
        let origin: String = Uuid::new_v4().simple().to_string().chars().take(12).collect();
        Self(Arc::new(Shared {
            plan,
            source,
            origin: origin.into(),
            link,
            publish,
            claims: Mutex::default(),
            listeners: Mutex::default(),
            known_since: watch::Sender::new(None),
            markers: OnceLock::new(),
            confirmed_at: Mutex::default(),
        }))
    }

    /// What the correlation ids of this process begin with.
    pub(super) fn origin(&self) -> &str {
        &self.0.origin
    }

    /// Tells `listener` everything from now on.
    pub(super) fn listen(&self, listener: Arc<dyn Listener>) {
        self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// Starts reading, unless it has started.
    pub(super) fn start(&self) {
        self.0.markers.get_or_init(|| {
            let (markers, inside) = mpsc::unbounded_channel();
            let publisher = Publisher::new(self.0.publish.clone(), Proof::default());
            tokio::spawn(self.clone().publish_markers(publisher, inside));
            tokio::spawn(self.clone().run());
            markers
        });
    }

    /// True once the last minutes have been read, as far back as the listeners' first need goes.
    pub(super) fn has_caught_up(&self) -> bool {
        let back = clock::now().minus(otpd_core::recent::WINDOW - AGAIN);
        self.0.known_since.borrow().is_some_and(|since| since <= back)
    }

    /// Since when everything is known.
    pub(super) fn known_since(&self) -> watch::Receiver<Option<UnixMs>> {
        self.0.known_since.subscribe()
    }

    /// True if the listeners know the requests that count against the ceiling of `provider`.
    pub(super) fn knows_window(&self, provider: &ProviderName) -> bool {
        let Some(since) = *self.0.known_since.borrow() else { return false };
        let back = clock::now().since(since);
        let listeners = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.iter().all(|listener| listener.knows_window(provider, back))
    }

    /// How far back the listeners want to be told.
    pub(super) fn horizon(&self) -> Duration {
        let listeners = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.iter().map(|listener| listener.horizon()).max().unwrap_or(otpd_core::recent::WINDOW)
    }

    /// Begins a claim to a lane. The receiver ends when another worker's claim is read after it.
    pub(super) fn claim(&self, provider: &ProviderName) -> (ClaimId, oneshot::Receiver<()>) {
        let id: ClaimId = format!("{}-{}", self.0.origin, Uuid::now_v7().simple()).into();
        let lost = self.claims().begin(provider, id.clone());
        (id, lost)
    }

    /// Gives a claim up.
    pub(super) fn give_up(&self, provider: &ProviderName, id: &ClaimId) {
        self.claims().give_up(provider, id);
    }

    /// The record that claims a lane, or renews the claim. The receiver is answered when it is read back.
    pub(super) fn opened(
        &self,
        provider: &ProviderName,
        claim: &ClaimId,
        renewal: bool,
        checkpoint: Option<&str>,
    ) -> oneshot::Receiver<()> {
        let id = Uuid::now_v7().to_string();
        let (echo, answered) = oneshot::channel();
        self.claims().expect(id.clone(), Some((provider.clone(), claim.clone())), echo);
        let opened = wire::Opened { provider, claim, renewal, checkpoint };
        self.mark(wire::opened(&self.0.plan, &self.0.source, &opened, &id, clock::now()));
        answered
    }

    /// Answers `echo` when the record `id`, published under the current claim to a lane, is read back. Drops
    /// it where this process has no claim, or loses it before.
    pub(super) fn echo(&self, id: String, provider: &ProviderName, echo: Echo) {
        let mut claims = self.claims();
        if let Some(claim) = claims.current(provider) {
            claims.expect(id, Some((provider.clone(), claim)), echo);
        }
    }

    /// Ends its connection, for good.
    pub(super) async fn close(&self) {
        self.0.link.close().await;
    }

    /// The receiver is answered when everything that is on the stream by now has been read.
    pub(super) fn barrier(&self) -> oneshot::Receiver<()> {
        let (echo, reached) = oneshot::channel();
        let id = Uuid::now_v7().to_string();
        self.claims().expect(id.clone(), None, echo);
        self.mark(wire::mark(&self.0.plan, &self.0.source, &self.0.origin, &id, clock::now()));
        reached
    }

    fn mark(&self, parcel: Parcel) {
        if let Some(markers) = self.0.markers.get() {
            // The task ends only with the queue.
            let _ = markers.send(parcel);
        }
    }

    fn claims(&self) -> std::sync::MutexGuard<'_, Claims> {
        self.0.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(self) {
        let mut place = Place { start: Start::Last, read_at: clock::now(), past: None };
        let mut backoff = Backoff::default();
        let mut told = false;
        loop {
            let Broken { error, reached_the_end } = self.follow(&mut place, told).await;
            if self.0.link.is_closed() {
                return;
            }
            if reached_the_end {
                (backoff, told) = (Backoff::default(), false);
            }
            if !std::mem::replace(&mut told, true) {
                warn!("the events stream cannot be read: {error}; reading again, no job is started before");
            }
            backoff.pause().await;
        }
    }

    /// Reads to the end of the stream and stays there, until that fails.
    async fn follow(&self, place: &mut Place, told: bool) -> Broken {
        let mut stream = match StreamReader::open(&self.0.link, &self.0.plan.events(), place.start).await {
            Ok(stream) => stream,
            Err(error) => return Broken { error, reached_the_end: false },
        };
        let mut end = self.barrier();
        let (mut when, mut first, began) = (When::Past, None, Instant::now());
        loop {
            let record = match stream.next_within(SILENCE).await {
                Ok(record) => record,
                Err(QueueError::Away { .. }) if stream.is_open() && !self.is_overdue(when) => continue,
                Err(error) => {
                    if first.is_none() {
                        // Perhaps the stream was made anew and counts from 0: reading goes on by the time.
                        place.start = match place.start {
                            Start::Last => Start::Last,
                            Start::At(_) | Start::Offset(_) => Start::At(place.read_at.minus(AGAIN)),
                        };
                    }
                    if !self.0.link.is_closed() {
                        stream.give_up_connection();
                    }
                    if when == When::Past {
                        self.distrust_publishing(began);
                    }
                    return Broken { error, reached_the_end: when == When::Live };
                }
            };
            first.get_or_insert(record.offset);
            place.start = Start::Offset(self.take(record, &mut stream, when));
            place.read_at = clock::now();
            if when == When::Past && end.try_recv().is_ok() {
                when = When::Live;
                if told || place.past.is_none() {
                    info!("the events stream is read to its end");
                }
                place.past.get_or_insert_with(|| past::begin(self.clone(), first.unwrap_or_default()));
            }
        }
    }

    /// Our own mark was confirmed since `began`, and yet it is not on the stream that another node shows: the
    /// node that confirmed it has been cut off from its cluster, and what is published there is lost.
    fn distrust_publishing(&self, began: Instant) {
        let confirmed_at = *self.0.confirmed_at.lock().unwrap_or_else(PoisonError::into_inner);
        if confirmed_at.is_some_and(|at| at >= began) {
            self.0.publish.give_up("what RabbitMQ confirms here is not on the stream");
        }
    }

    /// True if a record of our own should have been read back by now.
    fn is_overdue(&self, when: When) -> bool {
        when == When::Past || self.claims().is_awaited()
    }

    /// Takes a record and all that are there with it; gives the offset to go on at.
    fn take(&self, first: Record, stream: &mut StreamReader, when: When) -> u64 {
        let mut news = Vec::new();
        let mut next = first.offset + 1;
        self.read(first, Reading::Standing, &mut news);
        while news.len() < PIECE {
            // An error shows itself again at the next reading.
            let Some(Ok(record)) = stream.next_ready() else { break };
            next = record.offset + 1;
            self.read(record, Reading::Standing, &mut news);
        }
        self.tell(news, when);
        next
    }

    /// Reads one record: what it says to this process at once, what it says to the listeners into `news`.
    pub(super) fn read(&self, record: Record, from: Reading, news: &mut Vec<News>) {
        let properties = &record.message.properties;
        let correlation = properties.correlation_id().as_ref().map_or("", |id| id.as_str());
        let own = correlation.starts_with(&*self.0.origin);
        let kind = properties.kind().as_ref().map_or("", |kind| kind.as_str());
        if kind == wire::OPENED_TYPE {
            self.read_opened(&record, correlation, (own, from), news);
        } else if !own && let Some(fact) = fact_json::decode(&record.message.data) {
            news.push(News::Fact(fact));
        }
        if own && let Some(id) = properties.message_id() {
            self.claims().read_own(id.as_str());
        }
    }

    fn read_opened(
        &self,
        record: &Record,
        correlation: &str,
        (own, from): (bool, Reading),
        news: &mut Vec<News>,
    ) {
        let Some(opened) = wire::read_opened(&record.message.data) else { return };
        // A version of otpd that made no claims identified each record by its message id alone.
        let id = record.message.properties.message_id().as_ref().map_or("", |id| id.as_str());
        let claim = if correlation.is_empty() { id } else { correlation };
        let mut claims = self.claims();
        let is_current = claims.current(&opened.provider).is_some_and(|current| *current == *claim);
        let counts = !opened.renewal && (is_current || !own);
        if counts && from == Reading::Before {
            claims.read_past_claim(&opened.provider, claim);
        } else if counts && claims.read_claim(&opened.provider, claim) {
            warn!(provider = %opened.provider, "another worker has opened this lane; giving it up here");
        }
        drop(claims);
        if !own {
            let (provider, checkpoint) = (opened.provider, opened.checkpoint);
            news.push(News::Opened { provider, claim: claim.into(), checkpoint });
        }
    }

    /// Tells the listeners.
    pub(super) fn tell(&self, news: Vec<News>, when: When) {
        if news.is_empty() {
            return;
        }
        let listeners = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((last, others)) = listeners.split_last() else { return };
        for listener in others {
            listener.hear(news.clone(), when);
        }
        last.hear(news, when);
    }
}

impl Reader {
    /// Publishes markers, each until it is confirmed: under the same id, so the first that comes by will do. What
    /// speaks of a claim that was given up meanwhile is not published: it would take the lane from its owner.
    async fn publish_markers(self, mut publisher: Publisher, mut inside: mpsc::UnboundedReceiver<Parcel>) {
        let mut waiting: Vec<Parcel> = Vec::new();
        loop {
            if waiting.is_empty() && inside.recv_many(&mut waiting, WINDOW).await == 0 {
                return;
            }
            waiting.retain(|parcel| {
                let claim = parcel.properties.correlation_id().as_ref().map_or("", |id| id.as_str());
                claim == &*self.0.origin || self.claims().is_current(claim)
            });
            if waiting.is_empty() {
                continue;
            }
            let window: Vec<&Parcel> = waiting.iter().take(WINDOW).collect();
            let mut fates = match publisher.window_or_pause(&window).await {
                Attempt::Published(fates) => fates.into_iter(),
                Attempt::Again => continue,
                Attempt::Closed => return,
            };
            let before = waiting.len();
            waiting.retain(|_| fates.next() != Some(Fate::Confirmed));
            if waiting.len() < before {
                *self.0.confirmed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            }
            if !waiting.is_empty() {
                Backoff::default().pause().await;
            }
        }
    }
}

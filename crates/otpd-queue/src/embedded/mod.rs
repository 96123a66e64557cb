//! The embedded queue: one SQLite file, for a laptop, a small server, and everywhere a broker is
//! too much.
//!
//! It keeps the promises of [`crate::seam`] with one thread that writes (`writer`) and short-lived
//! readers. Other processes may send to the same file, list and replay its dead letters and follow
//! its facts; one process at a time works on it (`owner`).
//!
//! Read in this order: `file` (what is in it), `commands` (what can be asked), `writer` (how
//! many requests become one commit), `lanes` (who gets what).
//!
//! Invariant: nothing is answered before the transaction that holds it is committed; with
//! [`Durability::PowerLoss`] that means: on the disk.

mod commands;
mod facts;
mod file;
mod jobs;
mod lanes;
mod letters;
mod owner;
mod retire;
mod telling;
mod topology;
mod watch;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use bytes::Bytes;
use otpd_core::{Fact, JobId, ProviderName, RouteName, UnixMs};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

pub use file::Durability;

use self::commands::{Change, Command, Enqueue, Request, Work};
use self::lanes::Opening;
use self::letters::{Fate, Placed};
use self::owner::Ownership;
use self::retire::Retire;
use self::writer::Writer;
use crate::alive::Alive;
use crate::dead::{DeadFilter, DeadLetter};
use crate::error::QueueError;
use crate::listen::{Listener, Listeners, News, When};
use crate::plan::{Applied, Difference, Plan, Standing};
use crate::retire::{Leftovers, Retired, Trial};
use crate::seam::{
    Checkpoint, LaneQueue, LaneSpec, LaneStop, Prefetch, Proof, QueueNames, Settler, TraceContext,
};

/// The most bytes of a body: what RabbitMQ 4 takes in one message.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// Facts that a follower may be behind before its thread waits for it.
const FOLLOWED: usize = 1_024;

/// What an embedded queue is opened with.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// The file; made where there is none. Beside it lie `<path>-wal`, `<path>-shm` and `<path>.lock`.
    pub path: PathBuf,
    /// Its lanes, routes and retentions. The prefix only appears in messages.
    pub plan: Plan,
    /// Who writes the events, such as `otpd/laptop`.
    pub source: String,
    /// What a commit is worth.
    pub durability: Durability,
}

/// The embedded queue: one SQLite file. Clones share one writer, which lives as long as any clone
/// or open lane.
#[derive(Clone, Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    writer: Sender<Command>,
    thread: Arc<JoinHandle<()>>,
}

/// What every part knows.
struct Shared {
    path: PathBuf,
    plan: Plan,
    source: String,
    owner: Ownership,
    next_lane: AtomicU64,
    listeners: Mutex<Listeners>,
    has_told: AtomicBool,
    healthy: AtomicBool,
    closed: AtomicBool,
}

impl Embedded {
    /// Opens the file, and makes it where there is none.
    ///
    /// # Errors
    /// [`QueueError::File`]: no folder, no right, no queue of this version of otpd.
    pub fn open(config: EmbeddedConfig) -> Result<Self, QueueError> {
        // Absolute, so that no name can be taken for one of SQLite's special ones (`:memory:`, `file:`).
        let path = std::path::absolute(&config.path)
            .map_err(|e| file::unusable(&config.path, format!("is no path: {e}")))?;
        let file = file::open(&path, config.durability)?;
        let shared = Arc::new(Shared {
            path,
            plan: config.plan,
            source: config.source,
            owner: Ownership::default(),
            next_lane: AtomicU64::new(1),
            listeners: Mutex::default(),
            has_told: AtomicBool::new(false),
            healthy: AtomicBool::new(true),
            closed: AtomicBool::new(false),
        });
        Self::over(file, shared)
    }

    fn over(file: Connection, shared: Arc<Shared>) -> Result<Self, QueueError> {
        let (writer, commands) = channel();
        let run = Writer::new(file, commands, shared.clone());
        let ended = shared.clone();
        let thread = std::thread::Builder::new().name("otpd-queue".into()).spawn(move || {
            let waiting = run.run();
            ended.end();
            let _ = waiting.map(|waiting| waiting.send(()));
        });
        let thread = thread.map_err(|e| shared.unusable(format!("no thread for it: {e}")))?;
        Ok(Self { shared, writer, thread: Arc::new(thread) })
    }

    /// See [`Queue::open_lane`](crate::Queue::open_lane). Makes the file as planned first, where it
    /// is not: its owner's config is the truth. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`QueueError::Owned`]; [`QueueError::File`] where the lane is open already.
    pub fn open_lane(&self, spec: LaneSpec) -> Result<LaneQueue, QueueError> {
        if self.shared.closed.load(Ordering::Relaxed) {
            return Err(self.shared.closed());
        }
        self.shared.owner.take(&self.shared.path, &spec.provider)?;
        let key = self.shared.next_lane.fetch_add(1, Ordering::Relaxed);
        let (inbox_in, inbox) = mpsc::unbounded_channel();
        let (orders_in, orders) = mpsc::unbounded_channel();
        let (stops_in, stops) = mpsc::unbounded_channel();
        let (proof, checkpoint) = (Proof::default(), Checkpoint::default());
        let bulk = spec.prefetch.min(jobs::BULK_OUT);
        let prefetch = Prefetch { main: spec.prefetch, bulk, later: Some(spec.prefetch) };
        let opening = Opening {
            key,
            provider: spec.provider,
            prefetch: usize::from(spec.prefetch.max(1)),
            inbox: inbox_in,
            proof: proof.clone(),
        };
        self.send(Command::Change(Change::Open(opening)))?;
        tokio::spawn(lanes::bring(key, orders, stops, self.writer.clone()));
        Ok(LaneQueue {
            alive: Alive::default(),
            inbox,
            settler: Settler::new(orders_in, proof),
            stop: LaneStop::new(stops_in),
            names: self.names(),
            checkpoint,
            prefetch,
        })
    }

    /// See [`Queue::listen`](crate::Queue::listen). Nobody else works on the file, so only what was written before is told.
    pub fn listen(&self, listener: Arc<dyn Listener>) {
        self.shared.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// Its lanes are called as RabbitMQ's.
    pub(crate) fn names(&self) -> QueueNames {
        QueueNames { system: "sqlite", prefix: self.shared.plan.prefix.as_str().into() }
    }

    /// See [`Queue::enqueue`](crate::Queue::enqueue).
    ///
    /// # Errors
    /// [`QueueError::Unroutable`]; [`QueueError::File`]: the job is not queued.
    pub async fn enqueue(
        &self,
        route: &RouteName,
        job: &JobId,
        body: Bytes,
        trace: &TraceContext,
    ) -> Result<(), QueueError> {
        if body.len() > MAX_BODY {
            let why = format!("a job of {} bytes is not taken; at most {MAX_BODY} are", body.len());
            return Err(self.shared.unusable(why));
        }
        let new =
            Enqueue { route: route.clone(), job: job.clone(), body, trace: trace.clone(), taken_at: now() };
        self.ask(new, Work::Enqueue).await
    }

    /// See [`Queue::apply_topology`](crate::Queue::apply_topology). Never refuses: a file can be changed.
    ///
    /// # Errors
    /// [`QueueError::File`].
    pub async fn apply_topology(&self) -> Result<Applied, QueueError> {
        self.ask((), Work::Apply).await?;
        let plan = self.shared.plan.clone();
        let to_retire = self.read(move |file| topology::unplanned(file, &plan)).await?;
        Ok(Applied { generation: 0, to_retire })
    }

    /// See [`Queue::apply_topology_if_empty`](crate::Queue::apply_topology_if_empty). A file has one owner, which
    /// follows its config.
    ///
    /// # Errors
    /// [`QueueError::File`].
    pub async fn apply_topology_if_empty(&self) -> Result<Applied, QueueError> {
        self.apply_topology().await
    }

    /// See [`Queue::topology_standing`](crate::Queue::topology_standing): the file is made as planned when its
    /// owner opens it.
    ///
    /// # Errors
    /// None; as the other backend.
    #[allow(clippy::unused_async, reason = "as the other backend")]
    pub async fn topology_standing(&self) -> Result<Standing, QueueError> {
        Ok(Standing::Ready(Vec::new()))
    }

    /// See [`Queue::retire`](crate::Queue::retire).
    ///
    /// # Errors
    /// [`QueueError::InUse`], [`QueueError::Owned`], [`QueueError::File`].
    pub async fn retire(
        &self,
        provider: &ProviderName,
        leftovers: &Leftovers,
        trial: Trial,
    ) -> Result<Retired, QueueError> {
        self.shared.owner.take(&self.shared.path, provider)?;
        let asked = Retire { provider: provider.clone(), leftovers: leftovers.clone(), trial };
        let retired = self.ask(asked, Work::Retire).await;
        self.shared.owner.leave(provider);
        retired
    }

    /// See [`Queue::check_topology`](crate::Queue::check_topology).
    ///
    /// # Errors
    /// [`QueueError::File`].
    pub async fn check_topology(&self) -> Result<Vec<Difference>, QueueError> {
        let plan = self.shared.plan.clone();
        self.read(move |file| topology::compare(file, &plan)).await
    }

    /// See [`Queue::dead_letters`](crate::Queue::dead_letters).
    ///
    /// # Errors
    /// [`QueueError::File`].
    pub async fn dead_letters(
        &self,
        filter: &DeadFilter,
        now: UnixMs,
        most: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let filter = filter.clone();
        let all = (0, i64::MAX);
        let page = self.read(move |file| letters::page(file, all, &filter, now, most)).await?;
        Ok(page.into_iter().map(|placed| placed.letter).collect())
    }

    /// See [`Queue::replay_dead`](crate::Queue::replay_dead).
    ///
    /// # Errors
    /// [`QueueError::Unroutable`] where a letter's route is gone; [`QueueError::File`].
    pub async fn replay_dead(
        &self,
        filter: &DeadFilter,
        now: UnixMs,
        wanted: &(dyn Fn(&DeadLetter) -> bool + Send + Sync),
    ) -> Result<Vec<DeadLetter>, QueueError> {
        self.settle_letters(filter, now, Fate::Replay, wanted).await
    }

    /// See [`Queue::purge_dead`](crate::Queue::purge_dead).
    ///
    /// # Errors
    /// [`QueueError::File`].
    pub async fn purge_dead(&self, filter: &DeadFilter, now: UnixMs) -> Result<usize, QueueError> {
        Ok(self.settle_letters(filter, now, Fate::Purge, &|_| true).await?.len())
    }

    /// See [`Queue::depths`](crate::Queue::depths).
    ///
    /// # Errors
    /// [`QueueError::File`].
    pub async fn depths(&self) -> Result<Vec<(ProviderName, u64)>, QueueError> {
        self.read(jobs::depths).await
    }

    /// Whether the file takes what is written: no, from a failure until something could be written again.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        let closed = self.shared.closed.load(Ordering::Relaxed) || self.thread.is_finished();
        self.shared.healthy.load(Ordering::Relaxed) && !closed
    }

    /// Writes everything, closes the file and gives it up. Lanes must be closed before; what they
    /// have out is handed out again by the next owner. While the disk is full this waits.
    pub async fn close(&self) {
        let (done, wait) = oneshot::channel();
        if self.send(Command::End(done)).is_ok() {
            let _ = wait.await;
        }
    }

    /// Page by page: read, choose, change. Letters that come meanwhile (a replayed job may die
    /// again at once) are not meant.
    async fn settle_letters(
        &self,
        filter: &DeadFilter,
        now: UnixMs,
        fate: Fate,
        wanted: &(dyn Fn(&DeadLetter) -> bool + Send + Sync),
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let upto = self.read(letters::last).await?;
        let mut after = 0;
        let mut settled = Vec::new();
        loop {
            let filter = filter.clone();
            let range = (after, upto);
            let read = move |file: &Connection| letters::page(file, range, &filter, now, letters::PAGE);
            let page: Vec<Placed> = self.read(read).await?;
            let Some(last) = page.last() else { return Ok(settled) };
            after = last.seq;
            let mut chosen: Vec<Placed> = page.into_iter().filter(|placed| wanted(&placed.letter)).collect();
            let seqs = chosen.iter().map(|placed| placed.seq).collect();
            let done = self.ask((seqs, fate), Work::Letters).await?;
            if let Some(route) = done.unroutable {
                return Err(self.shared.unroutable(&route));
            }
            chosen.retain(|placed| done.seqs.binary_search(&placed.seq).is_ok());
            settled.extend(chosen.into_iter().map(|placed| placed.letter));
        }
    }

    async fn ask<Q, A>(
        &self,
        question: Q,
        work: impl FnOnce(Request<Q, A>) -> Work,
    ) -> Result<A, QueueError> {
        let (request, answer) = Request::new(question);
        self.send(Command::Work(work(request)))?;
        answer.await.unwrap_or_else(|_| Err(self.shared.closed()))
    }

    /// Reads one state of the file, away from the runtime's threads.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        let shared = self.shared.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let in_one_state = || read(&*file::reader(&shared.path)?.unchecked_transaction()?);
            in_one_state().map_err(|e| shared.error(&e))
        });
        answer.await.unwrap_or_else(|_| Err(self.shared.closed()))
    }

    fn send(&self, command: Command) -> Result<(), QueueError> {
        self.writer.send(command).map_err(|_| self.shared.closed())
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Shared {
    fn error(&self, error: &rusqlite::Error) -> QueueError {
        file::error(&self.path, error)
    }

    fn unusable(&self, why: String) -> QueueError {
        file::unusable(&self.path, why)
    }

    fn closed(&self) -> QueueError {
        self.unusable("is closed by this process".into())
    }

    fn unroutable(&self, route: &str) -> QueueError {
        QueueError::Unroutable { exchange: self.plan.jobs_exchange(), key: route.into() }
    }

    /// Tells the listeners what was written before the first lane was opened; later facts are this process's own.
    fn tell(&self, facts: Vec<Fact>) {
        if self.has_told.swap(true, Ordering::Relaxed) {
            return;
        }
        let news: Vec<News> = facts.into_iter().map(News::Fact).collect();
        for listener in self.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            listener.hear(news.clone(), When::Past);
        }
    }

    fn end(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.owner.release();
    }
}

/// The wall clock.
fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

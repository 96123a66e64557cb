//! The one thread that writes. Everything that waits is carried out in one transaction, one commit
//! is one wait for the disk, and then everybody is answered: with one caller a commit costs a
//! fraction of a millisecond, with a thousand the same.
//!
//! It never dies of the file. When the disk is full or fails, whoever waits for an answer gets the
//! error; what lanes said stays in memory, in order, and is tried again until it is written.
//!
//! SQLite cannot tell one process that another has written. While lanes are open the thread asks
//! for the file's `data_version` 50 times a second, which reads one number from shared memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use otpd_core::{Fact, ProviderName, UnixMs};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::commands::{Change, Command, Round, Work};
use super::facts::POLL;
use super::file::{self, data_version, transact};
use super::lanes::{LaneKey, Lanes};
use super::topology::{self, Swept};
use super::{Shared, facts, jobs, now};
use crate::seam::Delivery;

/// The most requests of one transaction.
const TOGETHER: usize = 1_024;
/// How often old facts and letters are forgotten, when there are not more at once than one sweep takes.
const SWEEP: Duration = Duration::from_secs(10);
/// The first wait after a failure; it doubles up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_secs(1);
/// How often a lasting failure is logged.
const REMIND: Duration = Duration::from_secs(30);

/// The writing thread's own.
pub(super) struct Writer {
    file: Connection,
    commands: Receiver<Command>,
    shared: Arc<Shared>,
    lanes: Lanes,
    /// Received, not yet carried out; in order.
    waiting: VecDeque<Command>,
    /// The file as it was last looked through for the lanes.
    seen: Option<i64>,
    sweep_at: Instant,
    /// When the next deferred job is due.
    due_at: Option<UnixMs>,
    trouble: Option<Trouble>,
}

/// The file does not take what it is given.
struct Trouble {
    wait: Duration,
    logged_at: Instant,
}

/// What one transaction leaves to be done after its commit.
struct Committed {
    handed: Vec<(LaneKey, Vec<Delivery>)>,
    settled: BTreeMap<LaneKey, usize>,
    swept: Option<Swept>,
    due_at: Option<UnixMs>,
}

impl Writer {
    /// A writer over a file.
    pub(super) fn new(file: Connection, commands: Receiver<Command>, shared: Arc<Shared>) -> Self {
        let (lanes, waiting) = (Lanes::default(), VecDeque::new());
        let (seen, due_at, trouble) = (None, None, None);
        Self { file, commands, shared, lanes, waiting, seen, sweep_at: Instant::now(), due_at, trouble }
    }

    /// Writes until the queue is closed, and gives whoever waits for that; or until nobody is left
    /// who could ask for anything. The file is closed then.
    pub(super) fn run(mut self) -> Option<oneshot::Sender<()>> {
        while self.receive() {
            match self.waiting.pop_front() {
                Some(Command::End(waiting)) => return Some(waiting),
                Some(Command::Change(change)) => self.change(change),
                Some(Command::Work(first)) => {
                    let together = self.and_what_follows(first);
                    self.work(together);
                }
                None => self.look(),
            }
        }
        None
    }

    /// The work up to the next change of lanes.
    fn and_what_follows(&mut self, first: Work) -> Vec<Work> {
        let mut together = vec![first];
        while together.len() < TOGETHER {
            match self.waiting.pop_front() {
                Some(Command::Work(work)) => together.push(work),
                Some(other @ (Command::Change(_) | Command::End(_))) => {
                    self.waiting.push_front(other);
                    break;
                }
                None => break,
            }
        }
        together
    }

    /// Waits for something to do. `false`: there will never be anything.
    fn receive(&mut self) -> bool {
        if let Some(trouble) = &self.trouble {
            thread::sleep(trouble.wait);
        } else if self.waiting.is_empty() && (self.seen.is_some() || self.lanes.is_empty()) {
            let received = if self.lanes.is_empty() {
                self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.commands.recv_timeout(POLL)
            };
            match received {
                Ok(command) => self.waiting.push_back(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        let room = TOGETHER.saturating_sub(self.waiting.len());
        self.waiting.extend(self.commands.try_iter().take(room));
        true
    }

    /// Nothing was asked: has another process written, is a deferred job due, is something old enough to be
    /// forgotten?
    fn look(&mut self) {
        let asked_at = now();
        match data_version(&self.file) {
            Ok(version)
                if self.seen == Some(version)
                    && Instant::now() < self.sweep_at
                    && self.due_at.is_none_or(|at| at > asked_at) =>
            {
                self.lanes.prove(asked_at);
            }
            Ok(_) => self.work(Vec::new()),
            Err(e) => self.failed(&e),
        }
    }

    /// Carries out `together` in one transaction, and hands out what lanes have room for.
    fn work(&mut self, mut together: Vec<Work>) {
        let begun_at = now();
        match self.commit(&mut together, begun_at) {
            Ok((committed, version)) => {
                self.recovered();
                self.lanes.prove(begun_at);
                together.into_iter().for_each(Work::committed);
                let more = self.lanes.deliver(committed.handed, &committed.settled);
                self.seen = (!more).then_some(version);
                self.due_at = committed.due_at;
                if committed.swept == Some(Swept::Everything) {
                    self.sweep_at = Instant::now() + SWEEP;
                }
            }
            Err(e) => {
                self.failed(&e);
                let again = together.into_iter().filter_map(|work| work.failed(|| self.shared.error(&e)));
                let mut again: VecDeque<Command> = again.map(Command::Work).collect();
                again.append(&mut self.waiting);
                self.waiting = again;
            }
        }
    }

    fn commit(&self, together: &mut [Work], now: UnixMs) -> rusqlite::Result<(Committed, i64)> {
        // Before the transaction: what is written after this number was read is seen by the next look.
        let version = data_version(&self.file)?;
        let (file, shared, lanes) = (&self.file, &*self.shared, &self.lanes);
        let committed = transact(file, || {
            if self.trouble.is_some() {
                file::touch(file)?;
            }
            let mut round = Round { file, shared, lanes, now, settled: BTreeMap::new() };
            together.iter_mut().try_for_each(|work| work.carry_out(&mut round))?;
            let settled = round.settled;
            let handed = lanes.hand_out(file, &settled, now)?;
            let due_at = jobs::next_due(file)?;
            let due = !lanes.is_empty() && Instant::now() >= self.sweep_at;
            let swept = due.then(|| topology::sweep(file, now)).transpose()?;
            Ok(Committed { handed, settled, swept, due_at })
        })?;
        Ok((committed, version))
    }

    /// Carries out a change of lanes, or puts it back to be tried again.
    fn change(&mut self, change: Change) {
        match change {
            Change::Open(opening) => match self.begin(&opening.provider) {
                Ok((row, history)) => {
                    self.shared.tell(history);
                    self.lanes.open(opening, row, now());
                    self.seen = None;
                    self.recovered();
                }
                Err(e) => self.put_back(Change::Open(opening), &e),
            },
            Change::Stop(key) => self.lanes.stop(key),
            Change::Close(key, waiting) => match self.end(key) {
                Ok(()) => {
                    if let Some(provider) = self.lanes.close(key) {
                        self.shared.owner.leave(&provider);
                    }
                    let _ = waiting.map(|waiting| waiting.send(()));
                    self.recovered();
                }
                Err(e) => self.put_back(Change::Close(key, waiting), &e),
            },
        }
    }

    /// A lane's row and what happened before, after taking back what a dead owner had out.
    fn begin(&self, provider: &ProviderName) -> rusqlite::Result<(i64, Vec<Fact>)> {
        let (file, shared) = (&self.file, &self.shared);
        transact(file, || {
            topology::ensure(file, &shared.plan)?;
            let row = jobs::lane_of(file, provider)?;
            jobs::take_back(file, row, provider, &shared.source, now())?;
            Ok((row, facts::history(file, now())?))
        })
    }

    /// Takes back what a lane has out.
    fn end(&self, key: LaneKey) -> rusqlite::Result<()> {
        let Some((row, provider)) = self.lanes.get(key) else { return Ok(()) };
        transact(&self.file, || jobs::take_back(&self.file, row, provider, &self.shared.source, now()))
    }

    fn put_back(&mut self, change: Change, error: &rusqlite::Error) {
        self.waiting.push_front(Command::Change(change));
        self.failed(error);
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        let error = self.shared.error(error);
        self.shared.healthy.store(false, Ordering::Relaxed);
        self.seen = None;
        match &mut self.trouble {
            Some(trouble) => {
                trouble.wait = (trouble.wait * 2).min(LAST_WAIT);
                if trouble.logged_at.elapsed() >= REMIND {
                    trouble.logged_at = Instant::now();
                    tracing::error!(%error, "the queue file still takes nothing");
                }
            }
            None => {
                tracing::error!(%error, "the queue file takes nothing; what is settled waits in memory");
                self.trouble = Some(Trouble { wait: FIRST_WAIT, logged_at: Instant::now() });
            }
        }
    }

    fn recovered(&mut self) {
        if self.trouble.take().is_some() {
            self.shared.healthy.store(true, Ordering::Relaxed);
            tracing::info!("the queue file works again");
        }
    }
}

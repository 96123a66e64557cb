//! What the writer is asked to do, and how each request is carried out inside a transaction that it
//! may share with hundreds of others.
//!
//! A request is carried out by reference and answered only after the commit. When the commit fails,
//! whoever waits for an answer gets the error and may ask again; what a lane said is kept and
//! carried out later ([`Work::failed`]): a settlement is never dropped.

use std::collections::BTreeMap;

use bytes::Bytes;
use otpd_core::{JobId, RouteName, UnixMs};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::Shared;
use super::jobs::{self, NewJob};
use super::lanes::{LaneKey, Lanes, Opening};
use super::letters::{self, Fate};
use super::retire::{self, Retire};
use super::telling::Tell;
use super::{facts, topology};
use crate::error::QueueError;
use crate::hidden::debug_without_body;
use crate::retire::Retired;
use crate::seam::{Carried, Settlement, Then, Ticket, TraceContext};

/// Anything the writer is told.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every command is work; a box would cost each an allocation"
)]
pub(super) enum Command {
    /// To be done together with whatever else waits.
    Work(Work),
    /// To be done by itself: it changes which lanes are open, and so what the work after it means.
    Change(Change),
    /// The queue is closed; somebody waits for that.
    End(oneshot::Sender<()>),
}

/// A lane comes, falls silent or goes.
#[derive(Debug)]
pub(super) enum Change {
    /// A lane opens.
    Open(Opening),
    /// A lane gets no more deliveries.
    Stop(LaneKey),
    /// A lane hands back what it has; nobody may be waiting for it.
    Close(LaneKey, Option<oneshot::Sender<()>>),
}

/// A piece of work.
#[derive(Debug)]
pub(super) enum Work {
    /// Put a job on a route.
    Enqueue(Request<Enqueue, ()>),
    /// Write a fact that no lane tells.
    Tell(Request<Tell, ()>),
    /// Carry out a lane's settlement; the ticket is held until that is committed.
    Settle(LaneKey, Settlement, Ticket),
    /// Say when everything before is committed.
    Flush(oneshot::Sender<()>),
    /// Replay or purge the dead letters at these places.
    Letters(Request<(Vec<i64>, Fate), letters::Done>),
    /// Make the file as planned.
    Apply(Request<(), ()>),
    /// Retire a provider.
    Retire(Request<Retire, Retired>),
}

/// A job for a route.
pub(super) struct Enqueue {
    pub(super) route: RouteName,
    pub(super) job: JobId,
    pub(super) body: Bytes,
    pub(super) trace: TraceContext,
    pub(super) taken_at: UnixMs,
}

debug_without_body!(Enqueue { route, job });

/// A question of somebody who waits for the answer.
#[derive(Debug)]
pub(super) struct Request<Q, A> {
    question: Q,
    answer: Option<Result<A, QueueError>>,
    waiting: oneshot::Sender<Result<A, QueueError>>,
}

impl<Q, A> Request<Q, A> {
    /// A question, and where its answer will come.
    pub(super) fn new(question: Q) -> (Self, oneshot::Receiver<Result<A, QueueError>>) {
        let (waiting, answer) = oneshot::channel();
        (Self { question, answer: None, waiting }, answer)
    }

    fn committed(self) {
        if let Some(answer) = self.answer {
            let _ = self.waiting.send(answer);
        }
    }

    fn failed(self, error: QueueError) {
        let _ = self.waiting.send(Err(error));
    }
}

/// One transaction: what the work in it needs to know, and what it did to the lanes.
pub(super) struct Round<'a> {
    pub(super) file: &'a Connection,
    pub(super) shared: &'a Shared,
    pub(super) lanes: &'a Lanes,
    pub(super) now: UnixMs,
    /// How many deliveries each lane settled.
    pub(super) settled: BTreeMap<LaneKey, usize>,
}

impl Work {
    /// Does it, as far as the file is concerned.
    pub(super) fn carry_out(&mut self, round: &mut Round<'_>) -> rusqlite::Result<()> {
        match self {
            Self::Enqueue(request) => request.answer = Some(enqueue(round, &request.question)?),
            Self::Tell(request) => {
                facts::insert(round.file, &request.question.fact, &round.shared.source, round.now)?;
                request.answer = Some(Ok(()));
            }
            Self::Settle(lane, settlement, _) => settle(round, *lane, settlement)?,
            Self::Flush(_) => {}
            Self::Letters(request) => {
                let (seqs, fate) = &request.question;
                request.answer = Some(Ok(letters::carry_out(round.file, seqs, *fate, round.now)?));
            }
            Self::Apply(request) => {
                topology::apply(round.file, &round.shared.plan)?;
                request.answer = Some(Ok(()));
            }
            Self::Retire(request) => {
                let (shared, asked) = (round.shared, &request.question);
                request.answer =
                    Some(retire::carry_out(round.file, &shared.plan, &shared.source, asked, round.now)?);
            }
        }
        Ok(())
    }

    /// Answers, now that it is safe.
    pub(super) fn committed(self) {
        match self {
            Self::Enqueue(request) => request.committed(),
            Self::Tell(request) => {
                request.question.committed();
                request.committed();
            }
            Self::Settle(_, _, mut ticket) => {
                // One process works on the file, so what is committed is certain.
                let _ = ticket.take_awaited().map(|awaited| awaited.send(()));
            }
            Self::Flush(waiting) => {
                let _ = waiting.send(());
            }
            Self::Letters(request) => request.committed(),
            Self::Apply(request) => request.committed(),
            Self::Retire(request) => request.committed(),
        }
    }

    /// Nothing came of it. Gives back what has to be tried again.
    pub(super) fn failed(self, error: impl Fn() -> QueueError) -> Option<Self> {
        match self {
            Self::Enqueue(request) => request.failed(error()),
            Self::Tell(request) => request.failed(error()),
            Self::Letters(request) => request.failed(error()),
            Self::Apply(request) => request.failed(error()),
            Self::Retire(request) => request.failed(error()),
            Self::Settle(_, _, _) | Self::Flush(_) => return Some(self),
        }
        None
    }
}

fn enqueue(round: &Round<'_>, new: &Enqueue) -> rusqlite::Result<Result<(), QueueError>> {
    let file = round.file;
    let mut lane = jobs::lane_of_route(file, new.route.as_str())?;
    if lane.is_none() && !topology::is_applied(file)? {
        // The very first job of a new file: nobody should have to prepare a file on a laptop.
        topology::apply(file, &round.shared.plan)?;
        lane = jobs::lane_of_route(file, new.route.as_str())?;
    }
    let Some((lane, section)) = lane else { return Ok(Err(round.shared.unroutable(new.route.as_str()))) };
    let carried = Carried { route: Some(new.route.clone()), ..Carried::default() };
    let row = NewJob {
        job: &new.job,
        body: &new.body,
        section,
        carried: &carried,
        taken_at: new.taken_at,
        trace: &new.trace,
    };
    jobs::insert(file, lane, &row)?;
    Ok(Ok(()))
}

fn settle(round: &mut Round<'_>, key: LaneKey, settlement: &Settlement) -> rusqlite::Result<()> {
    let file = round.file;
    if let Some(fact) = &settlement.fact {
        facts::insert(file, fact, &round.shared.source, round.now)?;
    }
    let tag = match &settlement.then {
        Then::Keep => return Ok(()),
        // What ended it is in an earlier transaction, or above in this one.
        Then::AcknowledgeSettled { tag, .. } => *tag,
        Then::Acknowledge(tag) | Then::Move(tag, _) | Then::Bury(tag, _) => *tag,
    };
    // A lane that is closed no longer has the delivery: it is published all the same, and the job
    // comes again. In an open lane a job that is not there was settled before; never move it twice.
    if let Some((row, _)) = round.lanes.get(key) {
        if !jobs::remove(file, row, tag)? {
            tracing::warn!(?tag, "settled twice; the second settlement changes nothing");
            return Ok(());
        }
        *round.settled.entry(key).or_default() += 1;
    }
    match &settlement.then {
        Then::Keep | Then::Acknowledge(_) | Then::AcknowledgeSettled { .. } => Ok(()),
        Then::Move(_, to) => {
            let row = NewJob {
                job: &to.job,
                body: &to.body,
                section: to.section,
                carried: &to.carried,
                taken_at: to.taken_at,
                trace: &to.trace,
            };
            jobs::insert(file, jobs::lane_of(file, &to.to)?, &row)
        }
        Then::Bury(_, burial) => letters::bury(file, burial, round.now),
    }
}

//! Watching a run to its end: what the generator says, what the events say, and when enough is enough.

use std::time::Duration;

use otpd_core::Fact;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::generate::Origin;
use super::progress::Progress;
use super::track::{Said, Tracker};
use crate::signals;

/// How often the progress is shown and the end is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// How long the events are read on after the last job ended: a job that ends once more must not go unnoticed.
const LINGER: Duration = Duration::from_millis(400);
/// How long nothing may be told of any job before that is said.
const SILENCE: Duration = Duration::from_secs(10);
/// How long the last jobs may take to be published, however short the drain: a publisher waits 5 s for a confirm.
const PUBLISHING: Duration = Duration::from_secs(6);
/// How much is taken at once.
const TOGETHER: usize = 1024;

/// The watch.
pub(super) struct Watch {
    pub(super) tracker: Tracker,
    pub(super) origin: Origin,
    pub(super) drain: Duration,
    pub(super) duration: Duration,
    /// Ends the generator.
    pub(super) stop: CancellationToken,
    /// Ends what it has under way.
    pub(super) give_up: CancellationToken,
}

/// What was seen.
pub(super) struct Watched {
    pub(super) tracker: Tracker,
    pub(super) interrupted: bool,
    /// Whether the events could be followed to the end.
    pub(super) followed: bool,
}

impl Watch {
    /// Watches until every job has ended, the drain is over, or the process is asked to end.
    pub(super) async fn until_the_end(
        mut self,
        mut said: mpsc::UnboundedReceiver<Said>,
        mut facts: mpsc::Receiver<Fact>,
    ) -> Watched {
        let mut progress = Progress::start(self.duration);
        let mut look = tokio::time::interval(LOOK);
        let mut asked = std::pin::pin!(signals::asked_to_end());
        let (mut heard, mut read) = (Vec::with_capacity(TOGETHER), Vec::with_capacity(TOGETHER));
        let (mut interrupted, mut followed, mut complained) = (false, true, false);
        let mut all_ended: Option<Duration> = None;
        loop {
            tokio::select! {
                biased;
                count = said.recv_many(&mut heard, TOGETHER), if !said.is_closed() || !said.is_empty() => {
                    let _ = count;
                    heard.drain(..).for_each(|said| self.tracker.said(said));
                }
                count = facts.recv_many(&mut read, TOGETHER), if followed => {
                    followed = count > 0;
                    // A job is told of before it is published, so whatever a fact is about is known by now.
                    while let Ok(said) = said.try_recv() {
                        self.tracker.said(said);
                    }
                    let now = self.origin.instant.elapsed();
                    read.drain(..).for_each(|fact: Fact| self.tracker.fact(&fact, now));
                }
                _ = &mut asked, if !interrupted => {
                    progress.note("interrupted; no more jobs are published");
                    interrupted = true;
                    self.stop.cancel();
                }
                _ = look.tick() => {
                    let now = self.origin.instant.elapsed();
                    progress.show(now, &self.tracker);
                    let silent = self.tracker.all.published > 0 && self.tracker.providers.is_empty();
                    if silent && now > SILENCE && !complained {
                        complained = true;
                        progress.note("nothing is told of any job yet: is a worker running on this queue?");
                    }
                    if self.is_over(now, &mut all_ended) || (interrupted && self.tracker.finished.is_some()) {
                        break;
                    }
                }
            }
        }
        self.stop.cancel();
        self.give_up.cancel();
        progress.end();
        Watched { tracker: self.tracker, interrupted, followed }
    }

    fn is_over(&self, now: Duration, all_ended: &mut Option<Duration>) -> bool {
        let Some(finished) = self.tracker.finished else { return false };
        if self.tracker.unsettled() > 0 {
            *all_ended = None;
            let waited = now.saturating_sub(finished);
            return waited >= self.drain && (self.tracker.on_their_way() == 0 || waited >= PUBLISHING);
        }
        now.saturating_sub(*all_ended.get_or_insert(now)) >= LINGER
    }
}

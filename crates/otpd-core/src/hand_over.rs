//! What the next owner of a lane must count: the requests of other owners, followed as they are announced
//! and answered by whoever may have to take over, so that a take-over itself has nothing to look up.
//!
//! A request must never be dated too early, or two owners together pass the ceiling. Three rules see to that.
//! *One clock for one duration*: a fact that is read as it is published was written before it was read, so a
//! request that was answered is dated from the reading, less the time between writing and answer, which its
//! owner measured; no two clocks are compared. (Only of facts read later, from the past, the wall time is
//! believed, and clocks to differ by [`SKEW`] at most.) *An announcement without an answer* counts as written
//! at the last moment its owner could have written it, [`WRITE_WITHIN`] after it was announced, or when its
//! owner said that it was ([`Checkpoint::written_before`]). *Unusually
//! late answers* date the request as they do for its owner ([`crate::arrival`]).
//!
//! Windows up to [`LONG`] are filled from requests that were read one by one. For longer ones there are two
//! accounts, and the fuller counts: what was read one by one for as long as this process lives, beside its own
//! requests; and the last checkpoint of the lane's owner, which includes everything before it, with the
//! requests announced since. Whether a request is in a checkpoint is decided by times of one clock, the
//! owner's, and by claims: of an owner before, everything is included, for the new one counted it.
//!
//! The past may be told in pieces, the newest first, while the present goes on. So what an announcement, an
//! answer or a checkpoint belongs to is decided by what they say, not by the order in which they come; where
//! the times of two owners have to be compared for it, a request within [`SKEW`] of a checkpoint counts beside it.
//!
//! Taken over is taken over: what [`HandOver::apply`] told the ceiling is not told again, and an answer that
//! comes later changes nothing. Bounded: a minute of requests, 5 ms of resolution, and some thousand numbers
//! for longer windows, none of them where no window is longer.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::arrival::Answers;
use crate::ceiling::Ceiling;
use crate::checkpoint::{Checkpoint, LONG, LearnedLimit, WRITE_WITHIN, long_windows};
use crate::clock::{Mono, UnixMs};
use crate::counts::Counts;
use crate::fact::{Fact, FactKind};
use crate::rate::Rate;
pub use crate::read_at::ReadAt;
use crate::read_at::SKEW;
use crate::reason::Reason;

/// How much further back than a window its requests must be read: one that was announced before it may have been
/// written within it ([`WRITE_WITHIN`]), clocks differ ([`SKEW`]), and a place is kept a little longer.
pub const READ_BEYOND: Duration = Duration::from_secs(5);
/// Times in facts are cut to milliseconds, twice.
const ROUNDING: Duration = Duration::from_millis(2);
/// How long single requests are remembered after their fact was read.
const FOLLOWED: Duration = Duration::from_secs(60);
/// How many single requests are remembered at most.
const MOST_FOLLOWED: usize = 8192;
/// How many requests since the last checkpoint are remembered one by one.
const MOST_SINCE: usize = 4096;
/// The resolution of the last minute.
const CELL: Duration = Duration::from_millis(5);
/// In how many cells of each window requests are counted, where they are many, and when that begins.
const STEPS: (u32, usize) = (512, 2048);
/// The windows, beside those of the ceiling, by which it is decided how coarsely requests of long ago are counted.
const LADDER: [Duration; 3] =
    [Duration::from_secs(600), Duration::from_secs(3600), Duration::from_secs(86_400 + 1)];
/// How many former owners are remembered, so that late news of theirs is recognised.
const FORMER: usize = 16;

/// The requests of other owners to one provider account.
#[derive(Debug, Default)]
pub struct HandOver {
    /// The windows longer than [`LONG`], shortest first.
    windows: Vec<Duration>,
    followed: HashMap<u64, Request>,
    sweep_at: usize,
    /// Requests of the last minute, not taken over yet.
    short: Counts,
    /// All requests that were read one by one, not taken over yet.
    long: Counts,
    /// What the last checkpoint that accounts for all windows says of all requests before it.
    checkpoint: Counts,
    /// When it was made, on its owner's clock.
    checkpoint_at: UnixMs,
    /// When the last checkpoint of the current owner was made, however much it accounts for.
    told_at: UnixMs,
    /// The requests that are not in it, not taken over yet.
    since: VecDeque<Counted>,
    learned: Option<(Option<LearnedLimit>, Mono)>,
    pause: Option<(Mono, Option<Reason>)>,
    /// The time of the last news of a pause.
    pause_at: UnixMs,
    /// The claim of the owner who told it.
    pause_claim: u32,
    answers: Answers,
    /// The owners, the last of them the current one.
    claims: VecDeque<Box<str>>,
    /// The number of the current one; 0 before any is known.
    claim: u32,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    announced_at: UnixMs,
    /// The last moment at which it may have been written.
    latest: Mono,
    read_at: Mono,
    /// The number of the owner's claim; 0 for one of the past, whose owner is not known.
    claim: u32,
    in_checkpoint: bool,
    /// By when its owner said that it was written.
    written_by: Option<Mono>,
    state: State,
}

impl Request {
    /// When it counts as written for who cannot wait for its answer: at the last moment that it may have been, or
    /// by its owner's word while answers usually take longer than that was ago ([`crate::arrival`]).
    fn unanswered(&self, usual: Option<Duration>, now: Mono) -> Mono {
        let is_in_time = |by: &Mono| usual.is_some_and(|usual| now.since(*by) <= usual);
        self.written_by.filter(is_in_time).map_or(self.latest, |by| by.min(self.latest))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Announced, and not answered yet.
    Open,
    /// Counted as written at the last moment, because a take-over could not wait for its answer.
    TakenOver,
    /// Answered, or known never to have left.
    Over { sent_at: Option<UnixMs> },
}

/// A request as the long windows count it until a checkpoint includes it.
#[derive(Clone, Copy, Debug)]
struct Counted {
    at: Mono,
    announced_at: UnixMs,
    claim: u32,
}

/// What a take-over came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TakenOver {
    /// How many requests were told to the ceiling.
    pub requests: usize,
    /// Until when the provider wants nothing, and why.
    pub pause: Option<(Mono, Option<Reason>)>,
}

impl HandOver {
    /// For a ceiling of these rates.
    #[must_use]
    pub fn new(rates: &[Rate]) -> Self {
        Self { windows: long_windows(rates), ..Self::default() }
    }

    /// For other rates from now on. A window that is longer than the longest before is filled from checkpoints
    /// only once the owner goes by it too.
    pub fn set_rates(&mut self, rates: &[Rate]) {
        self.windows = long_windows(rates);
    }

    /// Takes in what a fact of another owner, or of a former process of ours, says of the account.
    pub fn note(&mut self, fact: &Fact, read: ReadAt) {
        match fact.kind {
            FactKind::Sending => self.announced(fact, read),
            FactKind::Accepted
            | FactKind::Retrying
            | FactKind::FailedOver
            | FactKind::Superseded
            | FactKind::Expired
            | FactKind::Dead => self.ended(fact, read),
            FactKind::Paused => {
                if let Some(until) = fact.next_attempt_at {
                    let until = read.latest(fact.at).plus(until.since(fact.at));
                    self.told_of_pause(Some((until, fact.reason)), fact.at, read);
                }
            }
            FactKind::Resumed => self.told_of_pause(None, fact.at, read),
            FactKind::Duplicate | FactKind::Delivery(_) | FactKind::Verified => {}
        }
        if self.followed.len() >= self.sweep_at {
            self.sweep(read.mono());
        }
    }

    /// Takes in that an owner, known by its `claim`, opened the lane or tells its state. Late news, of a former
    /// owner or of the past, is passed over.
    pub fn note_opened(&mut self, claim: &str, checkpoint: Option<&Checkpoint>, read: ReadAt) {
        let is_current = self.is_current(claim);
        let is_former = self.claims.iter().any(|former| **former == *claim);
        // Of the past only a later checkpoint tells that its owner came later.
        let is_later = checkpoint.map_or(self.claims.is_empty(), |c| c.at > self.told_at);
        if !is_former && (read.is_live() || is_later) {
            self.claims.push_back(claim.into());
            self.claim = self.claim.saturating_add(1);
            if self.claims.len() > FORMER {
                self.claims.pop_front();
            }
        }
        let Some(checkpoint) = checkpoint else { return };
        let is_owner = self.is_current(claim);
        let is_late = |than: UnixMs| checkpoint.at < than && (is_current || !read.is_live());
        if is_owner {
            self.told_of_writing(checkpoint, read);
        }
        if is_owner && !is_late(self.told_at) {
            let as_of = read.latest(checkpoint.at);
            self.learned = Some((checkpoint.learned, as_of));
            let pause = checkpoint.pause.map(|pause| (as_of.plus(pause.remaining), pause.reason));
            self.told_of_pause(pause, checkpoint.at, read);
            self.told_at = checkpoint.at;
        }
        // What accounts for less than all windows takes nothing from what accounts for them.
        let is_whole = self.windows.last().is_some_and(|longest| checkpoint.window + ROUNDING >= *longest);
        if is_whole && (is_owner || !read.is_live()) && !is_late(self.checkpoint_at) {
            self.told_of_requests(checkpoint, is_owner, read);
        }
    }

    fn is_current(&self, claim: &str) -> bool {
        self.claims.back().is_some_and(|current| **current == *claim)
    }

    /// From now on the checkpoint stands for all requests that it includes.
    fn told_of_requests(&mut self, checkpoint: &Checkpoint, is_owner: bool, read: ReadAt) {
        self.checkpoint_at = checkpoint.at;
        self.checkpoint = checkpoint.requests(read.latest(checkpoint.at));
        let current = self.claim;
        let includes = |claim: u32, announced_at: UnixMs| match claim {
            _ if claim == current && is_owner => announced_at < checkpoint.at,
            // A new owner counted everything of the owners before.
            1.. if read.is_live() => true,
            _ => announced_at.plus(SKEW) < checkpoint.at,
        };
        self.since.retain(|counted| !includes(counted.claim, counted.announced_at));
        for request in self.followed.values_mut() {
            request.in_checkpoint |= includes(request.claim, request.announced_at);
        }
    }

    /// Tells the ceiling of all requests that it was not told of before. Its lane is ours from now on.
    pub fn apply(&mut self, ceiling: &mut Ceiling, now: Mono) -> TakenOver {
        self.sweep(now);
        let mut taken = Vec::new();
        for request in self.followed.values_mut().filter(|r| r.state == State::Open) {
            request.state = State::TakenOver;
            taken.push(*request);
        }
        ceiling.adopt_answers(&self.answers);
        let usual = self.answers.usual();
        for request in taken {
            self.count(request.unanswered(usual, now), &request);
        }
        if let Some((learned, as_of)) = self.learned.take() {
            let learned = learned.map(|l| {
                let raise_in = l.raise_in.saturating_sub(now.since(as_of));
                LearnedLimit { raise_in, ..l }
            });
            ceiling.adopt(learned, now);
        }
        let mut view = self.checkpoint.clone();
        if !view.is_empty() {
            for counted in &self.since {
                view.add(counted.at, 1);
            }
        }
        ceiling.take_over(&self.short, &self.long, &view, now);
        let in_windows = self.windows.last().map_or(0, |longest| self.long.within(*longest, now).len());
        let requests = self.short.len().max(in_windows).max(view.len());
        if requests > 0 {
            ceiling.start_paced(now);
        }
        (self.short, self.long) = <(Counts, Counts)>::default();
        self.since.clear();
        TakenOver { requests, pause: self.pause(now) }
    }

    /// True if requests were read that no ceiling was told of yet.
    #[must_use]
    pub fn has_untold(&self) -> bool {
        !self.long.is_empty()
    }

    /// Until when the provider wants nothing, as far as other owners told, and why.
    #[must_use]
    pub fn pause(&self, now: Mono) -> Option<(Mono, Option<Reason>)> {
        self.pause.filter(|(until, _)| *until > now)
    }

    /// What is read as it is published comes after the announcements that it speaks of.
    fn told_of_writing(&mut self, checkpoint: &Checkpoint, read: ReadAt) {
        let Some(before) = checkpoint.written_before.filter(|_| read.is_live()) else { return };
        let claim = self.claim;
        let spoken_of =
            |r: &&mut Request| r.claim == claim && r.announced_at < before && r.written_by.is_none();
        for request in self.followed.values_mut().filter(spoken_of) {
            request.written_by = Some(read.mono());
        }
    }

    fn told_of_pause(&mut self, pause: Option<(Mono, Option<Reason>)>, at: UnixMs, read: ReadAt) {
        // Of one owner the later word counts, whichever way it came; of another one there is no comparing.
        let is_anothers = read.is_live() && self.pause_claim != self.claim;
        if is_anothers || at >= self.pause_at {
            (self.pause, self.pause_at, self.pause_claim) = (pause, at, self.claim);
        }
    }

    fn announced(&mut self, fact: &Fact, read: ReadAt) {
        let key = key_of(fact);
        // Published again, or read after its answer. The same attempt announced anew is another request: the
        // one before never left, or was counted.
        if self.followed.get(&key).is_none_or(|known| known.announced_at < fact.at) {
            self.followed.insert(key, self.request(fact.at, read.latest(fact.at).plus(WRITE_WITHIN), read));
        }
    }

    /// A request that nothing was known of.
    fn request(&self, announced_at: UnixMs, latest: Mono, read: ReadAt) -> Request {
        Request {
            announced_at,
            latest,
            read_at: read.mono(),
            claim: if read.is_live() { self.claim } else { 0 },
            in_checkpoint: !read.is_live() && announced_at.plus(SKEW) < self.checkpoint_at,
            written_by: None,
            state: State::Open,
        }
    }

    fn ended(&mut self, fact: &Fact, read: ReadAt) {
        let key = key_of(fact);
        let known = self.followed.get(&key).copied();
        let over = State::Over { sent_at: fact.sent_at };
        let Some(sent_at) = fact.sent_at else {
            // It never left, if whoever says so is the one who announced it.
            if let Some(known) = known.filter(|known| known.state == State::Open)
                && known.announced_at <= fact.at
                && known.claim == self.claim
                && known.claim != 0
            {
                self.followed.insert(key, Request { state: over, read_at: read.mono(), ..known });
            }
            return;
        };
        let is_earlier = known.is_some_and(|known| sent_at < known.announced_at);
        let request = match known.filter(|_| !is_earlier) {
            Some(known) if known.state == over => return, // published again
            Some(known) if known.state == State::TakenOver => {
                self.followed.insert(key, Request { state: over, read_at: read.mono(), ..known });
                return;
            }
            Some(known) if known.state == State::Open => known,
            Some(_) | None => self.request(sent_at, read.mono(), read),
        };
        let answered_at = read.latest(fact.at);
        let written = answered_at.minus(fact.at.since(sent_at)).plus(ROUNDING).min(answered_at);
        let is_unjudged = self.answers.usual().is_none();
        let arrived = self.answers.arrival(written, answered_at, fact.http_status.is_some(), is_unjudged);
        self.count(arrived, &request);
        if !is_earlier {
            self.followed.insert(key, Request { state: over, read_at: read.mono(), ..request });
        }
    }

    fn count(&mut self, at: Mono, request: &Request) {
        self.short.add_rounded(at, 1, CELL);
        self.long.add(at, 1);
        if request.in_checkpoint || self.windows.is_empty() {
            return;
        }
        self.since.push_back(Counted { at, announced_at: request.announced_at, claim: request.claim });
        if self.since.len() > MOST_SINCE
            && let Some(oldest) = self.since.pop_front()
            && !self.checkpoint.is_empty()
        {
            self.checkpoint.add(oldest.at, 1);
        }
    }

    /// Forgets what is over for long, and counts what was never answered.
    fn sweep(&mut self, now: Mono) {
        let is_too_much = self.followed.len() >= MOST_FOLLOWED;
        let mut unanswered = Vec::new();
        self.followed.retain(|_, request| {
            let is_old = is_too_much || now.since(request.read_at) >= FOLLOWED;
            if is_old && request.state == State::Open {
                unanswered.push(*request);
            }
            !is_old
        });
        for request in unanswered {
            self.count(request.latest, &request);
        }
        self.sweep_at = (2 * self.followed.len()).clamp(256, MOST_FOLLOWED);
        self.short.forget(LONG + Duration::from_secs(1), now);
        let (steps, most) = STEPS;
        let mut ladder: Vec<Duration> = self.windows.iter().copied().chain(LADDER).collect();
        ladder.sort_unstable();
        for counts in [&mut self.long, &mut self.checkpoint] {
            counts.forget(ladder.last().copied().unwrap_or_default(), now);
            counts.coarsen(&ladder, steps, most, now);
        }
    }
}

/// A request is one attempt of one life of a job.
fn key_of(fact: &Fact) -> u64 {
    let mut hasher = DefaultHasher::new();
    (fact.job.as_str(), fact.life, fact.attempt).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;

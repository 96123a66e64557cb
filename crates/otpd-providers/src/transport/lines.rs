//! Lines: HTTP clients with connections of their own, over which requests are spread.
//!
//! Over HTTP/1.1 one line is enough: it has a connection for each open request. Over HTTP/2 a line is one
//! connection, and the server says how many requests may be open on it; more of them wait unwritten. So
//! one connection would cap a lane at that number through the latency, and one that has gone silent would
//! hold all of it. Therefore:
//! - A line takes as many requests as are usual for a connection, or as one was seen to take; more go to
//!   another line, which is opened as needed.
//! - Few requests at once are handed to a connection that it has not written ([`QUEUE`]); the others wait here.
//!   Where a request waits for [`FULL_AFTER`] although others are open, the connection takes no more than
//!   those, and the request goes elsewhere. A request that was handed over is opened and reset when it is taken
//!   back, which servers take ill in numbers.
//! - That a connection takes few is believed for [`BELIEVED`] and then doubled: what was seen may have had another
//!   cause. One that took twice as many before is being replaced, and its line is left.
//! - A line that owes answers and has given none for [`SILENCE`] gets no new requests until it does.
//! - A line whose request was not answered in time, and which has answered nothing since that was written,
//!   is left: the requests that are open on it stay, new ones go elsewhere.
//! - A line ends after [`LIFE`], so that its connections follow what a name stands for.
//!
//! Invariant: a request is written on one line ([`Right`]).

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, Response};
use tokio::sync::{Notify, Semaphore};

use otpd_core::Mono;

use super::client::{Maker, Spoken};
use super::hosts::Hosts;
use crate::clock::Clock;
use crate::right::{Owed, Right};

/// How long a line takes new requests.
const LIFE: Duration = Duration::from_secs(300);
/// How many open requests an HTTP/2 connection takes, as long as it was not seen to take fewer: RFC 9113
/// recommends at least so many.
const USUAL_STREAMS: usize = 100;
/// How long a connection that owes answers may give none before new requests go elsewhere. A provider that
/// takes longer to answer costs a few more connections while its first requests are open, and no more.
const SILENCE: Duration = Duration::from_secs(1);
/// How many requests may be handed to an HTTP/2 connection that are not written.
const QUEUE: usize = 4;
/// How long a request may wait to be written on an HTTP/2 connection before that counts as full.
pub(crate) const FULL_AFTER: Duration = Duration::from_millis(150);
/// How long what a connection was seen to take is believed.
const BELIEVED: Duration = Duration::from_secs(10);
/// So many open requests that half of them is no chance.
const MANY: usize = 8;
/// How often who finds no room looks again, where nothing ends.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The most lines that take new requests at once.
const MOST_LINES: usize = 16;

/// The lines to one provider.
pub(crate) struct Lines {
    maker: Maker,
    hosts: Hosts,
    /// Those that take new requests.
    in_use: Mutex<Vec<Arc<Line>>>,
    /// What the server was asked for, and what it speaks, as far as is known.
    asked: Spoken,
    spoken: AtomicU8,
    /// How many open requests one HTTP/2 connection takes, and until when that is believed.
    streams: AtomicUsize,
    believed_until: AtomicU64,
    /// Tells who waits for room that a request has ended.
    ended: Notify,
}

struct Line {
    client: Client,
    born: Mono,
    /// Requests handed to it that have not ended.
    open: AtomicUsize,
    /// What it owes for those of them that were written.
    owed: Arc<Owed>,
    /// When it last began an answer; 0: never.
    answered_at: AtomicU64,
    is_left: AtomicBool,
    /// Places for requests that are handed over and not written.
    queue: Arc<Semaphore>,
}

/// Why a request was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The line takes no more at once; another may.
    Here,
    /// No line took it in time.
    Everywhere,
}

/// A request's use of a line, until it is dropped.
pub(crate) struct Using<'a> {
    lines: &'a Lines,
    line: Arc<Line>,
    right: Arc<Right>,
}

impl Lines {
    /// To a server that is asked for this HTTP.
    ///
    /// # Errors
    /// Where the HTTP client cannot be built.
    pub(crate) fn new(maker: Maker, hosts: Hosts, asked: Spoken, now: Mono) -> Result<Self, reqwest::Error> {
        let first = Line::new(maker.make(asked)?, now);
        Ok(Self {
            maker,
            hosts,
            in_use: Mutex::new(vec![first]),
            asked,
            spoken: AtomicU8::new(asked as u8),
            streams: AtomicUsize::new(USUAL_STREAMS),
            believed_until: AtomicU64::new(0),
            ended: Notify::new(),
        })
    }

    /// A line for one more request, from `now` on; `None` if none had room for so long.
    pub(crate) async fn take(&self, clock: &Clock, now: Mono, for_at_most: Duration) -> Option<Using<'_>> {
        let (since, mut now) = (now, now);
        loop {
            if let Some(using) = self.pick(now) {
                return Some(using);
            }
            let left = for_at_most.saturating_sub(now.since(since));
            if left.is_zero() {
                return None;
            }
            // A line that was silent may have room again without an end.
            let _ = tokio::time::timeout(LOOK_AGAIN.min(left), self.ended.notified()).await;
            now = clock.mono();
        }
    }

    /// A line that has room now.
    fn pick(&self, now: Mono) -> Option<Using<'_>> {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|line| line.takes_more(now));
        let streams = self.streams.load(Ordering::Relaxed);
        if streams < USUAL_STREAMS && now.0 >= self.believed_until.load(Ordering::Relaxed) {
            self.streams.store((streams * 2).min(USUAL_STREAMS), Ordering::Relaxed);
            self.believed_until.store(now.plus(BELIEVED).0, Ordering::Relaxed);
        }
        if let Some(line) = in_use.iter().find(|line| self.has_room(line, now)) {
            return Some(self.using(line.clone()));
        }
        if in_use.len() < MOST_LINES
            && let Ok(client) = self.maker.make(self.spoken())
        {
            let line = Line::new(client, now);
            in_use.push(line.clone());
            return Some(self.using(line));
        }
        None
    }

    /// Over HTTP/1.1 there is always room: for one more connection.
    fn has_room(&self, line: &Line, now: Mono) -> bool {
        let is_one_connection = self.speaks(Spoken::Http2);
        !is_one_connection
            || (line.open() < self.streams.load(Ordering::Relaxed) && !line.owed.is_silent_for(SILENCE, now))
    }

    fn using(&self, line: Arc<Line>) -> Using<'_> {
        line.open.fetch_add(1, Ordering::Relaxed);
        let right = Arc::new(Right::new(line.owed.clone()));
        Using { lines: self, line, right }
    }

    fn speaks(&self, which: Spoken) -> bool {
        self.spoken.load(Ordering::Relaxed) == which as u8
    }

    /// What a new line speaks. Where HTTP/2 is known, it alone is offered: otherwise each request that
    /// waits for the first connection would open one of its own.
    fn spoken(&self) -> Spoken {
        if self.speaks(Spoken::Http2) { Spoken::Http2 } else { self.asked }
    }
}

impl Line {
    fn new(client: Client, born: Mono) -> Arc<Self> {
        Arc::new(Self {
            client,
            born,
            open: AtomicUsize::new(0),
            owed: Arc::default(),
            answered_at: AtomicU64::new(0),
            is_left: AtomicBool::new(false),
            queue: Arc::new(Semaphore::new(QUEUE)),
        })
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn takes_more(&self, now: Mono) -> bool {
        !self.is_left.load(Ordering::Relaxed) && now.since(self.born) < LIFE
    }
}

impl Using<'_> {
    pub(crate) fn client(&self) -> &Client {
        &self.line.client
    }

    /// The right to write, for the body.
    pub(crate) fn right(&self) -> Arc<Right> {
        self.right.clone()
    }

    /// True if the line is one connection, with a queue.
    pub(crate) fn is_one_connection(&self) -> bool {
        self.lines.speaks(Spoken::Http2)
    }

    /// Waits for a place in the line's queue, at most for `left`. `None`: it was had, and the request may be
    /// handed over.
    pub(crate) async fn queue(&mut self, clock: &Clock, left: Duration) -> Option<Full> {
        let patience = FULL_AFTER.min(left);
        let queue = self.line.queue.clone();
        let mut place = pin!(queue.acquire());
        let mut waited = tokio::time::timeout(patience, place.as_mut()).await;
        if waited.is_err() {
            if self.is_full(clock.mono()) {
                return Some(Full::Here);
            }
            // Still being connected.
            waited = tokio::time::timeout(left.saturating_sub(patience), place).await;
        }
        match waited {
            Ok(Ok(permit)) => {
                self.right = Arc::new(Right::queued(self.line.owed.clone(), queue.clone(), permit));
                None
            }
            // Nobody closes the queue.
            Ok(Err(_)) => None,
            Err(_) => Some(Full::Everywhere),
        }
    }

    /// True unless the line is known to speak HTTP/1.1.
    pub(crate) fn may_be_http2(&self) -> bool {
        !self.lines.speaks(Spoken::Http1)
    }

    /// Connecting failed, which began at `since` or later.
    pub(crate) fn not_connected(&self, since: Mono, now: Mono) {
        self.lines.hosts.failed(since, now);
    }

    /// True if HTTP/2 is spoken because the server agreed to it before, and nothing was answered since `since`: what
    /// agrees on no protocol in its handshake does not say that it speaks another one by now.
    pub(crate) fn only_believes_in_http2(&self, since: Mono) -> bool {
        self.lines.speaks(Spoken::Http2)
            && self.lines.asked != Spoken::Http2
            && self.line.answered_at.load(Ordering::Relaxed) < since.0
    }

    /// The server speaks HTTP/2 no more, where it was asked for whatever it speaks.
    pub(crate) fn speaks_otherwise(&self) {
        self.lines.spoken.store(self.lines.asked as u8, Ordering::Relaxed);
        self.line.is_left.store(true, Ordering::Relaxed);
    }

    /// Takes a request back that was not written for a while although others of its line were: its
    /// connection takes no more than those at once. False if it was written, or nothing else explains
    /// why it was not.
    pub(crate) fn withdraw(&self, now: Mono) -> bool {
        self.line.owed.requests() > 0 && self.right.withdraw() && self.is_full(now)
    }

    /// Takes note that the line's connection takes no more than are open on it; false if none are. One that took
    /// far more before is at its end, and its successor not there yet: those that are open say nothing then.
    fn is_full(&self, now: Mono) -> bool {
        let at_once = self.line.owed.requests();
        if at_once == 0 {
            return false;
        }
        let most = self.line.owed.most();
        if most >= MANY && at_once <= most / 2 {
            self.line.is_left.store(true, Ordering::Relaxed);
        } else if self.lines.streams.fetch_min(at_once, Ordering::Relaxed) > at_once {
            self.lines.believed_until.store(now.plus(BELIEVED).0, Ordering::Relaxed);
        }
        true
    }

    /// The line began an answer.
    pub(crate) fn answered(&self, response: &Response, now: Mono) {
        let spoken = if response.version() == http::Version::HTTP_2 { Spoken::Http2 } else { Spoken::Http1 };
        if !self.lines.speaks(spoken) {
            self.lines.spoken.store(spoken as u8, Ordering::Relaxed);
        }
        self.line.owed.answered(now);
        let before = self.line.answered_at.swap(now.0.max(1), Ordering::Relaxed);
        if before == 0
            && let Some(from) = response.remote_addr()
        {
            self.lines.hosts.answered(from);
        }
    }

    /// A request that was written, or was to be, at `since` was not answered in time.
    pub(crate) fn unanswered(&self, since: Mono) {
        let answered_at = self.line.answered_at.load(Ordering::Relaxed);
        // Over HTTP/1.1 the one connection is closed, and the others know nothing of it.
        if answered_at < since.0 && (answered_at == 0 || self.lines.speaks(Spoken::Http2)) {
            self.line.is_left.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Using<'_> {
    fn drop(&mut self) {
        self.right.end();
        self.line.open.fetch_sub(1, Ordering::Relaxed);
        if self.lines.speaks(Spoken::Http2) {
            self.lines.ended.notify_one();
        }
    }
}

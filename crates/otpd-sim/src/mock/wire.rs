//! The connection below HTTP, where a fault can do what no answer can: reset it, let an answer trickle,
//! fall silent, or say something between two frames.
//!
//! hyper writes whatever it is given, so the handler leaves its wish on the [`Line`] and the socket's
//! other half obeys when the answer is written. Over HTTP/1.1 a wish lasts until the next request is read;
//! over HTTP/2, where it concerns every stream of the connection, until all that was to be written is.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;

use super::frames::Frames;
use super::timed::{CameAt, Timed};

const USUAL: u8 = 0;
const RESET: u8 = 1;
const TRICKLE: u8 = 2;
const DRIP: u8 = 3;
const SILENT: u8 = 4;

/// A trickling answer is written in pieces of this size, with this pause between them: two seconds for a
/// typical answer.
const TRICKLING: (usize, Duration) = (16, Duration::from_millis(150));
/// The same for one that drips.
const DRIPPING: (usize, Duration) = (1, Duration::from_secs(1));
/// How long a silent connection stays.
const SILENCE: Duration = Duration::from_secs(60);

/// How a connection writes its next answer; shared by its handlers and its socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(Arc<State>);

#[derive(Debug, Default)]
struct State {
    mode: AtomicU8,
    /// The client began with HTTP/2's preface.
    is_http2: AtomicBool,
    /// How many requests came.
    requests: AtomicU32,
    came_at: CameAt,
    taken: Mutex<Taken>,
    say: Mutex<Say>,
}

/// Which requests of a connection are processed. Requests are numbered from 1.
#[derive(Debug, Default)]
struct Taken {
    /// The last one that is, and the one that was before it.
    last: u32,
    before: u32,
    /// GOAWAY was said: those after this one are not.
    gone_after: Option<u32>,
}

#[derive(Debug, Default)]
struct Say {
    bytes: Vec<u8>,
    /// Who reads the socket, and can be woken to say it.
    reader: Option<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    /// Resets the connection instead of writing the answer.
    pub(crate) fn reset(&self) {
        self.wish(RESET);
    }

    /// Writes the answer a few bytes at a time.
    pub(crate) fn trickle(&self) {
        self.wish(TRICKLE);
    }

    /// Writes the answer a byte a second.
    pub(crate) fn drip(&self) {
        self.wish(DRIP);
    }

    /// Reads and writes nothing any more.
    pub(crate) fn fall_silent(&self) {
        self.wish(SILENT);
        self.wake();
    }

    fn wish(&self, mode: u8) {
        self.0.mode.store(mode, Ordering::Release);
    }

    /// Writes these bytes as soon as it can be done between two frames, or answers.
    pub(crate) fn say(&self, bytes: &[u8]) {
        lock(&self.0.say).bytes.extend(bytes);
        self.wake();
    }

    fn wake(&self) {
        if let Some(reader) = lock(&self.0.say).reader.take() {
            reader.wake();
        }
    }

    /// When the last bytes came: those of the request that is handled now, or over HTTP/2 a later one.
    pub(crate) fn came_at(&self) -> CameAt {
        self.0.came_at.clone()
    }

    /// The number of the next request.
    pub(crate) fn number(&self) -> u32 {
        self.0.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The stream of a request, where the connection speaks HTTP/2.
    pub(crate) fn stream(&self, number: u32) -> Option<u32> {
        let is_http2 = self.0.is_http2.load(Ordering::Acquire);
        is_http2.then(|| number.saturating_mul(2).saturating_sub(1))
    }

    /// Whether this request is processed.
    pub(crate) fn take(&self, number: u32) -> bool {
        let mut taken = lock(&self.0.taken);
        if taken.gone_after.is_some_and(|last| number > last) {
            return false;
        }
        if number > taken.last {
            (taken.before, taken.last) = (taken.last, number);
        }
        true
    }

    /// This request, the last so far, and all after it are not processed. Returns the stream of the one
    /// before; `None` if a later request is processed already, or this is not HTTP/2.
    pub(crate) fn go_away(&self, number: u32) -> Option<u32> {
        let mut taken = lock(&self.0.taken);
        if taken.last != number || taken.gone_after.is_some() {
            return None;
        }
        let last = self.stream(taken.before)?;
        taken.gone_after = Some(taken.before);
        Some(last)
    }
}

#[derive(Debug)]
enum Stream {
    Plain(Timed),
    Encrypted(Box<TlsStream<Timed>>),
}

/// A socket that obeys its line.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Stream,
    line: Line,
    pause: Option<Pin<Box<Sleep>>>,
    /// A piece was written slowly.
    was_slow: bool,
    has_begun: bool,
    frames: Frames,
    /// What is being said.
    saying: Vec<u8>,
}

impl Socket {
    pub(crate) fn plain(tcp: Timed, line: Line) -> Self {
        Self::new(Stream::Plain(tcp), line)
    }

    pub(crate) fn encrypted(tls: TlsStream<Timed>, line: Line) -> Self {
        Self::new(Stream::Encrypted(Box::new(tls)), line)
    }

    fn new(stream: Stream, line: Line) -> Self {
        let (frames, saying) = (Frames::default(), Vec::new());
        Self { stream, line, pause: None, was_slow: false, has_begun: false, frames, saying }
    }

    fn mode(&self) -> u8 {
        self.line.0.mode.load(Ordering::Acquire)
    }

    fn is_http2(&self) -> bool {
        self.line.0.is_http2.load(Ordering::Acquire)
    }

    /// Stays silent for as long as that is, then breaks off.
    fn poll_silence<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(SILENCE)));
        ready!(pause.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Says what is to be said, if this is the place for it.
    fn poll_say(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.saying.is_empty() && (!self.is_http2() || self.frames.is_between()) {
            self.saying = std::mem::take(&mut lock(&self.line.0.say).bytes);
        }
        while !self.saying.is_empty() {
            let written = ready!(self.stream.poll_write(cx, &self.saying))?;
            self.saying.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_slowly(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        (size, pause): (usize, Duration),
    ) -> Poll<io::Result<usize>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
        }
        let piece = bytes.get(..size).unwrap_or(bytes);
        let written = ready!(self.stream.poll_write(cx, piece))?;
        // Over TLS a piece leaves when it is flushed.
        let _ = self.stream.poll_flush(cx)?;
        (self.pause, self.was_slow) = (Some(Box::pin(sleep(pause))), true);
        Poll::Ready(Ok(written))
    }
}

impl Stream {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Encrypted(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Encrypted(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Encrypted(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(timed) => timed.tcp(),
            Self::Encrypted(tls) => tls.get_ref().0.tcp(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        lock(&self.line.0.say).reader = Some(cx.waker().clone());
        if self.mode() == SILENT {
            return self.poll_silence(cx);
        }
        if let Poll::Ready(Err(error)) = self.poll_say(cx) {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let read = self.stream.poll_read(cx, buffer);
        let new = buffer.filled().get(before..).unwrap_or_default();
        if !new.is_empty() {
            if !self.has_begun {
                self.has_begun = true;
                self.line.0.is_http2.store(new.starts_with(b"PRI"), Ordering::Release);
            }
            if !self.is_http2() {
                self.line.wish(USUAL);
                self.pause = None;
            }
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mode = self.mode();
        if mode == SILENT {
            return self.poll_silence(cx);
        }
        if mode == RESET {
            // Dropped with nothing left to linger for, the socket says RST, not FIN.
            let _ = self.stream.tcp().set_zero_linger();
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        ready!(self.poll_say(cx))?;
        let written = match mode {
            TRICKLE => ready!(self.poll_slowly(cx, bytes, TRICKLING))?,
            DRIP => ready!(self.poll_slowly(cx, bytes, DRIPPING))?,
            _ => ready!(self.stream.poll_write(cx, bytes))?,
        };
        if self.is_http2() {
            self.frames.written(bytes.get(..written).unwrap_or_default());
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.stream.poll_flush(cx))?;
        if self.was_slow && self.is_http2() && matches!(self.mode(), TRICKLE | DRIP) {
            self.line.wish(USUAL);
            (self.was_slow, self.pause) = (false, None);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Encrypted(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

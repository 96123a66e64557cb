//! A TCP connection that knows when its bytes came.
//!
//! The mock counts what a client sends in a second, and must not count its own lateness: on busy cores it may
//! read a request 20 ms after it came, and then 50 requests a second look like 51. So the time is the kernel's,
//! which notes it for every segment (Linux); elsewhere it is that of the reading.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use otpd_core::clock::nanos;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// When the last bytes of a connection came, in nanoseconds since the mock started.
#[derive(Clone, Debug, Default)]
pub(crate) struct CameAt(Arc<AtomicU64>);

impl CameAt {
    /// The time; 0 before any came.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// A connection, and when its last bytes came.
#[derive(Debug)]
pub(crate) struct Timed {
    tcp: TcpStream,
    mock_started: Instant,
    came_at: CameAt,
}

impl Timed {
    pub(crate) fn new(tcp: TcpStream, mock_started: Instant, came_at: CameAt) -> Self {
        kernel::enable(&tcp);
        Self { tcp, mock_started, came_at }
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    fn note(&self, late: Duration) {
        let at = self.mock_started.elapsed().saturating_sub(late);
        self.came_at.0.store(nanos(at), Ordering::Release);
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            let room = buffer.initialize_unfilled();
            match self.tcp.try_io(Interest::READABLE, || kernel::receive(&self.tcp, room)) {
                Ok((read, late)) => {
                    self.note(late);
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Reading with the kernel's times.
#[cfg(target_os = "linux")]
mod kernel {
    use std::io::{self, IoSliceMut};
    use std::os::fd::AsRawFd;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
    use nix::sys::time::TimeSpec;
    use tokio::net::TcpStream;

    use crate::mock::window::LATEST;

    /// Asks for them. Where that is refused, the time is that of the reading.
    pub(super) fn enable(tcp: &TcpStream) {
        let _ = setsockopt(tcp, sockopt::ReceiveTimestampns, &true);
    }

    /// Reads what is there; says for how long it has been.
    pub(super) fn receive(tcp: &TcpStream, room: &mut [u8]) -> io::Result<(usize, Duration)> {
        let mut space = nix::cmsg_space!(TimeSpec);
        let mut room = [IoSliceMut::new(room)];
        let got = recvmsg::<()>(tcp.as_raw_fd(), &mut room, Some(&mut space), MsgFlags::empty())?;
        let times = got.cmsgs().into_iter().flatten();
        let came_at = times.filter_map(|message| {
            let ControlMessageOwned::ScmTimestampns(at) = message else { return None };
            Some(UNIX_EPOCH + Duration::from(at))
        });
        // A wall clock that was set in between does not count.
        let late = came_at.last().and_then(|at| SystemTime::now().duration_since(at).ok());
        Ok((got.bytes, late.filter(|late| *late <= LATEST).unwrap_or_default()))
    }
}

/// Reading alone.
#[cfg(not(target_os = "linux"))]
mod kernel {
    use std::io;
    use std::time::Duration;

    use tokio::net::TcpStream;

    pub(super) fn enable(_: &TcpStream) {}

    pub(super) fn receive(tcp: &TcpStream, room: &mut [u8]) -> io::Result<(usize, Duration)> {
        tcp.try_read(room).map(|read| (read, Duration::ZERO))
    }
}

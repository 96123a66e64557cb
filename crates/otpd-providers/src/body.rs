//! The body of a request, which knows when it left.
//!
//! The HTTP client asks for the body when it has a connection and writes; that moment, not the call of
//! `send`, dates the request for the ceiling and decides whether a failure may have been a success.
//! A body whose attempt was given up before (see [`Stamp::over`]), whose lane is no longer ours
//! ([`Stamp::revoke`]), or that comes later than it was announced for ([`Stamp::must_be_written_before`])
//! refuses to leave: its permit is somebody else's by then. So does one whose code expired while the
//! connection was made, and one that was taken back to leave on another connection (`lines`).
//!
//! Over HTTP/2 the client asks for the first part of a body early, and for more only when its stream is open
//! and that part has left. So the first byte goes ahead there, and the rest, without which it is no request,
//! is what is dated and may be refused: a request that waits for others on its connection is not written.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use otpd_core::{Stamp, UnixMs};

use crate::clock::Clock;
use crate::right::Right;

pub(crate) struct StampedBody {
    /// What goes ahead of the rest.
    ahead: Option<Bytes>,
    data: Option<Bytes>,
    expires_at: UnixMs,
    stamp: Stamp,
    right: Arc<Right>,
    clock: Clock,
}

impl StampedBody {
    /// A body that may leave before `expires_at`, with the right to write on its connection.
    pub(crate) const fn new(
        data: Bytes,
        expires_at: UnixMs,
        stamp: Stamp,
        right: Arc<Right>,
        clock: Clock,
    ) -> Self {
        Self { ahead: None, data: Some(data), expires_at, stamp, right, clock }
    }

    /// The same for a connection that may speak HTTP/2.
    pub(crate) fn in_a_stream(mut self) -> Self {
        self.ahead = self.data.as_mut().filter(|data| data.len() > 1).map(|data| data.split_to(1));
        self
    }
}

/// The attempt was over before the request left.
#[derive(Debug)]
pub(crate) struct TooLate;

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the attempt was over before the request left")
    }
}

impl std::error::Error for TooLate {}

impl Body for StampedBody {
    type Data = Bytes;
    type Error = TooLate;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, TooLate>>> {
        let this = self.get_mut();
        if let Some(ahead) = this.ahead.take() {
            return Poll::Ready(Some(Ok(Frame::data(ahead))));
        }
        let Some(data) = this.data.take() else { return Poll::Ready(None) };
        let now = this.clock.mono();
        if !this.right.write(now) {
            return Poll::Ready(Some(Err(TooLate)));
        }
        if this.clock.wall() >= this.expires_at {
            this.stamp.over();
        }
        let may_leave = this.stamp.try_write(now);
        Poll::Ready(Some(if may_leave { Ok(Frame::data(data)) } else { Err(TooLate) }))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none()
    }

    /// Exact, so that the length is sent ahead: some providers refuse a chunked body.
    fn size_hint(&self) -> SizeHint {
        let parts = self.ahead.iter().chain(&self.data);
        SizeHint::with_exact(parts.map(|part| part.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use otpd_core::{Mono, UnixMs};

    use super::*;

    fn right() -> Arc<Right> {
        Arc::new(Right::new(Arc::default()))
    }

    fn poll(stamp: &Stamp, now: u64) -> Poll<Option<Result<Frame<Bytes>, TooLate>>> {
        poll_with(stamp, right(), now)
    }

    fn poll_with(stamp: &Stamp, right: Arc<Right>, now: u64) -> Poll<Option<Result<Frame<Bytes>, TooLate>>> {
        let clock = Clock::new(|| Mono(7), move || UnixMs(now));
        let mut body = StampedBody::new(Bytes::from_static(b"{}"), UnixMs(100), stamp.clone(), right, clock);
        assert_eq!(body.size_hint().exact(), Some(2));
        let polled = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
        assert!(body.is_end_stream());
        polled
    }

    #[test]
    fn leaving_is_stamped() {
        let stamp = Stamp::default();
        let Poll::Ready(Some(Ok(frame))) = poll(&stamp, 99) else { panic!("no frame") };
        assert_eq!(frame.into_data().unwrap(), "{}");
        assert_eq!(stamp.written_at(), Some(Mono(7)));
    }

    #[test]
    fn what_was_given_up_does_not_leave() {
        type Refusal = fn(&Stamp);
        let too_late: Refusal = |stamp| stamp.must_be_written_before(Mono(6));
        for refuse in [Stamp::over, Stamp::revoke, too_late] {
            let stamp = Stamp::default();
            refuse(&stamp);
            assert!(matches!(poll(&stamp, 99), Poll::Ready(Some(Err(TooLate)))));
            assert!(!stamp.is_written());
        }
    }

    #[test]
    fn in_a_stream_the_first_byte_goes_ahead_and_says_nothing() {
        let (stamp, clock) = (Stamp::default(), Clock::new(|| Mono(7), || UnixMs(99)));
        let data = Bytes::from_static(b"{}");
        let mut body = StampedBody::new(data, UnixMs(100), stamp.clone(), right(), clock).in_a_stream();
        for (left, part, written) in [(2, "{", false), (1, "}", true)] {
            assert!(!body.is_end_stream() && body.size_hint().exact() == Some(left));
            let polled = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(Some(Ok(frame))) = polled else { panic!("no frame") };
            assert_eq!(frame.into_data().unwrap(), part);
            assert_eq!(stamp.is_written(), written);
        }
        assert!(body.is_end_stream());
    }

    #[test]
    fn what_was_taken_elsewhere_does_not_leave_here() {
        let (stamp, here) = (Stamp::default(), right());
        assert!(here.withdraw());
        assert!(matches!(poll_with(&stamp, here, 99), Poll::Ready(Some(Err(TooLate)))));
        assert!(!stamp.is_written());
        assert!(matches!(poll(&stamp, 99), Poll::Ready(Some(Ok(_)))), "the stamp is open for the other");
    }

    #[test]
    fn an_expired_code_does_not_leave() {
        let stamp = Stamp::default();
        assert!(matches!(poll(&stamp, 100), Poll::Ready(Some(Err(TooLate)))));
        assert!(!stamp.is_written());
    }
}

//! The body of a request, which knows when it left.
//!
//! The HTTP client asks for the body when it has a connection and writes; that moment, not the call of
//! `send`, dates the request for the ceiling and decides whether a failure may have been a success.
//! A body whose attempt was given up before (see [`Stamp::over`]), whose lane is no longer ours
//! ([`Stamp::revoke`]), or that comes later than it was announced for ([`Stamp::must_be_written_before`])
//! refuses to leave: its permit is somebody else's by then. So does one whose code expired while the
//! connection was made.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use otpd_core::{Stamp, UnixMs};

use crate::transport::Clock;

pub(crate) struct StampedBody {
    data: Option<Bytes>,
    expires_at: UnixMs,
    stamp: Stamp,
    clock: Clock,
}

impl StampedBody {
    /// A body that may leave before `expires_at`.
    pub(crate) const fn new(data: Bytes, expires_at: UnixMs, stamp: Stamp, clock: Clock) -> Self {
        Self { data: Some(data), expires_at, stamp, clock }
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
        let Some(data) = this.data.take() else { return Poll::Ready(None) };
        if this.clock.wall() >= this.expires_at {
            this.stamp.over();
        }
        let may_leave = this.stamp.try_write(this.clock.mono());
        Poll::Ready(Some(if may_leave { Ok(Frame::data(data)) } else { Err(TooLate) }))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none()
    }

    /// Exact, so that the length is sent ahead: some providers refuse a chunked body.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use otpd_core::{Mono, UnixMs};

    use super::*;

    fn poll(stamp: &Stamp, now: u64) -> Poll<Option<Result<Frame<Bytes>, TooLate>>> {
        let clock = Clock::new(|| Mono(7), move || UnixMs(now));
        let mut body = StampedBody::new(Bytes::from_static(b"{}"), UnixMs(100), stamp.clone(), clock);
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
    fn an_expired_code_does_not_leave() {
        let stamp = Stamp::default();
        assert!(matches!(poll(&stamp, 100), Poll::Ready(Some(Err(TooLate)))));
        assert!(!stamp.is_written());
    }
}

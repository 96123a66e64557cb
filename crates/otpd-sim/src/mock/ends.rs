//! Bodies that do not end as they should.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Sleep, sleep};

/// Between what there is of a cut body and the loss of its connection: what was written has left by then.
const CUT_AFTER: Duration = Duration::from_millis(20);
/// The longest that an end is held back.
const HELD_FOR: Duration = Duration::from_secs(60);

/// A body of unknown length whose connection is lost, after all of it, instead of its end.
pub(crate) struct Unended {
    data: Option<Bytes>,
    lost: Pin<Box<Sleep>>,
}

impl Unended {
    /// The connection is lost at once.
    pub(crate) fn cut(data: Bytes) -> Self {
        Self { data: Some(data), lost: Box::pin(sleep(CUT_AFTER)) }
    }

    /// The connection stays until the client gives up.
    pub(crate) fn held(data: Bytes) -> Self {
        Self { data: Some(data), lost: Box::pin(sleep(HELD_FOR)) }
    }
}

impl Body for Unended {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        ready!(self.lost.as_mut().poll(cx));
        Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())))
    }
}

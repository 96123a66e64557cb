//! Connections: accepted, bounded, timed, drained.
//!
//! A head has [`HEAD_WITHIN`], a body [`BODY_WITHIN`](crate::limits::BODY_WITHIN), and whoever takes nothing of what
//! is written to it for [`WRITE_WITHIN`] is hung up on. When the gateway is asked to stop it accepts nothing
//! more, ends the streams of watchers, and answers what is under way: a job that the queue confirms is
//! answered with 202.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gateway::Gateway;
use crate::limits::{CONNECTIONS, DRAIN_WITHIN, HEAD_WITHIN, WRITE_WITHIN};

/// The most bytes of a request's head.
const MAX_HEAD: usize = 32 * 1024;
/// The most requests open on one HTTP/2 connection.
const STREAMS: u32 = 128;
/// How long to wait after an error of accepting: out of file descriptors.
const AGAIN: Duration = Duration::from_millis(100);

/// A gateway that serves.
#[derive(Debug)]
pub struct Serving {
    /// Where it listens.
    pub at: SocketAddr,
    task: JoinHandle<bool>,
}

impl Serving {
    /// Waits until everything under way has been answered. False if some of it took too long.
    pub async fn ended(self) -> bool {
        self.task.await.unwrap_or(false)
    }
}

/// Serves `gateway` until `stop`, then drains.
///
/// # Errors
/// Where the address cannot be listened on.
pub async fn serve(listen: SocketAddr, gateway: &Gateway, stop: CancellationToken) -> io::Result<Serving> {
    let listener = TcpListener::bind(listen).await?;
    let at = listener.local_addr()?;
    let task = tokio::spawn(run(listener, gateway.clone(), stop));
    Ok(Serving { at, task })
}

async fn run(listener: TcpListener, gateway: Gateway, stop: CancellationToken) -> bool {
    let (router, open) = (gateway.router(), TaskTracker::new());
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let place = places.clone().acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, stop) = (router.clone(), stop.clone());
                open.spawn(async move {
                    connection(stream, router, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(AGAIN).await;
            }
        }
    }
    drop(listener);
    gateway.index().watchers().end();
    open.close();
    tokio::time::timeout(DRAIN_WITHIN, open.wait()).await.is_ok()
}

/// What an HTTP/2 connection begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How often it is looked whether more of that has come.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Waits until it is clear which HTTP is spoken; false where the connection ends before. The server waits for that
/// without a limit, and connections that say nothing would take all places.
async fn speaks(stream: &TcpStream) -> bool {
    let mut first = [0; PREFACE.len()];
    loop {
        let Ok(read @ 1..) = stream.peek(&mut first).await else { return false };
        if read >= PREFACE.len() || first.get(..read) != PREFACE.get(..read) {
            return true;
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// One connection, HTTP/1.1 or HTTP/2, until its end; after `stop` it ends with what is under way.
async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    // Small answers must not wait for each other; where that cannot be had they come a little later.
    let _ = stream.set_nodelay(true);
    let begun = tokio::select! {
        begun = tokio::time::timeout(HEAD_WITHIN, speaks(&stream)) => begun,
        () = stop.cancelled() => return,
    };
    if begun != Ok(true) {
        return;
    }
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(MAX_HEAD);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(HEAD_WITHIN)
        .keep_alive_timeout(WRITE_WITHIN);
    let io = TokioIo::new(Patient { stream, stuck: None });
    let mut served = std::pin::pin!(http.serve_connection(io, TowerToHyperService::new(router)));
    // A caller that hangs up is its own affair.
    let _ = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
}

/// A connection that is given up where nothing of what is written to it is taken for [`WRITE_WITHIN`].
struct Patient {
    stream: TcpStream,
    /// Until when the write that is stuck may take.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn judge<T>(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.stuck = None;
            return wrote;
        }
        let stuck = self
            .stuck
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_WITHIN)));
        ready!(stuck.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Who says nothing, or only how HTTP/2 begins, keeps no place longer than a head may take.
    #[tokio::test]
    async fn it_is_waited_for_which_http_is_spoken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        for (said, goes_on) in [
            (&b"GET / HTTP/1.1\r\n"[..], true),
            (b"P", false),
            (b"PUT /", true),
            (PREFACE, true),
            (&PREFACE[..23], false),
            (b"", false),
        ] {
            let (caller, accepted) = tokio::join!(TcpStream::connect(at), listener.accept());
            let (mut caller, (stream, _)) = (caller.unwrap(), accepted.unwrap());
            caller.write_all(said).await.unwrap();
            let patience = if goes_on { Duration::from_secs(10) } else { Duration::from_millis(100) };
            let spoken = tokio::time::timeout(patience, speaks(&stream)).await;
            assert_eq!(spoken == Ok(true), goes_on, "{said:?}");
        }
    }
}

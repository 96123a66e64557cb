//! The connection below HTTP, where a fault can do what no answer can: reset it, or let an answer
//! trickle.
//!
//! hyper writes whatever it is given, so the handler leaves its wish on the [`Line`] and the socket's
//! other half obeys when the answer is written. A wish lasts until the next request is read. On HTTP/2
//! a wish concerns every stream of the connection.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

const USUAL: u8 = 0;
const RESET: u8 = 1;
const TRICKLE: u8 = 2;

/// A trickling answer is written in pieces of this size…
const PIECE: usize = 16;
/// …with this pause between them: two seconds for a typical answer.
const PAUSE: Duration = Duration::from_millis(150);

/// How a connection writes its next answer; shared by its handler and its socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(Arc<AtomicU8>);

impl Line {
    /// Resets the connection instead of writing the answer.
    pub(crate) fn reset(&self) {
        self.0.store(RESET, Ordering::Release);
    }

    /// Writes the answer a few bytes at a time.
    pub(crate) fn trickle(&self) {
        self.0.store(TRICKLE, Ordering::Release);
    }
}

impl Connected<IncomingStream<'_, Sockets>> for Line {
    fn connect_info(stream: IncomingStream<'_, Sockets>) -> Self {
        stream.io().line.clone()
    }
}

/// Accepts connections whose writing can be disturbed.
#[derive(Debug)]
pub(crate) struct Sockets(pub(crate) TcpListener);

impl Listener for Sockets {
    type Io = Socket;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Socket, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((tcp, from)) => {
                    // Without it small answers wait for acknowledgements; a failure only costs time.
                    let _ = tcp.set_nodelay(true);
                    return (Socket { tcp, line: Line::default(), pause: None }, from);
                }
                Err(error) => {
                    // Out of file descriptors, most likely: they come back as connections close.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A socket that obeys its line.
#[derive(Debug)]
pub(crate) struct Socket {
    tcp: TcpStream,
    line: Line,
    pause: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.line.0.store(USUAL, Ordering::Release);
            self.pause = None;
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.line.0.load(Ordering::Acquire) {
            RESET => {
                // Dropped with nothing left to linger for, the socket says RST, not FIN.
                let _ = self.tcp.set_zero_linger();
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            TRICKLE => {
                if let Some(pause) = &mut self.pause {
                    ready!(pause.as_mut().poll(cx));
                }
                let piece = bytes.get(..PIECE).unwrap_or(bytes);
                let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, piece));
                self.pause = Some(Box::pin(sleep(PAUSE)));
                Poll::Ready(written)
            }
            _ => Pin::new(&mut self.tcp).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

//! Connections, from their acceptance to their end: TLS where the mock speaks it, then HTTP/1.1 or HTTP/2 by
//! what the client begins with.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::serve;
use super::timed::Timed;
use super::wire::{Line, Socket};
use super::world::World;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection that is being ended may take.
const LAST: Duration = Duration::from_secs(2);

/// What connections are made of.
pub(crate) struct Door {
    pub(crate) tls: Option<TlsAcceptor>,
    /// How many streams an HTTP/2 connection may have open; 0: only HTTP/1.1 is spoken.
    pub(crate) streams: u32,
    pub(crate) world: Arc<World>,
}

impl Door {
    /// Accepts connections until the mock ends, and waits for their ends.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let door = Arc::new(self);
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = door.world.ending.cancelled() => break,
            };
            match accepted {
                Ok((tcp, _)) => {
                    // Without it small answers wait for acknowledgements; a failure only costs time.
                    let _ = tcp.set_nodelay(true);
                    door.world.connections.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(door.clone().connection(tcp));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: they come back as connections close.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream) {
        let line = Line::default();
        let tcp = Timed::new(tcp, self.world.started, line.came_at());
        let socket = match &self.tls {
            None => Socket::plain(tcp, line.clone()),
            Some(acceptor) => match timeout(HANDSHAKE, acceptor.accept(tcp)).await {
                Ok(Ok(tls)) => Socket::encrypted(tls, line.clone()),
                Ok(Err(_)) | Err(_) => return,
            },
        };
        let world = self.world.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            // In the order of the streams: the number is taken before anything is waited for.
            let (number, world, line) = (line.number(), world.clone(), line.clone());
            async move { serve::handle(&world, &line, number, request.map(Body::new)).await }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http2().max_concurrent_streams(self.streams);
        let builder = if self.streams == 0 { builder.http1_only() } else { builder };
        let connection = builder.serve_connection(TokioIo::new(socket), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = self.world.ending.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = timeout(LAST, connection).await;
    }
}

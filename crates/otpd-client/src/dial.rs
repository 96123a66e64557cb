//! One attempt at a connection, with one deadline for all of it: name, TCP, TLS, AMQP handshake.
//!
//! A hung node accepts TCP and then says nothing. lapin's I/O thread would wait for it for ever, one
//! thread per attempt; so the socket is held here a second time, from before TLS begins, and shut down
//! when the attempt is given up: at the deadline, or because its caller stopped waiting.
//! `otpd-queue/src/rabbitmq/dial.rs` does the same; neither crate may import the other.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use tokio::time::{Instant, timeout_at};

/// Why there is no connection.
pub(crate) enum Failure {
    /// An answer of the broker, or of the network.
    Error(lapin::Error),
    /// Nothing came until the deadline.
    Late,
}

/// A second handle on the socket of a connection that is still being made.
enum Socket {
    /// TCP is not connected yet.
    None,
    /// The handle.
    Held(TcpStream),
    /// The attempt is over; a socket that is connected after that is shut down at once.
    Over,
}

/// An attempt that is under way. Unless it succeeds, dropping it ends the socket and so lapin's thread.
struct Attempt(Arc<Mutex<Socket>>);

impl Attempt {
    fn begin() -> Self {
        Self(Arc::new(Mutex::new(Socket::None)))
    }

    fn succeeded(self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Socket::Over;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Socket::Held(held) = std::mem::replace(&mut *socket, Socket::Over) {
            // An error means that it is closed already.
            let _ = held.shutdown(Shutdown::Both);
        }
    }
}

fn hold(slot: &Mutex<Socket>, handle: TcpStream) {
    let mut socket = slot.lock().unwrap_or_else(PoisonError::into_inner);
    match *socket {
        Socket::None | Socket::Held(_) => *socket = Socket::Held(handle),
        Socket::Over => {
            // As above.
            let _ = handle.shutdown(Shutdown::Both);
        }
    }
}

/// Connects before the deadline.
pub(crate) async fn dial(uri: AMQPUri, deadline: Instant) -> Result<Connection, Failure> {
    let attempt = Attempt::begin();
    match timeout_at(deadline, Box::pin(handshake(uri, attempt.0.clone(), deadline))).await {
        Ok(Ok(connection)) => {
            attempt.succeeded();
            Ok(connection)
        }
        Ok(Err(error)) if Instant::now() < deadline => Err(Failure::Error(error)),
        Ok(Err(_)) | Err(_) => Err(Failure::Late),
    }
}

async fn handshake(uri: AMQPUri, socket: Arc<Mutex<Socket>>, deadline: Instant) -> lapin::Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name("otpd-client".into());
    let runtime = lapin::runtime::default_runtime()?;
    let reactor = runtime.clone();
    let connect = async move |uri: AMQPUri, _| {
        let connected = async {
            let place = (uri.authority.host.clone(), uri.authority.port);
            let addresses: Vec<_> = tokio::net::lookup_host(place).await?.collect();
            let stream = AsyncTcpStream::connect(&reactor, addresses).await?;
            if let AsyncTcpStream::Plain(plain) = &stream {
                hold(&socket, TcpStream::from(plain.get_ref().as_fd().try_clone_to_owned()?));
            }
            match uri.scheme {
                AMQPScheme::AMQP => Ok(stream),
                AMQPScheme::AMQPS => {
                    let config = OwnedTLSConfig::default();
                    stream.into_tls(&uri.authority.host, config.as_ref()).await
                }
            }
        };
        // A node that does not even take connections keeps the thread no longer than the attempt.
        let connected = timeout_at(deadline, connected).await;
        Ok(connected.unwrap_or_else(|late| Err(late.into()))?)
    };
    Connection::connector(uri, runtime, connect, properties).await
}

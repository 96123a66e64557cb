//! One attempt at a connection, with one deadline for all of it: name, TCP, TLS, AMQP handshake.
//!
//! A hung node accepts TCP and then says nothing. lapin's I/O thread would wait for it for ever, one
//! thread per attempt; so the socket is held here a second time, from before TLS begins, and shut down
//! when the attempt is given up: at the deadline, or because its caller stopped waiting.
//! `otpd-client/src/dial.rs` does the same; neither crate may import the other.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use tokio::time::{Instant, timeout_at};

use super::address::BrokerUrl;
use crate::error::QueueError;

/// How long the broker may take for anything that is not a confirm: a handshake, opening a channel.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

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

/// Connects within [`PATIENCE`]. `ca` is trusted beside the system's authorities; `name` is what the broker's
/// operator sees.
pub(super) async fn dial(
    url: &BrokerUrl,
    ca: Option<Arc<str>>,
    name: &str,
) -> Result<Connection, QueueError> {
    let deadline = Instant::now() + PATIENCE;
    let attempt = Attempt::begin();
    let handshake = handshake(url, ca, name, attempt.0.clone(), deadline);
    match timeout_at(deadline, Box::pin(handshake)).await {
        Ok(Ok(connection)) => {
            attempt.succeeded();
            Ok(connection)
        }
        Ok(Err(error)) if Instant::now() < deadline => Err(refused_or_away(url, &error)),
        Ok(Err(_)) | Err(_) => Err(away(url, format!("no AMQP handshake within {} s", PATIENCE.as_secs()))),
    }
}

async fn handshake(
    url: &BrokerUrl,
    ca: Option<Arc<str>>,
    name: &str,
    socket: Arc<Mutex<Socket>>,
    deadline: Instant,
) -> lapin::Result<Connection> {
    let properties = ConnectionProperties::default()
        .with_connection_name(name.into())
        .with_client_property("product".into(), "otpd".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
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
                    let cert_chain = ca.as_deref().map(str::to_owned);
                    let config = OwnedTLSConfig { cert_chain, ..OwnedTLSConfig::default() };
                    stream.into_tls(&uri.authority.host, config.as_ref()).await
                }
            }
        };
        // A node that does not even take connections keeps the thread no longer than the attempt.
        let connected = timeout_at(deadline, connected).await;
        Ok(connected.unwrap_or_else(|late| Err(late.into()))?)
    };
    Connection::connector(url.expose(), runtime, connect, properties).await
}

/// What lapin's error is to us: the broker's own refusal, or its absence.
pub(super) fn refused_or_away(url: &BrokerUrl, error: &lapin::Error) -> QueueError {
    match refusal(error) {
        Some((403 | 530, why)) => QueueError::Refused { why },
        Some(_) | None => away(url, error.to_string()),
    }
}

/// The reply code and the words of the broker, where `error` is an answer of it.
pub(super) fn refusal(error: &lapin::Error) -> Option<(u16, String)> {
    if let lapin::ErrorKind::ProtocolError(answer) = error.kind() {
        Some((answer.get_id(), answer.get_message().to_string()))
    } else {
        None
    }
}

pub(super) fn away(url: &BrokerUrl, why: impl Into<String>) -> QueueError {
    QueueError::Away { url: url.to_string(), why: why.into() }
}

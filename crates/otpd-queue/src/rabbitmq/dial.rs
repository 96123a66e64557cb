//! One attempt at a connection, with one deadline for all of it: name, TCP, TLS, AMQP handshake.
//!
//! A hung node accepts TCP and then says nothing. lapin's I/O thread would wait for it for ever, a
//! thread for each attempt; so the socket is held here a second time, and shut down at the deadline.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};

use super::address::BrokerUrl;
use crate::error::QueueError;

/// How long the broker may take for anything that is not a confirm: a handshake, opening a channel.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A second handle on the socket of a connection that is not there yet.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<Option<TcpStream>>>);

impl Socket {
    fn hold(&self, socket: TcpStream) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
    }

    fn let_go(&self) -> Option<TcpStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Connects within [`PATIENCE`]. `name` is what the broker's operator sees.
pub(super) async fn dial(url: &BrokerUrl, name: &str) -> Result<Connection, QueueError> {
    let socket = Socket::default();
    let handshake = handshake(url, name, socket.clone());
    let outcome = tokio::time::timeout(PATIENCE, Box::pin(handshake)).await;
    let held = socket.let_go();
    match outcome {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(refused_or_away(url, &error)),
        Err(_) => {
            if let Some(socket) = held {
                // An error means that it is closed already.
                let _ = socket.shutdown(Shutdown::Both);
            }
            Err(away(url, format!("no AMQP handshake within {} s", PATIENCE.as_secs())))
        }
    }
}

async fn handshake(url: &BrokerUrl, name: &str, socket: Socket) -> lapin::Result<Connection> {
    let properties = ConnectionProperties::default()
        .with_connection_name(name.into())
        .with_client_property("product".into(), "otpd".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
    let runtime = lapin::runtime::default_runtime()?;
    let reactor = runtime.clone();
    let connect = async move |uri: AMQPUri, _| {
        let place = (uri.authority.host.clone(), uri.authority.port);
        let addresses: Vec<_> = tokio::net::lookup_host(place).await?.collect();
        let stream = AsyncTcpStream::connect(&reactor, addresses).await?;
        if let AsyncTcpStream::Plain(plain) = &stream {
            socket.hold(TcpStream::from(plain.get_ref().as_fd().try_clone_to_owned()?));
        }
        match uri.scheme {
            AMQPScheme::AMQP => Ok(stream),
            AMQPScheme::AMQPS => {
                let config = OwnedTLSConfig::default();
                Ok(stream.into_tls(&uri.authority.host, config.as_ref()).await?)
            }
        }
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

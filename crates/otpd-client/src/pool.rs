//! Channels in confirm mode, kept for the next job.
//!
//! lapin mixes up confirms when several tasks publish on one channel, and returned messages when
//! several are on their way; so a channel carries one job at a time. A channel whose last job has
//! no answer is thrown away, and so is one whose future was dropped in the middle: it is tainted
//! before it publishes and clean again only after its answer.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool::managed::{self, Metrics, Pool, RecycleError, RecycleResult, Timeouts};
use lapin::options::ConfirmSelectOptions;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ErrorKind};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::place;
use crate::dial::{Failure, dial};
use crate::error::ConnectError;

/// The pool.
pub(crate) type Channels = Pool<Maker>;

/// A channel that carries one job at a time.
pub(crate) struct ConfirmChannel {
    pub(crate) channel: Channel,
    pub(crate) tainted: bool,
    connection: Arc<Connection>,
}

/// Makes channels on one connection, and the connection again when it is gone.
pub(crate) struct Maker {
    nodes: Vec<AMQPUri>,
    next: AtomicUsize,
    connection: Mutex<Option<Arc<Connection>>>,
    patience: Duration,
}

impl Maker {
    pub(crate) fn new(nodes: Vec<AMQPUri>, patience: Duration) -> Self {
        // A fleet of producers is not to begin at the same node. Of a UUID, 62 bits are chance.
        let first = usize::try_from(uuid::Uuid::now_v7().as_u128() & 0xffff).unwrap_or(0);
        Self { nodes, next: AtomicUsize::new(first), connection: Mutex::new(None), patience }
    }

    /// The connection; one attempt at a time makes a new one.
    async fn connection(&self) -> Result<Arc<Connection>, ConnectError> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = kept.as_ref().filter(|c| c.status().connected()) {
            return Ok(connection.clone());
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let node = self.nodes.get(turn % self.nodes.len().max(1)).ok_or(ConnectError::NoUrl)?;
        let connection = match dial(node.clone(), Instant::now() + self.patience).await {
            Ok(connection) => Arc::new(connection),
            Err(Failure::Error(error)) => return Err(refused_or_away(node, &error)),
            Err(Failure::Late) => return Err(late(node)),
        };
        *kept = Some(connection.clone());
        Ok(connection)
    }

    /// Ends the connection in order.
    pub(crate) async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            // Whatever comes of it, the connection ends.
            let _ = tokio::time::timeout(self.patience, connection.close(200, "done".into())).await;
        }
    }
}

impl managed::Manager for Maker {
    type Type = ConfirmChannel;
    type Error = ConnectError;

    async fn create(&self) -> Result<ConfirmChannel, ConnectError> {
        let connection = self.connection().await?;
        let nowhere = AMQPUri::default();
        let node = self.nodes.first().unwrap_or(&nowhere);
        let channel = answer(node, self.patience, connection.create_channel()).await?;
        answer(node, self.patience, channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(ConfirmChannel { channel, tainted: false, connection })
    }

    async fn recycle(&self, kept: &mut ConfirmChannel, _: &Metrics) -> RecycleResult<ConnectError> {
        if kept.tainted || !kept.channel.status().connected() || !kept.connection.status().connected() {
            return Err(RecycleError::message("its last job has no answer, or the connection is gone"));
        }
        Ok(())
    }
}

/// The broker's answer, or why there is none.
async fn answer<T>(
    node: &AMQPUri,
    patience: Duration,
    request: impl Future<Output = lapin::Result<T>>,
) -> Result<T, ConnectError> {
    match tokio::time::timeout(patience, request).await {
        Ok(answer) => answer.map_err(|error| refused_or_away(node, &error)),
        Err(_) => Err(late(node)),
    }
}

fn late(node: &AMQPUri) -> ConnectError {
    ConnectError::Away { place: place(node), why: "no answer in time".into() }
}

fn refused_or_away(node: &AMQPUri, error: &lapin::Error) -> ConnectError {
    match refusal(error) {
        Some((403 | 530, why)) => ConnectError::Refused { place: place(node), why },
        Some(_) | None => ConnectError::Away { place: place(node), why: error.to_string() },
    }
}

/// The reply code and the words of the broker, where `error` is an answer of it.
pub(crate) fn refusal(error: &lapin::Error) -> Option<(u16, String)> {
    if let ErrorKind::ProtocolError(answer) = error.kind() {
        Some((answer.get_id(), answer.get_message().to_string()))
    } else {
        None
    }
}

/// A pool of at most `channels` channels.
pub(crate) fn pool(maker: Maker, channels: usize, patience: Duration) -> Result<Channels, ConnectError> {
    let timeouts = Timeouts { wait: Some(patience), create: Some(patience), recycle: Some(patience) };
    let built = Pool::builder(maker)
        .max_size(channels.clamp(1, 1000))
        .timeouts(timeouts)
        .runtime(deadpool::Runtime::Tokio1)
        .build();
    built.map_err(|error| ConnectError::Away { place: "-".into(), why: error.to_string() })
}

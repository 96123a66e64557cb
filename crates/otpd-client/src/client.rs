//! Sending.

use std::fmt;
use std::time::{Duration, SystemTime};

use deadpool::managed::PoolError;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Confirmation};
use otpd_core::{RouteName, SendJob};
use tokio::time::{Instant, timeout_at};

use crate::config::ClientConfig;
use crate::error::{ConnectError, SendError};
use crate::job::{Job, unix};
use crate::pool::{Channels, Maker, pool, refusal};

/// How long to wait before a job is published again that the broker refused or did not answer for.
const PAUSE: Duration = Duration::from_millis(100);

/// A producer's end of otpd. Clones share the connection and its channels.
#[derive(Clone)]
pub struct Client {
    channels: Channels,
    exchange: ShortString,
    patience: Duration,
}

/// What one attempt came to.
enum Attempt {
    Confirmed,
    Returned,
    /// The broker closed the channel over it: no such exchange, no right to write to it.
    Refused(String),
    /// The broker refused it for now, or the connection is gone.
    Unanswered,
}

impl Client {
    /// Connects, so that a wrong URL is known at once. From then on it connects again by itself.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(config: impl Into<ClientConfig>) -> Result<Self, ConnectError> {
        let config = config.into();
        let nodes = config.nodes()?;
        if nodes.is_empty() {
            return Err(ConnectError::NoUrl);
        }
        let tries = nodes.len();
        let channels = pool(Maker::new(nodes, config.patience), config.channels, config.patience)?;
        let exchange = ShortString::try_new(format!("{}jobs", config.prefix)).map_err(|e| {
            ConnectError::Away { place: "-".into(), why: format!("the prefix is too long: {e}") }
        })?;
        let client = Self { channels, exchange, patience: config.patience };
        let mut last = ConnectError::NoUrl;
        for _ in 0..tries {
            match client.channels.get().await {
                Ok(_) => return Ok(client),
                Err(error) => last = unreachable(error),
            }
        }
        Err(last)
    }

    /// Puts a job on a route; returns when it is safe on a queue.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, route: &str, job: &Job) -> Result<(), SendError> {
        self.publish(route, &job.body(), job.trace()).await
    }

    /// Puts a body that you made yourself on a route; it is checked all the same.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send_body(&self, route: &str, body: &[u8]) -> Result<(), SendError> {
        self.publish(route, body, (None, None)).await
    }

    async fn publish(
        &self,
        route: &str,
        body: &[u8],
        trace: (Option<&str>, Option<&str>),
    ) -> Result<(), SendError> {
        let route = RouteName::parse(route)?;
        let now = unix(SystemTime::now());
        let job = SendJob::parse(body, now).map_err(|malformed| SendError::InvalidJob(malformed.detail))?;
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_type("otp.send.v1".into())
            .with_delivery_mode(2)
            .with_message_id(ShortString::from(job.id.as_str()))
            .with_timestamp(now.0 / 1000)
            .with_headers(headers(trace));
        let deadline = Instant::now() + self.patience;
        let mut may_be_queued = false;
        loop {
            let channel = match timeout_at(deadline, self.channels.get()).await {
                Ok(Ok(channel)) => Ok(channel),
                Ok(Err(error)) => Err(unreachable(error)),
                Err(_) => Err(ConnectError::Away { place: "-".into(), why: "no connection in time".into() }),
            };
            let last = match channel {
                Ok(mut channel) => {
                    may_be_queued = true;
                    channel.tainted = true;
                    let attempt = self.attempt(&channel.channel, &route, body, &properties);
                    let attempt = timeout_at(deadline, attempt).await.unwrap_or(Attempt::Unanswered);
                    // What is unanswered may be answered later, for the next job: such a channel is done.
                    channel.tainted = matches!(attempt, Attempt::Unanswered);
                    match attempt {
                        Attempt::Confirmed => return Ok(()),
                        Attempt::Returned => return Err(SendError::UnknownRoute(route)),
                        Attempt::Refused(why) => return Err(refused(why).into()),
                        Attempt::Unanswered => SendError::TimedOut,
                    }
                }
                Err(error @ ConnectError::Refused { .. }) => return Err(error.into()),
                Err(_) if may_be_queued => SendError::TimedOut,
                Err(error) => error.into(),
            };
            if Instant::now() + PAUSE >= deadline {
                return Err(last);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn attempt(
        &self,
        channel: &lapin::Channel,
        route: &RouteName,
        body: &[u8],
        properties: &BasicProperties,
    ) -> Attempt {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let key = ShortString::from(route.as_str());
        let published =
            channel.basic_publish(self.exchange.clone(), key, options, body, properties.clone()).await;
        let confirmation = match published {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        match confirmation {
            Ok(Confirmation::Ack(None)) => Attempt::Confirmed,
            Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_))) => Attempt::Returned,
            Ok(Confirmation::Nack(None) | Confirmation::NotRequested) => Attempt::Unanswered,
            Err(error) => match refusal(&error) {
                Some((403 | 404, why)) => Attempt::Refused(why),
                Some(_) | None => Attempt::Unanswered,
            },
        }
    }

    /// Ends the connection in order. Sending fails from then on, for clones too.
    pub async fn close(&self) {
        self.channels.close();
        self.channels.manager().close().await;
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("channels", &self.channels.status()).finish_non_exhaustive()
    }
}

fn unreachable(error: PoolError<ConnectError>) -> ConnectError {
    let away = |why: &str| ConnectError::Away { place: "-".into(), why: why.into() };
    match error {
        PoolError::Backend(error) => error,
        PoolError::Closed => away("this client was closed"),
        PoolError::Timeout(_) => away("no channel in time"),
        PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => away("the pool is broken"),
    }
}

fn refused(why: String) -> ConnectError {
    ConnectError::Refused { place: "-".into(), why }
}

fn headers((parent, state): (Option<&str>, Option<&str>)) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in [("traceparent", parent), ("tracestate", state)] {
        if let Some(value) = value {
            table.insert(key.into(), AMQPValue::LongString(LongString::from(value)));
        }
    }
    table
}

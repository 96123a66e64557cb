//! Reading the events stream over AMQP 0.9.1: a consumer that starts at an offset or a time, and
//! acknowledges only to be given more.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lapin::Consumer;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use otpd_core::UnixMs;

use super::dial::{away, refused_or_away};
use super::headers;
use super::link::{Link, Open};
use super::wire::short;
use crate::error::QueueError;

/// How many records are on their way at once.
const CREDIT: u16 = 2000;
/// After how many records more are asked for.
const ASK_AFTER: u32 = 500;

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At what was written at this time, or a little before; at the end where nothing is that new.
    At(UnixMs),
    /// At this record, or at the first one that is still there.
    Offset(u64),
    /// At the last records; at the next one where there is none.
    Last,
}

/// A reader of a stream.
pub(super) struct StreamReader {
    open: Open,
    consumer: Consumer,
    unasked: u32,
    last_tag: u64,
    /// The broker has ended it.
    has_ended: bool,
}

/// One record.
pub(super) struct Record {
    /// Its place in the stream.
    pub(super) offset: u64,
    /// The message.
    pub(super) message: Delivery,
}

impl StreamReader {
    /// Begins to read `stream`.
    ///
    /// # Errors
    /// [`QueueError::Away`] (a stream that does not exist included), [`QueueError::Refused`].
    pub(super) async fn open(link: &Link, stream: &str, start: Start) -> Result<Self, QueueError> {
        let open = link.channel().await?;
        open.call(open.channel.basic_qos(CREDIT, BasicQosOptions::default())).await?;
        let offset = match start {
            // The protocol's timestamps have seconds; rounding down reads a little more.
            Start::At(at) => AMQPValue::Timestamp(at.0 / 1000),
            Start::Last => AMQPValue::LongString("last".into()),
            Start::Offset(offset) => AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX)),
        };
        let mut arguments = FieldTable::default();
        arguments.insert(headers::STREAM_OFFSET.into(), offset);
        let options = BasicConsumeOptions::default();
        let consume = open.channel.basic_consume(short(stream), "".into(), options, arguments);
        match open.call(consume).await {
            Ok(consumer) => Ok(Self { open, consumer, unasked: 0, last_tag: 0, has_ended: false }),
            Err(error) => {
                open.abandon();
                Err(error)
            }
        }
    }

    /// The next record, however long it takes.
    ///
    /// # Errors
    /// [`QueueError::Away`]: the stream or the broker is gone.
    pub(super) async fn next(&mut self) -> Result<Record, QueueError> {
        self.ask_for_more().await?;
        let got = self.consumer.next().await;
        self.record(got)
    }

    /// The next record, if it is there already. More is asked for by [`StreamReader::next`] alone, so that no
    /// record is ever taken and then dropped.
    pub(super) fn next_ready(&mut self) -> Option<Result<Record, QueueError>> {
        let got = self.consumer.next().now_or_never()?;
        Some(self.record(got))
    }

    async fn ask_for_more(&mut self) -> Result<(), QueueError> {
        if self.unasked < ASK_AFTER {
            return Ok(());
        }
        self.unasked = 0;
        let options = BasicAckOptions { multiple: true };
        self.open.call(self.open.channel.basic_ack(self.last_tag, options)).await
    }

    fn record(&mut self, got: Option<lapin::Result<Delivery>>) -> Result<Record, QueueError> {
        let url = self.open.url();
        let message = match got {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(refused_or_away(url, &error)),
            None => {
                self.has_ended = true;
                return Err(away(url, "the broker ended the reading of the stream"));
            }
        };
        self.unasked += 1;
        self.last_tag = message.delivery_tag;
        let offset =
            headers::number(message.properties.headers().as_ref(), headers::STREAM_OFFSET).unwrap_or(0);
        Ok(Record { offset, message })
    }

    /// The next record, if it comes within `patience`.
    ///
    /// # Errors
    /// As [`StreamReader::next`], and where nothing came.
    pub(super) async fn next_within(&mut self, patience: Duration) -> Result<Record, QueueError> {
        match tokio::time::timeout(patience, self.next()).await {
            Ok(record) => record,
            Err(_) => {
                Err(away(self.open.url(), format!("the stream gave nothing for {} s", patience.as_secs())))
            }
        }
    }

    /// True while the channel is not known to be gone.
    pub(super) fn is_open(&self) -> bool {
        !self.has_ended && self.open.channel.status().connected()
    }

    /// Gives the connection up: it may be alive and tell nothing.
    pub(super) fn give_up_connection(&self) {
        self.open.suspect();
    }

    /// Ends the reading. It is cancelled first: a stream goes on counting a consumer whose channel was only
    /// closed.
    pub(super) async fn close(self) {
        let cancel = self.open.channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default());
        // A channel that cannot be asked is gone, and that is what is wanted.
        let _ = self.open.call(cancel).await;
        self.open.close().await;
    }
}

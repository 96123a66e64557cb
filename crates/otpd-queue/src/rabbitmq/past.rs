//! Reading what was written before the reader began: in pieces, the newest first, each twice as long as the
//! one before.
//!
//! What is needed first is known first: a lane may start with the requests of the last seconds, a job that
//! comes back needs the facts since it was published. Pieces are measured in records, so that a busy minute
//! costs a starting worker no more than a quiet one; how far back a piece reaches in time is read from
//! its first record. Reading goes on as far back as a listener wants.

use std::time::Duration;

use otpd_core::{UnixMs, recent};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::backoff::Backoff;
use super::clock;
use super::reader::{Reader, Reading};
use super::stream::{Record, Start, StreamReader};
use crate::error::QueueError;
use crate::listen::When;

/// The records of the first piece: read within a second, and at least the last second of a stream that takes
/// no more than that.
const FIRST: u64 = 20_000;
/// The most records of a piece.
const MOST: u64 = 1_000_000;
/// How long the stream may give nothing while there must be something.
const STALL: Duration = Duration::from_secs(10);
/// How often it looks whether a listener wants to be told of older records.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The most records told at once.
const AT_ONCE: usize = 500;

/// The reading of the past; it ends by itself.
pub(super) struct Task(#[allow(dead_code, reason = "says that it began")] JoinHandle<()>);

/// Begins to read what was written before the record at `upto`.
pub(super) fn begin(reader: Reader, upto: u64) -> Task {
    Task(tokio::spawn(read(reader, upto)))
}

async fn read(reader: Reader, mut upto: u64) {
    let began_at = clock::now();
    let (mut length, mut told) = (FIRST, false);
    loop {
        let begin = upto.saturating_sub(length);
        let since = if upto == 0 {
            UnixMs(0)
        } else {
            let Some(since) = piece(&reader, begin, upto).await else { return };
            since
        };
        reader.0.known_since.send_replace(Some(since));
        if began_at.since(since) >= recent::WINDOW && !std::mem::replace(&mut told, true) {
            info!("the last minutes of the events stream are known");
        }
        if since == UnixMs(0) {
            return;
        }
        // A config that is followed may ask for more later.
        while began_at.since(since) >= reader.horizon() {
            tokio::time::sleep(LOOK_AGAIN).await;
            if reader.0.link.is_closed() {
                return;
            }
        }
        (upto, length) = (begin, (length * 2).min(MOST));
    }
}

/// Reads the records from `begin` to the one before `upto`, until that works. Gives the time since when everything
/// is known: 0 where there is nothing before. `None` once the queue is closed.
async fn piece(reader: &Reader, begin: u64, upto: u64) -> Option<UnixMs> {
    let mut backoff = Backoff::default();
    let mut told = false;
    loop {
        match piece_once(reader, begin, upto).await {
            Ok(since) => return Some(since),
            Err(_) if reader.0.link.is_closed() => return None,
            Err(_) if is_made_anew(reader, upto).await => return Some(UnixMs(0)),
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    warn!("the past of the events stream cannot be read: {error}; trying again");
                }
                backoff.pause().await;
            }
        }
    }
}

/// True if the stream ends before `upto`, where it had a record: it was deleted and made anew, and what was to be
/// read is gone.
async fn is_made_anew(reader: &Reader, upto: u64) -> bool {
    let events = reader.0.plan.events();
    // A new stream is empty until somebody writes, and everybody may be waiting for the past. Waiting for this mark
    // also makes the reading of the present begin again: at a place that a new stream does not have, it is silent.
    let _mark = reader.barrier();
    let Ok(mut stream) = StreamReader::open(&reader.0.link, &events, Start::Last).await else { return false };
    let last = stream.next_within(STALL).await;
    stream.close().await;
    last.is_ok_and(|record| record.offset < upto)
}

async fn piece_once(reader: &Reader, begin: u64, upto: u64) -> Result<UnixMs, QueueError> {
    let start = Start::Offset(begin);
    let mut stream = StreamReader::open(&reader.0.link, &reader.0.plan.events(), start).await?;
    let (mut first, mut since, mut news) = (None, None, Vec::new());
    loop {
        let record = stream.next_within(STALL).await?;
        let offset = record.offset;
        first.get_or_insert(offset);
        since = since.or_else(|| written_at(&record));
        if offset < upto {
            reader.read(record, Reading::Before, &mut news);
        }
        let is_over = offset + 1 >= upto;
        if is_over || news.len() >= AT_ONCE {
            reader.tell(std::mem::take(&mut news), When::Past);
            tokio::task::yield_now().await;
        }
        if is_over {
            stream.close().await;
            // What was before the first record has been forgotten by the broker.
            let is_all = begin == 0 || first.is_some_and(|first| first > begin);
            return Ok(if is_all { UnixMs(0) } else { since.unwrap_or_else(clock::now) });
        }
    }
}

/// The end of the second in which a record was published.
fn written_at(record: &Record) -> Option<UnixMs> {
    record.message.properties.timestamp().map(|second| UnixMs(second.saturating_add(1).saturating_mul(1000)))
}

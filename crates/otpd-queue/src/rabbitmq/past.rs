//! Reading what was written before the reader began: in pieces, the newest first, each twice as long as all
//! before it together.
//!
//! What is needed first is known first: a lane may start with the requests of the last seconds, a job that
//! comes back needs the facts since it was published. Reading goes on as far back as a listener wants.

use std::time::Duration;

use otpd_core::{UnixMs, recent};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::backoff::Backoff;
use super::reader::{Reader, TAIL};
use super::stream::{Start, StreamReader};
use crate::error::QueueError;
use crate::listen::When;

/// How long the stream may give nothing while there must be something.
const STALL: Duration = Duration::from_secs(10);
/// The most records told at once.
const PIECE: usize = 500;

/// The reading of the past; ends with its reader.
pub(super) struct Task(#[allow(dead_code, reason = "kept to say that it began")] JoinHandle<()>);

/// Begins to read what was written before `since`, whose first record stands at `upto`.
pub(super) fn begin(reader: Reader, since: UnixMs, upto: u64) -> Task {
    Task(tokio::spawn(read(reader, since, upto)))
}

async fn read(reader: Reader, since: UnixMs, mut upto: u64) {
    let mut back = TAIL;
    while back < reader.horizon() {
        let longer = (back * 2).min(reader.horizon()).max(back + TAIL);
        // The last minutes are one of the steps: lanes wait for them.
        back = if back < recent::WINDOW && longer > recent::WINDOW { recent::WINDOW } else { longer };
        let begin = since.minus(back - TAIL);
        let Some(first) = piece(&reader, begin, upto).await else { return };
        upto = first;
        reader.0.known_since.send_replace(Some(begin));
        if back == recent::WINDOW {
            info!("the last minutes of the events stream are known");
        }
        if first == 0 {
            // There is nothing before the first record.
            reader.0.known_since.send_replace(Some(UnixMs(0)));
            return;
        }
    }
}

/// Reads from `begin` to the record before `upto`, until that works; gives the place of the first one. `None`
/// once the queue is closed.
async fn piece(reader: &Reader, begin: UnixMs, upto: u64) -> Option<u64> {
    let mut backoff = Backoff::default();
    let mut told = false;
    loop {
        match piece_once(reader, begin, upto).await {
            Ok(first) => return Some(first),
            Err(_) if reader.0.link.is_closed() => return None,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    warn!("the past of the events stream cannot be read: {error}; trying again");
                }
                backoff.pause().await;
            }
        }
    }
}

async fn piece_once(reader: &Reader, begin: UnixMs, upto: u64) -> Result<u64, QueueError> {
    let mut stream = StreamReader::open(&reader.0.link, &reader.0.plan.events(), Start::At(begin)).await?;
    let (mut first, mut news) = (None, Vec::new());
    loop {
        let record = stream.next_within(STALL).await?;
        first.get_or_insert(record.offset.min(upto));
        let (offset, is_over) = (record.offset, record.offset + 1 >= upto);
        if offset < upto {
            reader.read(record, &mut news);
        }
        if is_over || news.len() >= PIECE {
            reader.tell(std::mem::take(&mut news), When::Past);
            tokio::task::yield_now().await;
        }
        if is_over {
            stream.close().await;
            return Ok(first.unwrap_or(upto));
        }
    }
}

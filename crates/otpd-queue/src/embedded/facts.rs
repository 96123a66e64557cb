//! Facts as rows: written with what they are about, read back by the next owner of a lane, and
//! followed by whoever wants to watch.
//!
//! A row's `at` is when it was committed, not when its fact happened: that is what retention and
//! "the last ten minutes" mean on a broker's stream too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use otpd_core::{Fact, JobId, UnixMs, fact_json, recent};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{mpsc, oneshot};

use super::file::{data_version, to_ms};

/// How often a file is asked whether another connection has written to it: 50 times a second.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// The most facts that are read of one job.
const MOST_OF_A_JOB: usize = 10_000;
/// Facts read at once by a follower.
const PAGE: usize = 256;

/// Writes a fact.
pub(super) fn insert(file: &Connection, fact: &Fact, source: &str, now: UnixMs) -> rusqlite::Result<()> {
    let event = fact_json::encode(fact, source);
    file.prepare_cached("INSERT INTO facts (at, event) VALUES (?1, ?2)")?
        .execute(params![to_ms(now), String::from_utf8_lossy(&event)])?;
    Ok(())
}

/// What the next owner of a lane needs to know: the facts of the last ten minutes, oldest first.
pub(super) fn history(file: &Connection, now: UnixMs) -> rusqlite::Result<Vec<Fact>> {
    let after = last_before(file, now.minus(recent::WINDOW))?;
    let newest = last(file)?;
    let most = i64::try_from(recent::MOST).unwrap_or(i64::MAX);
    let facts = read(file, after.max(newest.saturating_sub(most)), recent::MOST)?;
    Ok(facts.into_iter().filter_map(|(_, fact)| fact).collect())
}

/// The facts of one job since then, oldest first.
pub(super) fn story(file: &Connection, job: &JobId, since: UnixMs) -> rusqlite::Result<Vec<Fact>> {
    let mut facts = Vec::new();
    let mut statement = file.prepare_cached("SELECT event FROM facts WHERE seq > ?1 ORDER BY seq")?;
    let mut rows = statement.query([last_before(file, since)?])?;
    while let Some(row) = rows.next()? {
        let event = row.get_ref(0)?.as_str()?;
        // Reading all of a day takes most of the time; few of them name the job at all.
        if event.contains(job.as_str())
            && let Some(fact) = fact_json::decode(event.as_bytes())
            && fact.job == *job
        {
            facts.push(fact);
        }
        if facts.len() >= MOST_OF_A_JOB {
            break;
        }
    }
    Ok(facts)
}

/// The last fact committed before `at`, as a place to read on from; 0 where there is none.
pub(super) fn last_before(file: &Connection, at: UnixMs) -> rusqlite::Result<i64> {
    // From the newest backwards: this reads what is about to be read anyway, and needs no index.
    file.prepare_cached("SELECT seq FROM facts WHERE at < ?1 ORDER BY seq DESC LIMIT 1")?
        .query_row([to_ms(at)], |row| row.get(0))
        .optional()
        .map(Option::unwrap_or_default)
}

/// Forgets facts committed before `horizon`, at most `most`; says how many.
pub(super) fn forget(file: &Connection, horizon: UnixMs, most: usize) -> rusqlite::Result<usize> {
    file.prepare_cached(
        "DELETE FROM facts WHERE seq IN
                 (SELECT seq FROM (SELECT seq, at FROM facts ORDER BY seq LIMIT ?2) WHERE at < ?1)",
    )?
    .execute(params![to_ms(horizon), i64::try_from(most).unwrap_or(i64::MAX)])
}

/// Hands on every fact after the first of these places, as it comes, until nobody listens or the queue is
/// `closed`; says when the second place is `reached`.
/// Runs in a thread of its own: a follower waits for SQLite, and for a slow reader.
pub(super) fn follow(
    file: &Connection,
    (mut after, end): (i64, i64),
    facts: &mpsc::Sender<Fact>,
    reached: oneshot::Sender<()>,
    closed: &AtomicBool,
) {
    let mut seen = None;
    let mut reached = Some(reached);
    let mut complained = false;
    while !facts.is_closed() && !closed.load(Ordering::Relaxed) {
        let page = news(file, after, &mut seen).unwrap_or_else(|why| {
            if !std::mem::replace(&mut complained, true) {
                tracing::warn!(%why, "the facts in the queue file cannot be read; trying again");
            }
            Vec::new()
        });
        let more = page.len() == PAGE;
        for (seq, fact) in page {
            after = seq;
            complained = false;
            if fact.is_some_and(|f| facts.blocking_send(f).is_err()) {
                return;
            }
        }
        // What stood at the end may have been forgotten meanwhile: then the newest facts are read.
        if after >= end || (seen.is_some() && !more) {
            // Whoever follows may not care.
            let _ = reached.take().map(|reached| reached.send(()));
        }
        if !more {
            std::thread::sleep(POLL);
        }
    }
}

/// A fact and its place; `None` for an event that this otpd does not know.
type Placed = (i64, Option<Fact>);

/// The next page of facts, if anything was written since `seen`. `seen` stays empty while there is more.
fn news(file: &Connection, after: i64, seen: &mut Option<i64>) -> rusqlite::Result<Vec<Placed>> {
    let version = data_version(file)?;
    if *seen == Some(version) {
        return Ok(Vec::new());
    }
    let page = read(file, after, PAGE)?;
    *seen = (page.len() < PAGE).then_some(version);
    Ok(page)
}

fn read(file: &Connection, after: i64, most: usize) -> rusqlite::Result<Vec<Placed>> {
    file.prepare_cached("SELECT seq, event FROM facts WHERE seq > ?1 ORDER BY seq LIMIT ?2")?
        .query_map(params![after, i64::try_from(most).unwrap_or(i64::MAX)], |row| {
            let event = row.get_ref(1)?.as_bytes()?;
            Ok((row.get(0)?, fact_json::decode(event)))
        })?
        .collect()
}

pub(super) fn last(file: &Connection) -> rusqlite::Result<i64> {
    file.query_row("SELECT coalesce(max(seq), 0) FROM facts", [], |row| row.get(0))
}

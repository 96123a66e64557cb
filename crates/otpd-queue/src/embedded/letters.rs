//! Dead letters as rows: buried by a lane, read in pages, replayed or purged by their places.
//!
//! Reading and choosing happen outside the writer, page by page, because a filter is the operator's
//! and `wanted` is the caller's code; only the chosen rows are changed, each exactly once, whoever
//! else is at it: a letter that is gone is passed over.

use bytes::Bytes;
use otpd_core::{Class, JobId, ProviderName, Reason, RouteName, UnixMs};
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::file::{from_ms, to_ms};
use super::jobs::{lane_of_route, life, number, number_of};
use crate::dead::{DeadFilter, DeadLetter};
use crate::seam::Burial;

/// Letters changed in one transaction.
pub(super) const PAGE: usize = 500;

/// A letter and where it lies.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) seq: i64,
    pub(super) letter: DeadLetter,
}

/// What becomes of chosen letters.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// Back to its route.
    Replay,
    /// Gone for good.
    Purge,
}

/// What became of them: those that are gone from the dead letters, and the route that ended it.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) seqs: Vec<i64>,
    pub(super) unroutable: Option<String>,
}

/// Puts a job among the dead letters.
pub(super) fn bury(file: &Connection, burial: &Burial, now: UnixMs) -> rusqlite::Result<()> {
    file.prepare_cached(
        "INSERT INTO dead (at, job, reason, class, provider, route, http_status, attempts, detail, died_at,
                           traceparent, tracestate, body, taken_at, life)
         VALUES (:at, :job, :reason, :class, :provider, :route, :http_status, :attempts, :detail, :died_at,
                 :traceparent, :tracestate, :body, :taken_at, :life)",
    )?
    .execute(named_params! {
        ":at": to_ms(now),
        ":job": burial.job.as_str(),
        ":reason": burial.reason.as_str(),
        ":class": burial.class.map(Class::as_str),
        ":provider": burial.provider.as_str(),
        ":route": burial.route.as_ref().map(RouteName::as_str),
        ":http_status": burial.http_status,
        ":attempts": burial.attempts,
        ":detail": burial.detail.as_deref(),
        ":died_at": to_ms(burial.died_at),
        ":traceparent": burial.trace.parent.as_deref(),
        ":tracestate": burial.trace.state.as_deref(),
        ":body": &burial.body[..],
        ":taken_at": to_ms(burial.taken_at),
        ":life": to_ms(UnixMs(burial.life.number())),
    })?;
    Ok(())
}

/// The place of the newest letter: what comes after it does not belong to a listing begun now.
pub(super) fn last(file: &Connection) -> rusqlite::Result<i64> {
    file.query_row("SELECT coalesce(max(seq), 0) FROM dead", [], |row| row.get(0))
}

/// The letters that `filter` means after one place and up to another, oldest first, at most `most`.
pub(super) fn page(
    file: &Connection,
    (after, upto): (i64, i64),
    filter: &DeadFilter,
    now: UnixMs,
    most: usize,
) -> rusqlite::Result<Vec<Placed>> {
    let mut statement = file.prepare_cached(
        "SELECT seq, job, reason, class, provider, route, http_status, attempts, detail, died_at, body,
                taken_at, life
         FROM dead WHERE seq > ?1 AND seq <= ?2 ORDER BY seq",
    )?;
    let mut rows = statement.query([after, upto])?;
    let mut meant = Vec::new();
    while meant.len() < most
        && let Some(row) = rows.next()?
    {
        meant.extend(placed(row)?.filter(|p| filter.matches(&p.letter, now)));
    }
    Ok(meant)
}

/// Carries out `fate` for the letters at `seqs`, in order, up to the first whose route is gone.
pub(super) fn carry_out(file: &Connection, seqs: &[i64], fate: Fate, now: UnixMs) -> rusqlite::Result<Done> {
    let mut done = Done::default();
    for seq in seqs {
        let gone = match fate {
            Fate::Purge => remove(file, *seq)?,
            Fate::Replay => match replay(file, *seq, now)? {
                Replayed::Yes => true,
                Replayed::No => false,
                Replayed::NoSuchRoute(route) => {
                    done.unroutable = Some(route);
                    break;
                }
            },
        };
        if gone {
            done.seqs.push(*seq);
        }
    }
    Ok(done)
}

/// Forgets letters buried before `horizon`, at most `most`; says how many.
pub(super) fn forget(file: &Connection, horizon: UnixMs, most: usize) -> rusqlite::Result<usize> {
    file.prepare_cached(
        "DELETE FROM dead WHERE seq IN
                 (SELECT seq FROM (SELECT seq, at FROM dead ORDER BY seq LIMIT ?2) WHERE at < ?1)",
    )?
    .execute(params![to_ms(horizon), i64::try_from(most).unwrap_or(i64::MAX)])
}

enum Replayed {
    Yes,
    No,
    NoSuchRoute(String),
}

/// A replayed job begins its next life ([`DeadLetter::next_life`]): no attempts, no hops. Only its age stays,
/// or a job that does not say itself when its code ends would be valid again.
fn replay(file: &Connection, seq: i64, now: UnixMs) -> rusqlite::Result<Replayed> {
    let letter: Option<Option<String>> = file
        .prepare_cached("SELECT route FROM dead WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0))
        .optional()?;
    let Some(route) = letter else { return Ok(Replayed::No) };
    let Some(route) = route else {
        tracing::warn!(seq, "this dead letter names no route; it stays");
        return Ok(Replayed::No);
    };
    let Some((lane, section)) = lane_of_route(file, &route)? else {
        return Ok(Replayed::NoSuchRoute(route));
    };
    file.prepare_cached(
        "INSERT INTO jobs (lane, job, route, attempts, hops, taken_at, traceparent, tracestate, body,
                           section, life, replayed_at)
         SELECT ?1, job, route, 0, 0, coalesce(taken_at, 0), traceparent, tracestate, body,
                ?3, max(coalesce(died_at, taken_at, 0), life + 1), ?4
         FROM dead WHERE seq = ?2",
    )?
    .execute(params![lane, seq, number_of(section), to_ms(now)])?;
    remove(file, seq)?;
    Ok(Replayed::Yes)
}

fn remove(file: &Connection, seq: i64) -> rusqlite::Result<bool> {
    Ok(file.prepare_cached("DELETE FROM dead WHERE seq = ?1")?.execute([seq])? > 0)
}

/// `None` for a row that is no letter of ours: it has no valid job id.
fn placed(row: &Row<'_>) -> rusqlite::Result<Option<Placed>> {
    let text = |column| row.get::<_, Option<Box<str>>>(column);
    let Ok(job) = JobId::parse(&row.get::<_, Box<str>>(1)?) else { return Ok(None) };
    let letter = DeadLetter {
        job,
        reason: text(2)?.and_then(|r| Reason::parse(&r)),
        class: text(3)?.and_then(|c| Class::parse(&c)),
        provider: text(4)?.and_then(|p| ProviderName::parse(&p).ok()),
        route: text(5)?.and_then(|r| RouteName::parse(&r).ok()),
        http_status: row.get::<_, Option<i64>>(6)?.and_then(|s| u16::try_from(s).ok()),
        attempts: number(row, 7)?,
        detail: text(8)?,
        died_at: row.get::<_, Option<i64>>(9)?.map(from_ms),
        taken_at: row.get::<_, Option<i64>>(11)?.map(from_ms),
        life: life(row.get(12)?),
        body: Bytes::from(row.get::<_, Vec<u8>>(10)?),
    };
    Ok(Some(Placed { seq: row.get(0)?, letter }))
}

//! Jobs as rows: put in, handed out in order, taken back, removed.
//!
//! A lane hands out the jobs of its main section in the order of their ids, so one number a lane,
//! `handed_out`, says which of them are out; no row is written when it is handed out. Then come deferred
//! jobs whose time has come, then bulk jobs, few at a time: their rows say themselves that they are out.
//! When a session is over, by closing or by death, all that was out was returned: its count grows, which
//! sets `redelivered`, and whoever was returned too often is buried, as a quorum queue does it.

use bytes::Bytes;
use otpd_core::{Fact, FactKind, JobId, Life, ProviderName, Reason, RouteName, UnixMs};
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::facts;
use super::file::{from_ms, to_ms};
use crate::hidden::debug_without_body;
use crate::plan::DELIVERY_LIMIT;
use crate::seam::{Carried, Delivery, MOST_CARRIED, Section, Tag, TraceContext};

/// The only session of an embedded lane: a file does not go away and come back.
pub(super) const SESSION: u32 = 1;

/// The most bytes kept of each trace header; a longer one is no valid trace and is left out.
const MAX_TRACE: usize = 512;

/// The most bulk jobs that a lane has out, so that a bulk backlog leaves its prefetch to the others.
pub(super) const BULK_OUT: u16 = 100;

/// A job to be put in.
pub(super) struct NewJob<'a> {
    pub(super) job: &'a JobId,
    pub(super) body: &'a [u8],
    pub(super) section: Section,
    pub(super) carried: &'a Carried,
    pub(super) taken_at: UnixMs,
    pub(super) trace: &'a TraceContext,
}

debug_without_body!(NewJob<'_> { job, carried });

/// The lane that a route leads to, and which section of it.
pub(super) fn lane_of_route(file: &Connection, route: &str) -> rusqlite::Result<Option<(i64, Section)>> {
    file.prepare_cached("SELECT lane, section FROM routes WHERE route = ?1")?
        .query_row([route], |row| Ok((row.get(0)?, section(row.get(1)?))))
        .optional()
}

/// A section as the file keeps it.
pub(super) const fn number_of(section: Section) -> i64 {
    match section {
        Section::Main => 0,
        Section::Bulk => 1,
        Section::Later => 2,
    }
}

fn section(number: i64) -> Section {
    match number {
        1 => Section::Bulk,
        2 => Section::Later,
        _ => Section::Main,
    }
}

/// The lane of a provider; made where there is none, so that no job on its way is ever lost.
pub(super) fn lane_of(file: &Connection, provider: &ProviderName) -> rusqlite::Result<i64> {
    let find = "SELECT id FROM lanes WHERE provider = ?1";
    let find = || file.prepare_cached(find)?.query_row([provider.as_str()], |row| row.get(0)).optional();
    if let Some(id) = find()? {
        return Ok(id);
    }
    let made = "INSERT INTO lanes (provider) VALUES (?1) RETURNING id";
    file.prepare_cached(made)?.query_row([provider.as_str()], |row| row.get(0))
}

/// Puts a job at the end of a lane.
pub(super) fn insert(file: &Connection, lane: i64, new: &NewJob<'_>) -> rusqlite::Result<()> {
    let short =
        |header: &Option<Box<str>>| header.as_deref().filter(|h| h.len() <= MAX_TRACE).map(str::to_owned);
    file.prepare_cached(
        "INSERT INTO jobs (lane, job, route, attempts, hops, taken_at, traceparent, tracestate, body,
                           section, life, not_before, replayed_at, ambiguous, extra, accepted_at)
         VALUES (:lane, :job, :route, :attempts, :hops, :taken_at, :traceparent, :tracestate, :body,
                 :section, :life, :not_before, :replayed_at, :ambiguous, :extra, :accepted_at)",
    )?
    .execute(named_params! {
        ":lane": lane,
        ":job": new.job.as_str(),
        ":route": new.carried.route.as_ref().map(RouteName::as_str),
        ":attempts": new.carried.attempts,
        ":hops": new.carried.hops,
        ":taken_at": to_ms(new.taken_at),
        ":traceparent": short(&new.trace.parent),
        ":tracestate": short(&new.trace.state),
        ":body": new.body,
        ":section": number_of(new.section),
        ":life": to_ms(UnixMs(new.carried.life.number())),
        ":not_before": new.carried.not_before.map(to_ms),
        ":replayed_at": new.carried.replayed_at.map(to_ms),
        ":ambiguous": new.carried.ambiguous,
        ":extra": new.carried.extra,
        ":accepted_at": new.carried.accepted_at.map(to_ms),
    })?;
    Ok(())
}

const COLUMNS: &str = "id, job, route, attempts, hops, returned, taken_at, traceparent, tracestate, body,
    section, life, not_before, replayed_at, ambiguous, extra, accepted_at";

/// The next jobs of a lane, at most `most`, marked as handed out: of the main section those after `after`,
/// then deferred ones that are due at `now`, then bulk ones. They may be given to the lane once this is
/// committed.
pub(super) fn hand_out(
    file: &Connection,
    lane: i64,
    after: i64,
    most: usize,
    now: UnixMs,
) -> rusqlite::Result<Vec<Delivery>> {
    let limit = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let main = format!(
        "SELECT {COLUMNS} FROM jobs WHERE lane = ?1 AND section = 0 AND id > ?2 ORDER BY id LIMIT ?3"
    );
    let mut out: Vec<Delivery> = file
        .prepare_cached(&main)?
        .query_map(params![lane, after, limit(most)], delivery)?
        .collect::<rusqlite::Result<_>>()?;
    if let Some(last) = out.last() {
        file.prepare_cached("UPDATE lanes SET handed_out = ?2 WHERE id = ?1")?
            .execute(params![lane, row_of(last.tag)])?;
    }
    let later = format!(
        "SELECT {COLUMNS} FROM jobs
         WHERE lane = ?1 AND section = 2 AND out = 0 AND coalesce(not_before, 0) <= ?2
         ORDER BY not_before, id LIMIT ?3"
    );
    let room = limit(most - out.len());
    let due = mark_out(file, &later, params![lane, to_ms(now), room])?;
    out.extend(due);
    let bulk_out: usize = file
        .prepare_cached("SELECT count(*) FROM jobs WHERE lane = ?1 AND section = 1 AND out = 1")?
        .query_row([lane], |row| row.get::<_, i64>(0).map(|n| usize::try_from(n).unwrap_or(0)))?;
    let bulk = format!(
        "SELECT {COLUMNS} FROM jobs WHERE lane = ?1 AND section = 1 AND out = 0 ORDER BY id LIMIT ?2"
    );
    let room = limit((most - out.len()).min(usize::from(BULK_OUT).saturating_sub(bulk_out)));
    let few = mark_out(file, &bulk, params![lane, room])?;
    out.extend(few);
    Ok(out)
}

/// Every job of a lane, oldest first, handed out or not. Marks nothing.
pub(super) fn all(file: &Connection, lane: i64) -> rusqlite::Result<Vec<Delivery>> {
    let query = format!("SELECT {COLUMNS} FROM jobs WHERE lane = ?1 ORDER BY id");
    file.prepare(&query)?.query_map([lane], delivery)?.collect()
}

/// The jobs that `query` finds, each marked as handed out.
fn mark_out(
    file: &Connection,
    query: &str,
    parameters: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<Vec<Delivery>> {
    let found: Vec<Delivery> =
        file.prepare_cached(query)?.query_map(parameters, delivery)?.collect::<rusqlite::Result<_>>()?;
    for delivery in &found {
        file.prepare_cached("UPDATE jobs SET out = 1 WHERE id = ?1")?.execute([row_of(delivery.tag)])?;
    }
    Ok(found)
}

/// When the next deferred job of any lane is due.
pub(super) fn next_due(file: &Connection) -> rusqlite::Result<Option<UnixMs>> {
    let due: Option<i64> = file
        .prepare_cached("SELECT min(coalesce(not_before, 0)) FROM jobs WHERE section = 2 AND out = 0")?
        .query_row([], |row| row.get(0))?;
    Ok(due.map(from_ms))
}

/// Removes a settled job; says whether it was still there.
pub(super) fn remove(file: &Connection, lane: i64, tag: Tag) -> rusqlite::Result<bool> {
    let removed = file
        .prepare_cached("DELETE FROM jobs WHERE id = ?1 AND lane = ?2")?
        .execute(params![row_of(tag), lane])?;
    Ok(removed > 0)
}

/// Takes back what a lane had out and did not settle. Jobs returned more than [`DELIVERY_LIMIT`]
/// times go to the dead letters.
pub(super) fn take_back(
    file: &Connection,
    lane: i64,
    provider: &ProviderName,
    source: &str,
    now: UnixMs,
) -> rusqlite::Result<()> {
    let mark: i64 = file.query_row("SELECT handed_out FROM lanes WHERE id = ?1", [lane], |row| row.get(0))?;
    file.execute(
        "UPDATE jobs SET returned = returned + 1, out = 0
         WHERE lane = ?1 AND ((section = 0 AND id <= ?2) OR (section > 0 AND out = 1))",
        [lane, mark],
    )?;
    file.execute("UPDATE lanes SET handed_out = 0 WHERE id = ?1", [lane])?;
    let worn_out: Vec<(i64, String, Option<String>, u32, Life, u32)> = file
        .prepare("SELECT id, job, route, attempts, life, extra FROM jobs WHERE lane = ?1 AND returned > ?2")?
        .query_map(params![lane, DELIVERY_LIMIT], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, number(row, 3)?, life(row.get(4)?), number(row, 5)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (id, job, route, attempts, life, extra) in worn_out {
        file.prepare_cached(
            "INSERT INTO dead (at, job, reason, provider, route, attempts, died_at, traceparent, tracestate, body,
                               taken_at, life)
             SELECT :now, job, :reason, :provider, route, attempts, :now, traceparent, tracestate, body,
                    taken_at, life
             FROM jobs WHERE id = :id",
        )?
        .execute(named_params! {
            ":id": id,
            ":now": to_ms(now),
            ":reason": Reason::DeliveryLimit.as_str(),
            ":provider": provider.as_str(),
        })?;
        file.prepare_cached("DELETE FROM jobs WHERE id = ?1")?.execute([id])?;
        if let Ok(job) = JobId::parse(&job) {
            let mut fact = Fact::new(FactKind::Dead, job, provider.clone(), now).in_life(life);
            fact.reason = Some(Reason::DeliveryLimit);
            fact.route = route.and_then(|r| RouteName::parse(&r).ok());
            fact.attempt = attempts;
            // The end of such a job was told when it was accepted.
            fact.extra = extra > 0;
            facts::insert(file, &fact, source, now)?;
        }
    }
    Ok(())
}

/// How many jobs of each lane are not handed out. Those that a killed worker had out count again
/// once its lane is opened.
pub(super) fn depths(file: &Connection) -> rusqlite::Result<Vec<(ProviderName, u64)>> {
    let counted: Vec<(String, i64)> = file
        .prepare(
            "SELECT provider, (SELECT count(*) FROM jobs WHERE lane = lanes.id AND out = 0
                                AND (section > 0 OR id > handed_out))
             FROM lanes ORDER BY provider",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let named = |(provider, count): (String, i64)| {
        Some((ProviderName::parse(&provider).ok()?, u64::try_from(count).unwrap_or(0)))
    };
    Ok(counted.into_iter().filter_map(named).collect())
}

/// The row that a tag of this backend names.
pub(super) fn row_of(tag: Tag) -> i64 {
    i64::try_from(tag.number).unwrap_or(i64::MAX)
}

/// A count as the file keeps it; nonsense becomes the nearest count.
pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u32> {
    let kept: i64 = row.get(column)?;
    Ok(u32::try_from(kept.max(0)).unwrap_or(u32::MAX))
}

/// A life as the file keeps it.
pub(super) fn life(kept: i64) -> Life {
    Life::from_number(from_ms(kept).0)
}

fn delivery(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    let text = |column| row.get::<_, Option<Box<str>>>(column);
    let id: i64 = row.get(0)?;
    Ok(Delivery {
        tag: Tag { session: SESSION, number: u64::try_from(id).unwrap_or(0) },
        body: Bytes::from(row.get::<_, Vec<u8>>(9)?),
        carried: Carried {
            attempts: number(row, 3)?.min(MOST_CARRIED),
            hops: number(row, 4)?.min(MOST_CARRIED),
            route: text(2)?.and_then(|r| RouteName::parse(&r).ok()),
            life: life(row.get(11)?),
            not_before: row.get::<_, Option<i64>>(12)?.map(from_ms),
            replayed_at: row.get::<_, Option<i64>>(13)?.map(from_ms),
            ambiguous: number(row, 14)?.min(MOST_CARRIED),
            extra: number(row, 15)?.min(MOST_CARRIED),
            accepted_at: row.get::<_, Option<i64>>(16)?.map(from_ms),
        },
        section: section(row.get(10)?),
        message_id: text(1)?.and_then(|j| JobId::parse(&j).ok()),
        taken_at: Some(from_ms(row.get(6)?)),
        redelivered: row.get::<_, i64>(5)? > 0,
        returned: u32::try_from(row.get::<_, i64>(5)?).unwrap_or(u32::MAX),
        trace: TraceContext { parent: text(7)?, state: text(8)? },
    })
}

//! Retiring a provider's lane in the file: one transaction. The file's own lock stands for "no worker
//! with the old config": a process that works on the file has it.

use otpd_core::{JobId, ProviderName, UnixMs};
use rusqlite::{Connection, OptionalExtension};

use super::jobs::{self, NewJob};
use super::{facts, letters};
use crate::error::QueueError;
use crate::plan::Plan;
use crate::retire::{Fate, Leaving, Leftovers, Retired, Trial};

/// What is asked.
#[derive(Debug)]
pub(super) struct Retire {
    pub(super) provider: ProviderName,
    pub(super) leftovers: Leftovers,
    pub(super) trial: Trial,
}

/// Carries it out. The inner error refuses, and nothing was changed.
pub(super) fn carry_out(
    file: &Connection,
    plan: &Plan,
    source: &str,
    asked: &Retire,
    now: UnixMs,
) -> rusqlite::Result<Result<Retired, QueueError>> {
    let provider = &asked.provider;
    let leaving = match Leaving::new(plan, provider, &asked.leftovers) {
        Ok(leaving) => leaving,
        Err(refused) => return Ok(Err(refused)),
    };
    let find = "SELECT id FROM lanes WHERE provider = ?1";
    let lane: Option<i64> = file.query_row(find, [provider.as_str()], |row| row.get(0)).optional()?;
    let Some(lane) = lane else {
        return Ok(Err(QueueError::InUse { why: format!("there is no lane of {provider}") }));
    };
    let led = "SELECT group_concat(route, ', ') FROM routes WHERE lane = ?1";
    let led: Option<String> = file.query_row(led, [lane], |row| row.get(0))?;
    if let Some(routes) = led {
        let why = format!(
            "routes of the file still lead to {provider} ({routes}): run `otpd topology apply` with the config that does not name it"
        );
        return Ok(Err(QueueError::InUse { why }));
    }
    let waiting: i64 =
        file.query_row("SELECT count(*) FROM jobs WHERE lane = ?1", [lane], |row| row.get(0))?;
    let mut retired = Retired { waiting: u64::try_from(waiting).unwrap_or(0), ..Retired::default() };
    if let Err(refused) = leaving.may_leave(retired.waiting) {
        return Ok(Err(refused));
    }
    if asked.trial == Trial::Look {
        return Ok(Ok(retired));
    }
    for delivery in jobs::all(file, lane)? {
        let Some(id) = delivery.message_id.clone().or_else(|| JobId::parse("nameless").ok()) else {
            continue;
        };
        let section = delivery.section;
        let (fate, fact) = leaving.fate(id, delivery, section, now);
        match fate {
            Fate::Move(to) => {
                let row = NewJob {
                    job: &to.job,
                    body: &to.body,
                    section: to.section,
                    carried: &to.carried,
                    taken_at: to.taken_at,
                    trace: &to.trace,
                };
                jobs::insert(file, jobs::lane_of(file, &to.to)?, &row)?;
                retired.moved += 1;
            }
            Fate::Bury(burial) => {
                letters::bury(file, &burial, now)?;
                retired.buried += 1;
            }
        }
        facts::insert(file, &fact, source, now)?;
    }
    file.execute("DELETE FROM jobs WHERE lane = ?1", [lane])?;
    file.execute("DELETE FROM lanes WHERE id = ?1", [lane])?;
    Ok(Ok(retired))
}

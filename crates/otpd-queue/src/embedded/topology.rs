//! The plan, kept in the file: which lanes there are, which route leads to which, how long things
//! are kept. It is in the file because other processes send to it too, and know only the file.
//!
//! Unlike a broker's, everything here can be changed in place, so applying a plan never refuses. A
//! lane that is no longer planned stays, and so do its jobs: nothing is ever lost by a config.

use std::collections::BTreeMap;
use std::time::Duration;

use otpd_core::UnixMs;
use rusqlite::{Connection, OptionalExtension, params};

use super::jobs::{lane_of, number_of};
use super::{facts, letters};
use crate::plan::{Difference, Plan};

/// The most rows that one sweep removes from a table.
const SWEEP: usize = 2_000;

/// How the file differs from the plan.
pub(super) fn compare(file: &Connection, plan: &Plan) -> rusqlite::Result<Vec<Difference>> {
    let lanes: Vec<String> = file
        .prepare_cached("SELECT provider FROM lanes")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut routes: BTreeMap<String, String> = file
        .prepare_cached("SELECT route, provider FROM routes JOIN lanes ON lanes.id = routes.lane")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut differences = Vec::new();
    for lane in &plan.lanes {
        let provider = lane.provider.as_str();
        if !lanes.iter().any(|l| l == provider) {
            differences.push(Difference::Missing { what: format!("lane {provider}") });
        }
        for (route, _) in lane.bound_routes() {
            let what = format!("route {route}");
            match routes.remove(route.as_str()) {
                None => differences.push(Difference::Missing { what }),
                Some(there) if there == provider => {}
                Some(there) => differences.push(Difference::Different {
                    what,
                    how: format!("leads to {there}, planned is {provider}"),
                }),
            }
        }
    }
    for (route, there) in routes {
        let how = format!("leads to {there}, planned is no such route");
        differences.push(Difference::Different { what: format!("route {route}"), how });
    }
    differences.extend(compare_retention(file, plan)?);
    Ok(differences)
}

/// The providers whose lanes are in the file and in no plan.
pub(super) fn unplanned(file: &Connection, plan: &Plan) -> rusqlite::Result<Vec<String>> {
    let mut lanes: Vec<String> = file
        .prepare_cached("SELECT provider FROM lanes ORDER BY provider")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    lanes.retain(|lane| !plan.lanes.iter().any(|planned| planned.provider.as_str() == lane));
    Ok(lanes)
}

/// Makes the file as planned.
pub(super) fn apply(file: &Connection, plan: &Plan) -> rusqlite::Result<()> {
    file.execute("DELETE FROM routes", [])?;
    for lane in &plan.lanes {
        let id = lane_of(file, &lane.provider)?;
        for (route, section) in lane.bound_routes() {
            file.prepare_cached("INSERT OR REPLACE INTO routes (route, lane, section) VALUES (?1, ?2, ?3)")?
                .execute(params![route.as_str(), id, number_of(section)])?;
        }
    }
    file.prepare_cached(
        "INSERT OR REPLACE INTO retention (only_row, dead_ms, events_ms) VALUES (1, ?1, ?2)",
    )?
    .execute([millis(plan.dead_retention), millis(plan.events_retention)])?;
    Ok(())
}

/// Makes the file as planned where it is not.
pub(super) fn ensure(file: &Connection, plan: &Plan) -> rusqlite::Result<()> {
    let differences = compare(file, plan)?;
    if differences.is_empty() {
        return Ok(());
    }
    if is_applied(file)? {
        let words: Vec<String> = differences.iter().map(ToString::to_string).collect();
        tracing::info!(differences = words.join("; "), "the queue file follows the changed config");
    }
    apply(file, plan)
}

/// Whether any plan was ever applied.
pub(super) fn is_applied(file: &Connection) -> rusqlite::Result<bool> {
    Ok(retention(file)?.is_some())
}

/// How far a sweep came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swept {
    /// Nothing is left that is old enough.
    Everything,
    /// There may be more.
    Part,
}

/// Forgets what was kept long enough.
pub(super) fn sweep(file: &Connection, now: UnixMs) -> rusqlite::Result<Swept> {
    let Some((dead, events)) = retention(file)? else { return Ok(Swept::Everything) };
    let kept = |ms: i64| now.minus(Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    let facts = facts::forget(file, kept(events), SWEEP)?;
    let letters = letters::forget(file, kept(dead), SWEEP)?;
    Ok(if facts.max(letters) < SWEEP { Swept::Everything } else { Swept::Part })
}

fn compare_retention(file: &Connection, plan: &Plan) -> rusqlite::Result<Vec<Difference>> {
    let kept = retention(file)?;
    let dead = (kept.map(|(dead, _)| dead), plan.dead_retention, "retention of dead letters");
    let events = (kept.map(|(_, events)| events), plan.events_retention, "retention of events");
    let differ = |(there, planned, what): (Option<i64>, Duration, &str)| match there {
        None => Some(Difference::Missing { what: what.into() }),
        Some(there) if there == millis(planned) => None,
        Some(there) => Some(Difference::Different {
            what: what.into(),
            how: format!("is {there} ms, planned is {} ms", millis(planned)),
        }),
    };
    Ok([dead, events].into_iter().filter_map(differ).collect())
}

fn retention(file: &Connection) -> rusqlite::Result<Option<(i64, i64)>> {
    file.prepare_cached("SELECT dead_ms, events_ms FROM retention")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

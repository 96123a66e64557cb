//! What a run came to, as data: the JSON is this, and the table and the page show nothing else.
//!
//! Holds no code, no number of a recipient and no secret: none of them ever gets here.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::objective::{Objective, What};
use super::parts::Part;
use super::provider::AtProvider;
use super::rate;
use super::series::Point;
use super::spread::{Percentiles, ms, round};
use super::table::millis;
use super::tally::Tally;
use super::track::Tracker;

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// Whether all objectives are met and the ledger closes.
    pub(super) passed: bool,
    /// Why not, one sentence each.
    pub(super) failures: Vec<String>,
    /// What a reader should know.
    pub(super) notes: Vec<String>,
    pub(super) run: Run,
    pub(super) ledger: Ledger,
    pub(super) objectives: Vec<Judged>,
    /// The whole run.
    pub(super) all: Scope,
    /// By route, in the order of the command line.
    pub(super) routes: Vec<Scope>,
    /// By the provider that a job was with.
    pub(super) providers: Vec<Scope>,
    /// What the mock providers counted, where there were any.
    pub(super) at_provider: Vec<AtProvider>,
    /// Dead letters by reason.
    pub(super) dead_reasons: BTreeMap<&'static str, u64>,
    /// Percentile curves: percent and milliseconds.
    pub(super) curves: Vec<Curve>,
    pub(super) series: SeriesData,
}

/// What was run, and where.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Run {
    pub(super) version: &'static str,
    pub(super) began: String,
    /// Until the last job was due, in seconds.
    pub(super) published_for_s: f64,
    /// Until the last job ended, or the drain did.
    pub(super) took_s: f64,
    pub(super) command: String,
    pub(super) profile: String,
    pub(super) routes: Vec<(String, f64)>,
    pub(super) ttl: Option<String>,
    pub(super) seed: u64,
    pub(super) target: String,
    /// Ceilings of the providers that got requests.
    pub(super) ceilings: Vec<(String, String)>,
    /// Their sum, requests a second; absent where one of them has none.
    pub(super) ceiling_per_s: Option<f64>,
    /// The config in TOML, secrets masked.
    pub(super) config: String,
    pub(super) cores: usize,
    /// Cores' worth of CPU that this process used, the worker and the mock included where they are in it.
    pub(super) cores_used: Option<f64>,
    pub(super) peak_memory_mib: Option<f64>,
    /// Whether the worker ran in this process.
    pub(super) self_contained: bool,
}

/// Where every job is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Ledger {
    pub(super) offered: u64,
    pub(super) published: u64,
    /// Not taken by the queue, or nobody knows.
    pub(super) unpublished: u64,
    pub(super) accepted: u64,
    pub(super) dead: u64,
    pub(super) expired: u64,
    pub(super) superseded: u64,
    /// Published, and their end is not known.
    pub(super) open: u64,
    /// Jobs that ended more than once.
    pub(super) ended_twice: u64,
    /// What the queue says is waiting in all lanes, where jobs are open; those a worker holds may be missing.
    pub(super) waiting_in_lanes: Option<u64>,
    /// Every published job ended, once.
    pub(super) closes: bool,
}

/// Counts and latencies of the run, a route or a provider.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Scope {
    pub(super) name: String,
    pub(super) offered: u64,
    pub(super) published: u64,
    pub(super) accepted: u64,
    pub(super) dead: u64,
    pub(super) expired: u64,
    pub(super) superseded: u64,
    pub(super) retried: u64,
    pub(super) failed_over: u64,
    pub(super) rate_limited: u64,
    pub(super) duplicates: u64,
    pub(super) paused: u64,
    /// By part, in the order of a job's way.
    pub(super) latency: Vec<Latency>,
}

/// One part of the latency.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Latency {
    pub(super) part: &'static str,
    pub(super) meaning: &'static str,
    #[serde(flatten)]
    pub(super) percentiles: Percentiles,
}

/// An objective and its verdict.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Judged {
    pub(super) objective: String,
    /// What was measured, with its unit.
    pub(super) measured: String,
    /// The same as a number: milliseconds, jobs, percent, or jobs a second.
    pub(super) value: Option<f64>,
    pub(super) met: bool,
}

/// A percentile curve.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Curve {
    pub(super) part: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// The time series.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SeriesData {
    /// How long a bucket is, in seconds.
    pub(super) bucket_s: f64,
    pub(super) buckets: Vec<Point>,
}

impl Scope {
    /// Of a tally, with the parts that were measured in it.
    pub(super) fn of(name: &str, tally: &Tally) -> Self {
        let measured = Part::ALL.into_iter().filter(|part| tally.part(*part).count() > 0);
        Self {
            name: name.to_owned(),
            offered: tally.offered,
            published: tally.published,
            accepted: tally.accepted,
            dead: tally.dead,
            expired: tally.expired,
            superseded: tally.superseded,
            retried: tally.retried,
            failed_over: tally.failed_over,
            rate_limited: tally.rate_limited,
            duplicates: tally.duplicates,
            paused: tally.paused,
            latency: measured
                .map(|part| Latency {
                    part: part.as_str(),
                    meaning: part.meaning(),
                    percentiles: tally.part(part).percentiles(),
                })
                .collect(),
        }
    }

    /// The latencies of a part, where it was measured.
    pub(super) fn part(&self, part: Part) -> Option<&Percentiles> {
        self.latency.iter().find(|latency| latency.part == part.as_str()).map(|l| &l.percentiles)
    }
}

impl Ledger {
    /// Draws the line.
    pub(super) fn of(all: &Tally, waiting_in_lanes: Option<u64>) -> Self {
        let open = all.published.saturating_sub(all.ended());
        Self {
            offered: all.offered,
            published: all.published,
            unpublished: all.offered.saturating_sub(all.published),
            accepted: all.accepted,
            dead: all.dead,
            expired: all.expired,
            superseded: all.superseded,
            open,
            ended_twice: all.ended_twice,
            waiting_in_lanes,
            closes: open == 0 && all.ended_twice == 0,
        }
    }

    /// The equation, and whether it closes.
    pub(super) fn sentence(&self) -> String {
        let Self { published, accepted, dead, expired, superseded, open, ended_twice, .. } = self;
        let mut text = format!(
            "{published} published = {accepted} accepted + {dead} dead + {expired} expired + {superseded} superseded"
        );
        if *open > 0 {
            text.push_str(&format!(" + {open} open"));
        }
        if *ended_twice > 0 {
            text.push_str(&format!("; {ended_twice} ended twice"));
        }
        let closes = if self.closes { "The ledger closes" } else { "The ledger does not close" };
        format!("{closes}: {text}.")
    }
}

/// Judges the objectives. `seconds` is how long jobs were published; `too_many` the 429s that a mock counted,
/// which knows better than events do.
pub(super) fn judge(
    objectives: &[Objective],
    tracker: &Tracker,
    routes: &[super::plan::Share],
    seconds: f64,
    too_many: Option<u64>,
) -> Vec<Judged> {
    let judge = |objective: &Objective| {
        let place = objective.route.as_ref().and_then(|r| routes.iter().position(|share| share.name == *r));
        let tally = place.and_then(|place| tracker.routes.get(place)).unwrap_or(&tracker.all);
        let mut value = tally.measure(objective.what, seconds);
        if let (What::Count(super::parts::Count::RateLimited), None, Some(counted)) =
            (objective.what, place, too_many)
        {
            value = value.map(|value| value.max(counted as f64));
        }
        let (shown, measured) = match (objective.what, value) {
            (_, None) => (None, "not measured".to_owned()),
            (What::Latency(..), Some(us)) => (Some(ms(us)), format!("{} ms", millis(ms(us)))),
            (What::Count(_), Some(count)) => (Some(count), format!("{count:.0}")),
            (What::Share(_), Some(percent)) => (Some(round(percent, 3)), format!("{}%", round(percent, 3))),
            (What::AcceptedRate, Some(per_s)) => (Some(round(per_s, 3)), rate::show(per_s)),
        };
        let met = objective.is_met(value);
        Judged { objective: objective.to_string(), measured, value: shown, met }
    };
    objectives.iter().map(judge).collect()
}

/// Why a run does not pass, one sentence each.
pub(super) fn failures(
    judged: &[Judged],
    objectives: &[Objective],
    ledger: &Ledger,
    tracker: &Tracker,
    drain: Duration,
) -> Vec<String> {
    let missed = judged.iter().filter(|j| !j.met);
    let mut all: Vec<String> =
        missed.map(|j| format!("objective missed: {}, measured {}", j.objective, j.measured)).collect();
    let judged_by_objective = objectives.iter().any(Objective::is_about_open);
    if ledger.open > 0 && !judged_by_objective {
        let drain = humantime::format_duration(drain);
        all.push(format!(
            "jobs that had not ended {drain} after the last one was due: {}; still queued, or lost; --drain waits longer",
            ledger.open
        ));
    }
    if ledger.ended_twice > 0 {
        all.push(format!("jobs that ended more than once: {}", ledger.ended_twice));
    }
    if ledger.unpublished > 0 {
        let why = tracker.refusal.as_deref().unwrap_or("no confirm came");
        all.push(format!("jobs not published: {}; {why}", ledger.unpublished));
    }
    all
}

/// The curves of the parts that make up the latency, and of all of it.
pub(super) fn curves(all: &Tally) -> Vec<Curve> {
    [Part::Confirm, Part::Queued, Part::Permit, Part::Http, Part::Total]
        .into_iter()
        .filter(|part| all.part(*part).count() > 0)
        .map(|part| Curve { part: part.as_str(), points: all.part(part).curve() })
        .collect()
}

/// What a reader should know.
pub(super) fn notes(tracker: &Tracker, interrupted: bool, followed: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if interrupted {
        notes.push("The run was interrupted; it shows what was until then.".to_owned());
    }
    if !followed {
        notes.push("The events could not be followed to the end; ends may be missing.".to_owned());
    }
    if let Some(late) = tracker.all.part(Part::Late).percentile(99.0).filter(|us| *us > 20_000.0) {
        notes.push(format!(
            "The generator was late (p99 {} ms): this machine is too small for the rate, or busy. Latencies count from the intended time all the same.",
            millis(ms(late))
        ));
    }
    if tracker.too_early > 0 {
        notes.push(format!(
            "{} jobs were accepted before they were due, by the worker's clock: the clocks of the two machines differ, and `total` with them.",
            tracker.too_early
        ));
    }
    if tracker.foreign > 0 {
        notes.push(format!(
            "{} other jobs ended in the meantime: the lanes were not this run's alone.",
            tracker.foreign
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_says_what_is_missing() {
        let mut all = Tally::default();
        (all.offered, all.published, all.accepted, all.dead) = (10, 9, 6, 1);
        let open = Ledger::of(&all, None);
        assert_eq!((open.open, open.unpublished, open.closes), (2, 1, false));
        assert_eq!(
            open.sentence(),
            "The ledger does not close: 9 published = 6 accepted + 1 dead + 0 expired + 0 superseded + 2 open."
        );
        all.expired = 2;
        assert!(Ledger::of(&all, None).closes);
        all.ended_twice = 1;
        assert!(Ledger::of(&all, None).sentence().ends_with("; 1 ended twice."));
        assert!(!Ledger::of(&all, None).closes);
    }
}

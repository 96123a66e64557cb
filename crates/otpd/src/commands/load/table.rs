//! The report on a terminal.

use std::io;

use super::parts::Part;
use super::provider::{AtProvider, Window};
use super::report::{Report, Scope};
use super::spread::Percentiles;
use crate::output::{self, or_dash};

/// Prints it.
///
/// # Errors
/// Where standard output cannot be written to.
pub(super) fn show(report: &Report) -> io::Result<()> {
    let rows = report.all.latency.iter().map(|l| latency(l.part, &l.percentiles));
    output::line("")?;
    output::table(["ms", "count", "mean", "p50", "p90", "p95", "p99", "p99.9", "max"], rows)?;
    output::line("")?;
    let columns = [
        "by", "jobs", "accepted", "dead", "expired", "supers.", "retried", "moved", "429", "p50 ms",
        "p95 ms", "p99 ms",
    ];
    let routes = report.routes.iter().map(|s| scope("route", s));
    output::table(columns, routes.chain(report.providers.iter().map(|s| scope("provider", s))))?;
    if !report.at_provider.is_empty() {
        output::line("")?;
        at_provider(report)?;
    }
    if !report.dead_reasons.is_empty() {
        let all: Vec<String> = report.dead_reasons.iter().map(|(why, n)| format!("{n} {why}")).collect();
        output::line(&format!("\nDead letters: {}.", all.join(", ")))?;
    }
    if !report.objectives.is_empty() {
        output::line("")?;
        let rows = report.objectives.iter().map(|judged| {
            let verdict = if judged.met { "met" } else { "MISSED" };
            [judged.objective.clone(), judged.measured.clone(), verdict.to_owned()]
        });
        output::table(["objective", "measured", "verdict"], rows)?;
    }
    output::line("")?;
    for note in &report.notes {
        output::line(&format!("note: {note}"))?;
    }
    output::line(&report.ledger.sentence())?;
    for failure in &report.failures {
        output::line(&format!("failed: {failure}"))?;
    }
    let run = &report.run;
    let used =
        run.cores_used.map_or_else(String::new, |cores| format!(", {cores} cores used by this process"));
    let verdict = if report.passed { "PASSED" } else { "FAILED" };
    output::line(&format!(
        "{verdict}: {}, {:.1} s until the last job ended, seed {}{used}.",
        run.profile, run.took_s, run.seed
    ))
}

fn latency(name: &str, p: &Percentiles) -> [String; 9] {
    [
        name.to_owned(),
        p.count.to_string(),
        millis(p.mean_ms),
        millis(p.p50_ms),
        millis(p.p90_ms),
        millis(p.p95_ms),
        millis(p.p99_ms),
        millis(p.p999_ms),
        millis(p.max_ms),
    ]
}

fn scope(what: &str, scope: &Scope) -> [String; 12] {
    let total = scope.part(Part::Total);
    // A provider does not know how many jobs were published for it.
    let jobs = (what == "route").then_some(scope.published);
    [
        format!("{what} {}", scope.name),
        or_dash(jobs),
        scope.accepted.to_string(),
        scope.dead.to_string(),
        scope.expired.to_string(),
        scope.superseded.to_string(),
        scope.retried.to_string(),
        scope.failed_over.to_string(),
        scope.rate_limited.to_string(),
        or_dash(total.map(|p| millis(p.p50_ms))),
        or_dash(total.map(|p| millis(p.p95_ms))),
        or_dash(total.map(|p| millis(p.p99_ms))),
    ]
}

fn at_provider(report: &Report) -> io::Result<()> {
    let rows = at_provider_rows(report, or_dash);
    output::table(
        ["at the mock", "requests", "sent", "twice", "429", "limit", "fullest window", "used"],
        rows,
    )
}

/// What the mock counted, a row a window of each account; `shown` writes what may be missing.
pub(super) fn at_provider_rows(report: &Report, shown: fn(Option<String>) -> String) -> Vec<[String; 8]> {
    let windows = report.at_provider.iter().flat_map(|at| at.windows.iter().map(move |w| (at, w)));
    let row = |(at, w): (&AtProvider, &Window)| {
        [
            format!("{} {}", at.kind, at.account),
            at.requests.to_string(),
            at.accepted.to_string(),
            at.duplicates.to_string(),
            at.too_many.to_string(),
            shown(w.limit.clone()),
            format!("{} in {} s", w.most, w.seconds),
            shown(w.used_percent.map(|used| format!("{used}%"))),
        ]
    };
    windows.map(row).collect()
}

/// Milliseconds with as many decimals as are worth reading.
pub(super) fn millis(ms: f64) -> String {
    if ms >= 100.0 {
        format!("{ms:.0}")
    } else if ms >= 10.0 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.2}")
    }
}

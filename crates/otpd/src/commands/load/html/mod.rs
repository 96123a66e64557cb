//! The report as one page that needs nothing else: no script, no network, its style and drawings inside. It
//! follows the reader's light or dark, and is readable on a phone.

mod charts;
mod markup;
mod plot;
#[cfg(test)]
mod tests;

use std::fmt::Display;

use self::markup::Markup;
use super::parts::Part;
use super::report::{Report, Scope};
use super::spread::round;
use super::table::{at_provider_rows, millis};

const STYLE: &str = include_str!("style.css");

/// The page.
pub(super) fn page(report: &Report) -> String {
    let mut m = Markup::new();
    m.raw("<!doctype html>\n");
    m.element("html", &[("lang", &"en")], |m| {
        m.element("head", &[], |m| {
            m.raw("<meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
            let verdict = if report.passed { "passed" } else { "failed" };
            m.leaf("title", &[], format!("otpd load, {verdict}: {}", report.run.profile));
            m.element("style", &[], |m| {
                m.raw(STYLE);
            });
        });
        m.element("body", &[], |m| {
            m.element("main", &[], |m| body(m, report));
        });
    });
    m.raw("\n");
    m.into_string()
}

fn body(m: &mut Markup, report: &Report) {
    head(m, report);
    remarks(m, "remarks failures", &report.failures);
    remarks(m, "remarks", &report.notes);
    objectives(m, report);
    latency(m, report);
    m.leaf("h2", &[], "Over the run");
    m.element("div", &[("class", &"plots")], |m| {
        for chart in charts::all(report) {
            chart.show(m);
        }
    });
    scopes(m, report);
    at_provider(m, report);
    what_was_run(m, report);
    m.leaf("footer", &[], format!("otpd {}, otpd load", report.run.version));
}

fn head(m: &mut Markup, report: &Report) {
    let (run, ledger) = (&report.run, &report.ledger);
    m.element("header", &[], |m| {
        m.leaf("h1", &[], "otpd load");
        let (class, verdict) = if report.passed { ("passed", "Passed") } else { ("failed", "Failed") };
        m.leaf("span", &[("class", &format!("verdict {class}"))], verdict);
        m.leaf("p", &[], format!("{}. Target: {}. Began {}.", run.profile, run.target, run.began));
    });
    let total = report.all.part(Part::Total);
    let of_published = |count: u64| round(count as f64 / ledger.published.max(1) as f64 * 100.0, 2);
    let accepted_rate = round(report.all.accepted as f64 / run.took_s.max(0.001), 1);
    let limited: u64 =
        report.at_provider.iter().map(|at| at.too_many).sum::<u64>().max(report.all.rate_limited);
    m.element("dl", &[("class", &"figures")], |m| {
        let accepted = format!("{}%", of_published(ledger.accepted));
        figure(m, "Accepted", &accepted, &format!("{} of {} jobs", ledger.accepted, ledger.published));
        if let Some(total) = total {
            let rest = format!("p99 {} ms, max {} ms", millis(total.p99_ms), millis(total.max_ms));
            figure(m, "Median total latency", &format!("{} ms", millis(total.p50_ms)), &rest);
        }
        let ceiling = run.ceiling_per_s.map(|c| format!("ceiling {c}/s, ")).unwrap_or_default();
        figure(
            m,
            "Accepted a second",
            &accepted_rate.to_string(),
            &format!("{ceiling}over {:.1} s", run.took_s),
        );
        figure(m, "429 answers", &limited.to_string(), &format!("{} attempts retried", report.all.retried));
        let not_accepted = format!("{} expired, {} superseded", ledger.expired, ledger.superseded);
        figure(m, "Dead", &ledger.dead.to_string(), &not_accepted);
        let twice = format!("{} unpublished, {} ended twice", ledger.unpublished, ledger.ended_twice);
        figure(m, "Still open", &ledger.open.to_string(), &twice);
    });
    m.leaf("p", &[], ledger.sentence());
    if let Some(waiting) = ledger.waiting_in_lanes {
        m.leaf("p", &[("class", &"under")], format!("The queue counts {waiting} jobs waiting in all lanes."));
    }
}

fn figure(m: &mut Markup, name: &str, value: &str, more: &str) {
    m.element("div", &[], |m| {
        m.leaf("dt", &[], name);
        m.element("dd", &[], |m| {
            m.text(value);
            m.leaf("small", &[], more);
        });
    });
}

fn remarks(m: &mut Markup, class: &str, remarks: &[String]) {
    if !remarks.is_empty() {
        m.element("ul", &[("class", &class)], |m| {
            for remark in remarks {
                m.leaf("li", &[], remark);
            }
        });
    }
}

fn objectives(m: &mut Markup, report: &Report) {
    if report.objectives.is_empty() {
        return;
    }
    m.leaf("h2", &[], "Objectives");
    m.element("div", &[("class", &"scroll")], |m| {
        m.element("table", &[], |m| {
            m.element("thead", &[], |m| {
                m.element("tr", &[], |m| {
                    for head in ["objective", "measured", "verdict"] {
                        m.leaf("th", &[("scope", &"col")], head);
                    }
                });
            });
            m.element("tbody", &[], |m| {
                for judged in &report.objectives {
                    m.element("tr", &[], |m| {
                        m.leaf("th", &[("scope", &"row")], &judged.objective);
                        m.leaf("td", &[], &judged.measured);
                        let (class, verdict) =
                            if judged.met { ("passed", "✓ met") } else { ("failed", "✗ missed") };
                        m.leaf("td", &[("class", &class)], verdict);
                    });
                }
            });
        });
    });
}

fn latency(m: &mut Markup, report: &Report) {
    m.leaf("h2", &[], "Latency by part, in milliseconds");
    let rows: Vec<_> = report
        .all
        .latency
        .iter()
        .map(|l| {
            let p = &l.percentiles;
            let ms = |value| millis(value);
            [
                format!("{}\n{}", l.part, l.meaning),
                p.count.to_string(),
                ms(p.mean_ms),
                ms(p.p50_ms),
                ms(p.p90_ms),
                ms(p.p95_ms),
                ms(p.p99_ms),
                ms(p.p999_ms),
                ms(p.max_ms),
            ]
        })
        .collect();
    m.table(["part", "count", "mean", "p50", "p90", "p95", "p99", "p99.9", "max"], &rows);
    m.leaf(
        "p",
        &[("class", &"under")],
        "Jobs have times decided in advance, and latency counts from those: a queue that stalls is seen by every job that was due meanwhile. A job that needed one attempt took late + queued + permit + http; percentiles of parts do not add up. What the worker tells has whole milliseconds.",
    );
}

fn scopes(m: &mut Markup, report: &Report) {
    m.leaf("h2", &[], "By route and provider");
    let row = |what: &str, jobs: Option<u64>, s: &Scope| {
        let p99 = |part| dash(s.part(part).map(|p| millis(p.p99_ms)));
        [
            format!("{what} {}", s.name),
            dash(jobs),
            s.accepted.to_string(),
            s.dead.to_string(),
            s.expired.to_string(),
            s.superseded.to_string(),
            s.retried.to_string(),
            s.failed_over.to_string(),
            s.rate_limited.to_string(),
            dash(s.part(Part::Total).map(|p| millis(p.p50_ms))),
            p99(Part::Total),
            p99(Part::Queued),
            p99(Part::Permit),
            p99(Part::Http),
        ]
    };
    let mut rows: Vec<_> = report.routes.iter().map(|s| row("route", Some(s.published), s)).collect();
    rows.extend(report.providers.iter().map(|s| row("provider", None, s)));
    m.table(
        [
            "",
            "jobs",
            "accepted",
            "dead",
            "expired",
            "superseded",
            "retried",
            "moved on",
            "429",
            "total p50",
            "total p99",
            "queued p99",
            "permit p99",
            "http p99",
        ],
        &rows,
    );
    if !report.dead_reasons.is_empty() {
        let all: Vec<String> = report.dead_reasons.iter().map(|(why, n)| format!("{n} {why}")).collect();
        m.leaf("p", &[("class", &"under")], format!("Dead letters: {}.", all.join(", ")));
    }
}

fn at_provider(m: &mut Markup, report: &Report) {
    if report.at_provider.is_empty() {
        return;
    }
    m.leaf("h2", &[], "As the mock providers counted");
    let rows = at_provider_rows(report, dash);
    m.table(
        ["account", "requests", "sent", "sent twice", "429", "limit", "fullest window", "limit used"],
        &rows,
    );
    m.leaf(
        "p",
        &[("class", &"under")],
        "The fullest window is exact: the most requests in any sliding window of the limit's length.",
    );
}

fn what_was_run(m: &mut Markup, report: &Report) {
    let run = &report.run;
    m.leaf("h2", &[], "What was run");
    m.element("dl", &[("class", &"facts")], |m| {
        m.leaf("dt", &[], "Command");
        m.element("dd", &[], |m| {
            m.leaf("code", &[], &run.command);
        });
        let routes: Vec<String> =
            run.routes.iter().map(|(name, weight)| format!("{name} ({weight})")).collect();
        let mut fact = |name: &str, value: String| {
            m.leaf("dt", &[], name);
            m.leaf("dd", &[], value);
        };
        fact("Profile", run.profile.clone());
        fact("Routes and weights", routes.join(", "));
        fact("Codes valid for", run.ttl.clone().unwrap_or_else(|| "as each route says".to_owned()));
        fact("Seed", run.seed.to_string());
        fact("Target", run.target.clone());
        let ceilings: Vec<String> =
            run.ceilings.iter().map(|(name, rates)| format!("{name} {rates}")).collect();
        fact("Ceilings", if ceilings.is_empty() { "none".to_owned() } else { ceilings.join("; ") });
        let whose = if run.self_contained { ", worker and mock included" } else { "" };
        let used =
            run.cores_used.map_or_else(String::new, |cores| format!(", {cores} used by this process{whose}"));
        fact("Cores", format!("{}{used}", run.cores));
        fact("Peak memory", dash(run.peak_memory_mib.map(|mib| format!("{mib} MiB"))));
    });
    m.element("details", &[], |m| {
        m.leaf("summary", &[], "Config, secrets masked");
        m.leaf("pre", &[], &run.config);
    });
}

fn dash<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}

//! The page as a whole: whatever a report says, it is well formed, and everything is on it.

use super::super::report::{Curve, Judged, Latency, Ledger, Run, SeriesData};
use super::super::series::Point;
use super::super::spread::Percentiles;
use super::*;

fn scope(name: &str, parts: &[Part]) -> Scope {
    let percentiles =
        Percentiles { count: 7, p50_ms: 12.5, p99_ms: 80.0, max_ms: 90.0, ..Percentiles::default() };
    let latency = |part: &Part| Latency { part: part.as_str(), meaning: part.meaning(), percentiles };
    Scope {
        name: name.to_owned(),
        offered: 9,
        published: 8,
        accepted: 7,
        dead: 1,
        expired: 0,
        superseded: 0,
        retried: 2,
        failed_over: 0,
        rate_limited: 1,
        duplicates: 0,
        paused: 0,
        latency: parts.iter().map(latency).collect(),
    }
}

fn sample(text: &str, parts: &[Part], buckets: Vec<Point>) -> Report {
    Report {
        passed: false,
        failures: vec![text.to_owned()],
        notes: vec![text.to_owned()],
        run: Run {
            version: "0.1.0",
            began: "2026-11-21T09:00:00.000Z".to_owned(),
            published_for_s: 3.0,
            took_s: 3.4,
            command: text.to_owned(),
            profile: text.to_owned(),
            routes: vec![(text.to_owned(), 1.0)],
            ttl: None,
            seed: 1,
            target: text.to_owned(),
            ceilings: vec![(text.to_owned(), "50/s".to_owned())],
            ceiling_per_s: Some(50.0),
            config: text.to_owned(),
            cores: 2,
            cores_used: Some(0.5),
            peak_memory_mib: None,
            self_contained: true,
        },
        ledger: Ledger { published: 8, accepted: 7, dead: 1, closes: true, ..Ledger::default() },
        objectives: [true, false]
            .map(|met| Judged { objective: text.to_owned(), measured: text.to_owned(), value: None, met })
            .into(),
        all: scope(text, parts),
        routes: vec![scope(text, parts)],
        providers: vec![scope(text, parts)],
        at_provider: Vec::new(),
        dead_reasons: std::iter::once(("invalid_request", 1)).collect(),
        curves: parts
            .iter()
            .map(|part| Curve { part: part.as_str(), points: vec![(0.0, 1.0), (50.0, 12.5), (85.0, 80.0)] })
            .collect(),
        series: SeriesData { bucket_s: 1.0, buckets },
    }
}

fn bucket(at_s: f64) -> Point {
    let (p50_ms, p99_ms) = (Some(12.5), Some(80.0));
    Point {
        at_s,
        offered: 3,
        published: 3,
        accepted: 2,
        dead: 1,
        retried: 1,
        depth: 4,
        p50_ms,
        p99_ms,
        ..Point::default()
    }
}

#[test]
fn no_text_breaks_the_page_and_all_of_it_is_there() {
    let hostile = "</td><script>alert(1)</script> & \"quoted\" 'single'";
    let page = page(&sample(hostile, &Part::ALL, vec![bucket(0.0), bucket(1.0), bucket(2.0)]));
    assert_eq!(markup::is_well_formed(&page), Ok(()));
    assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"));
    for there in [
        "Failed",
        "Latency over time",
        "Latency distribution",
        "Where the time went",
        "Rates",
        "Outcomes",
        "Jobs open",
        "ceiling, 50/s",
        "What was run",
        "invalid_request",
        "✗ missed",
        "✓ met",
        "&lt;script&gt;",
    ] {
        assert!(page.contains(there), "{there} is missing");
    }
}

#[test]
fn a_run_without_anything_has_a_page_too() {
    let page = page(&sample("nothing", &[], Vec::new()));
    assert_eq!(markup::is_well_formed(&page), Ok(()));
    assert!(!page.contains("Latency over time") && page.contains("Rates"));
}

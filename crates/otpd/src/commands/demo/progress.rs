//! The demo as it runs: one bar a provider on a terminal, nothing where nobody watches.

use std::collections::BTreeMap;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use otpd_core::{Fact, FactKind};

use super::scene::Published;

/// The bars.
pub(crate) struct Progress {
    bars: BTreeMap<String, ProgressBar>,
    all: MultiProgress,
    first: std::cell::Cell<Option<Instant>>,
    begun: Instant,
}

impl Progress {
    /// One bar for each route's first provider.
    pub(crate) fn start(jobs: &[Published], begun: Instant) -> Self {
        let all = MultiProgress::new();
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for job in jobs {
            *counts.entry(lane(job.route.as_str()).to_owned()).or_default() += 1;
        }
        let style = ProgressStyle::with_template("{prefix:>12} {bar:32} {pos:>4}/{len:<4} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bars = counts
            .into_iter()
            .map(|(name, jobs)| {
                let bar = all.add(ProgressBar::new(jobs).with_style(style.clone()).with_prefix(name.clone()));
                (name, bar)
            })
            .collect();
        Self { bars, all, first: std::cell::Cell::new(None), begun }
    }

    /// Moves the bar of the fact's provider.
    pub(crate) fn saw(&self, fact: &Fact) {
        if fact.kind == FactKind::Accepted && self.first.get().is_none() {
            self.first.set(Some(Instant::now()));
            let _ = self.all.println(format!("first code sent {:.2?} after the start", self.begun.elapsed()));
        }
        let home = fact.route.as_ref().map_or(fact.provider.as_str(), |r| lane(r.as_str()));
        if let Some(bar) = self.bars.get(home) {
            if fact.is_end() {
                bar.inc(1);
            } else if fact.kind != FactKind::Sending {
                bar.set_message(format!("last: {}", fact.kind.as_str()));
            }
        }
    }

    /// Leaves the bars as they are.
    pub(crate) fn end(&self) {
        for bar in self.bars.values() {
            bar.abandon();
        }
    }
}

/// The lane a route of the demo begins in.
fn lane(route: &str) -> &str {
    if route == "login" { "verihubs" } else { route }
}

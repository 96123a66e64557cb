//! The run as it goes: one line that is drawn again on a terminal, a line every few seconds elsewhere.
//! To standard error, so that what is printed at the end can be piped.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::parts::Part;
use super::track::Tracker;
use crate::output;

/// How often a line is written where nothing can be drawn again.
const EVERY: Duration = Duration::from_secs(5);

/// The progress.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    duration: Duration,
    told: Duration,
}

impl Progress {
    /// Begins to show a run of this duration.
    pub(super) fn start(duration: Duration) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{elapsed_precise} {bar:24} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).with_style(style)
        });
        Self { bar, duration, told: Duration::ZERO }
    }

    /// Shows where the run is.
    pub(super) fn show(&mut self, now: Duration, tracker: &Tracker) {
        if let Some(bar) = &self.bar {
            bar.set_position(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
            bar.set_message(line(tracker));
        } else if now.saturating_sub(self.told) >= EVERY {
            self.told = now;
            let phase = if now > self.duration { "draining" } else { "running" };
            output::note(&format!("{:>5.0} s  {phase}  {}", now.as_secs_f64(), line(tracker)));
        }
    }

    /// Says something between the lines.
    pub(super) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => output::note(text),
        }
    }

    /// Leaves it as it is.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

fn line(tracker: &Tracker) -> String {
    let all = &tracker.all;
    let p99 = all.part(Part::Total).percentile(99.0);
    let p99 = p99.map_or_else(|| "-".to_owned(), |us| format!("{:.0} ms", us / 1000.0));
    let mut line = format!(
        "offered {}  published {}  accepted {}  open {}  p99 {p99}",
        all.offered,
        all.published,
        all.accepted,
        tracker.unsettled()
    );
    for (name, count) in [
        ("dead", all.dead),
        ("expired", all.expired),
        ("superseded", all.superseded),
        ("429", all.rate_limited),
    ] {
        if count > 0 {
            line.push_str(&format!("  {name} {count}"));
        }
    }
    line
}

//! What the demo came to, in one table a reader can check: jobs by outcome, requests by answer, where
//! the time went, and how much of each ceiling was used.

use std::time::Duration;

use otpd_core::{Class, Fact, FactKind};
use otpd_sim::Summary;
use otpd_sim::mock::Stats;
use serde::Serialize;

use crate::config::{Config, ProviderConfig};
use crate::output;

/// The whole report.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// One row a provider.
    pub(crate) providers: Vec<Row>,
    /// Jobs published.
    pub(crate) published: u64,
    /// Jobs a provider took.
    pub(crate) accepted: u64,
    /// Jobs that failed for good.
    pub(crate) dead: u64,
    /// Jobs whose code ran out.
    pub(crate) expired: u64,
    /// Jobs that a newer one replaced.
    pub(crate) superseded: u64,
    /// From the start of the process to the end of the last job, in seconds.
    pub(crate) seconds: f64,
}

/// One provider.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// Its name.
    pub(crate) provider: String,
    /// Its ceiling.
    pub(crate) ceiling: String,
    /// Jobs it took.
    pub(crate) sent: usize,
    /// Requests it answered with 429.
    pub(crate) too_many: usize,
    /// Attempts that another followed.
    pub(crate) retried: usize,
    /// Jobs that went on to the next provider.
    pub(crate) moved: usize,
    /// Dead letters.
    pub(crate) dead: usize,
    /// Milliseconds in the queue.
    pub(crate) queued: Spread,
    /// Milliseconds waiting for a permit.
    pub(crate) permit: Spread,
    /// Milliseconds from the permit to the answer.
    pub(crate) http: Spread,
    /// The most requests in any sliding window of the ceiling, counted by the provider.
    pub(crate) fullest: u64,
    /// Share of the ceiling that was used while jobs waited, in percent.
    pub(crate) used: f64,
}

/// A spread of milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Spread {
    /// The median.
    pub(crate) p50: u64,
    /// One of twenty is longer.
    pub(crate) p95: u64,
    /// One of a hundred is longer.
    pub(crate) p99: u64,
}

impl Spread {
    fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let at = |share: usize| {
            let place = (values.len() * share).div_ceil(100).saturating_sub(1);
            values.get(place).copied().unwrap_or_default()
        };
        Self { p50: at(50), p95: at(95), p99: at(99) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} / {} / {}", self.p50, self.p95, self.p99)
    }
}

impl Report {
    /// Counts.
    pub(crate) fn new(
        config: &Config,
        facts: &[Fact],
        stats: &Stats,
        summary: &Summary,
        took: Duration,
    ) -> Self {
        let providers = config.providers.iter().map(|provider| row(provider, facts, stats)).collect();
        Self {
            providers,
            published: summary.published,
            accepted: summary.accepted,
            dead: summary.dead,
            expired: summary.expired,
            superseded: summary.superseded,
            seconds: (took.as_secs_f64() * 100.0).round() / 100.0,
        }
    }

    /// Prints it.
    ///
    /// # Errors
    /// Where standard output cannot be written to.
    pub(crate) fn show(&self, as_json: bool) -> std::io::Result<()> {
        if as_json {
            return output::json(self);
        }
        let columns = [
            "provider",
            "ceiling",
            "sent",
            "429",
            "retried",
            "moved",
            "dead",
            "queued ms",
            "permit ms",
            "http ms",
            "fullest",
            "used",
        ];
        output::line("")?;
        output::table(columns, self.providers.iter().map(Row::cells))?;
        output::line("")?;
        output::line(
            "ms: p50 / p95 / p99. fullest: most requests in any window of the ceiling, counted by the provider.",
        )?;
        output::line(
            "used: share of the ceiling until 4/5 of the requests had left; the rest waits for retries.",
        )?;
        output::line(&format!(
            "The ledger closes: {} published = {} accepted + {} dead + {} expired + {} superseded, in {:.1} s.",
            self.published, self.accepted, self.dead, self.expired, self.superseded, self.seconds
        ))
    }
}

impl Row {
    fn cells(&self) -> [String; 12] {
        [
            self.provider.clone(),
            self.ceiling.clone(),
            self.sent.to_string(),
            self.too_many.to_string(),
            self.retried.to_string(),
            self.moved.to_string(),
            self.dead.to_string(),
            self.queued.to_string(),
            self.permit.to_string(),
            self.http.to_string(),
            self.fullest.to_string(),
            format!("{:.1}%", self.used),
        ]
    }
}

fn row(provider: &ProviderConfig, facts: &[Fact], stats: &Stats) -> Row {
    let own: Vec<&Fact> = facts.iter().filter(|f| f.provider == provider.name).collect();
    let count = |kind: FactKind| own.iter().filter(|f| f.kind == kind).count();
    let spread = |part: fn(&otpd_core::fact::Timings) -> u64| {
        Spread::of(own.iter().filter_map(|f| f.timings.as_ref()).map(part).collect())
    };
    let account = stats.accounts.iter().find(|a| a.kind.as_str() == provider.kind.as_str() && a.attempts > 0);
    let rate = provider.ceiling.first();
    Row {
        provider: provider.name.to_string(),
        ceiling: rate.map_or_else(|| "none".to_owned(), ToString::to_string),
        sent: count(FactKind::Accepted),
        too_many: own.iter().filter(|f| f.class == Some(Class::RateLimited)).count(),
        retried: count(FactKind::Retrying),
        moved: count(FactKind::FailedOver),
        dead: count(FactKind::Dead),
        queued: spread(|t| t.queued_ms),
        permit: spread(|t| t.permit_ms),
        http: spread(|t| t.http_ms),
        fullest: account.and_then(|a| rate.and_then(|r| a.most_in(r.per))).unwrap_or_default(),
        used: rate.map_or(0.0, |r| used(&own, *r)),
    }
}

/// The share of the ceiling used until four fifths of the requests had left: after that the queue is
/// empty and only retries come.
fn used(facts: &[&Fact], rate: otpd_core::Rate) -> f64 {
    let mut sent: Vec<u64> = facts.iter().filter_map(|f| f.sent_at).map(|at| at.0).collect();
    sent.sort_unstable();
    sent.truncate(sent.len() * 4 / 5);
    let (Some(first), Some(last)) = (sent.first(), sent.last()) else { return 0.0 };
    let span = Duration::from_millis(last - first).max(rate.per).as_secs_f64();
    let share = f64::from(u32::try_from(sent.len()).unwrap_or(u32::MAX)) / (rate.per_second() * span);
    (share.min(1.0) * 1000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_nearest_ranks() {
        assert_eq!(Spread::of((1..=100).collect()), Spread { p50: 50, p95: 95, p99: 99 });
        assert_eq!(Spread::of(vec![7]), Spread { p50: 7, p95: 7, p99: 7 });
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }
}

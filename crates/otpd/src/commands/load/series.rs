//! What happened when: one bucket a second, wider for long runs, so that memory does not grow with them.
//!
//! A bucket counts what happened in it, but for latencies: those belong to the bucket of the job's intended
//! time, because that is when somebody pressed the button.

use std::time::Duration;

use otpd_core::FactKind;
use serde::Serialize;

use super::spread::{Spread, ms};

/// The most buckets.
const MOST: u32 = 600;
/// Up to this duration buckets are a quarter of a second.
const SHORT: Duration = Duration::from_secs(20);
const S: u64 = 1000;
/// The widths of buckets, in milliseconds.
const WIDTHS: [u64; 8] = [S, 2 * S, 5 * S, 10 * S, 30 * S, 60 * S, 300 * S, 900 * S];

/// All buckets.
#[derive(Clone, Debug)]
pub(super) struct Series {
    width: Duration,
    buckets: Vec<Bucket>,
}

/// What happened in a bucket's time.
#[derive(Clone, Debug, Default)]
struct Bucket {
    offered: u32,
    published: u32,
    requests: u32,
    accepted: u32,
    dead: u32,
    expired: u32,
    superseded: u32,
    retried: u32,
    latency: Spread,
    spent: Spent,
}

/// Where accepted jobs spent their time: sums, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    pub(super) queued: u64,
    pub(super) permit: u64,
    pub(super) http: u64,
    /// All of it, publishing and earlier attempts included.
    pub(super) total: u64,
}

/// Something that is counted in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tick {
    /// A job was due.
    Offered,
    /// The queue confirmed a job.
    Published,
    /// A request was written to a provider.
    Request,
    /// Something was told about a job.
    Fact(FactKind),
}

/// A bucket as plots and JSON show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Point {
    /// When it begins, in seconds from the start of the run.
    pub(super) at_s: f64,
    pub(super) offered: u32,
    pub(super) published: u32,
    pub(super) requests: u32,
    pub(super) accepted: u32,
    pub(super) dead: u32,
    pub(super) expired: u32,
    pub(super) superseded: u32,
    pub(super) retried: u32,
    /// Jobs published and not ended, at its end.
    pub(super) depth: u64,
    /// Of the jobs that were due in it: from then to their acceptance. Absent where none was accepted.
    pub(super) p50_ms: Option<f64>,
    pub(super) p95_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) max_ms: Option<f64>,
    /// Their means by part; what is left of `mean_ms` is publishing, earlier attempts and their waits.
    pub(super) mean_queued_ms: Option<f64>,
    pub(super) mean_permit_ms: Option<f64>,
    pub(super) mean_http_ms: Option<f64>,
    pub(super) mean_ms: Option<f64>,
}

impl Series {
    /// Buckets for a run of this duration that may take `drain` longer.
    pub(super) fn new(duration: Duration, drain: Duration) -> Self {
        let all = duration.saturating_add(drain);
        let fits = |width: &&u64| all <= Duration::from_millis(**width) * MOST;
        let width = if duration <= SHORT && all <= Duration::from_millis(250) * MOST {
            250
        } else {
            WIDTHS.iter().find(fits).copied().unwrap_or(900 * S)
        };
        Self { width: Duration::from_millis(width), buckets: Vec::new() }
    }

    /// How long a bucket is.
    pub(super) fn width(&self) -> Duration {
        self.width
    }

    /// Something happened, so long after the start.
    pub(super) fn count(&mut self, tick: Tick, at: Duration) {
        let Some(bucket) = self.bucket(at) else { return };
        let counter = match tick {
            Tick::Offered => &mut bucket.offered,
            Tick::Published => &mut bucket.published,
            Tick::Request => &mut bucket.requests,
            Tick::Fact(FactKind::Accepted) => &mut bucket.accepted,
            Tick::Fact(FactKind::Dead) => &mut bucket.dead,
            Tick::Fact(FactKind::Expired) => &mut bucket.expired,
            Tick::Fact(FactKind::Superseded) => &mut bucket.superseded,
            Tick::Fact(FactKind::Retrying) => &mut bucket.retried,
            Tick::Fact(
                FactKind::FailedOver
                | FactKind::Duplicate
                | FactKind::Sending
                | FactKind::Paused
                | FactKind::Resumed
                | FactKind::Delivery(_)
                | FactKind::Verified,
            ) => return,
        };
        *counter = counter.saturating_add(1);
    }

    /// A job that was due then was accepted, after `spent.total`.
    pub(super) fn latency(&mut self, due: Duration, spent: Spent) {
        let Some(bucket) = self.bucket(due) else { return };
        bucket.latency.record_with(spent.total, 2);
        let sums = &mut bucket.spent;
        let parts = [
            (&mut sums.queued, spent.queued),
            (&mut sums.permit, spent.permit),
            (&mut sums.http, spent.http),
            (&mut sums.total, spent.total),
        ];
        for (sum, part) in parts {
            *sum = sum.saturating_add(part);
        }
    }

    fn bucket(&mut self, at: Duration) -> Option<&mut Bucket> {
        let place = usize::try_from(at.as_millis() / self.width.as_millis().max(1)).unwrap_or(usize::MAX);
        // What is later than any run may be (a wrong clock) counts for the last bucket.
        let place = place.min(MOST as usize + 1);
        if place >= self.buckets.len() {
            self.buckets.resize_with(place + 1, Bucket::default);
        }
        self.buckets.get_mut(place)
    }

    /// All buckets, in order.
    pub(super) fn points(&self) -> Vec<Point> {
        let mut depth = 0u64;
        let mut at = Duration::ZERO;
        let point = |b: &Bucket| {
            let ended = b.accepted + b.dead + b.expired + b.superseded;
            depth = (depth + u64::from(b.published)).saturating_sub(u64::from(ended));
            let begins = at;
            at += self.width;
            let percentile = |percent| b.latency.percentile(percent).map(ms);
            let count = b.latency.count();
            let mean = |sum: u64| (count > 0).then(|| ms(sum as f64 / count as f64));
            Point {
                at_s: begins.as_secs_f64(),
                offered: b.offered,
                published: b.published,
                requests: b.requests,
                accepted: b.accepted,
                dead: b.dead,
                expired: b.expired,
                superseded: b.superseded,
                retried: b.retried,
                depth,
                p50_ms: percentile(50.0),
                p95_ms: percentile(95.0),
                p99_ms: percentile(99.0),
                max_ms: b.latency.max().map(ms),
                mean_queued_ms: mean(b.spent.queued),
                mean_permit_ms: mean(b.spent.permit),
                mean_http_ms: mean(b.spent.http),
                mean_ms: mean(b.spent.total),
            }
        };
        self.buckets.iter().map(point).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_few_however_long_the_run() {
        let s = Duration::from_secs;
        for (duration, drain, width_ms) in [
            (s(3), s(30), 250),
            (s(20), s(600), 2000),
            (s(21), s(30), 1000),
            (s(570), s(30), 1000),
            (s(600), s(30), 2000),
            (s(86_400), s(86_400), 300_000),
        ] {
            let mut series = Series::new(duration, drain);
            assert_eq!(series.width(), Duration::from_millis(width_ms), "{duration:?} and {drain:?}");
            series.count(Tick::Offered, duration + drain);
            assert!(series.points().len() <= 602);
            series.count(Tick::Offered, Duration::MAX);
            assert!(series.points().len() <= 602);
        }
    }

    #[test]
    fn counts_depth_and_latency() {
        let mut series = Series::new(Duration::from_secs(60), Duration::ZERO);
        let at = Duration::from_millis;
        for _ in 0..3 {
            series.count(Tick::Offered, at(100));
            series.count(Tick::Published, at(200));
        }
        series.count(Tick::Fact(FactKind::Accepted), at(1_100));
        series.count(Tick::Fact(FactKind::Retrying), at(1_200));
        series.count(Tick::Fact(FactKind::Dead), at(2_900));
        let spent = Spent { queued: 1_000, permit: 940_000, http: 50_000, total: 1_000_000 };
        series.latency(at(100), spent);
        series.latency(at(150), Spent { permit: 0, ..spent });
        let points = series.points();
        let depths: Vec<u64> = points.iter().map(|p| p.depth).collect();
        assert_eq!(depths, [3, 2, 1]);
        assert_eq!((points[1].accepted, points[1].retried, points[2].dead), (1, 1, 1));
        assert_eq!((points[0].offered, points[0].published, points[1].p50_ms), (3, 3, None));
        let p50 = points[0].p50_ms.unwrap();
        assert!((p50 - 1000.0).abs() < 10.0, "{p50}");
        let means =
            [points[0].mean_queued_ms, points[0].mean_permit_ms, points[0].mean_http_ms, points[0].mean_ms];
        assert_eq!(means, [Some(1.0), Some(470.0), Some(50.0), Some(1000.0)]);
    }
}

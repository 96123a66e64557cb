//! Counts and latencies of one scope: the whole run, a route, or a provider. Memory does not grow with the run.

use otpd_core::{Class, Fact, FactKind};

use super::objective::{Stat, What};
use super::parts::{Count, Part};
use super::spread::Spread;

/// Counts and latencies.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Jobs that were due.
    pub(super) offered: u64,
    /// Jobs that the queue has, or had.
    pub(super) published: u64,
    pub(super) accepted: u64,
    pub(super) dead: u64,
    pub(super) expired: u64,
    pub(super) superseded: u64,
    pub(super) retried: u64,
    pub(super) failed_over: u64,
    pub(super) rate_limited: u64,
    pub(super) ended_twice: u64,
    /// Copies dropped because their id was known.
    pub(super) duplicates: u64,
    /// How often the provider was left alone for a while.
    pub(super) paused: u64,
    /// Jobs accepted before the last one was published.
    pub(super) accepted_in_time: u64,
    parts: [Spread; Part::ALL.len()],
}

impl Tally {
    /// The latencies of a part.
    pub(super) fn part(&self, part: Part) -> &Spread {
        let [late, confirm, queued, permit, http, total, told] = &self.parts;
        match part {
            Part::Late => late,
            Part::Confirm => confirm,
            Part::Queued => queued,
            Part::Permit => permit,
            Part::Http => http,
            Part::Total => total,
            Part::Told => told,
        }
    }

    /// Takes a latency.
    pub(super) fn record(&mut self, part: Part, us: u64) {
        let [late, confirm, queued, permit, http, total, told] = &mut self.parts;
        let spread = match part {
            Part::Late => late,
            Part::Confirm => confirm,
            Part::Queued => queued,
            Part::Permit => permit,
            Part::Http => http,
            Part::Total => total,
            Part::Told => told,
        };
        spread.record(us);
    }

    /// Counts what a fact says; ends only where the job has not ended before.
    pub(super) fn count(&mut self, fact: &Fact) {
        self.rate_limited += u64::from(is_rate_limited(fact));
        if fact.kind.is_final() && fact.extra {
            return; // the job was accepted before
        }
        match fact.kind {
            FactKind::Accepted => self.accepted += 1,
            FactKind::Dead => self.dead += 1,
            FactKind::Expired => self.expired += 1,
            FactKind::Superseded => self.superseded += 1,
            FactKind::Retrying => self.retried += 1,
            FactKind::FailedOver => self.failed_over += 1,
            FactKind::Duplicate => self.duplicates += 1,
            FactKind::Paused => self.paused += 1,
            FactKind::Sending | FactKind::Resumed | FactKind::Delivery(_) | FactKind::Verified => {}
        }
        if let Some(timings) = fact.timings {
            self.record(Part::Queued, timings.queued_ms.saturating_mul(1000));
            self.record(Part::Permit, timings.permit_ms.saturating_mul(1000));
            self.record(Part::Http, timings.http_ms.saturating_mul(1000));
        }
    }

    /// Jobs that ended, once each.
    pub(super) fn ended(&self) -> u64 {
        self.accepted + self.dead + self.expired + self.superseded
    }

    /// What is counted under this name.
    pub(super) fn get(&self, count: Count) -> u64 {
        match count {
            Count::Accepted => self.accepted,
            Count::Dead => self.dead,
            Count::Expired => self.expired,
            Count::Superseded => self.superseded,
            Count::Open => self.published.saturating_sub(self.ended()),
            Count::Unpublished => self.offered.saturating_sub(self.published),
            Count::Retried => self.retried,
            Count::FailedOver => self.failed_over,
            Count::RateLimited => self.rate_limited,
            Count::EndedTwice => self.ended_twice,
        }
    }

    /// What an objective asks for, in its unit; `None` where nothing was measured. `seconds` is how long
    /// jobs were published.
    pub(super) fn measure(&self, what: What, seconds: f64) -> Option<f64> {
        match what {
            What::Latency(stat, part) => {
                let spread = self.part(part);
                match stat {
                    Stat::Percentile(percent) => spread.percentile(percent),
                    Stat::Max => spread.max(),
                    Stat::Mean => spread.mean(),
                }
            }
            What::Count(count) => (self.offered > 0).then(|| self.get(count) as f64),
            What::Share(count) => {
                (self.published > 0).then(|| self.get(count) as f64 / self.published as f64 * 100.0)
            }
            What::AcceptedRate => (seconds > 0.0).then(|| self.accepted_in_time as f64 / seconds),
        }
    }
}

/// Whether an attempt was answered with 429 or one of its relatives.
fn is_rate_limited(fact: &Fact) -> bool {
    tells_an_answer(fact.kind) && fact.class == Some(Class::RateLimited)
}

/// Whether a fact of this kind is the one that tells of an attempt's answer, where there was an attempt. Each
/// answer is told once; a pause is told beside it, with the job that met it.
pub(super) const fn tells_an_answer(kind: FactKind) -> bool {
    match kind {
        FactKind::Accepted
        | FactKind::Retrying
        | FactKind::FailedOver
        | FactKind::Dead
        | FactKind::Expired
        | FactKind::Superseded => true,
        FactKind::Duplicate
        | FactKind::Sending
        | FactKind::Paused
        | FactKind::Resumed
        | FactKind::Delivery(_)
        | FactKind::Verified => false,
    }
}

//! What a lane is told: valid values, made once from the config.

use std::sync::Arc;
use std::time::Duration;

use otpd_core::{
    Fact, JobKeys, OnAmbiguous, ProviderName, Rate, RecipientHasher, RetryPolicy, RouteTable, SendJob, UnixMs,
};

use crate::board::Board;
use crate::memory::Memory;

/// The most deliveries a lane holds.
pub const MOST_HELD: u16 = 10_000;

/// One lane's own settings.
#[derive(Clone, Debug)]
pub struct LaneSettings {
    /// Whose lane.
    pub provider: ProviderName,
    /// Its limits; none: no ceiling.
    pub ceiling: Vec<Rate>,
    /// The most requests at one moment.
    pub burst: Option<u32>,
    /// The most requests under way, at least 1.
    pub max_in_flight: usize,
    /// What to do with sends that nobody can tell about.
    pub on_ambiguous: OnAmbiguous,
}

/// What all lanes share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// All routes.
    pub routes: Arc<RouteTable>,
    /// When to retry.
    pub retry: RetryPolicy,
    /// Whether dead letters keep the code.
    pub keep_code: bool,
    /// How recipients are known.
    pub recipients: RecipientKeys,
    /// What the lanes of this process know of jobs and of each other's requests.
    pub memory: Arc<Memory>,
    /// How busy the lanes of this process are.
    pub board: Arc<Board>,
}

/// How recipients are known beside their numbers.
#[derive(Clone, Debug)]
pub enum RecipientKeys {
    /// By keys that no other process understands: facts do not tell them.
    Private(RecipientHasher),
    /// By keys that all workers make alike, told in facts.
    OfTheFleet(RecipientHasher),
}

impl RecipientKeys {
    /// Of this process alone, made anew at each start.
    #[must_use]
    pub fn private() -> Self {
        Self::Private(RecipientHasher::new(&rand::random::<[u8; 32]>()))
    }

    /// The keys of a job.
    pub(crate) fn of(&self, job: &SendJob) -> JobKeys {
        let (Self::Private(hasher) | Self::OfTheFleet(hasher)) = self;
        hasher.keys(job.to, &job.purpose)
    }

    /// The fact as other workers are to read it.
    pub(crate) fn tell(&self, fact: Fact, keys: JobKeys, created_at: UnixMs) -> Fact {
        match self {
            Self::Private(_) => fact,
            Self::OfTheFleet(_) => fact.keyed(keys, created_at),
        }
    }
}

impl LaneSettings {
    /// How many deliveries the lane takes: what the ceiling can send within the longest validity of
    /// its routes, so that the whole live backlog can be superseded and expired; without a ceiling,
    /// enough to keep its requests busy.
    #[must_use]
    pub fn prefetch(&self, routes: &RouteTable) -> u16 {
        let ttl = routes
            .all()
            .into_iter()
            .filter(|r| r.providers.contains(&self.provider))
            .map(|r| r.ttl)
            .max()
            .unwrap_or(Duration::from_secs(300));
        let slowest = self.ceiling.iter().map(|r| r.per_second()).min_by(f64::total_cmp);
        let wanted = match slowest {
            Some(per_second) => per_second * ttl.as_secs_f64(),
            None => 4.0 * self.max_in_flight as f64,
        };
        // A float below 10,000, so the cast is exact.
        wanted.clamp(100.0, f64::from(MOST_HELD)) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefetch_covers_the_live_backlog() {
        let provider = ProviderName::parse("p").unwrap();
        let routes = RouteTable::new([provider.clone()], []);
        for (ceiling, in_flight, prefetch) in
            [("10/s", 500, 3000), ("50/s", 500, 10_000), ("1/min", 500, 100), ("", 500, 2000), ("", 1, 100)]
        {
            let settings = LaneSettings {
                provider: provider.clone(),
                ceiling: ceiling.parse().into_iter().collect(),
                burst: None,
                max_in_flight: in_flight,
                on_ambiguous: OnAmbiguous::default(),
            };
            assert_eq!(settings.prefetch(&routes), prefetch, "{ceiling}");
        }
    }
}

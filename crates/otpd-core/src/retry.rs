//! How long to wait before trying again: exponential, jittered, bounded. The `backoff` crate keeps
//! the schedule; the jitter is ours because chance is an argument here. To swap the crate, this is
//! the one file.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

/// Most attempts a policy may allow.
pub const MAX_ATTEMPTS: u32 = 100;

/// When and how often to retry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// The wait after the first failure.
    pub initial: Duration,
    /// By how much each further wait is longer, at least 1.
    pub multiplier: f64,
    /// The longest wait, jitter included.
    pub max: Duration,
    /// How many requests a job may cost in all, over all its providers; 1 to 100.
    pub max_attempts: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(500),
            multiplier: 2.0,
            max: Duration::from_secs(30),
            max_attempts: 6,
        }
    }
}

impl RetryPolicy {
    /// The wait after `failed` failures (1 is the first). `jitter` in `0.0..1.0` spreads it evenly
    /// over ±25 % so that jobs that failed together do not come back together.
    #[must_use]
    pub fn delay(&self, failed: u32, jitter: f64) -> Duration {
        let mut schedule = ExponentialBackoff {
            current_interval: self.initial.min(self.max),
            initial_interval: self.initial,
            randomization_factor: 0.0,
            multiplier: self.multiplier.max(1.0),
            max_interval: self.max,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        let mut delay = self.initial;
        for _ in 0..failed.clamp(1, MAX_ATTEMPTS) {
            delay = schedule.next_backoff().unwrap_or(self.max);
        }
        delay.mul_f64(0.75 + 0.5 * jitter.clamp(0.0, 1.0)).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doubles_up_to_the_most() {
        let policy = RetryPolicy::default();
        let delays: Vec<u128> = (1..=8).map(|n| policy.delay(n, 0.5).as_millis()).collect();
        assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    }

    proptest! {
        #[test]
        fn stays_in_bounds(initial in 1u64..5_000, multiplier in 0.0f64..10.0, max in 1u64..60_000, n in 0u32..2_000, jitter in 0.0f64..1.0) {
            let policy = RetryPolicy { initial: Duration::from_millis(initial), multiplier, max: Duration::from_millis(max), max_attempts: 6 };
            let delay = policy.delay(n, jitter);
            prop_assert!(delay <= policy.max);
            prop_assert!(delay >= policy.initial.min(policy.max).mul_f64(0.74));
        }
    }
}

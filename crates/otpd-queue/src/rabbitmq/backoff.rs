//! How long to wait before the broker is asked again: 0.2 s to 10 s, longer each time, spread by
//! chance so that a fleet does not come back all at once. Chance is an argument.

use std::time::Duration;

/// The shortest wait.
pub(super) const SHORTEST: Duration = Duration::from_millis(200);
/// The longest wait.
pub(super) const LONGEST: Duration = Duration::from_secs(10);

/// A row of waits.
#[derive(Debug)]
pub(super) struct Backoff {
    ceiling: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { ceiling: SHORTEST }
    }
}

impl Backoff {
    /// The next wait; `chance` is 0.0 to 1.0.
    pub(super) fn next(&mut self, chance: f64) -> Duration {
        let wait = SHORTEST + (self.ceiling - SHORTEST).mul_f64(chance.clamp(0.0, 1.0));
        self.ceiling = (self.ceiling * 2).min(LONGEST);
        wait
    }

    /// Waits for the next wait.
    pub(super) async fn pause(&mut self) {
        let wait = self.next(rand::random_range(0.0..1.0));
        tokio::time::sleep(wait).await;
    }

    /// Begins the row again: something went well.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_ten_seconds_and_begins_again() {
        let mut backoff = Backoff::default();
        let longest: Vec<u128> = (0..8).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(longest, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.next(0.0), SHORTEST);
        backoff.reset();
        assert_eq!(backoff.next(1.0), SHORTEST);
    }
}

//! When the broker last showed that it still knows a lane's consumer: the right to send has a time.
//!
//! A process that was frozen wakes with its connections seemingly intact: the news that they are gone waits
//! behind whatever else it does first. So a lane looks at the time of the last answer before it sends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How old the last answer may be.
pub const FRESH: Duration = Duration::from_secs(3);

/// The last sign of life on a lane's consuming channel. Until the first one is told it is always fresh: an
/// embedded queue cannot lose its lane.
#[derive(Clone, Debug, Default)]
pub struct Alive(Arc<AtomicU64>);

/// Milliseconds since this process first asked, from 1.
fn millis(at: Instant) -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = *ORIGIN.get_or_init(Instant::now);
    u64::try_from(at.saturating_duration_since(origin).as_millis()).unwrap_or(u64::MAX - 1) + 1
}

impl Alive {
    /// A question that was asked at `asked_at` was answered.
    pub fn heard(&self, asked_at: Instant) {
        self.0.fetch_max(millis(asked_at), Ordering::Relaxed);
    }

    /// True if the last answer is no older than [`FRESH`] at `now`.
    #[must_use]
    pub fn is_fresh(&self, now: Instant) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        let most = u64::try_from(FRESH.as_millis()).unwrap_or(u64::MAX);
        last == 0 || millis(now).saturating_sub(last) <= most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_stale_unless_it_is_heard_of() {
        let (alive, now) = (Alive::default(), Instant::now());
        let after = |ms| now + Duration::from_millis(ms);
        assert!(alive.is_fresh(after(60_000)), "nothing to lose");
        alive.heard(now);
        assert!(alive.is_fresh(after(2_900)) && !alive.is_fresh(after(3_100)));
        alive.heard(after(2_000));
        alive.heard(after(500));
        assert!(alive.is_fresh(after(4_900)), "an earlier question answered later changes nothing");
    }
}

//! When to warn of recipients that were forgotten too early: a limit that is not kept has to be told, and a full
//! memory forgets hundreds a second. Pure.

use std::time::Duration;

use otpd_core::Mono;

/// How often it is told at most.
const EVERY: Duration = Duration::from_secs(60);

/// How many were told of, and when.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    told: u64,
    told_at: Option<Mono>,
}

impl Forgotten {
    /// How many more are to be told of now, where `all` were forgotten so far.
    pub(crate) fn untold(&mut self, all: u64, now: Mono) -> Option<u64> {
        let more = all.saturating_sub(self.told);
        if more == 0 || self.told_at.is_some_and(|at| now.since(at) < EVERY) {
            return None;
        }
        (self.told, self.told_at) = (all, Some(now));
        Some(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_at_once_and_then_once_a_minute() {
        let mut forgotten = Forgotten::default();
        for (at, all, is) in [
            (0, 0, None),
            (1, 3, Some(3)),
            (2, 4, None),
            (60, 90, None),
            (61, 90, Some(87)),
            (130, 90, None),
            (131, 91, Some(1)),
        ] {
            let now = Mono::default().plus(Duration::from_secs(at));
            assert_eq!(forgotten.untold(all, now), is, "at {at} s");
        }
    }
}

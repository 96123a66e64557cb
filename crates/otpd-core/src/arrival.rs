//! When did a request arrive? Nobody tells, but the answer bounds it: it arrived before its answer left.
//! As long as an answer takes as long as answers usually take, the request is taken to have arrived
//! when it was written. One that takes longer may have been on its way for long (a lost packet is sent
//! again after 0.2 to 1 s), and is dated as late as the quickest answer allows.
//!
//! "Usually" is learned: the mean and four mean deviations, much as TCP does it (RFC 6298), and at least
//! 5 ms above the mean. One answer teaches at most twice what was usual before, so that a cluster of
//! losses stays unusual while a provider that becomes slow is learned within some dozens of answers.
//! What left before anything was learned is dated from its answer.

use std::time::Duration;

use crate::clock::Mono;

/// How many answers make a judgement.
const ENOUGH: u32 = 8;
/// After how many answers the quickest is looked for anew.
const QUICKEST_OF: u32 = 512;
/// What one answer weighs.
const GAIN: f64 = 1.0 / 16.0;
/// The least distance from the mean that is unusual.
const LEAST_SPREAD: Duration = Duration::from_millis(5);

/// What was learned from the answers of one provider.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answers {
    seen: u32,
    mean: f64,
    deviation: f64,
    quickest: f64,
    /// The quickest of the answers since `seen` was last a multiple of [`QUICKEST_OF`].
    quickest_lately: f64,
}

impl Answers {
    /// How long answers usually take at most; `None` before enough have come.
    #[must_use]
    pub fn usual(&self) -> Option<Duration> {
        let spread = (4.0 * self.deviation).max(LEAST_SPREAD.as_secs_f64());
        (self.seen >= ENOUGH).then(|| Duration::from_secs_f64(self.mean + spread))
    }

    /// The time at which a request that was written at `written`, and ended at `ended` with or
    /// without an answer, had arrived at the latest. `unjudged`: it left before anything was learned.
    pub fn arrival(&mut self, written: Mono, ended: Mono, answered: bool, unjudged: bool) -> Mono {
        if !answered {
            return ended;
        }
        let took = ended.since(written);
        let arrived = match self.usual() {
            _ if unjudged => ended,
            None => ended,
            Some(usual) if took <= usual => written,
            Some(_) => written.plus(took.saturating_sub(Duration::from_secs_f64(self.quickest))),
        };
        let most = self.usual().map_or(f64::INFINITY, |usual| 2.0 * usual.as_secs_f64());
        self.learn(took.as_secs_f64().min(most));
        arrived
    }

    fn learn(&mut self, took: f64) {
        if self.seen == 0 {
            (self.mean, self.deviation) = (took, took / 2.0);
            (self.quickest, self.quickest_lately) = (took, took);
        } else {
            self.deviation += ((took - self.mean).abs() - self.deviation) * GAIN;
            self.mean += (took - self.mean) * GAIN;
            self.quickest_lately = self.quickest_lately.min(took);
            self.quickest = self.quickest.min(took);
        }
        self.seen = self.seen.saturating_add(1);
        if self.seen.is_multiple_of(QUICKEST_OF) {
            self.quickest = self.quickest_lately;
            self.quickest_lately = took;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Mono = Mono(1_000_000_000_000);

    fn after(ms: u64) -> Mono {
        AT.plus(Duration::from_millis(ms))
    }

    #[test]
    fn usual_answers_date_from_the_writing_and_late_ones_from_the_answer() {
        let mut answers = Answers::default();
        for _ in 0..ENOUGH {
            assert_eq!(answers.arrival(AT, after(50), true, true), after(50), "nothing was learned yet");
        }
        assert_eq!(answers.arrival(AT, after(60), true, false), AT);
        assert_eq!(answers.arrival(AT, after(1050), true, false), after(1000));
        assert_eq!(answers.arrival(AT, after(900), false, false), after(900), "no answer tells nothing");
    }

    #[test]
    fn learns_a_slower_provider() {
        let mut answers = Answers::default();
        for i in 0..2000 {
            let took = if i < 100 { 50 } else { 3000 };
            answers.arrival(AT, after(took), true, false);
        }
        assert!(answers.usual().unwrap() >= Duration::from_secs(3));
        assert_eq!(answers.arrival(AT, after(3004), true, false), AT);
        assert!((answers.quickest - 3.0).abs() < 0.01);
    }
}

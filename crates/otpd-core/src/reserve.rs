//! What bulk jobs leave for people who wait: as much of each window as interactive traffic used lately, and
//! no more than a tenth. Where nobody interactive sends, bulk has the whole ceiling.
//!
//! "Lately" is this window and the one before it. Of what is kept, the interactive requests that are in the
//! window now have taken their part already. A window longer than a minute keeps a hundredth in any case:
//! who finds it full waits for long.

use std::time::Duration;

use crate::checkpoint::LONG;
use crate::clock::Mono;
use crate::counts::Counts;
use crate::rate::Rate;

/// In how many cells of a window interactive requests are counted where they are many, and when that begins.
const STEPS: (u32, usize) = (64, 512);

/// The interactive requests of one ceiling.
#[derive(Debug, Default)]
pub(crate) struct Interactive(Counts);

impl Interactive {
    /// Counts a request that starts now. `windows` of the ceiling, shortest first.
    pub(crate) fn started(&mut self, windows: &[Duration], now: Mono) {
        let (steps, most) = STEPS;
        self.0.add(now, 1);
        if let Some(longest) = windows.last() {
            self.0.forget(*longest * 2, now);
            self.0.coarsen(windows, steps, most, now);
        }
    }

    /// How many places of the window of `rate` bulk must leave free.
    pub(crate) fn kept(&self, rate: Rate, now: Mono) -> usize {
        let within = |window| self.0.within(window, now).len();
        let current = within(rate.per);
        let before = within(rate.per * 2) - current;
        let [tenth, hundredth] =
            [10, 100].map(|part| usize::try_from(rate.count / part).unwrap_or(usize::MAX));
        let least = if rate.per > LONG { hundredth } else { 0 };
        let reserve = before.max(current).min(tenth).max(least);
        reserve.saturating_sub(current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_as_was_used_lately_and_a_tenth_at_most() {
        let start = Mono(1_000_000_000_000_000);
        // Requests at these seconds; the rate; places kept at second 100.
        for (seconds, rate, kept) in [
            (vec![], "50/s", 0),
            (vec![], "100/h", 1),
            (vec![], "99/h", 0),
            (vec![45, 50], "50/min", 0),
            (vec![35, 38], "50/min", 2),
            (vec![35, 38, 90], "50/min", 1),
            (vec![20, 21, 22, 23, 24, 25, 26], "50/min", 5),
            (vec![20, 21, 22, 23, 24, 25, 26, 90], "50/min", 4),
            (vec![90, 91, 92, 93, 94, 95, 96], "50/min", 0),
        ] {
            let mut interactive = Interactive::default();
            let rate: Rate = rate.parse().unwrap();
            for second in &seconds {
                interactive.started(&[rate.per], start.plus(Duration::from_secs(*second)));
            }
            let now = start.plus(Duration::from_secs(100));
            assert_eq!(interactive.kept(rate, now), kept, "{seconds:?} of {rate}");
        }
    }
}

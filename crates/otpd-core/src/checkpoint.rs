//! What an owner publishes about its lane every few seconds, so that the next one need not read further back
//! than a minute: the requests of windows longer than that, what the provider's refusals taught, its pause.
//!
//! All times are durations before or after the checkpoint, so that no two clocks are compared. Bounded: at
//! most [`MOST_TIMES`] times, below 4 KiB of JSON. Few requests are told exactly; of many, neighbours are told
//! together, as the later of them, so that a window is never emptier than it was. Reading is tolerant: what
//! cannot be understood is left out, and a later version may say more.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Mono, UnixMs};
use crate::counts::Counts;
use crate::rate::{MAX_COUNT, Rate};
use crate::reason::Reason;

/// Windows up to this are filled from facts that are read one by one, longer ones from checkpoints too.
pub const LONG: Duration = Duration::from_secs(60);
/// How long after its announcement a request may be written at the latest. Who announces keeps to it
/// ([`crate::Stamp::must_be_written_before`]), and who takes over counts on it.
pub const WRITE_WITHIN: Duration = Duration::from_secs(3);
/// At how many different times a checkpoint tells requests.
pub const MOST_TIMES: usize = 256;
/// How exactly a checkpoint tells until when requests may be written, and for how many times.
const LATER_CELL: Duration = Duration::from_millis(200);
const MOST_LATER: usize = 32;
/// How a limit is told that was measured.
const REFUSALS: &str = "refusals";
/// The longest window that a rate may have, and room for its margin.
const LONGEST: Duration = Duration::from_secs(86_400 + 1);

/// The state of a lane's account at one moment.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Checkpoint {
    /// When it was made, on the wall clock of the owner: tells which of the owner's facts it includes.
    pub at: UnixMs,
    /// The longest window that it accounts for; zero where it accounts for none.
    pub window: Duration,
    /// Age and number of requests that are over, youngest first.
    requests: Vec<(Duration, u32)>,
    /// Until when, from the checkpoint on, requests may still be written, and how many, soonest first.
    later: Vec<(Duration, u32)>,
    /// The limit that the provider named, or that its refusals taught.
    pub learned: Option<LearnedLimit>,
    /// The provider's pause.
    pub pause: Option<Pause>,
    /// All requests that the owner announced before this time were written, or never will be.
    pub written_before: Option<UnixMs>,
}

/// A limit that the provider named, as far as it is believed, or that its refusals taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnedLimit {
    /// What is in force.
    pub rate: Rate,
    /// In how long it is raised by a step.
    pub raise_in: Duration,
    /// How it was learned.
    pub from: LearnedFrom,
}

/// How a limit was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LearnedFrom {
    /// The provider named it.
    Words,
    /// It was measured by refusals that named nothing.
    Refusals,
}

/// A provider that takes nothing for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// How much longer.
    pub remaining: Duration,
    /// Why.
    pub reason: Option<Reason>,
}

impl Checkpoint {
    /// Of requests until `now`, for a ceiling of these rates.
    pub(crate) fn new(at: UnixMs, mut requests: Counts, rates: &[Rate], now: Mono) -> Self {
        let windows = long_windows(rates);
        let steps = MOST_TIMES / windows.len().max(1);
        // Each window's cells, and one that is cut by its end.
        let steps = u32::try_from(steps.saturating_sub(2)).unwrap_or(1).max(1);
        requests.coarsen(&windows, steps, MOST_TIMES, now);
        let over = requests.iter().rev().filter(|(at, _)| *at <= now);
        let over = over.map(|(at, count)| (now.since(at), count)).take(MOST_TIMES).collect();
        let mut open = Counts::default();
        for (at, count) in requests.iter().filter(|(at, _)| *at > now) {
            open.add_rounded(Mono(at.since(now).as_nanos() as u64), count, LATER_CELL);
        }
        let later = open.iter().map(|(ahead, count)| (ahead.since(Mono::default()), count));
        let window = windows.last().copied().unwrap_or_default();
        Self { at, window, requests: over, later: later.take(MOST_LATER).collect(), ..Self::default() }
    }

    pub(crate) fn with_learned(self, learned: Option<LearnedLimit>) -> Self {
        Self { learned, ..self }
    }

    /// The same, of a lane that is paused.
    #[must_use]
    pub fn with_pause(self, pause: Option<Pause>) -> Self {
        Self { pause, ..self }
    }

    /// The same, of an owner whose requests announced before this time are written.
    #[must_use]
    pub fn with_written_before(self, written_before: Option<UnixMs>) -> Self {
        Self { written_before, ..self }
    }

    /// The requests for a process that takes the checkpoint to be of `as_of`, none dated too early.
    pub(crate) fn requests(&self, as_of: Mono) -> Counts {
        let mut counts = Counts::default();
        for (age, count) in self.requests.iter().rev() {
            counts.add(as_of.minus(*age), *count);
        }
        for (ahead, count) in &self.later {
            counts.add(as_of.plus(*ahead), *count);
        }
        counts
    }
}

/// The windows that checkpoints are for, with their margins, shortest first.
pub(crate) fn long_windows(rates: &[Rate]) -> Vec<Duration> {
    let mut windows: Vec<Duration> =
        rates.iter().filter(|r| r.per > LONG).map(|r| crate::limit::held_for(*r)).collect();
    windows.sort_unstable();
    windows.dedup();
    windows
}

/// The form in JSON: durations in milliseconds, a list of ages as the differences between them.
#[derive(Serialize, Deserialize)]
struct Wire {
    at: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    window_ms: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    requests: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    later: Vec<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    learned: Option<WireLearned>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pause: Option<WirePause>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    written_before: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct WireLearned {
    count: u32,
    per_ms: u64,
    raise_in_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct WirePause {
    remaining_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Serialize for Checkpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut requests = Vec::with_capacity(2 * self.requests.len());
        let mut told = 0;
        for (age, count) in &self.requests {
            // Rounded down: as late as it may have been.
            let ms = millis(*age);
            requests.extend([ms.saturating_sub(told), u64::from(*count)]);
            told = ms;
        }
        let learned = self.learned.map(|l| WireLearned {
            count: l.rate.count,
            per_ms: millis(l.rate.per),
            raise_in_ms: millis(l.raise_in),
            from: match l.from {
                LearnedFrom::Words => None,
                LearnedFrom::Refusals => Some(REFUSALS.to_owned()),
            },
        });
        let pause = self.pause.map(|p| WirePause {
            remaining_ms: millis(p.remaining),
            reason: p.reason.map(|r| r.as_str().to_owned()),
        });
        let later =
            self.later.iter().flat_map(|(ahead, count)| [millis(*ahead), u64::from(*count)]).collect();
        let (window_ms, written_before) = (millis(self.window), self.written_before.map(|at| at.0));
        Wire { at: self.at.0, window_ms, requests, later, learned, pause, written_before }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Checkpoint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        let mut requests = Vec::new();
        let mut age = Duration::ZERO;
        let (pairs, _) = wire.requests.as_chunks::<2>();
        for [older_by, count] in pairs.iter().take(MOST_TIMES) {
            age = age.saturating_add(Duration::from_millis(*older_by));
            if age < LONGEST {
                requests.push((age, bounded(*count)));
            }
        }
        let (pairs, _) = wire.later.as_chunks::<2>();
        let later = pairs.iter().take(MOST_LATER);
        let later =
            later.map(|[ahead, count]| (Duration::from_millis(*ahead).min(LONG), bounded(*count))).collect();
        let learned = wire.learned.and_then(|l| {
            let rate = Rate::new(l.count, Duration::from_millis(l.per_ms)).ok()?;
            let is_measured = l.from.as_deref() == Some(REFUSALS);
            let from = if is_measured { LearnedFrom::Refusals } else { LearnedFrom::Words };
            let longest = rate.per.max(if is_measured { LONG } else { Duration::ZERO });
            Some(LearnedLimit { rate, raise_in: Duration::from_millis(l.raise_in_ms).min(longest), from })
        });
        let pause = wire.pause.map(|p| Pause {
            remaining: Duration::from_millis(p.remaining_ms).min(LONGEST),
            reason: p.reason.and_then(|r| Reason::parse(&r)),
        });
        let window = Duration::from_millis(wire.window_ms);
        let written_before = wire.written_before.map(UnixMs);
        Ok(Self { at: UnixMs(wire.at), window, requests, later, learned, pause, written_before })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

fn bounded(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(MAX_COUNT).min(MAX_COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Mono = Mono(200_000_000_000_000);

    fn rates(text: &str) -> Vec<Rate> {
        text.split(',').map(|r| r.parse().unwrap()).collect()
    }

    fn written_and_read(checkpoint: &Checkpoint) -> (usize, Checkpoint) {
        let text = serde_json::to_string(checkpoint).unwrap();
        (text.len(), serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn few_requests_are_told_exactly() {
        let mut requests = Counts::default();
        for age in [5, 300, 3000] {
            requests.add(NOW.minus(Duration::from_millis(age * 1000 + 1)), 2);
        }
        requests.add(NOW.plus(WRITE_WITHIN), 3);
        let checkpoint = Checkpoint::new(UnixMs(5), requests.clone(), &rates("100/d"), NOW)
            .with_learned(Some(LearnedLimit {
                rate: "9/min".parse().unwrap(),
                raise_in: Duration::from_secs(7),
                from: LearnedFrom::Words,
            }))
            .with_pause(Some(Pause { remaining: Duration::from_secs(9), reason: Some(Reason::RateProvider) }))
            .with_written_before(Some(UnixMs(4)));
        assert_eq!(
            serde_json::to_string(&checkpoint).unwrap(),
            concat!(
                r#"{"at":5,"window_ms":86400250,"requests":[5001,2,295000,2,2700000,2],"later":[3000,3],"#,
                r#""learned":{"count":9,"per_ms":60000,"raise_in_ms":7000},"#,
                r#""pause":{"remaining_ms":9000,"reason":"rate_provider"},"written_before":4}"#
            )
        );
        assert_eq!(written_and_read(&checkpoint).1, checkpoint);
        let measured = checkpoint.learned.map(|l| LearnedLimit { from: LearnedFrom::Refusals, ..l });
        let measured = checkpoint.clone().with_learned(measured);
        assert_eq!(written_and_read(&measured).1, measured);
        assert_eq!(checkpoint.requests(NOW), requests);
    }

    #[test]
    fn many_are_told_in_4_kib_and_never_too_early() {
        for limits in
            ["1000000/d", "1000000/d,100000/h", "900000/h,1000000/12h,1000000/d,90000/2min,100000/5min"]
        {
            let mut requests = Counts::default();
            for n in 0..86_400_u64 {
                requests
                    .add(NOW.minus(Duration::from_millis(n * 999 + n * 7919 % 1000)), 11 + (n % 3) as u32);
            }
            for n in 0..3000 {
                requests.add(NOW.plus(Duration::from_millis(n + 1)), 300);
            }
            let total = requests.len();
            let checkpoint =
                Checkpoint::new(UnixMs(1_800_000_000_000), requests.clone(), &rates(limits), NOW);
            let (size, read) = written_and_read(&checkpoint);
            assert!(size <= 4096, "{size} for {limits}");
            let told = read.requests(NOW);
            assert_eq!(told.len(), total, "{limits}");
            for window in long_windows(&rates(limits)) {
                let since = |counts: &Counts, age: Duration| counts.within(age, NOW).len();
                assert!(since(&told, window) >= since(&requests, window));
                let late = window / 20;
                assert!(since(&told, window - late) <= since(&requests, window), "{limits}");
            }
        }
    }

    #[test]
    fn reading_is_tolerant() {
        for (text, is) in [
            (r#"{"at":1}"#, Some(Checkpoint { at: UnixMs(1), ..Checkpoint::default() })),
            (
                r#"{"at":1,"requests":[1,2,3],"new":[]}"#,
                Some(Checkpoint {
                    at: UnixMs(1),
                    requests: vec![(Duration::from_millis(1), 2)],
                    ..Checkpoint::default()
                }),
            ),
            (
                r#"{"at":1,"learned":{"count":0,"per_ms":0,"raise_in_ms":0}}"#,
                Some(Checkpoint { at: UnixMs(1), ..Checkpoint::default() }),
            ),
            (
                r#"{"at":1,"pause":{"remaining_ms":18446744073709551615,"reason":"unheard_of"}}"#,
                Some(Checkpoint {
                    at: UnixMs(1),
                    pause: Some(Pause { remaining: LONGEST, reason: None }),
                    ..Checkpoint::default()
                }),
            ),
            (
                r#"{"at":1,"requests":[18446744073709551615,1,18446744073709551615,18446744073709551615],"later":[99999999999,99999999999]}"#,
                Some(Checkpoint { at: UnixMs(1), later: vec![(LONG, MAX_COUNT)], ..Checkpoint::default() }),
            ),
            ("{}", None),
            ("[]", None),
        ] {
            assert_eq!(serde_json::from_str::<Checkpoint>(text).ok(), is, "{text}");
        }
    }
}

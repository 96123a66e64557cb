//! Objectives: what a run must come to, in a small language that is read before anything is published.
//!
//! ```text
//! objective = what op value [ "for" route ]
//! what      = stat part | count | "accepted_rate"
//! stat      = "p" percent | "max" | "mean"             percent: 0 to 100, such as 50, 99.9
//! part      = late | confirm | queued | permit | http | total | told
//! count     = accepted | dead | expired | superseded | open | unpublished | retried | failed_over
//!           | rate_limited | ended_twice
//! op        = "<=" | "<" | ">=" | ">" | "=="
//! value     = time (stat part), such as 2s or 50ms | number or percent (count) | rate (accepted_rate)
//! ```
//!
//! A percentage is of the published jobs. What was not measured (no job accepted, say) meets no objective.

use std::fmt;

use otpd_core::RouteName;

use super::parts::{Count, Part};
use super::rate;

/// One objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    pub(super) what: What,
    pub(super) op: Op,
    /// In the unit of `what`: microseconds, jobs, percent, jobs a second.
    pub(super) bound: f64,
    /// Only this route.
    pub(super) route: Option<RouteName>,
    text: String,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum What {
    /// A part of the latency, in microseconds.
    Latency(Stat, Part),
    /// Jobs, or attempts.
    Count(Count),
    /// The same, in percent of the published jobs.
    Share(Count),
    /// Jobs accepted a second.
    AcceptedRate,
}

/// Which number of a distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stat {
    /// A percentile, 0 to 100.
    Percentile(f64),
    /// The largest.
    Max,
    /// The mean.
    Mean,
}

/// How it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    AtMost,
    Below,
    AtLeast,
    Above,
    Equal,
}

impl Objective {
    /// Reads an objective.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_op = |c: char| matches!(c, '<' | '>' | '=');
        let begin = text
            .find(is_op)
            .ok_or("has no comparison (<=, <, >=, >, ==); write for example 'p99 total <= 2s'")?;
        let (what, rest) = text.split_at(begin);
        let end = rest.find(|c| !is_op(c)).unwrap_or(rest.len());
        let (op, rest) = rest.split_at(end);
        let op = match op {
            "<=" => Op::AtMost,
            "<" => Op::Below,
            ">=" => Op::AtLeast,
            ">" => Op::Above,
            "==" => Op::Equal,
            other => return Err(format!("`{other}` is no comparison; there are <=, <, >=, >, ==")),
        };
        let (value, route) = match rest.split_once(" for ") {
            None => (rest.trim(), None),
            Some((value, route)) => {
                let route =
                    RouteName::parse(route.trim()).map_err(|e| format!("the route after `for` {e}"))?;
                (value.trim(), Some(route))
            }
        };
        let (what, bound) = Self::what(what.trim(), value)?;
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Self { what, op, bound, route, text })
    }

    fn what(what: &str, value: &str) -> Result<(What, f64), String> {
        let words: Vec<&str> = what.split_whitespace().collect();
        match words.as_slice() {
            ["accepted_rate"] => Ok((What::AcceptedRate, rate::parse_or_zero(value)?)),
            [count] if Count::parse(count).is_some() => {
                let count = Count::parse(count).ok_or_else(unknown)?;
                match value.strip_suffix('%') {
                    Some(percent) => Ok((What::Share(count), number(percent)?)),
                    None => Ok((What::Count(count), number(value)?)),
                }
            }
            [stat, part] => {
                let stat = Stat::parse(stat)?;
                let part = Part::parse(part).ok_or_else(|| {
                    format!("`{part}` is no part of the latency; there are {}", Part::names())
                })?;
                let bound = humantime::parse_duration(value)
                    .map_err(|_| format!("`{value}` must be a time with its unit, such as 2s or 50ms"))?;
                Ok((What::Latency(stat, part), bound.as_secs_f64() * 1e6))
            }
            _ => Err(unknown()),
        }
    }

    /// Whether a measured value meets it.
    pub(super) fn is_met(&self, measured: Option<f64>) -> bool {
        measured.is_some_and(|measured| match self.op {
            Op::AtMost => measured <= self.bound,
            Op::Below => measured < self.bound,
            Op::AtLeast => measured >= self.bound,
            Op::Above => measured > self.bound,
            Op::Equal => (measured - self.bound).abs() < 1e-9,
        })
    }

    /// Whether it judges the jobs whose end is not known, so that nobody else has to.
    pub(super) fn is_about_open(&self) -> bool {
        matches!(self.what, What::Count(Count::Open) | What::Share(Count::Open))
    }
}

/// As it was written, but for spaces.
impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Stat {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Self::Max),
            "mean" => Ok(Self::Mean),
            _ => text
                .strip_prefix('p')
                .and_then(|percent| percent.parse::<f64>().ok())
                .filter(|percent| (0.0..=100.0).contains(percent))
                .map(Self::Percentile)
                .ok_or_else(|| format!("`{text}` is none of p50, p99.9 (any up to p100), max, mean")),
        }
    }
}

fn number(text: &str) -> Result<f64, String> {
    text.trim()
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| format!("`{text}` must be a number such as 0 or 99.9, with % for a share of the jobs"))
}

fn unknown() -> String {
    format!(
        "must begin with a percentile and a part of the latency (p99 total; parts: {}), with a count ({}) or with accepted_rate",
        Part::names(),
        Count::names(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn read() {
        let total = |stat| What::Latency(stat, Part::Total);
        for (text, what, op, bound, route) in [
            ("p99 total <= 2s", total(Stat::Percentile(99.0)), Op::AtMost, 2e6, None),
            ("p99.9 total<1500ms", total(Stat::Percentile(99.9)), Op::Below, 1.5e6, None),
            (
                "p50   permit  <=  50us",
                What::Latency(Stat::Percentile(50.0), Part::Permit),
                Op::AtMost,
                50.0,
                None,
            ),
            ("max late <= 1ms", What::Latency(Stat::Max, Part::Late), Op::AtMost, 1e3, None),
            (
                "mean http <= 80ms for login",
                What::Latency(Stat::Mean, Part::Http),
                Op::AtMost,
                8e4,
                Some("login"),
            ),
            ("accepted >= 99.9%", What::Share(Count::Accepted), Op::AtLeast, 99.9, None),
            ("rate_limited <= 0", What::Count(Count::RateLimited), Op::AtMost, 0.0, None),
            ("open<100", What::Count(Count::Open), Op::Below, 100.0, None),
            ("dead == 0 for bulk", What::Count(Count::Dead), Op::Equal, 0.0, Some("bulk")),
            ("accepted_rate > 45/s", What::AcceptedRate, Op::Above, 45.0, None),
        ] {
            let read = Objective::parse(text).unwrap();
            let named = read.route.as_ref().map(RouteName::as_str);
            assert_eq!((read.what, read.op, named), (what, op, route), "{text}");
            assert!((read.bound - bound).abs() < 1e-6, "{text}: {}", read.bound);
        }
    }

    #[test]
    fn refused_with_what_would_be_right() {
        for (text, says) in [
            ("", "no comparison"),
            ("p99 total", "no comparison"),
            ("p99 total = 2s", "`=` is no comparison"),
            ("p99 total =< 2s", "`=<` is no comparison"),
            ("p101 total <= 2s", "`p101` is none of"),
            ("pNaN total <= 2s", "`pNaN` is none of"),
            ("p99 totals <= 2s", "`totals` is no part"),
            ("p99 total <= 2", "with its unit"),
            ("p99 total <= 99%", "with its unit"),
            ("accepted >= most", "must be a number"),
            ("accepted >= 99.9%%", "must be a number"),
            ("accepted >= -1", "must be a number"),
            ("sent >= 1", "must begin with"),
            ("<= 1", "must begin with"),
            ("accepted_rate >= fast", "must be COUNT/TIME"),
            ("dead <= 0 for Login", "the route after `for` must be"),
        ] {
            let refusal = Objective::parse(text).unwrap_err();
            assert!(refusal.contains(says), "{text}: {refusal}");
        }
    }

    #[test]
    fn compared() {
        for (text, measured, met) in [
            ("dead <= 3", Some(3.0), true),
            ("dead < 3", Some(3.0), false),
            ("dead >= 3", Some(3.0), true),
            ("dead > 3", Some(3.0), false),
            ("dead == 3", Some(3.0), true),
            ("dead == 3", Some(4.0), false),
            ("p99 total <= 2s", Some(2_000_000.0), true),
            ("p99 total <= 2s", Some(2_000_001.0), false),
            ("p99 total <= 2s", None, false),
            ("dead >= 0", None, false),
        ] {
            assert_eq!(Objective::parse(text).unwrap().is_met(measured), met, "{text} with {measured:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = Objective::parse(&text);
        }

        #[test]
        fn what_is_shown_reads_back(percent in 0.0f64..100.0, ms in 0u32..100_000, at_most: bool) {
            let op = if at_most { "<=" } else { ">" };
            let first = Objective::parse(&format!("p{percent}  queued {op}{ms}ms")).unwrap();
            prop_assert_eq!(&Objective::parse(&first.to_string()).unwrap(), &first);
        }
    }
}

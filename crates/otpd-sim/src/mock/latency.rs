//! How long a provider takes to answer, as a distribution with a text form.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::chance::Chance;

/// The longest latency that is ever drawn: a tail is a tail, not a stall.
const LONGEST: Duration = Duration::from_secs(60);

/// How long an answer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Latency {
    /// No time at all.
    #[default]
    None,
    /// Always the same: `50ms`.
    Fixed(Duration),
    /// Anything between the two, equally likely: `20ms..80ms`.
    Uniform(Duration, Duration),
    /// Log-normal, as real services are, given by its median and its 99th percentile: `p50=80ms,p99=400ms`.
    LogNormal {
        /// The median.
        p50: Duration,
        /// The 99th percentile; at least the median.
        p99: Duration,
    },
}

/// A text that is not a latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a time (50ms), a range (20ms..80ms) or a median and 99th percentile (p50=80ms,p99=400ms)")]
pub struct InvalidLatency;

impl Latency {
    /// One latency, at most 60 seconds.
    #[must_use]
    pub fn draw(self, chance: &mut Chance) -> Duration {
        let drawn = match self {
            Self::None => Duration::ZERO,
            Self::Fixed(always) => always,
            Self::Uniform(least, most) => {
                let (least, most) = (least.min(LONGEST), most.min(LONGEST));
                least + most.saturating_sub(least).mul_f64(chance.share())
            }
            Self::LogNormal { p50, p99 } => {
                // The 99th percentile of a standard normal is 2.326.
                let sigma = (p99.as_secs_f64() / p50.as_secs_f64()).ln() / 2.326;
                let seconds = p50.as_secs_f64() * (sigma * standard_normal(chance)).exp();
                Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST)
            }
        };
        drawn.min(LONGEST)
    }
}

/// Box and Muller's transform of two even shares.
fn standard_normal(chance: &mut Chance) -> f64 {
    let radius = (-2.0 * (1.0 - chance.share()).ln()).sqrt();
    radius * (std::f64::consts::TAU * chance.share()).cos()
}

impl FromStr for Latency {
    type Err = InvalidLatency;

    fn from_str(text: &str) -> Result<Self, InvalidLatency> {
        let time = |text: &str| humantime::parse_duration(text.trim()).map_err(|_| InvalidLatency);
        let ordered = |a: Duration, b: Duration| if a <= b { Ok((a, b)) } else { Err(InvalidLatency) };
        if let Some((least, most)) = text.split_once("..") {
            let (least, most) = ordered(time(least)?, time(most)?)?;
            return Ok(Self::Uniform(least, most));
        }
        if let Some((p50, p99)) = text.split_once(',') {
            let named =
                |text: &str, name: &str| text.trim().strip_prefix(name).ok_or(InvalidLatency).and_then(time);
            let (p50, p99) = ordered(named(p50, "p50=")?, named(p99, "p99=")?)?;
            return if p50.is_zero() { Err(InvalidLatency) } else { Ok(Self::LogNormal { p50, p99 }) };
        }
        let always = time(text)?;
        Ok(if always.is_zero() { Self::None } else { Self::Fixed(always) })
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = humantime::format_duration;
        match self {
            Self::None => f.write_str("0s"),
            Self::Fixed(always) => show(*always).fmt(f),
            Self::Uniform(least, most) => write!(f, "{}..{}", show(*least), show(*most)),
            Self::LogNormal { p50, p99 } => write!(f, "p50={},p99={}", show(*p50), show(*p99)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        for text in ["0s", "50ms", "20ms..80ms", "p50=80ms,p99=400ms"] {
            assert_eq!(text.parse::<Latency>().unwrap().to_string(), text);
        }
        for bad in ["", "soon", "80ms..20ms", "p50=0s,p99=1s", "p99=1s,p50=1s", "p50=2s,p99=1s", "-5ms"] {
            assert_eq!(bad.parse::<Latency>(), Err(InvalidLatency), "{bad}");
        }
    }

    #[test]
    fn drawn_as_described() {
        let mut sorted: Vec<Duration> = {
            let latency: Latency = "p50=80ms,p99=400ms".parse().unwrap();
            (0..20_000).map(|i| latency.draw(&mut Chance::of(&[i]))).collect()
        };
        sorted.sort_unstable();
        let near = |at: Duration, ms: u128| at.as_millis().abs_diff(ms) * 10 <= ms;
        assert!(near(sorted[10_000], 80), "{:?}", sorted[10_000]);
        assert!(near(sorted[19_800], 400), "{:?}", sorted[19_800]);
        let uniform: Latency = "20ms..80ms".parse().unwrap();
        for i in 0..1000 {
            let drawn = uniform.draw(&mut Chance::of(&[i]));
            assert!((20..=80).contains(&drawn.as_millis()), "{drawn:?}");
        }
        let wild = Latency::LogNormal { p50: Duration::from_secs(50), p99: Duration::MAX };
        assert!((0..1000).all(|i| wild.draw(&mut Chance::of(&[i])) <= LONGEST));
    }
}

//! A count per time, as configs and providers write it: `50/s`, `600/min`, `1/30s`, `5/h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The largest count a rate may have.
pub const MAX_COUNT: u32 = 1_000_000;

/// At most `count` in any window of length `per`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many, 1 to 1,000,000.
    pub count: u32,
    /// In how long, 1 ms to 1 day.
    pub per: Duration,
}

/// A text that is not a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be COUNT/TIME such as 50/s, 600/min or 1/30s (count 1 to 1000000, time up to 1 day)")]
pub struct InvalidRate;

impl Rate {
    /// Checks both ranges.
    ///
    /// # Errors
    /// [`InvalidRate`] where one does not fit.
    pub fn new(count: u32, per: Duration) -> Result<Self, InvalidRate> {
        let fits = (1..=MAX_COUNT).contains(&count)
            && (Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(&per);
        if fits { Ok(Self { count, per }) } else { Err(InvalidRate) }
    }

    /// How many a second, on average.
    #[must_use]
    pub fn per_second(self) -> f64 {
        f64::from(self.count) / self.per.as_secs_f64()
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let (count, per) = text.trim().split_once('/').ok_or(InvalidRate)?;
        let count = count.trim().parse().map_err(|_| InvalidRate)?;
        let per = per.trim();
        let digits = per.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = per.split_at_checked(digits).ok_or(InvalidRate)?;
        let number: u32 = if number.is_empty() { 1 } else { number.parse().map_err(|_| InvalidRate)? };
        let unit = match unit.trim() {
            "ms" => Duration::from_millis(1),
            "s" | "sec" | "second" => Duration::from_secs(1),
            "m" | "min" | "minute" => Duration::from_secs(60),
            "h" | "hour" => Duration::from_secs(3600),
            "d" | "day" => Duration::from_secs(86_400),
            _ => return Err(InvalidRate),
        };
        Self::new(count, unit.checked_mul(number).ok_or(InvalidRate)?)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.per.as_millis();
        let (number, unit) = match ms {
            _ if ms.is_multiple_of(3_600_000) => (ms / 3_600_000, "h"),
            _ if ms.is_multiple_of(60_000) => (ms / 60_000, "min"),
            _ if ms.is_multiple_of(1000) => (ms / 1000, "s"),
            _ => (ms, "ms"),
        };
        if number == 1 {
            write!(f, "{}/{unit}", self.count)
        } else {
            write!(f, "{}/{number}{unit}", self.count)
        }
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        for (text, count, secs, back) in [
            ("50/s", 50, 1, "50/s"),
            ("600/min", 600, 60, "600/min"),
            ("600/m", 600, 60, "600/min"),
            (" 1 / 30s ", 1, 30, "1/30s"),
            ("5/h", 5, 3600, "5/h"),
            ("100/60s", 100, 60, "100/min"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.count, rate.per.as_secs()), (count, secs), "{text}");
            assert_eq!(rate.to_string(), back);
        }
        for bad in [
            "",
            "50",
            "/s",
            "0/s",
            "-1/s",
            "50/0s",
            "50/fortnight",
            "1.5/s",
            "50/2d",
            "99999999999/s",
            "1/99999999999h",
        ] {
            assert_eq!(bad.parse::<Rate>(), Err(InvalidRate), "{bad}");
        }
    }
}

//! Rates of a load test, jobs a second: `100`, `100/s`, `6000/min`, `0.5/s`, `1000/10s`. Unlike a provider's
//! ceiling ([`otpd_core::Rate`]) a rate here is a real number and has no window.

use std::time::Duration;

/// The highest rate, jobs a second.
pub(crate) const HIGHEST: f64 = 100_000.0;

const RULE: &str = "must be COUNT/TIME such as 100/s, 6000/min or 0.5/s (up to 100000/s)";

/// Reads a rate above 0.
///
/// # Errors
/// What it must be.
pub(crate) fn parse(text: &str) -> Result<f64, String> {
    parse_or_zero(text).ok().filter(|rate| *rate > 0.0).ok_or_else(|| RULE.to_owned())
}

/// Reads a rate of 0 or more.
///
/// # Errors
/// What it must be.
pub(crate) fn parse_or_zero(text: &str) -> Result<f64, String> {
    let (count, per) = text.trim().split_once('/').unwrap_or((text.trim(), "s"));
    let count: f64 = count.trim().parse().map_err(|_| RULE.to_owned())?;
    let per = match per.trim() {
        "s" | "sec" => Duration::from_secs(1),
        "m" | "min" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        other => humantime::parse_duration(other).map_err(|_| RULE.to_owned())?,
    };
    let rate = count / per.as_secs_f64();
    // Not a number and infinite fail as well.
    if (0.0..=HIGHEST).contains(&rate) { Ok(rate) } else { Err(RULE.to_owned()) }
}

/// A rate as text: `100/s`, `0.5/s`.
pub(crate) fn show(rate: f64) -> String {
    let rounded = (rate * 1000.0).round() / 1000.0;
    format!("{rounded}/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        for (text, rate, back) in [
            ("100", 100.0, "100/s"),
            ("100/s", 100.0, "100/s"),
            ("6000/min", 100.0, "100/s"),
            (" 1 / h ", 1.0 / 3600.0, "0/s"),
            ("0.5", 0.5, "0.5/s"),
            ("1000/10s", 100.0, "100/s"),
        ] {
            let read = parse(text).unwrap();
            assert!((read - rate).abs() < 1e-9, "{text}: {read}");
            assert_eq!(show(read), back);
        }
        for bad in ["", "0", "-1/s", "fast", "1/fortnight", "1/0s", "NaN", "inf", "100001", "1/s/s"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_or_zero("0"), Ok(0.0));
    }
}

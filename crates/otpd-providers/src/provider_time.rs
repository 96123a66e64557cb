//! Times as providers write them: RFC 3339, seconds or milliseconds since 1970, as a number or a text.

use otpd_core::UnixMs;
use serde_json::Value;

use crate::answer::text_of;

/// Numbers below are seconds since 1970 (until the year 5138), others milliseconds (from 1973 on).
const FIRST_MILLISECONDS: f64 = 1e11;
/// Numbers from here on (the year 9999 in milliseconds) count something else, such as microseconds.
const END_OF_TIME: f64 = 253_402_300_800_000.0;

/// The time that `text` says; `None` where it says none.
pub(crate) fn parse(text: &str) -> Option<UnixMs> {
    let text = text.trim();
    let Ok(number) = text.parse::<f64>() else { return UnixMs::parse_rfc3339(text) };
    let ms = if number < FIRST_MILLISECONDS { number * 1000.0 } else { number };
    (0.0..END_OF_TIME).contains(&ms).then_some(UnixMs(ms as u64))
}

/// The time in this field of an object.
pub(crate) fn field(parent: &Value, name: &str) -> Option<UnixMs> {
    parse(&text_of(parent.get(name)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_every_form() {
        for (text, ms) in [
            ("2026-11-20T09:30:00.250Z", Some(1_795_167_000_250)),
            ("2026-11-20T16:30:00+07:00", Some(1_795_167_000_000)),
            ("1795167000", Some(1_795_167_000_000)),
            (" 1795167000.25", Some(1_795_167_000_250)),
            ("1795167000250", Some(1_795_167_000_250)),
            ("0", Some(0)),
            ("1795167000250000", None),
            ("1e300", None),
            ("-1", None),
            ("inf", None),
            ("NaN", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse(text), ms.map(UnixMs), "{text}");
        }
    }
}

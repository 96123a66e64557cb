//! `Retry-After` (RFC 9110, 10.2.3): seconds or a date, and in practice anything at all.
//!
//! A date is read by the clock of the answer that names it (`Date`) and by our own, and the shorter wait counts: one
//! of the two clocks may be wrong.
//!
//! What it says is bounded, because a provider's slip must not stop a lane for a day, and nonsense is
//! nothing said. A wait of zero, or until a moment that has passed, is nothing said too: then the
//! worker's own backoff decides, which never hammers.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{DATE, HeaderName, RETRY_AFTER};

use otpd_core::UnixMs;

/// The longest wait that a provider can impose.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What the headers ask for.
pub(crate) fn in_headers(headers: &HeaderMap, now: UnixMs) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = text(RETRY_AFTER)?;
    let theirs =
        text(DATE).and_then(since_1970).map(|at| UnixMs(u64::try_from(at.as_millis()).unwrap_or(u64::MAX)));
    [Some(now), theirs].into_iter().flatten().filter_map(|now| parse(asked, now)).min()
}

/// A date in the form of HTTP.
fn since_1970(text: &str) -> Option<Duration> {
    httpdate::parse_http_date(text.trim()).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()
}

/// What `text` asks for.
pub(crate) fn parse(text: &str, now: UnixMs) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // Digits that do not fit are a very long wait, not nonsense.
        return bounded(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at = since_1970(text)?;
    bounded(at.saturating_sub(Duration::from_millis(now.0)))
}

/// `wait`, unless it is none, and at most [`LONGEST_WAIT`].
pub(crate) fn bounded(wait: Duration) -> Option<Duration> {
    if wait.is_zero() { None } else { Some(wait.min(LONGEST_WAIT)) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::DATE;
    use proptest::prelude::*;

    use super::*;

    /// 20 November 2026, 09:30:00 UTC.
    const NOW: UnixMs = UnixMs(1_795_167_000_000);

    #[test]
    fn seconds_dates_and_nonsense() {
        for (text, seconds) in [
            ("2", Some(2)),
            (" 42 ", Some(42)),
            ("0", None),
            ("3601", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Fri, 20 Nov 2026 09:30:30 GMT", Some(30)),
            ("Friday, 20-Nov-26 09:30:30 GMT", Some(30)),
            ("Fri Nov 20 09:30:30 2026", Some(30)),
            ("Sat, 21 Nov 2026 09:30:30 GMT", Some(3600)),
            ("Fri, 20 Nov 2026 09:29:30 GMT", None),
            ("Thu, 01 Jan 1970 00:00:00 GMT", None),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("inf", None),
            ("NaN", None),
            ("0x10", None),
            ("soon", None),
            ("2026-11-20T09:30:30Z", None),
        ] {
            assert_eq!(parse(text, NOW), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    /// The answer's own `Date` tells what the provider takes for now: our clock may be wrong.
    #[test]
    fn a_date_is_read_by_the_providers_clock() {
        let headers = |date: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static("Fri, 20 Nov 2026 09:30:30 GMT"));
            headers.insert(DATE, HeaderValue::from_str(date).unwrap());
            headers
        };
        let right = "Fri, 20 Nov 2026 09:30:00 GMT";
        for (date, ours_is_off_by, seconds) in [
            (right, 0, 30),
            (right, -600, 30),
            (right, 600, 30),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 30),
            ("Sat, 21 Nov 2026 09:30:00 GMT", 0, 30),
            ("nonsense", 0, 30),
        ] {
            let now = UnixMs(NOW.0.saturating_add_signed(ours_is_off_by * 1000));
            let wait = in_headers(&headers(date), now);
            assert_eq!(wait, Some(Duration::from_secs(seconds)), "{date} {ours_is_off_by}");
        }
    }

    #[test]
    fn bytes_that_are_no_text() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_bytes(&[0xff, b'1']).unwrap());
        assert_eq!(in_headers(&headers, NOW), None);
    }

    proptest! {
        #[test]
        fn never_panics_and_never_exceeds(text in ".{0,40}", now in any::<u64>()) {
            if let Some(wait) = parse(&text, UnixMs(now)) {
                prop_assert!(wait > Duration::ZERO && wait <= LONGEST_WAIT);
            }
        }
    }
}

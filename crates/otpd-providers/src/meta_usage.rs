//! Meta's own way to say when to come back: `X-Business-Use-Case-Usage`, a JSON object whose entries
//! estimate, in minutes, when access is regained.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;

use crate::retry_after::bounded;

const HEADER: &str = "x-business-use-case-usage";

#[derive(Deserialize)]
struct Use {
    #[serde(default)]
    estimated_time_to_regain_access: u64,
}

/// The longest of the estimates, where there is one.
pub(crate) fn in_headers(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(HEADER)?;
    let uses: BTreeMap<String, Vec<Use>> = serde_json::from_slice(value.as_bytes()).ok()?;
    let minutes = uses.values().flatten().map(|one| one.estimated_time_to_regain_access).max()?;
    bounded(Duration::from_secs(minutes.saturating_mul(60)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn minutes_or_nothing() {
        for (text, seconds) in [
            (
                r#"{"1":[{"type":"whatsapp","call_count":100,"estimated_time_to_regain_access":7}]}"#,
                Some(420),
            ),
            (
                r#"{"1":[{"estimated_time_to_regain_access":2}],"2":[{"estimated_time_to_regain_access":5}]}"#,
                Some(300),
            ),
            (r#"{"1":[{"estimated_time_to_regain_access":99999999999999}]}"#, Some(3600)),
            (r#"{"1":[{"estimated_time_to_regain_access":0}]}"#, None),
            (r#"{"1":[{"estimated_time_to_regain_access":-1}]}"#, None),
            (r#"{"1":[{}]}"#, None),
            ("{}", None),
            ("[]", None),
            ("nonsense", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_static(text));
            assert_eq!(in_headers(&headers), seconds.map(Duration::from_secs), "{text}");
        }
    }
}

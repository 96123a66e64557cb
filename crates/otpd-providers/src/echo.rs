//! What a provider is asked to repeat in its delivery reports, where it supports that: the job's id
//! and the producer's metadata, as a small JSON object in a text.

use serde::Serialize;

use otpd_core::{Metadata, Reason, SendJob};

/// The longest text that Meta's `biz_opaque_callback_data` and Msgai's `callbackData` take. They count
/// characters; counting bytes is never more.
const MAX_ECHO: usize = 512;

#[derive(Serialize)]
struct Echo<'a> {
    job: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Metadata>,
}

/// `{"job":"...","metadata":{...}}`; without the metadata where it would be too long.
pub(crate) fn echo(job: &SendJob) -> Result<String, Reason> {
    let id = job.id.as_str();
    let whole = text(&Echo { job: id, metadata: job.metadata.as_ref() })?;
    if whole.len() <= MAX_ECHO { Ok(whole) } else { text(&Echo { job: id, metadata: None }) }
}

fn text(echo: &Echo<'_>) -> Result<String, Reason> {
    serde_json::to_string(echo).map_err(|_| Reason::InvalidRequest)
}

#[cfg(test)]
mod tests {
    use otpd_core::UnixMs;

    use super::*;

    fn job(metadata: &str) -> SendJob {
        let body = format!(r#"{{"id":"job-1","to":"+628123456890","code":"482910","metadata":{metadata}}}"#);
        SendJob::parse(body.as_bytes(), UnixMs(0)).unwrap()
    }

    #[test]
    fn fits_or_shrinks() {
        assert_eq!(echo(&job("null")).unwrap(), r#"{"job":"job-1"}"#);
        assert_eq!(echo(&job(r#"{"a":"b"}"#)).unwrap(), r#"{"job":"job-1","metadata":{"a":"b"}}"#);
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(500));
        assert_eq!(echo(&job(&long)).unwrap(), r#"{"job":"job-1"}"#);
    }
}

//! What a provider is asked to repeat in its callbacks, where it supports that: the job's id, by which a callback
//! finds its job without a table, and the producer's metadata, as a small JSON object in a text.
//!
//! The id is always there; the metadata gives way where both are too long. It is left out too where it holds the
//! job's code or number: what is echoed travels in requests that others make, through others' logs.

use serde::{Deserialize, Serialize};

use otpd_core::{JobId, Metadata, Reason, SendJob};

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
    let metadata = job.metadata.as_ref().filter(|metadata| !is_telling(metadata.as_json(), job));
    let whole = text(&Echo { job: id, metadata })?;
    if whole.len() <= MAX_ECHO { Ok(whole) } else { text(&Echo { job: id, metadata: None }) }
}

/// Whether the code stands in `metadata` by itself, or the number anywhere.
fn is_telling(metadata: &str, job: &SendJob) -> bool {
    let holds_code =
        metadata.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == job.code.expose());
    holds_code || metadata.contains(&*job.to.expose_digits())
}

#[derive(Deserialize)]
struct Echoed {
    job: String,
}

/// The job in a text that a provider repeated; `None` in one that is not ours.
pub(crate) fn job_in(text: &str) -> Option<JobId> {
    // A list would be read as the fields in their order.
    let echoed: Echoed = serde_json::from_str(text).ok().filter(|_| text.starts_with('{'))?;
    JobId::parse(&echoed.job).ok()
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

    #[test]
    fn what_comes_back_names_the_job() {
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(500));
        for metadata in ["null", r#"{"job":"other"}"#, &long] {
            assert_eq!(job_in(&echo(&job(metadata)).unwrap()).unwrap().as_str(), "job-1", "{metadata}");
        }
        for foreign in
            ["", "job-1", "auth_attempt_42", "{}", r#"{"job":7}"#, r#"{"job":"a b"}"#, r#"["job"]"#]
        {
            assert_eq!(job_in(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn neither_code_nor_number_is_echoed() {
        for telling in [r#"{"a":"482910"}"#, r#"{"a":"code:482910!"}"#, r#"{"to":"+628123456890"}"#] {
            assert_eq!(echo(&job(telling)).unwrap(), r#"{"job":"job-1"}"#, "{telling}");
        }
        assert!(echo(&job(r#"{"order":"14829100"}"#)).unwrap().contains("order"));
    }
}

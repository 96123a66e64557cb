//! Betatel's records of what it sent: whether a message whose send was ambiguous is among them.
//!
//! A record counts where its recipient, its code and its time are those of the attempt. All three are
//! needed: the number alone would find the code before this one, the code alone somebody else's. In
//! doubt a record does not count, and what follows is what would have followed without looking.
//!
//! Invariants: reading is total, and of a record nothing but its id is kept (its text is the code).

use std::time::Duration;

use bytes::Bytes;
use reqwest::Url;
use serde::Serialize;
use serde_json::Value;

use otpd_core::{MessageId, Phone, SendJob, UnixMs};

use crate::answer::{Reading, text_of};
use crate::endpoint::{SetupError, json, url};
use crate::provider_time;

/// How many records are asked for, newest first. More than one number gets while an attempt is in
/// doubt, and few enough for texts of 3 kB to fit into what is read of an answer.
const ROWS: u32 = 20;
/// How far the provider's clock may be behind ours.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(5);
#[derive(Serialize)]
struct Question<'a> {
    page: u32,
    rows_per_page: u32,
    sort_by: &'a str,
    sort_direction: &'a str,
    filter: Filter<'a>,
}

#[derive(Serialize)]
struct Filter<'a> {
    to: &'a str,
}

/// Where the records are.
pub(crate) fn address(base_url: &str) -> Result<Url, SetupError> {
    url(base_url, &["api", "v1", "connect-hub", "whatsapp", "wdr"])
}

/// Asks for the newest records of the job's recipient.
pub(crate) fn question(job: &SendJob) -> Option<Bytes> {
    let to = job.to.expose_digits();
    json(&Question {
        page: 1,
        rows_per_page: ROWS,
        sort_by: "timestamp",
        sort_direction: "DESC",
        filter: Filter { to: &to },
    })
    .ok()
}

/// The id of the newest record of `job`, whose attempt began at `since` and was to send `text`.
pub(crate) fn find(answer: &Reading<'_>, job: &SendJob, text: &str, since: UnixMs) -> Option<MessageId> {
    if !answer.is_success() {
        return None;
    }
    let earliest = since.minus(CLOCK_DIFFERENCE);
    let is_it = |record: &&Value| {
        let field = |name: &str| record.get(name).and_then(text_of);
        field("to").and_then(|to| Phone::parse(to.trim())) == Some(job.to)
            && field("text").is_some_and(|sent| *sent == *text || holds(&sent, job.code.expose()))
            && provider_time::field(record, "timestamp").is_some_and(|at| at >= earliest)
            && !field("status").is_some_and(|status| has_failed(status.trim()))
    };
    let records = answer.at("/list")?.as_array()?;
    records.iter().filter(is_it).find_map(|record| MessageId::new(&text_of(record.get("uuid")?)?))
}

/// Whether `code` stands in `text` by itself: 1234 is not in 512345.
fn holds(text: &str, code: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == code)
}

/// Whether the message will not arrive any more, so that sending it again duplicates nothing.
fn has_failed(status: &str) -> bool {
    ["FAILED", "EXPIRED"].iter().any(|failed| status.eq_ignore_ascii_case(failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_stands_by_itself() {
        for text in ["482910", "Your code is 482910.", "G-482910", "验证码482910请勿", "<482910>"] {
            assert!(holds(text, "482910"), "{text}");
        }
        for text in ["", "4829101", "1482910", "A482910", "482 910", "48291"] {
            assert!(!holds(text, "482910"), "{text}");
        }
        assert!(!holds("ABCD", "abcd"), "codes are compared as they are");
    }
}

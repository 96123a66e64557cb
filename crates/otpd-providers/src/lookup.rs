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

/// How many records are asked for, newest first. More than one number gets while an attempt is in
/// doubt, and few enough for texts of 3 kB to fit into what is read of an answer.
const ROWS: u32 = 20;
/// How far the provider's clock may be behind ours.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(5);
/// Numbers below are seconds since 1970 (until the year 5138), others milliseconds (from 1973 on).
const FIRST_MILLISECONDS: f64 = 1e11;
/// Numbers from here on (the year 9999 in milliseconds) count something else, such as microseconds.
const END_OF_TIME: f64 = 253_402_300_800_000.0;

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
            && field("timestamp").and_then(|at| time(at.trim())).is_some_and(|at| at >= earliest)
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

/// Documented is RFC 3339; seconds and milliseconds since 1970 are understood as well.
fn time(text: &str) -> Option<UnixMs> {
    let Ok(number) = text.parse::<f64>() else { return UnixMs::parse_rfc3339(text) };
    let ms = if number < FIRST_MILLISECONDS { number * 1000.0 } else { number };
    (0.0..END_OF_TIME).contains(&ms).then_some(UnixMs(ms as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_every_form() {
        for (text, ms) in [
            ("2026-11-20T09:30:00.250Z", Some(1_795_167_000_250)),
            ("2026-11-20T16:30:00+07:00", Some(1_795_167_000_000)),
            ("1795167000", Some(1_795_167_000_000)),
            ("1795167000.25", Some(1_795_167_000_250)),
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
            assert_eq!(time(text), ms.map(UnixMs), "{text}");
        }
    }

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

//! The job's door: what is taken, what is refused, and that a refusal repeats nothing.

#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use otpd_core::{SendJob, UnixMs};
use proptest::prelude::*;

const NOW: UnixMs = UnixMs(1_800_000_000_000);

fn refused(body: &str) -> otpd_core::Malformed {
    SendJob::parse(body.as_bytes(), NOW).expect_err(body)
}

#[test]
fn the_smallest_job() {
    let job = SendJob::parse(br#"{"id":"a1","to":"628123456890","code":"482910"}"#, NOW).unwrap();
    assert_eq!(job.to.expose_e164(), "+628123456890");
    assert_eq!(job.purpose.as_str(), "default");
    assert_eq!(job.created_at, NOW);
    assert_eq!(job.expires_at(Duration::from_secs(300)), NOW.plus(Duration::from_secs(300)));
}

#[test]
fn the_fullest_job() {
    let body = r#"{"id":"a1","to":"+628123456890","code":"48aB10","purpose":"log in",
        "template":{"name":"otp","language":"pt_BR","namespace":"n"},
        "created_at":"2026-11-20T09:30:00Z","expires_at":"2026-11-20T09:35:00Z","metadata":{"user":"u-1"}}"#;
    let job = SendJob::parse(body.as_bytes(), NOW).unwrap();
    assert_eq!(job.template.language.as_deref(), Some("pt_BR"));
    assert_eq!(job.expires_at(Duration::from_secs(1)).since(job.created_at), Duration::from_secs(300));
    assert_eq!(job.metadata.unwrap().as_json(), r#"{"user":"u-1"}"#);
}

#[test]
fn refusals_say_what_is_wrong() {
    for (body, says) in [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "wrong type"),
        (r#"{"id":"a","to":"+628123456890"}"#, "`code` is missing"),
        (r#"{"id":"a","to":"+628123456890","code":482910}"#, "`code` has a wrong type"),
        (r#"{"id":"a","to":"+628123456890","code":"482910","extra":1}"#, "unknown field"),
        (r#"{"id":"a","id":"b","to":"+628123456890","code":"482910"}"#, "`id` is given twice"),
        (r#"{"id":"a b","to":"+628123456890","code":"482910"}"#, "`id` must be"),
        (r#"{"id":"a","to":"call me","code":"482910"}"#, "`to` must be E.164"),
        (r#"{"id":"a","to":"+628123456890","code":"48-29"}"#, "`code` must be 4 to 15"),
        (r#"{"id":"a","to":"+628123456890","code":"482910","purpose":""}"#, "`purpose` must be"),
        (r#"{"id":"a","to":"+628123456890","code":"482910","created_at":"noon"}"#, "`created_at` must be"),
        (
            r#"{"id":"a","to":"+628123456890","code":"482910","created_at":"2026-11-20T09:30:00Z","expires_at":"2026-11-20T09:30:00Z"}"#,
            "later than",
        ),
        (r#"{"id":"a","to":"+628123456890","code":"482910","metadata":{"a":1}}"#, "`metadata` must be"),
        (r#"{"id":"a","to":"+628123456890","code":"482910","template":{"name":""}}"#, "`template.name` must"),
        (r#"{"id":"a","to":"+628123456890","code":"482910","template":{"nome":"x"}}"#, "unknown field"),
        (
            r#"{"id":"a","to":"+628123456890","code":"482910","template":{"name":4}}"#,
            "`template.name` has a wrong type",
        ),
    ] {
        let malformed = refused(body);
        assert!(malformed.detail.contains(says), "{body}: {}", malformed.detail);
    }
}

#[test]
fn too_large_is_refused_before_it_is_read() {
    let body =
        format!(r#"{{"id":"a","to":"+628123456890","code":"482910","purpose":"{}"}}"#, "x".repeat(70_000));
    assert!(refused(&body).detail.contains("at most 65536"));
}

#[test]
fn the_id_of_a_refused_job_is_kept_where_it_can_be_read() {
    assert_eq!(refused(r#"{"id":"a","to":1}"#).id.unwrap().as_str(), "a");
    assert_eq!(refused(r#"{"id":"a b","to":1}"#).id, None);
}

proptest! {
    #[test]
    fn any_bytes_are_a_job_or_a_reason(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Err(malformed) = SendJob::parse(&body, NOW) {
            prop_assert!(!malformed.detail.is_empty());
        }
    }

    #[test]
    fn a_refusal_never_repeats_the_code_or_the_number(code in "[0-9]{6}", to in "62[0-9]{9}", place in 0usize..4) {
        let body = match place {
            0 => format!(r#"{{"id":"a","to":"{to}","code":{code}}}"#),
            1 => format!(r#"{{"id":"a","to":{to},"code":"{code}"}}"#),
            2 => format!(r#"{{"id":"a","to":"{to}","code":"{code}","{code}":"{to}"}}"#),
            _ => format!(r#"{{"id":"a","to":"{to}","code":["{code}"],"purpose":"x"}}"#),
        };
        let detail = refused(&body).detail;
        prop_assert!(!detail.contains(&code) && !detail.contains(&to), "{}", detail);
    }
}

//! Every example answer of the providers' page, read. One rule stands above the examples: an HTTP
//! status of 500 and above that they call ambiguous is transient, possibly sent.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests, and what they call")]

mod common;

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use otpd_core::{Answered, MessageId, Outcome, Reason};
use otpd_providers::{Answer, Kind};
use serde_json::Value;

use common::{NOW, adapter, cases, job, kind_of};

/// Waits that Meta documents for an error whose answer names none.
const DOCUMENTED_WAITS: [(Kind, i64, u64); 1] = [(Kind::MetaCloud, 4, 300)];

fn answer(case: &Value) -> Answer {
    let headers = case["headers"].as_object().unwrap().iter().map(|(name, value)| {
        let value = HeaderValue::from_str(value.as_str().unwrap()).unwrap();
        (name.parse::<HeaderName>().unwrap(), value)
    });
    Answer {
        status: u16::try_from(case["status"].as_u64().unwrap()).unwrap(),
        headers: headers.collect::<HeaderMap>(),
        body: case["body"].as_str().unwrap().to_owned().into(),
        truncated: false,
    }
}

fn scope(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::RateLimited { scope, .. } | Outcome::Permanent { scope, .. } => Some(scope.as_str()),
        Outcome::Account { .. } => Some("account"),
        Outcome::Accepted { .. } | Outcome::Transient { .. } | Outcome::Ambiguous { .. } => None,
    }
}

fn wait(outcome: &Outcome) -> Option<Duration> {
    match outcome {
        Outcome::RateLimited { wait, .. } | Outcome::Transient { wait, .. } => *wait,
        Outcome::Accepted { .. }
        | Outcome::Ambiguous { .. }
        | Outcome::Permanent { .. }
        | Outcome::Account { .. } => None,
    }
}

fn check(kind: Kind, case: &Value, answered: &Answered) {
    let (id, expected, outcome) = (&case["id"], &case["expected"], &answered.outcome);
    let text = |field: &str| expected[field].as_str();
    let status = case["status"].as_u64().unwrap();

    let unclear = status >= 500 && text("class") == Some("ambiguous");
    let class = if unclear { Some("transient") } else { text("class") };
    assert_eq!(Some(outcome.class().as_str()), class, "{id}");
    if let Outcome::Transient { possibly_sent, .. } = outcome {
        assert_eq!(*possibly_sent, unclear, "{id}");
    }
    assert_eq!(outcome.reason().map(Reason::as_str), text("reason"), "{id}");
    assert_eq!(scope(outcome), text("scope"), "{id}");
    assert_eq!(answered.code.map(|code| code.to_string()).as_deref(), text("code"), "{id}");
    assert_eq!(answered.http_status.map(u64::from), Some(status), "{id}");

    if let Outcome::Accepted { message_id, .. } = outcome {
        assert_eq!(message_id.as_ref().map(MessageId::as_str), text("message_id"), "{id}");
    }
    let documented = DOCUMENTED_WAITS.iter().find(|(k, code, _)| *k == kind && Some(*code) == answered.code);
    let named = expected["retry_after_s"].as_u64().or(documented.map(|(_, _, seconds)| *seconds));
    assert_eq!(wait(outcome), named.map(Duration::from_secs), "{id}");
    if let Some(limit) = case["limit_per_minute"].as_u64() {
        let Outcome::RateLimited { limit: Some(rate), .. } = outcome else { panic!("{id}: no limit") };
        assert_eq!((u64::from(rate.count), rate.per), (limit, Duration::from_secs(60)), "{id}");
    }
}

#[test]
fn every_example() {
    let mut read = 0;
    for case in cases().iter().filter(|case| case["kind"] == "response" && case["transport"].is_null()) {
        let Some(kind) = kind_of(case) else { continue };
        let adapter = adapter(kind, "https://api.example");
        check(kind, case, &adapter.classify(&job(), &answer(case), NOW));
        read += 1;
    }
    assert_eq!(read, 116, "the examples have changed");
}

/// What the tables say and no example shows.
#[test]
fn between_the_examples() {
    use Kind::{Betatel, MetaCloud, MetaOnPrem, Msgai, OneMsg, Verihubs};
    for (kind, status, body, class, reason, scope_is) in [
        (OneMsg, 200, r#"{"sent":true}"#, "accepted", "missing_id", None),
        (
            OneMsg,
            200,
            r#"{"sent":false,"jobId":"q-7","message":"queued"}"#,
            "accepted",
            "queued_unconfirmed",
            None,
        ),
        (OneMsg, 200, r#"{"sent":false,"message":"no"}"#, "permanent", "unknown_error", Some("message")),
        (OneMsg, 200, r#"{"sent":"false","message":"no"}"#, "permanent", "unknown_error", Some("message")),
        (OneMsg, 200, r#"{"sent":"False","jobId":"q-7"}"#, "accepted", "queued_unconfirmed", None),
        (OneMsg, 200, r#"{"sent":"true"}"#, "accepted", "missing_id", None),
        (OneMsg, 200, r#"{"sent":"perhaps","id":"x"}"#, "ambiguous", "malformed_response", None),
        (OneMsg, 400, r#"{"error":"bad"}"#, "permanent", "invalid_request", Some("message")),
        (OneMsg, 400, r#"{"error":"(#132001) Template"}"#, "permanent", "template_missing", Some("template")),
        (OneMsg, 401, r#"{"message":"Wrong token"}"#, "account", "auth_invalid", Some("account")),
        (
            OneMsg,
            422,
            r#"{"error":"namespace is required"}"#,
            "permanent",
            "template_missing",
            Some("template"),
        ),
        (
            MetaCloud,
            200,
            r#"{"messages":[{"id":"w","message_status":"held_for_quality_assessment"}]}"#,
            "accepted",
            "held_for_quality_assessment",
            None,
        ),
        (MetaCloud, 200, r#"{"messages":[{}]}"#, "ambiguous", "malformed_response", None),
        (
            MetaCloud,
            200,
            r#"{"error":{"code":131026}}"#,
            "permanent",
            "recipient_not_on_whatsapp",
            Some("recipient"),
        ),
        (MetaCloud, 400, r#"{"error":{"code":"190"}}"#, "account", "auth_expired", Some("account")),
        (MetaCloud, 429, "", "rate_limited", "rate_provider", Some("sender")),
        (MetaOnPrem, 401, r#"{"errors":[{"code":1005}]}"#, "account", "auth_expired", Some("account")),
        (MetaOnPrem, 429, "", "rate_limited", "rate_provider", Some("sender")),
        (
            Verihubs,
            201,
            r#"{"message":"OTP sent successfully","otp":"482910"}"#,
            "accepted",
            "missing_id",
            None,
        ),
        (Verihubs, 401, "", "account", "auth_invalid", Some("account")),
        (
            Verihubs,
            409,
            r#"{"message":"Msisdn invalid: msisdn has been blocked"}"#,
            "permanent",
            "recipient_blocked",
            Some("recipient"),
        ),
        (Verihubs, 503, "", "transient", "service_unavailable", None),
        (Betatel, 200, "{}", "ambiguous", "malformed_response", None),
        (Betatel, 401, "", "account", "auth_invalid", Some("account")),
        (Betatel, 403, "", "account", "auth_invalid", Some("account")),
        (Betatel, 422, "", "permanent", "invalid_request", Some("message")),
        (Msgai, 200, r#"{"result":true}"#, "accepted", "missing_id", None),
        (Msgai, 200, r#"{"message":"?"}"#, "ambiguous", "malformed_response", None),
        (
            Msgai,
            400,
            r#"{"message":"WhatsApp Business Account not configured"}"#,
            "account",
            "account_not_configured",
            Some("account"),
        ),
        (
            Msgai,
            400,
            r#"{"message":"Message not sent. Template category mismatch: Expected 'authentication', but received 'MARKETING'"}"#,
            "permanent",
            "template_category_mismatch",
            Some("template"),
        ),
        (
            Msgai,
            400,
            r#"{"message":"Please correct the following error - OTP longer than 15 chars"}"#,
            "permanent",
            "otp_too_long",
            Some("message"),
        ),
        (
            Msgai,
            400,
            r#"{"message":"Please correct the following error - Phone number is invalid"}"#,
            "permanent",
            "invalid_recipient",
            Some("recipient"),
        ),
        (
            Msgai,
            400,
            r#"{"message":"Please correct the following error - Template not approved in that language"}"#,
            "permanent",
            "template_missing",
            Some("template"),
        ),
        (Msgai, 400, r#"{"message":"something else"}"#, "permanent", "invalid_request", Some("message")),
        (
            Msgai,
            403,
            r#"{"message":"An active subscription is required to use Public APIs."}"#,
            "account",
            "plan_inactive",
            Some("account"),
        ),
        (
            Msgai,
            403,
            r#"{"message":"Access denied — your IP address is not on this account's allowlist."}"#,
            "account",
            "ip_not_allowed",
            Some("account"),
        ),
        (Msgai, 403, "", "account", "auth_invalid", Some("account")),
        (Msgai, 500, r#"{"message":"boom"}"#, "transient", "internal_error", None),
    ] {
        let answer = Answer { status, headers: HeaderMap::new(), body: body.into(), truncated: false };
        let outcome = adapter(kind, "https://api.example").classify(&job(), &answer, NOW).outcome;
        assert_eq!(outcome.class().as_str(), class, "{kind} {status} {body}");
        assert_eq!(outcome.reason().map(Reason::as_str), Some(reason), "{kind} {status} {body}");
        assert_eq!(scope(&outcome), scope_is, "{kind} {status} {body}");
    }
}

#[test]
fn a_queued_message_is_known_by_its_id_or_by_its_job() {
    for (body, id) in [
        (r#"{"sent":false,"jobId":"q-7"}"#, "q-7"),
        (r#"{"sent":false,"jobId":42}"#, "42"),
        (r#"{"sent":false,"jobId":"q-7","id":"wamid.1"}"#, "wamid.1"),
    ] {
        let answer = Answer { status: 200, headers: HeaderMap::new(), body: body.into(), truncated: false };
        let outcome = adapter(Kind::OneMsg, "https://api.example").classify(&job(), &answer, NOW).outcome;
        let Outcome::Accepted { message_id: Some(found), .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(found.as_str(), id);
    }
}

#[test]
fn waits_come_from_the_header_then_the_body_then_the_documents() {
    let read = |kind, status, headers: &[(&'static str, &'static str)], body: &'static str| {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let answer = Answer { status, headers: headers.collect(), body: body.into(), truncated: false };
        wait(&adapter(kind, "https://api.example").classify(&job(), &answer, NOW).outcome)
    };
    let usage = ("x-business-use-case-usage", r#"{"1":[{"estimated_time_to_regain_access":7}]}"#);
    let limited = r#"{"error":{"code":80007}}"#;
    for (kind, status, headers, body, seconds) in [
        (Kind::Msgai, 429, &[("retry-after", "11")][..], r#"{"Retry-After":30}"#, Some(11)),
        (Kind::Msgai, 429, &[], r#"{"Retry-After":30}"#, Some(30)),
        (Kind::Msgai, 429, &[], r#"{"Retry-After":"31"}"#, Some(31)),
        (Kind::Msgai, 429, &[("retry-after", "inf")], r#"{"Retry-After":-1}"#, Some(60)),
        (Kind::MetaCloud, 400, &[usage], limited, Some(420)),
        (Kind::MetaCloud, 400, &[usage, ("retry-after", "5")], limited, Some(5)),
        (Kind::Verihubs, 429, &[("retry-after", "Fri, 20 Nov 2026 09:30:10 GMT")], "", Some(10)),
        (Kind::Betatel, 503, &[("retry-after", "3")], "", Some(3)),
        (Kind::Betatel, 429, &[], "", None),
    ] {
        assert_eq!(read(kind, status, headers, body), seconds.map(Duration::from_secs), "{kind} {body}");
    }
}

/// What is there counts: a body that is whole, else the status.
#[test]
fn a_cut_answer_is_read_by_what_there_is_of_it() {
    for (kind, status, body, class) in [
        (Kind::Msgai, 200, r#"{"result":true,"id":"x"}"#, "accepted"),
        (Kind::Msgai, 200, r#"{"result":true,"id":"x""#, "ambiguous"),
        (Kind::OneMsg, 200, r#"{"sent":false,"message":"Dialog window is closed"}"#, "permanent"),
        (Kind::Verihubs, 201, r#"{"session_id":"s"}"#, "accepted"),
        (Kind::Verihubs, 201, "{", "ambiguous"),
        (Kind::MetaCloud, 400, r#"{"error":{"code":190,"#, "permanent"),
        (Kind::Betatel, 402, "", "account"),
        (Kind::OneMsg, 500, "", "transient"),
    ] {
        let answer = Answer { status, headers: HeaderMap::new(), body: body.into(), truncated: true };
        let outcome = adapter(kind, "https://api.example").classify(&job(), &answer, NOW).outcome;
        assert_eq!(outcome.class().as_str(), class, "{kind} {status}");
    }
}

#[test]
fn the_detail_explains_and_hides() {
    for (kind, status, body, detail) in [
        (
            Kind::OneMsg,
            401,
            r#"{"error":"Wrong token \"sk_live_tokenTOKENtoken\" for channel \"CH-1\"."}"#,
            Some(r#"Wrong token "***" for channel "CH-1"."#),
        ),
        (
            Kind::MetaCloud,
            400,
            r#"{"error":{"message":"(#131026) Message undeliverable","code":131026,"error_data":{"details":"to +62 8123456890"}}}"#,
            Some("(#***) Message undeliverable: to +62 ***"),
        ),
        (Kind::Betatel, 400, "Bad Request", Some("Bad Request")),
        (
            Kind::Betatel,
            502,
            "<html>Bad Gateway</html>",
            Some("the answer is a page and not the provider's: is a proxy in between, or base_url wrong?"),
        ),
        (Kind::Verihubs, 201, r#"{"message":"OTP sent successfully","otp":"482910"}"#, None),
        (
            Kind::Verihubs,
            400,
            r#"{"message":"OTP 482910 for 628123456890 invalid"}"#,
            Some("OTP *** for *** invalid"),
        ),
    ] {
        let answer = Answer { status, headers: HeaderMap::new(), body: body.into(), truncated: false };
        let answered = adapter(kind, "https://api.example").classify(&job(), &answer, NOW);
        assert_eq!(answered.detail.as_deref(), detail, "{kind} {status}");
    }
}

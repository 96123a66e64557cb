//! Asking what became of a message: the requests to the byte, and every kind of answer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests, and what they call")]

mod common;

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use otpd_core::{DeliveryStatus, MessageId, Outcome, Reason, Scope};
use otpd_providers::{Answer, Kind, Polled, Told};

use common::{CODE, NOW, PHONE, adapter};

fn id(text: &str) -> MessageId {
    MessageId::new(text).unwrap()
}

#[test]
fn the_requests() {
    for (kind, message, url) in [
        (Kind::OneMsg, "wamid.HB+/=&x", Some("https://a/b/CH-1/hookInfo?messageId=wamid.HB%2B%2F%3D%26x")),
        (Kind::Betatel, "01JV5V54KP", Some("https://a/b/api/v1/connect-hub/whatsapp/01JV5V54KP/wdr")),
        (Kind::Betatel, "..", None),
        (Kind::Betatel, "a/b", None),
        (Kind::MetaCloud, "wamid.1", None),
        (Kind::MetaOnPrem, "gBEG", None),
        (Kind::Verihubs, "s", None),
        (Kind::Msgai, "u", None),
    ] {
        let adapter = adapter(kind, "https://a/b");
        let request = adapter.poll_request(&id(message));
        assert_eq!(request.as_ref().map(|poll| poll.url.as_str()), url, "{kind} {message}");
        let credential = if kind == Kind::OneMsg { "authorization" } else { "x-api-key" };
        assert!(request.is_none_or(|poll| poll.headers.contains_key(credential)), "{kind}");
    }
}

fn read(kind: Kind, status: u16, body: &str) -> Polled {
    let mut headers = HeaderMap::new();
    if status == 429 {
        headers.insert("retry-after", HeaderValue::from_static("7"));
    }
    let answer = Answer { status, headers, body: body.to_owned().into(), truncated: false };
    adapter(kind, "https://a").read_poll(&id("m"), &answer, NOW)
}

#[test]
fn the_furthest_state_counts() {
    let record = |status: &str| {
        format!(r#"{{"uuid":"m","wam_id":"w","to":"{PHONE}","text":"{CODE}","status":"{status}"}}"#)
    };
    for (kind, body, status, reason) in [
        (Kind::OneMsg, r#"{"hooks":[{"id":"m","status":"sent"}]}"#.to_owned(), DeliveryStatus::Sent, None),
        (
            Kind::OneMsg,
            r#"{"hooks":[{"id":"m","status":"read"},{"id":"other","status":"failed"},{"id":"m","status":"delivered"},{"id":"m","status":"?"}]}"#.to_owned(),
            DeliveryStatus::Read,
            None,
        ),
        (
            Kind::OneMsg,
            r#"{"hooks":[{"id":"m","status":"failed"},{"id":"m","status":"sent"}]}"#.to_owned(),
            DeliveryStatus::Failed,
            Some(Reason::UnknownError),
        ),
        (
            Kind::OneMsg,
            r#"{"hooks":[{"id":"m","status":"delivered"},{"id":"m","status":"failed"}]}"#.to_owned(),
            DeliveryStatus::Delivered,
            None,
        ),
        (Kind::Betatel, record("DELIVERED"), DeliveryStatus::Delivered, None),
        (Kind::Betatel, record("EXPIRED"), DeliveryStatus::Expired, Some(Reason::ExpiredTtl)),
    ] {
        let polled = read(kind, 200, &body);
        let Polled::Update(update) = &polled else { panic!("{kind} {body}: {polled:?}") };
        assert_eq!((update.status, update.reason), (Told::Delivery(status), reason), "{kind} {body}");
        assert!(!format!("{polled:?}").contains(CODE) && !format!("{polled:?}").contains(PHONE));
    }
    let pending = read(Kind::Betatel, 200, &record("PENDING"));
    assert!(matches!(pending, Polled::Update(update) if update.status == Told::Accepted));
}

#[test]
fn what_is_not_known_is_nothing() {
    for (kind, status, body) in [
        (Kind::OneMsg, 200, r#"{"hooks":[]}"#),
        (Kind::OneMsg, 200, r#"{"hooks":[{"id":"other","status":"read"}]}"#),
        (Kind::OneMsg, 200, r#"{"hooks":[{"id":"m","status":"?"}]}"#),
        (Kind::Betatel, 404, r#"{"message":"Not Found"}"#),
        (Kind::Betatel, 200, r#"{"uuid":"other","status":"READ"}"#),
        (Kind::Betatel, 200, r#"{"uuid":"m","status":"QUEUED"}"#),
        (Kind::MetaCloud, 200, "{}"),
    ] {
        assert_eq!(read(kind, status, body), Polled::Nothing, "{kind} {status} {body}");
    }
}

#[test]
fn what_is_not_said_has_an_outcome() {
    let account = |reason| Outcome::Account { reason };
    let unreadable = || Outcome::Ambiguous { reason: Reason::MalformedResponse };
    let too_many = Outcome::RateLimited {
        reason: Reason::RateProvider,
        scope: Scope::Account,
        wait: Some(Duration::from_secs(7)),
        limit: None,
    };
    for (kind, status, body, outcome) in [
        (Kind::OneMsg, 401, r#"{"error":"Wrong token"}"#, account(Reason::AuthInvalid)),
        (Kind::OneMsg, 404, "", account(Reason::EndpointNotFound)),
        (Kind::OneMsg, 429, "", too_many.clone()),
        (Kind::OneMsg, 200, "{}", unreadable()),
        (Kind::Betatel, 200, "<html>", unreadable()),
        (Kind::Betatel, 200, r#"{"uuid":"m"}"#, unreadable()),
        (Kind::Betatel, 429, "", too_many),
        (Kind::Betatel, 402, "", account(Reason::InsufficientBalance)),
    ] {
        assert_eq!(read(kind, status, body), Polled::Refused(outcome), "{kind} {status} {body}");
    }
}

//! Whatever a provider answers or calls back with: it is read, without a panic and without repeating a secret.
#![allow(clippy::unwrap_used, reason = "tests, and what they call")]

mod common;

use http::{HeaderMap, HeaderValue};
use otpd_core::{Class, SendJob};
use otpd_providers::{
    Answer, Callback, CallbackKeys, CallbackMethod, CallbackRead, CallbackReader, Kind, MAX_STATUSES, Secret,
};
use proptest::prelude::*;

use common::{NOW, PHONE, SECRETS, adapter};

/// Statuses worth hitting often, and all others.
fn status() -> impl Strategy<Value = u16> {
    prop_oneof![
        prop::sample::select(vec![200, 201, 204, 307, 400, 401, 402, 403, 404, 409, 422, 429, 500, 502, 503]),
        any::<u16>(),
    ]
}

/// A body in which `{}` stands for a message.
fn shape() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "{}",
        r#"{"message":{}}"#,
        r#"{"sent":false,"message":{}}"#,
        r#"{"sent":true,"id":{}}"#,
        r#"{"result":false,"message":{}}"#,
        r#"{"message":"OTP sent","otp":{},"msisdn":{}}"#,
        r#"{"error":{}}"#,
        r#"{"error":{"message":{},"code":131026,"error_data":{"details":{}}}}"#,
        r#"{"errors":[{"code":1008,"title":"x","details":{}}]}"#,
        r#"{"messages":[{"id":{},"message_status":{}}]}"#,
        r#"{"description":{},"message":7}"#,
    ])
}

fn headers(retry_after: &str, usage: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [("retry-after", retry_after), ("x-business-use-case-usage", usage)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    headers
}

fn job(code: &str) -> SendJob {
    let body = format!(r#"{{"id":"j","to":"+{PHONE}","code":"{code}"}}"#);
    SendJob::parse(body.as_bytes(), NOW).unwrap()
}

proptest! {
    #[test]
    fn any_bytes_are_read(
        status in status(),
        retry_after in ".{0,30}",
        usage in ".{0,60}",
        body in prop::collection::vec(any::<u8>(), 0..300),
        truncated in any::<bool>(),
    ) {
        for kind in Kind::ALL {
            let answer = Answer { status, headers: headers(&retry_after, &usage), body: body.clone().into(), truncated };
            let answered = adapter(kind, "https://a").classify(&job("482910"), &answer, NOW);
            prop_assert_eq!(answered.http_status, Some(status));
            prop_assert!(status < 500 || answered.outcome.class() != Class::Ambiguous);
            prop_assert!(answered.outcome.class() != Class::Accepted, "random bytes are no success");
        }
    }

    #[test]
    fn nothing_secret_comes_back(
        status in status(),
        shape in shape(),
        code in "[0-9]{4,15}|[A-Za-z0-9]{4,15}|[a-z]{4,6}",
        before in ".{0,30}",
        after in ".{0,30}",
        quoted in any::<bool>(),
        truncated in any::<bool>(),
    ) {
        let job = job(&code);
        let said = format!("{before}{code}{after} {PHONE} +{PHONE}{code} {} {}{after}", SECRETS[0], SECRETS[1]);
        let said = if quoted { serde_json::to_string(&said).unwrap() } else { said };
        let body = shape.replace("{}", &said);
        for kind in Kind::ALL {
            let answer = Answer { status, headers: HeaderMap::new(), body: body.clone().into(), truncated };
            let answered = adapter(kind, "https://a").classify(&job, &answer, NOW);
            let detail = answered.detail.as_deref().unwrap_or_default().to_lowercase();
            prop_assert!(detail.chars().count() <= otpd_core::text::MAX_DETAIL);
            prop_assert!(!detail.contains(&code.to_lowercase()), "the code {code} in {detail:?}");
            prop_assert!(!detail.contains(PHONE), "the number in {detail:?}");
            // Every kind has the first credential; two have the second as well.
            prop_assert!(!detail.contains(&SECRETS[0].to_lowercase()), "a credential in {detail:?}");
            if matches!(kind, Kind::Verihubs | Kind::Betatel) {
                prop_assert!(!detail.contains(&SECRETS[1].to_lowercase()), "a credential in {detail:?}");
            }
            let shown = format!("{answer:?}");
            prop_assert!(!shown.contains(&format!(" {code} ")) && shown.len() < 40, "{shown}");
        }
    }

    #[test]
    fn any_callback_is_read(
        body in callback_body(),
        query in prop_oneof!["[a-z_.=&%+0-9]{0,60}", any::<String>()],
        job in prop::option::of(".{0,70}"),
        signature in ".{0,80}",
        is_get in any::<bool>(),
        is_signed in any::<bool>(),
    ) {
        let mut headers = HeaderMap::new();
        for name in ["x-hub-signature-256", "x-webhook-signature", "x-webhook-event"] {
            if let Ok(value) = HeaderValue::from_str(&signature) {
                headers.insert(name, value);
            }
        }
        for kind in Kind::ALL {
            let keys = CallbackKeys {
                signature: is_signed.then(|| Secret::new(SECRETS[0])),
                verify_token: Some(Secret::new(SECRETS[1])),
                ..CallbackKeys::default()
            };
            let reader = CallbackReader::new(kind, &keys);
            let method = if is_get { CallbackMethod::Get } else { CallbackMethod::Post };
            let read = reader.read(&Callback { method, query: &query, job: job.as_deref(), headers: &headers, body: &body });
            if let CallbackRead::Updates(updates) = &read {
                prop_assert!((1..=MAX_STATUSES).contains(&updates.len()));
                prop_assert!(updates.iter().all(|u| u.message_id.is_some() || u.job.is_some()));
                prop_assert!(!is_signed || !matches!(kind, Kind::MetaCloud | Kind::Msgai), "signed by chance");
            }
            let shown = format!("{read:?}");
            prop_assert!(!shown.contains(PHONE) && !shown.contains("482910"), "{shown}");
        }
    }
}

/// Any bytes, and the shapes of callbacks with something odd in them.
fn callback_body() -> impl Strategy<Value = Vec<u8>> {
    let shape = prop::sample::select(vec![
        r#"{"ack":[{"id":{},"chatId":"628123456890@c.us","status":{},"timestamp":{}}],"instanceId":{}}"#,
        r#"{"hooks":[{"id":{},"status":"failed","errors":[{"code":{}}]},{}]}"#,
        r#"{"entry":[{"changes":[{"field":{},"value":{"statuses":[{"id":"a","status":{},"timestamp":{},"biz_opaque_callback_data":{}}]}}]}]}"#,
        r#"{"entry":[{"changes":{}},{}]}"#,
        r#"{"statuses":[{"id":{},"status":"failed","recipient_id":"628123456890","errors":[{"code":{},"title":{}}]}]}"#,
        r#"{"session_id":{},"status":{}}"#,
        "session_id={}&status={}",
        r#"{"uuid":{},"to":"628123456890","text":"482910","status":{},"timestamp":{}}"#,
        r#"{"list":[{"uuid":"a","status":"DELIVERED","text":"482910","delivery_timestamp":{}}]}"#,
        r#"{"event":{},"timestamp":{},"data":{"message_id":{},"callbackData":{}}}"#,
        r#"{"event":"message.failed","data":{"message_id":"a","error":{}}}"#,
    ]);
    let value = prop_oneof![
        "-?[0-9]{1,30}(e[0-9]{1,4})?",
        prop::sample::select(vec![
            "null",
            "true",
            "[]",
            "{}",
            "\"sent\"",
            "\"FAILED\"",
            "\"message_read\"",
            "1e400"
        ])
        .prop_map(ToOwned::to_owned),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        any::<String>(),
    ];
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        (shape, value).prop_map(|(shape, value)| shape.replace("{}", &value).into_bytes()),
    ]
}

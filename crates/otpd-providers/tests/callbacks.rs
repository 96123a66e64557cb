//! Every example callback of the providers' page, read, and what its tables say beyond them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests, and what they call")]

mod common;

use http::{HeaderMap, HeaderName, HeaderValue};
use otpd_core::{Class, DeliveryStatus, JobId, MessageId, Reason, UnixMs};
use otpd_providers::{
    Callback, CallbackKeys, CallbackMethod, CallbackRead, CallbackReader, Kind, MAX_STATUSES, Secret, Told,
    Update,
};
use ring::hmac;
use serde_json::{Value, json};

use common::{CODE, PHONE, cases, kind_of};

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
    };
    pairs.iter().map(pair).collect()
}

fn reader(kind: Kind) -> CallbackReader {
    CallbackReader::new(kind, &CallbackKeys::default())
}

fn post(kind: Kind, body: &str) -> CallbackRead {
    reader(kind).read(&Callback {
        method: CallbackMethod::Post,
        query: "",
        job: None,
        headers: &HeaderMap::new(),
        body: body.as_bytes(),
    })
}

fn get(kind: Kind, keys: &CallbackKeys, query: &str) -> CallbackRead {
    CallbackReader::new(kind, keys).read(&Callback {
        method: CallbackMethod::Get,
        query,
        job: None,
        headers: &HeaderMap::new(),
        body: b"",
    })
}

/// The status in the words of the examples.
fn word(told: Told) -> &'static str {
    match told {
        Told::Accepted => "accepted",
        Told::Delivery(status) => status.as_str(),
    }
}

fn read(kind: Kind, case: &Value) -> CallbackRead {
    let secret = |field: &str| case[field].as_str().map(Secret::new);
    let keys = CallbackKeys {
        signature: secret("secret"),
        verify_token: secret("verify_token"),
        ..CallbackKeys::default()
    };
    let pairs: Vec<(&str, &str)> = case["headers"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
        .collect();
    CallbackReader::new(kind, &keys).read(&Callback {
        method: match case["method"].as_str().unwrap() {
            "GET" => CallbackMethod::Get,
            "POST" => CallbackMethod::Post,
            other => panic!("{other}"),
        },
        query: case["url"].as_str().and_then(|url| url.split_once('?')).map_or("", |(_, query)| query),
        job: None,
        headers: &headers(&pairs),
        body: case["body"].as_str().unwrap().as_bytes(),
    })
}

fn check(kind: Kind, case: &Value, read: &CallbackRead) {
    let (id, expected) = (&case["id"], &case["expected"]);
    let text = |field: &str| expected[field].as_str();
    let class = match read {
        CallbackRead::Updates(_) => "status_update",
        CallbackRead::Challenge(_) => "challenge",
        CallbackRead::Ignored(_) => "ignored",
        CallbackRead::Malformed(_) => "malformed",
        CallbackRead::Forged => "unauthorized",
    };
    assert_eq!(Some(class), text("class"), "{id}: {read:?}");
    match read {
        CallbackRead::Updates(updates) => {
            let first = updates.first().unwrap();
            assert_eq!(first.message_id.as_ref().map(MessageId::as_str), text("message_id"), "{id}");
            assert_eq!(Some(word(first.status)), text("status"), "{id}");
            assert_eq!(first.reason.map(Reason::as_str), text("reason"), "{id}");
            assert_eq!(first.class.map(Class::as_str), text("failure_class"), "{id}");
            if matches!(kind, Kind::MetaCloud | Kind::MetaOnPrem) {
                assert_eq!(first.code.map(|code| code.to_string()).as_deref(), text("code"), "{id}");
            }
            if let Some(events) = expected["events"].as_array() {
                let told: Vec<Value> = updates
                    .iter()
                    .map(|update| {
                        let id = update.message_id.as_ref().unwrap().as_str();
                        json!({ "message_id": id, "status": word(update.status) })
                    })
                    .collect();
                assert_eq!(&told, events, "{id}");
            } else {
                assert_eq!(updates.len(), 1, "{id}");
            }
        }
        CallbackRead::Challenge(text) => assert_eq!(text.as_str(), case["expected_reply"], "{id}"),
        CallbackRead::Ignored(reason) => assert_eq!(reason.map(Reason::as_str), text("reason"), "{id}"),
        CallbackRead::Malformed(_) => {}
        CallbackRead::Forged => assert_eq!(text("reason"), Some("bad_signature"), "{id}"),
    }
}

#[test]
fn every_example() {
    let mut count = 0;
    for case in cases().iter().filter(|case| case["kind"] == "callback") {
        let Some(kind) = kind_of(case) else { continue };
        check(kind, case, &read(kind, case));
        count += 1;
    }
    assert_eq!(count, 43, "the examples have changed");
}

/// A part of the tables: what a body says in a word, with the reason and the class where there are some.
type Row = (Kind, &'static str, &'static str, Option<Reason>, Option<Class>);

#[test]
fn between_the_examples() {
    use Kind::{Betatel, MetaCloud, MetaOnPrem, Msgai, OneMsg, Verihubs};
    let unknown = (Some(Reason::UnknownError), Some(Class::Transient));
    let rows: [Row; 33] = [
        (OneMsg, r#"{"ack":[{"id":"a","status":"delivered"}]}"#, "delivered", None, None),
        (OneMsg, r#"{"ack":[{"id":"a","status":"READ"}]}"#, "read", None, None),
        (OneMsg, r#"{"hooks":[{"id":"a","status":"undelivered"}]}"#, "failed", unknown.0, unknown.1),
        (
            OneMsg,
            r#"{"hooks":[{"id":"a","status":"failed","errors":[{"code":131026}]}]}"#,
            "failed",
            Some(Reason::RecipientNotOnWhatsapp),
            Some(Class::Permanent),
        ),
        (
            MetaCloud,
            r#"{"entry":[{"changes":[{"value":{"statuses":[{"id":7,"status":"played"}]}}]}]}"#,
            "read",
            None,
            None,
        ),
        (
            MetaCloud,
            r#"{"entry":[{"changes":[{"value":{"statuses":[{"id":"a","status":"failed"}]}}]}]}"#,
            "failed",
            unknown.0,
            unknown.1,
        ),
        (
            MetaCloud,
            r#"{"entry":[{"changes":[{"value":{"statuses":[{"id":"a","status":"failed","errors":[{"code":"131000"}]}]}}]}]}"#,
            "failed",
            Some(Reason::InternalError),
            Some(Class::Transient),
        ),
        (
            MetaCloud,
            r#"{"entry":[{"changes":[{"value":{"statuses":[{"id":"a","status":"failed","errors":[{"code":999999}]}]}}]}]}"#,
            "failed",
            Some(Reason::UnknownError),
            Some(Class::Permanent),
        ),
        (MetaOnPrem, r#"{"statuses":[{"id":"a","status":"sent"}]}"#, "sent", None, None),
        (
            MetaOnPrem,
            r#"{"statuses":[{"id":"a","status":"failed","errors":[{"code":410}]}]}"#,
            "expired",
            Some(Reason::ExpiredTtl),
            Some(Class::Permanent),
        ),
        // In an answer nobody could tell; a callback says that it failed.
        (
            MetaOnPrem,
            r#"{"statuses":[{"id":"a","status":"failed","errors":[{"code":1014}]}]}"#,
            "failed",
            Some(Reason::InternalError),
            Some(Class::Transient),
        ),
        (Verihubs, r#"{"session_id":"a","status":"0"}"#, "accepted", None, None),
        (Verihubs, "session_id=a&status=1", "sent", None, None),
        (Verihubs, r#"{"session_id":"a","status":2}"#, "delivered", None, None),
        (Verihubs, "session_id=a&status=%34", "verified", None, None),
        (Verihubs, "status=5&session_id=a", "expired", Some(Reason::OtpTimeLimit), None),
        (
            Verihubs,
            "session_id=a&status=6",
            "failed",
            Some(Reason::RecipientNotOnWhatsapp),
            Some(Class::Permanent),
        ),
        (Verihubs, "session_id=a&status=8", "rejected", Some(Reason::RateProvider), Some(Class::RateLimited)),
        (Verihubs, "session_id=a&status=10", "rejected", Some(Reason::TierLimit), Some(Class::Account)),
        (Betatel, r#"{"uuid":"a","status":"SENT"}"#, "sent", None, None),
        (Betatel, r#"{"uuid":"a","status":"READ"}"#, "read", None, None),
        (
            Betatel,
            r#"{"uuid":"a","status":"EXPIRED"}"#,
            "expired",
            Some(Reason::ExpiredTtl),
            Some(Class::Permanent),
        ),
        (Betatel, r#"[{"uuid":"a","status":"DELIVERED"}]"#, "delivered", None, None),
        (Betatel, r#"{"data":{"uuid":"a","status":"DELIVERED"}}"#, "delivered", None, None),
        (Betatel, r#"{"list":[{"uuid":"a","status":"Delivered"}],"total":1}"#, "delivered", None, None),
        (Betatel, r#"{"uuid":"a","status":"SENT","data":{"uuid":"b","status":"READ"}}"#, "sent", None, None),
        (Msgai, r#"{"event":"message.delivered","data":{"message_id":"a"}}"#, "delivered", None, None),
        (Msgai, r#"{"event":"message_sent","data":{"message_id":"a"}}"#, "sent", None, None),
        (Msgai, r#"{"event":"Message_Read","data":{"message_id":"a"}}"#, "read", None, None),
        (
            Msgai,
            r#"{"event":"message.failed","data":{"message_id":"a","error":"no"}}"#,
            "failed",
            unknown.0,
            unknown.1,
        ),
        (
            Msgai,
            r#"{"event":"message.failed","data":{"message_id":"a","error":"(#131026) Message undeliverable"}}"#,
            "failed",
            Some(Reason::RecipientNotOnWhatsapp),
            Some(Class::Permanent),
        ),
        (
            Msgai,
            r#"{"event":"message.failed","data":{"message_id":"a","reason":"(#131043) Message expired"}}"#,
            "expired",
            Some(Reason::ExpiredTtl),
            Some(Class::Permanent),
        ),
        (
            Msgai,
            r#"{"event":"message.failed","data":{"message_id":"a","error":"(#131042) Payment"}}"#,
            "failed",
            Some(Reason::PaymentIssue),
            Some(Class::Account),
        ),
    ];
    for (kind, body, status, reason, class) in rows {
        let read = post(kind, body);
        let CallbackRead::Updates(updates) = &read else { panic!("{kind} {body}: {read:?}") };
        let [update] = updates.as_slice() else { panic!("{kind} {body}: {read:?}") };
        assert_eq!(
            update.message_id.as_ref().map(MessageId::as_str),
            Some(if body.contains(":7") { "7" } else { "a" })
        );
        assert_eq!(
            (word(update.status), update.reason, update.class),
            (status, reason, class),
            "{kind} {body}"
        );
    }
}

#[test]
fn what_is_of_no_interest_is_ignored() {
    use Kind::{Betatel, MetaCloud, MetaOnPrem, Msgai, OneMsg, Verihubs};
    let (nothing, account, unknown) = (None, Some(Reason::AccountEvent), Some(Reason::UnknownStatus));
    for (kind, body, reason) in [
        (OneMsg, r#"{"messages":[{"id":"a","body":"hi"}],"instanceId":"1"}"#, nothing),
        (OneMsg, r#"{"ack":[]}"#, nothing),
        (OneMsg, r#"{"ack":[{"id":"a","status":"warming"}]}"#, unknown),
        (OneMsg, r#"{"entry":[{"changes":[{"value":{"messages":[]}}]}]}"#, nothing),
        (MetaCloud, r#"{"entry":[]}"#, nothing),
        (
            MetaCloud,
            r#"{"entry":[{"changes":[{"field":"messages","value":{"errors":[{"code":1}]}}]}]}"#,
            account,
        ),
        (
            MetaCloud,
            r#"{"entry":[{"changes":[{"field":"account_update","value":{"event":"BAN"}}]}]}"#,
            account,
        ),
        (
            MetaCloud,
            r#"{"entry":[{"changes":[{"value":{"statuses":[{"id":"a","status":"new"}]}}]}]}"#,
            unknown,
        ),
        (MetaOnPrem, r#"{"messages":[{"id":"a"}]}"#, nothing),
        (MetaOnPrem, r#"{"statuses":[{"id":"a","status":"deleted"}]}"#, nothing),
        (Verihubs, "session_id=a&status=12", unknown),
        (Verihubs, "session_id=a&status=-1", unknown),
        (Verihubs, "session_id=a&status=delivered", unknown),
        (Betatel, r#"{"uuid":"a","status":"QUEUED"}"#, unknown),
        (Msgai, r#"{"event":"wallet_low","data":{}}"#, account),
        (Msgai, r#"{"event":"wallet.empty"}"#, account),
        (Msgai, r#"{"event":"incoming_message","data":{"message_id":"a"}}"#, nothing),
        (Msgai, r#"{"event":"message.queued","data":{"message_id":"a"}}"#, unknown),
    ] {
        assert_eq!(post(kind, body), CallbackRead::Ignored(reason), "{kind} {body}");
    }
}

#[test]
fn what_is_no_callback_is_said() {
    use Kind::{Betatel, MetaCloud, MetaOnPrem, Msgai, OneMsg, Verihubs};
    for (kind, body, says) in [
        (OneMsg, "", "is not JSON"),
        (OneMsg, "{}", "has neither"),
        (OneMsg, "[]", "has neither"),
        (OneMsg, r#"{"ack":[{"status":"sent"}]}"#, "without an id"),
        (OneMsg, r#"{"ack":[{"id":"","status":"sent"}]}"#, "without an id"),
        (MetaCloud, r#"{"object":"page"}"#, "has no `entry`"),
        (MetaCloud, r#"{"entry":[{"changes":[{"value":{"statuses":[{"id":"a"}]}}]}]}"#, "without a status"),
        (MetaOnPrem, "null", "has no `statuses`"),
        (Verihubs, "", "has no `status`"),
        (Verihubs, "session_id=a", "has no `status`"),
        (Verihubs, "session_id=a&status=", "has no `status`"),
        (Verihubs, "status=1", "names neither"),
        (Betatel, r#"{"status":"SENT"}"#, "has no `uuid`"),
        (Betatel, "[7]", "has no `uuid`"),
        (Msgai, "{}", "has no `event`"),
        (Msgai, r#"{"event":"message.sent","data":{"channel":"whatsapp"}}"#, "has no `message_id`"),
    ] {
        let read = post(kind, body);
        assert!(
            matches!(read, CallbackRead::Malformed(problem) if problem.contains(says)),
            "{kind} {body}: {read:?}"
        );
    }
    for kind in [OneMsg, MetaOnPrem, Betatel, Msgai] {
        assert!(matches!(get(kind, &CallbackKeys::default(), "a=1"), CallbackRead::Malformed(_)), "{kind}");
    }
}

/// The one update of a callback.
fn only(read: CallbackRead) -> Update {
    let CallbackRead::Updates(mut updates) = read else { panic!("{read:?}") };
    assert_eq!(updates.len(), 1, "{updates:?}");
    updates.pop().unwrap()
}

#[test]
fn the_job_comes_back() {
    let job = Some(JobId::parse("job-1").unwrap());
    let meta = |echo: &str| {
        let status = json!({ "id": "a", "status": "sent", "biz_opaque_callback_data": echo });
        post(
            Kind::MetaCloud,
            &json!({ "entry": [{ "changes": [{ "value": { "statuses": [status] } }] }] }).to_string(),
        )
    };
    let msgai = |echo: &str| {
        let data = json!({ "message_id": "a", "callbackData": echo });
        post(Kind::Msgai, &json!({ "event": "message.sent", "data": data }).to_string())
    };
    for read in [meta, msgai] {
        assert_eq!(only(read(r#"{"job":"job-1","metadata":{"a":"b"}}"#)).job, job);
        assert_eq!(only(read("login:somebody")).job, None);
        assert_eq!(only(read("job-1")).job, None, "what others echo is theirs");
    }
    let without_id = r#"{"event":"message.sent","data":{"callbackData":"{\"job\":\"job-1\"}"}}"#;
    let update = only(post(Kind::Msgai, without_id));
    assert_eq!((update.message_id, update.job), (None, job.clone()));

    let verihubs = |job, body: &[u8]| {
        let headers = HeaderMap::new();
        reader(Kind::Verihubs).read(&Callback {
            method: CallbackMethod::Post,
            query: "status=2",
            job,
            headers: &headers,
            body,
        })
    };
    let update = only(verihubs(Some("job-1"), b""));
    assert_eq!((update.message_id, update.job), (None, job.clone()));
    let update = only(verihubs(Some("job-1"), br#"{"session_id":"s","status":9}"#));
    assert_eq!(update.status, Told::Delivery(DeliveryStatus::Delivered), "the query comes first");
    assert_eq!((update.message_id.as_ref().map(MessageId::as_str), update.job), (Some("s"), job));
    assert!(matches!(verihubs(Some("no job's id!"), b""), CallbackRead::Malformed(_)));
}

#[test]
fn times_are_the_providers() {
    let at = |kind, body| only(post(kind, body)).at.map(|at| at.0);
    for (kind, body, ms) in [
        (
            Kind::OneMsg,
            r#"{"hooks":[{"id":"a","status":"sent","timestamp":"1654864094"}]}"#,
            Some(1_654_864_094_000),
        ),
        (Kind::OneMsg, r#"{"ack":[{"id":"a","status":"sent","timestamp":-1}]}"#, None),
        (
            Kind::MetaOnPrem,
            r#"{"statuses":[{"id":"a","status":"read","timestamp":1518694700}]}"#,
            Some(1_518_694_700_000),
        ),
        (
            Kind::Msgai,
            r#"{"event":"message.sent","timestamp":"2026-05-18T10:00:00Z","data":{"message_id":"a"}}"#,
            Some(1_779_098_400_000),
        ),
        (
            Kind::Betatel,
            r#"{"uuid":"a","status":"DELIVERED","timestamp":"2024-01-15T10:30:00.000Z","delivery_timestamp":"2024-01-15T10:30:02.000Z"}"#,
            Some(1_705_314_602_000),
        ),
        // When it was sent says nothing about when it was read.
        (Kind::Betatel, r#"{"uuid":"a","status":"READ","timestamp":"2024-01-15T10:30:00.000Z"}"#, None),
        (Kind::Verihubs, "session_id=a&status=1", None),
    ] {
        assert_eq!(at(kind, body), ms, "{kind} {body}");
    }
    assert!(UnixMs::parse_rfc3339("2026-05-18T10:00:00Z") == Some(UnixMs(1_779_098_400_000)));
}

#[test]
fn batches_are_read_whole() {
    let status = |n: usize| json!({ "id": format!("m{n}"), "status": "delivered", "recipient_id": PHONE });
    let meta = |entries: &[usize]| {
        let change = |n: &usize| json!({ "value": { "statuses": (0..*n).map(status).collect::<Vec<_>>() } });
        let entry = json!({ "changes": entries.iter().map(change).collect::<Vec<_>>() });
        post(Kind::MetaCloud, &json!({ "entry": [entry] }).to_string())
    };
    for (entries, count) in [(&[1, 2][..], 3), (&[400, 0, 600], MAX_STATUSES)] {
        assert!(
            matches!(meta(entries), CallbackRead::Updates(updates) if updates.len() == count),
            "{entries:?}"
        );
    }
    assert!(matches!(meta(&[600, 401]), CallbackRead::Malformed(_)));
    let mixed = r#"{"ack":[7,{"id":"a","status":"?"},{"id":"b","status":"sent"},{"status":"sent"},{"id":"b","status":"sent"}]}"#;
    let CallbackRead::Updates(updates) = post(Kind::OneMsg, mixed) else { panic!("no updates") };
    assert_eq!(updates.len(), 2, "{updates:?}");
}

#[test]
fn too_long_a_body_is_not_read() {
    for kind in Kind::ALL {
        let longest = reader(kind).max_body();
        let body = |length| " ".repeat(length);
        let too_long = "is longer than callbacks of this provider are";
        assert_eq!(post(kind, &body(longest + 1)), CallbackRead::Malformed(too_long));
        assert_ne!(post(kind, &body(longest)), CallbackRead::Malformed(too_long));
    }
}

fn signed(kind: Kind, header: &str, value: &str) -> CallbackRead {
    let body = match kind {
        Kind::MetaCloud => r#"{"entry":[{"changes":[{"value":{"statuses":[{"id":"a","status":"sent"}]}}]}]}"#,
        Kind::Msgai => r#"{"event":"message.sent","data":{"message_id":"a"}}"#,
        Kind::Verihubs | Kind::OneMsg | Kind::MetaOnPrem | Kind::Betatel => panic!("{kind} signs nothing"),
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cret");
    let tag = hmac::sign(&key, body.as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, tag.as_ref());
    let value = value.replace("HEX", &hex).replace("BASE64", &base64);
    let keys = CallbackKeys {
        signature: Some(Secret::new("s3cret")),
        signature_header: HeaderName::from_static("x-own"),
        verify_token: None,
    };
    CallbackReader::new(kind, &keys).read(&Callback {
        method: CallbackMethod::Post,
        query: "",
        job: None,
        headers: &headers(&[(header, &value)]),
        body: body.as_bytes(),
    })
}

#[test]
fn a_signature_that_is_configured_is_required() {
    for (kind, header, value, is_genuine) in [
        (Kind::MetaCloud, "x-hub-signature-256", "sha256=HEX", true),
        (Kind::MetaCloud, "x-own", "sha256=HEX", false),
        (Kind::MetaCloud, "x-hub-signature-256", "sha256=", false),
        (Kind::MetaCloud, "x-hub-signature-256", "sha256=HEX00", false),
        (Kind::Msgai, "x-own", "HEX", true),
        (Kind::Msgai, "x-own", "sha256=HEX", true),
        (Kind::Msgai, "x-own", "BASE64", true),
        (Kind::Msgai, "x-own", "BASE64=", false),
        (Kind::Msgai, "x-webhook-signature", "HEX", false),
    ] {
        let read = signed(kind, header, value);
        assert_eq!(matches!(read, CallbackRead::Updates(_)), is_genuine, "{kind} {header}: {value}");
        assert_eq!(read == CallbackRead::Forged, !is_genuine, "{kind} {header}: {value}");
    }
    let keys = || CallbackKeys { signature: Some(Secret::new("s3cret")), ..CallbackKeys::default() };
    let reader = CallbackReader::new(Kind::MetaCloud, &keys());
    assert_eq!(format!("{reader:?}"), "CallbackReader(meta_cloud, signed)");
    // Where nobody signs, a secret asks for nothing.
    let body = br#"{"uuid":"a","status":"SENT"}"#;
    let none = HeaderMap::new();
    let callback = Callback { method: CallbackMethod::Post, query: "", job: None, headers: &none, body };
    assert!(matches!(CallbackReader::new(Kind::Betatel, &keys()).read(&callback), CallbackRead::Updates(_)));
}

#[test]
fn a_challenge_is_given_back_to_who_knows_the_token() {
    let keys = CallbackKeys {
        signature: Some(Secret::new("s3cret")),
        verify_token: Some(Secret::new("V T")),
        ..CallbackKeys::default()
    };
    let ask = |query| get(Kind::MetaCloud, &keys, query);
    let is = |text: &str| CallbackRead::Challenge(text.into());
    assert_eq!(ask("hub.mode=subscribe&hub.challenge=115&hub.verify_token=V+T"), is("115"));
    assert_eq!(ask("hub.mode=subscribe&hub.challenge=a-B_9.&hub.verify_token=V%20T"), is("a-B_9."));
    for forged in [
        "hub.mode=subscribe&hub.challenge=115",
        "hub.mode=subscribe&hub.challenge=115&hub.verify_token=",
        "hub.mode=subscribe&hub.challenge=115&hub.verify_token=v+t",
    ] {
        assert_eq!(ask(forged), CallbackRead::Forged, "{forged}");
    }
    let long = format!("hub.mode=subscribe&hub.verify_token=V+T&hub.challenge={}", "1".repeat(129));
    for malformed in [
        "",
        "hub.challenge=115&hub.verify_token=V+T",
        "hub.mode=unsubscribe&hub.challenge=115&hub.verify_token=V+T",
        "hub.mode=subscribe&hub.verify_token=V+T",
        "hub.mode=subscribe&hub.verify_token=V+T&hub.challenge=<script>",
        &long,
    ] {
        assert!(matches!(ask(malformed), CallbackRead::Malformed(_)), "{malformed}");
    }
    let nobody = CallbackKeys::default();
    let any = "hub.mode=subscribe&hub.challenge=115&hub.verify_token=";
    assert_eq!(get(Kind::MetaCloud, &nobody, any), CallbackRead::Forged, "without a token nobody registers");
}

#[test]
fn neither_code_nor_number_is_kept() {
    let record = format!(r#"{{"uuid":"a","to":"{PHONE}","text":"{CODE}","status":"DELIVERED"}}"#);
    let ack =
        format!(r#"{{"ack":[{{"id":"a","chatId":"{PHONE}@c.us","status":"failed","text":"{CODE}"}}]}}"#);
    let status = format!(
        r#"{{"statuses":[{{"id":"a","recipient_id":"{PHONE}","status":"failed","errors":[{{"code":1,"title":"{CODE}"}}]}}]}}"#
    );
    for (kind, body) in [(Kind::Betatel, record), (Kind::OneMsg, ack), (Kind::MetaOnPrem, status)] {
        let shown = format!("{:?}", only(post(kind, &body)));
        assert!(!shown.contains(PHONE) && !shown.contains(CODE), "{shown}");
    }
}

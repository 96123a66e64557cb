//! Every example callback of the providers' page, read, and what its tables say beyond them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests, and what they call")]

#[path = "../common/mod.rs"]
mod common;
mod proof;
mod tables;

use http::{HeaderMap, HeaderName, HeaderValue};
use otpd_core::{Class, DeliveryStatus, JobId, MessageId, Reason};
use otpd_providers::{
    Callback, CallbackKeys, CallbackMethod, CallbackRead, CallbackReader, Kind, MAX_STATUSES, Secret, Told,
    Update,
};
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

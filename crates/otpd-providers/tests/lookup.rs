//! Looking for a message among a provider's records: what is asked, which record counts, and what a
//! provider that does not answer comes to.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests, and what they call")]

mod common;

use std::time::Duration;

use http::HeaderMap;
use otpd_core::{MessageId, SendJob, UnixMs};
use otpd_providers::{Adapter, Answer, HttpLimits, Kind, MAX_ANSWER, ProviderSettings, Secret, Transport};
use proptest::prelude::*;
use serde_json::{Value, json};

use common::server::{Reply, Server, nobody};
use common::{CODE, NOW, PHONE, SECRETS, adapter, clock, job};

const ID: &str = "01JV5V54KPYK9GB29265EQRZ2P";

fn betatel() -> Adapter {
    adapter(Kind::Betatel, "https://api.betatel.com")
}

/// The record of [`job`], half a second after [`NOW`].
fn record() -> Value {
    json!({
        "uuid": ID, "wam_id": null, "to": PHONE, "text": CODE, "status": "SENT",
        "timestamp": "2026-11-20T09:30:00.500Z", "delivery_timestamp": null, "webhook_delivered": false,
    })
}

/// That record with one field changed.
fn with(field: &str, value: Value) -> Value {
    let mut record = record();
    record.as_object_mut().unwrap().insert(field.into(), value);
    record
}

fn list(records: &[Value]) -> String {
    json!({ "total": records.len(), "list": records }).to_string()
}

fn answer(status: u16, body: impl Into<Vec<u8>>) -> Answer {
    let body = body.into().into();
    Answer { status, headers: HeaderMap::new(), body, truncated: false }
}

fn found(job: &SendJob, body: &str) -> Option<String> {
    betatel().read_lookup(job, NOW, &answer(200, body)).map(|id| id.as_str().to_owned())
}

#[test]
fn asks_for_the_newest_records_of_the_number() {
    let adapter = betatel();
    let request = adapter.lookup_request(&job()).unwrap();
    assert_eq!(request.url.as_str(), "https://api.betatel.com/api/v1/connect-hub/whatsapp/wdr");
    let mut headers: Vec<(&str, &str)> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    headers.sort_unstable();
    assert_eq!(
        headers,
        [
            ("content-type", "application/json"),
            ("x-account-id", "accountACCOUNT"),
            ("x-api-key", "sk_live_tokenTOKENtoken"),
        ]
    );
    assert_eq!(
        std::str::from_utf8(&request.body).unwrap(),
        concat!(
            r#"{"page":1,"rows_per_page":20,"sort_by":"timestamp","sort_direction":"DESC","#,
            r#""filter":{"to":"628123456890"}}"#,
        )
    );
    let shown = format!("{request:?} {:?}", request.headers);
    for secret in SECRETS.into_iter().chain([CODE, PHONE]) {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn no_other_provider_can_be_asked() {
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Betatel) {
        let adapter = adapter(kind, "https://a");
        assert!(adapter.lookup_request(&job()).is_none(), "{kind}");
        assert_eq!(adapter.read_lookup(&job(), NOW, &answer(200, list(&[record()]))), None, "{kind}");
    }
}

#[test]
fn a_record_of_the_attempt_counts() {
    for record in [
        record(),
        with("to", json!(format!("+{PHONE}"))),
        with("to", json!(PHONE.parse::<u64>().unwrap())),
        with("text", json!(format!("Your code is {CODE}. Tell nobody."))),
        with("text", json!(CODE.parse::<u64>().unwrap())),
        with("status", json!("PENDING")),
        with("status", json!("delivered")),
        with("status", Value::Null),
        with("timestamp", json!(NOW.0)),
        with("timestamp", json!(NOW.0 / 1000)),
        with("timestamp", json!(NOW.0.to_string())),
        with("timestamp", json!((NOW.0 / 1000).to_string())),
        with("timestamp", json!("2026-11-20T16:30:00+07:00")),
        with("timestamp", json!(NOW.0 - 5000)),
        with("timestamp", json!("2026-11-20T09:29:55.000Z")),
    ] {
        let before = [json!(7), with("status", json!("FAILED")), with("uuid", json!("")), record.clone()];
        for body in [list(std::slice::from_ref(&record)), list(&before)] {
            assert_eq!(found(&job(), &body).as_deref(), Some(ID), "{record}");
        }
    }
}

#[test]
fn any_other_record_does_not() {
    for record in [
        with("to", json!("628123456891")),
        with("to", Value::Null),
        with("text", json!("482911")),
        with("text", json!("1482910")),
        with("text", json!("Your code is 4829100.")),
        with("text", Value::Null),
        with("timestamp", json!(NOW.0 - 5001)),
        with("timestamp", json!(NOW.0 / 1000 - 6)),
        with("timestamp", json!("2026-11-20T09:29:54.999Z")),
        with("timestamp", json!("yesterday")),
        with("timestamp", json!(NOW.0 * 1000)),
        with("timestamp", Value::Null),
        with("status", json!("FAILED")),
        with("status", json!("failed")),
        with("status", json!("EXPIRED")),
        with("uuid", Value::Null),
        with("uuid", json!("")),
        json!([ID, PHONE, CODE]),
        Value::Null,
    ] {
        assert_eq!(found(&job(), &list(std::slice::from_ref(&record))), None, "{record}");
    }
}

#[test]
fn the_newest_of_several_counts() {
    let newer = with("uuid", json!("newer"));
    assert_eq!(found(&job(), &list(&[newer, record()])).as_deref(), Some("newer"));
}

/// The operator's text may leave a code no room to stand by itself.
#[test]
fn the_very_text_that_was_sent_counts() {
    let [api_key, account_id] = SECRETS.map(Secret::new);
    let base_url = "https://api.betatel.com".to_owned();
    let text = "kode{code}anda".to_owned();
    let adapter = Adapter::new(ProviderSettings::Betatel { base_url, api_key, account_id, text }).unwrap();
    for (sent, counts) in [("kode482910anda", true), ("482910", true), ("kode482911anda", false)] {
        let answer = answer(200, list(&[with("text", json!(sent))]));
        assert_eq!(adapter.read_lookup(&job(), NOW, &answer).is_some(), counts, "{sent}");
    }
}

#[test]
fn what_is_no_list_shows_nothing() {
    let whole = list(&[record()]);
    let (half, bare) = (&whole[..whole.len() - 1], json!([record()]).to_string());
    for body in ["", "{}", "[]", "null", "<html>", r#"{"list":null}"#, r#"{"list":{}}"#, half, &bare] {
        assert_eq!(found(&job(), body), None, "{body}");
    }
    assert_eq!(found(&job(), &list(&[])), None);
    for status in [0, 199, 300, 400, 401, 404, 429, 500, 503] {
        assert_eq!(betatel().read_lookup(&job(), NOW, &answer(status, whole.clone())), None, "{status}");
    }
    // What is there counts, though its end was not seen.
    let cut = Answer { truncated: true, ..answer(200, whole.clone()) };
    assert!(betatel().read_lookup(&job(), NOW, &cut).is_some());
    let cut = Answer { truncated: true, ..answer(200, half.to_owned()) };
    assert_eq!(betatel().read_lookup(&job(), NOW, &cut), None);
}

fn transport(kind: Kind, base_url: &str, timeout: Duration) -> Transport {
    // Fails when another test was first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let limits = HttpLimits { max_in_flight: 4, connect_timeout: timeout / 2, timeout };
    Transport::new(adapter(kind, base_url), limits, clock()).unwrap()
}

async fn find(kind: Kind, base_url: &str) -> Option<MessageId> {
    transport(kind, base_url, Duration::from_secs(10)).find(&job(), NOW).await
}

#[tokio::test]
async fn a_message_is_found_over_a_socket() {
    let server = Server::start(|_, _| Reply::status(200, "", &list(&[record()]))).await;
    let transport = transport(Kind::Betatel, &server.url(), Duration::from_secs(10));
    assert_eq!(transport.find(&job(), NOW).await, MessageId::new(ID));
    assert_eq!(transport.find(&job(), UnixMs(NOW.0 + 60_000)).await, None, "not by this attempt");

    let [seen, _] = &server.seen()[..] else { panic!("not two requests") };
    let job = job();
    let body = transport.adapter().lookup_request(&job).unwrap().body;
    assert!(seen.head.starts_with("POST /api/v1/connect-hub/whatsapp/wdr HTTP/1.1\r\n"));
    assert_eq!(seen.body, body);
    assert_eq!(seen.header("content-length"), Some(body.len().to_string().as_str()));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("x-api-key"), Some(SECRETS[0]));
    assert_eq!(seen.header("x-account-id"), Some(SECRETS[1]));
    assert_eq!(server.connections(), 1, "the connection is kept");
}

#[tokio::test]
async fn nobody_is_asked_who_cannot_answer() {
    let server = Server::start(|_, _| Reply::status(200, "", &list(&[record()]))).await;
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Betatel) {
        assert_eq!(find(kind, &server.url()).await, None, "{kind}");
    }
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test]
async fn every_failure_finds_nothing() {
    assert_eq!(find(Kind::Betatel, &nobody().await).await, None);
    let reset = Server::start(|_, _| Reply::Reset).await;
    assert_eq!(find(Kind::Betatel, &reset.url()).await, None);
    let refusing = Server::start(|_, _| Reply::status(500, "", &list(&[record()]))).await;
    assert_eq!(find(Kind::Betatel, &refusing.url()).await, None);
    // A redirect would show the number and the credentials to somebody else.
    let elsewhere = Server::start(|_, _| Reply::status(200, "", &list(&[record()]))).await;
    let location = format!("location: {}/\r\n", elsewhere.url());
    let redirecting = Server::start(move |_, _| Reply::status(307, &location, "")).await;
    assert_eq!(find(Kind::Betatel, &redirecting.url()).await, None);
    assert_eq!((redirecting.seen().len(), elsewhere.seen().len()), (1, 0));
    // Longer than is read.
    let long = list(&[record(), json!("x".repeat(MAX_ANSWER))]);
    let endless = Server::start(move |_, _| Reply::status(200, "", &long)).await;
    assert_eq!(find(Kind::Betatel, &endless.url()).await, None);
    // The answer stops halfway, and then never ends.
    let silent = Server::start(|_, _| {
        Reply::BytesThenSilence(b"HTTP/1.1 200 X\r\ncontent-length: 99\r\n\r\n{\"total\":1,".to_vec())
    })
    .await;
    let impatient = transport(Kind::Betatel, &silent.url(), Duration::from_millis(800));
    assert_eq!(impatient.find(&job(), NOW).await, None);
    assert_eq!(silent.seen().len(), 1);
}

/// Any JSON, not too deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        prop::sample::select(vec![PHONE, CODE, "FAILED", "2026-11-20T09:30:00Z"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Value::from))
}

proptest! {
    #[test]
    fn any_bytes_are_read(
        body in prop::collection::vec(any::<u8>(), 0..300),
        status in any::<u16>(),
        since in any::<u64>(),
        truncated in any::<bool>(),
    ) {
        let answer = Answer { truncated, ..answer(status, body) };
        prop_assert_eq!(betatel().read_lookup(&job(), UnixMs(since), &answer), None);
    }

    /// Whatever the fields hold: read without a panic, and the id that comes back is the record's own.
    #[test]
    fn any_record_is_read(
        field in prop::sample::select(vec!["uuid", "to", "text", "status", "timestamp"]),
        value in any_json(),
        since in prop_oneof![Just(0), Just(NOW.0), any::<u64>()],
    ) {
        let record = with(field, value.clone());
        let answer = answer(200, list(&[value, record]));
        let found = betatel().read_lookup(&job(), UnixMs(since), &answer);
        if field != "uuid" {
            prop_assert!(found.is_none_or(|id| id.as_str() == ID));
        }
    }
}

//! What proves a callback: signatures, and the token of Meta's challenge.

use http::{HeaderMap, HeaderName};
use otpd_providers::{Callback, CallbackKeys, CallbackMethod, CallbackRead, CallbackReader, Kind, Secret};
use ring::hmac;

use crate::{get, headers};

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

//! Msgai.

use otpd_sim::{Kind, MockConfig};
use reqwest::Method;
use serde_json::json;

use super::{Ask, Bench};

pub(crate) fn valid() -> Ask {
    Ask::post(
        "/api/v1/public/message",
        &[("authorization", "Basic sk_live_0123456789")],
        &json!({
            "fullPhoneNumber": "+919028883545",
            "callbackData": "job-1",
            "type": "Template",
            "template": {
                "name": "otp",
                "languageCode": "en",
                "bodyValues": ["482910"],
                "buttonValues": { "0": ["482910"] },
                "template_category": "authentication",
            },
        }),
    )
}

#[tokio::test]
async fn takes_a_template() {
    let bench = Bench::start(MockConfig::default()).await;
    let least = valid()
        .cut("/callbackData")
        .cut("/template/languageCode")
        .cut("/template/buttonValues")
        .cut("/template/template_category")
        .set("/type", json!("template"))
        .set("/fullPhoneNumber", json!("919028883545"));
    let local = valid()
        .cut("/fullPhoneNumber")
        .set("/phoneNumber", json!("9028883545"))
        .set("/countryCode", json!("+91"));
    for ask in [valid(), least, local] {
        let answer = bench.ask(ask).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let json = answer.json();
        assert_eq!(
            (&json["result"], &json["message"]),
            (&json!(true), &json!("Message created successfully"))
        );
        assert_eq!(json["id"].as_str().unwrap().len(), 36);
    }
    let account = bench.account(Kind::Msgai, "sk_live_***6789");
    assert_eq!((account.accepted, account.duplicates), (3, 2), "one phone, however it is written");
}

#[tokio::test]
async fn refuses_as_documented() {
    let bench = Bench::start(MockConfig::default()).await;
    let says = |text: &str| format!(r#"{{"message":"{text}","result":false}}"#);
    let corrected = "Please correct the following error - ";
    let (key, no_phone) = (says("Invalid API key."), says("phoneNumber is required"));
    let (no_type, no_name) = (says("type is required"), says("template.name is required"));
    let no_template = says("template object is required for type Template");
    bench
        .refuses(vec![
            ("no key", valid().without("authorization"), 401, "Missing API key"),
            (
                "a bearer",
                valid().header("authorization", "Bearer sk_live_0123456789"),
                401,
                "Missing API key",
            ),
            // base64 of `sk_live_0123456789:`
            (
                "a key in base64",
                valid().header("authorization", "Basic c2tfbGl2ZV8wMTIzNDU2Nzg5Og=="),
                401,
                &key,
            ),
            ("a partner's key", valid().header("authorization", "Basic pk_live_0123456789"), 401, &key),
            ("GET", valid().method(Method::GET), 404, "Not Found"),
            ("another path", valid().path("/api/v25.0/1/messages"), 404, "Not Found"),
            ("not JSON", valid().raw("{"), 400, "(#100)"),
            ("an unknown field", valid().set("/to", json!("919028883545")), 400, "(#100)"),
            ("no phone", valid().cut("/fullPhoneNumber"), 400, &no_phone),
            ("an empty phone", valid().set("/fullPhoneNumber", json!("")), 400, &no_phone),
            ("two phones", valid().set("/phoneNumber", json!("9028883545")), 400, corrected),
            ("no phone at all", valid().set("/fullPhoneNumber", json!("me")), 400, "phone invalid"),
            ("no type", valid().cut("/type"), 400, &no_type),
            ("no template", valid().cut("/template"), 400, &no_template),
            ("no name", valid().cut("/template/name"), 400, &no_name),
            ("an empty name", valid().set("/template/name", json!("")), 400, &no_name),
            ("no code", valid().set("/template/bodyValues", json!([])), 400, "(#132000)"),
            ("two codes", valid().set("/template/bodyValues", json!(["1", "2"])), 400, "(#132000)"),
            (
                "16 characters",
                valid().set("/template/bodyValues/0", json!("1234567890123456")),
                400,
                "15 chars",
            ),
            (
                "another button",
                valid().set("/template/buttonValues", json!({ "1": ["482910"] })),
                400,
                "(#132000)",
            ),
            (
                "marketing",
                valid().set("/template/template_category", json!("marketing")),
                400,
                "category mismatch",
            ),
            ("long callback data", valid().set("/callbackData", json!("x".repeat(513))), 400, corrected),
        ])
        .await;
}

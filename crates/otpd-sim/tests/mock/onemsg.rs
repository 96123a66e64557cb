//! 1MSG.

use otpd_sim::{Kind, MockConfig};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Ask, Bench};

fn body() -> Value {
    let text = json!([{ "type": "text", "text": "482910" }]);
    json!({
        "phone": "628123456890",
        "template": "otp",
        "namespace": "ns-1",
        "language": { "policy": "deterministic", "code": "en" },
        "params": [
            { "type": "body", "parameters": text },
            { "type": "button", "sub_type": "url", "index": "0", "parameters": text },
        ],
    })
}

pub(crate) fn valid() -> Ask {
    Ask::post("/CH12/sendTemplate", &[("authorization", "Bearer jwt-1")], &body())
}

#[tokio::test]
async fn takes_a_template() {
    let bench = Bench::start(MockConfig::default()).await;
    let chat = valid().cut("/phone").set("/chatId", json!("628123456890@c.us"));
    let token = valid().without("authorization").path("/CH12/sendTemplate?token=jwt-1");
    let ttl = valid().set("/messageSendTtlSeconds", json!(300));
    for ask in [valid(), chat, token, ttl] {
        let answer = bench.ask(ask).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let json = answer.json();
        assert_eq!(json["sent"], true);
        assert!(json["id"].as_str().unwrap().starts_with("wamid."), "{json}");
        assert_eq!(json["message"], "Sent to 628123456890@c.us");
    }
    assert_eq!(bench.account(Kind::OneMsg, "CH12").accepted, 4);
}

#[tokio::test]
async fn refuses_as_documented() {
    let bench = Bench::start(MockConfig::default()).await;
    let wrong_token = r#"{"error":"Wrong token \"\" for channel \"CH12\". Please provide token"#;
    let (body, button) = ("/params/0", "/params/1");
    let code = "/params/0/parameters/0/text";
    bench
        .refuses(vec![
            ("no token", valid().without("authorization"), 401, wrong_token),
            ("a wrong scheme", valid().header("authorization", "Basic jwt-1"), 401, wrong_token),
            ("two tokens", valid().path("/CH12/sendTemplate?token=jwt-1"), 401, r#"Wrong token \"jwt-1\""#),
            ("GET", valid().method(Method::GET), 405, "Method not allowed"),
            ("an empty body", valid().raw(""), 200, r#"{"message":"empty body","sent":false}"#),
            ("not JSON", valid().raw("{"), 400, r#"{"message":"Invalid request"}"#),
            ("a form", valid().header("content-type", "text/plain"), 400, "Invalid request"),
            ("an unknown field", valid().set("/phones", json!("1")), 400, "Invalid request"),
            ("no phone", valid().cut("/phone"), 400, "Invalid request"),
            ("both recipients", valid().set("/chatId", json!("628123456890@c.us")), 400, "Invalid request"),
            ("a plus", valid().set("/phone", json!("+628123456890")), 400, "Invalid phone number"),
            ("a number as number", valid().set("/phone", json!(628_123_456_890_u64)), 400, "Invalid request"),
            (
                "no template",
                valid().cut("/template"),
                200,
                r#"{"message":"template is not defined","sent":false}"#,
            ),
            ("no namespace", valid().cut("/namespace"), 422, r#"{"error":"namespace is required"}"#),
            ("no language", valid().cut("/language"), 400, "Invalid request"),
            ("another policy", valid().set("/language/policy", json!("fallback")), 400, "Invalid request"),
            (
                "the body only",
                valid().cut(button),
                200,
                r#"(#131008) Required parameter is missing","sent":false"#,
            ),
            ("the button only", valid().cut(body), 422, r#"{"error":"Template variable count mismatch"}"#),
            ("different codes", valid().set(code, json!("482911")), 200, "(#131009)"),
            ("16 characters", valid().set(code, json!("1234567890123456")), 200, "(#131009)"),
            ("an index as number", valid().set("/params/1/index", json!(0)), 400, "Invalid request"),
            (
                "another button",
                valid().set("/params/1/sub_type", json!("quick_reply")),
                400,
                "Invalid request",
            ),
            ("a code as number", valid().set(code, json!(482_910)), 400, "Invalid request"),
            ("a short ttl", valid().set("/messageSendTtlSeconds", json!(29)), 400, "Invalid request"),
        ])
        .await;
    assert_eq!(bench.account(Kind::OneMsg, "CH12").answers[&422], 2);
}

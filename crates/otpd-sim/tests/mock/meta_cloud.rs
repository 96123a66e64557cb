//! Meta's WhatsApp Cloud API.

use otpd_sim::{Control, Kind, MockConfig};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Ask, Bench};

const PATH: &str = "/v23.0/106540352242922/messages";

fn body() -> Value {
    let text = json!([{ "type": "text", "text": "482910" }]);
    json!({
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "628123456890",
        "type": "template",
        "template": {
            "name": "otp",
            "language": { "code": "en_US" },
            "components": [
                { "type": "body", "parameters": text },
                { "type": "button", "sub_type": "url", "index": "0", "parameters": text },
            ],
        },
        "biz_opaque_callback_data": "job-1",
    })
}

pub(crate) fn valid() -> Ask {
    Ask::post(PATH, &[("authorization", "Bearer EAAG1")], &body())
}

#[tokio::test]
async fn takes_a_template() {
    let bench = Bench::start(MockConfig::default()).await;
    let json = bench.ask(valid().set("/to", json!("+628123456890"))).await.json();
    assert_eq!(json["messaging_product"], "whatsapp");
    assert_eq!(json["contacts"], json!([{ "input": "+628123456890", "wa_id": "628123456890" }]));
    assert_eq!(json["messages"][0]["message_status"], "accepted");
    assert!(json["messages"][0]["id"].as_str().unwrap().starts_with("wamid."));
    let least = valid().cut("/recipient_type").cut("/biz_opaque_callback_data");
    assert_eq!(bench.ask(least).await.status, 200);
    assert_eq!(bench.account(Kind::MetaCloud, "106540352242922").accepted, 2);
}

#[tokio::test]
async fn refuses_as_documented() {
    let bench = Bench::start(MockConfig::default()).await;
    let invalid = r##""code":100,"fbtrace_id":"AmockTraceId","message":"(#100) Invalid parameter","type":"OAuthException""##;
    let (code, parts) = ("/template/components/0/parameters/0/text", "/template/components");
    bench
        .refuses(vec![
            ("no token", valid().without("authorization"), 401, r#""code":190"#),
            ("GET", valid().method(Method::GET), 400, "GraphMethodException"),
            ("another path", valid().path("/v23.0/106540352242922/message"), 400, r#""code":2500"#),
            ("not JSON", valid().raw("{"), 400, invalid),
            ("a namespace", valid().set("/template/namespace", json!("ns")), 400, invalid),
            ("no product", valid().cut("/messaging_product"), 400, invalid),
            ("another product", valid().set("/messaging_product", json!("sms")), 400, invalid),
            ("a group", valid().set("/recipient_type", json!("group")), 400, invalid),
            (
                "long callback data",
                valid().set("/biz_opaque_callback_data", json!("x".repeat(513))),
                400,
                invalid,
            ),
            ("an index as number", valid().set("/template/components/1/index", json!(0)), 400, invalid),
            ("a text", valid().set("/type", json!("text")), 400, r#""code":131051"#),
            ("no recipient", valid().cut("/to"), 400, r#""code":131008"#),
            ("no number", valid().set("/to", json!("me")), 400, r#""code":131009"#),
            ("no template", valid().cut("/template"), 400, r#""code":131008"#),
            ("no name", valid().set("/template/name", json!("")), 404, r#""code":132001"#),
            ("no button", valid().cut(&format!("{parts}/1")), 400, r#""code":131008"#),
            ("no body", valid().cut(&format!("{parts}/0")), 400, r#""code":132000"#),
            ("different codes", valid().set(code, json!("482911")), 400, r#""code":131009"#),
            ("16 characters", valid().set(code, json!("1234567890123456")), 400, r#""code":131009"#),
        ])
        .await;
    let details = bench.ask(valid().cut("/to")).await.json();
    assert_eq!(details["error"]["error_data"]["messaging_product"], "whatsapp");
    assert_eq!(details["error"]["message"], "(#131008) Required parameter is missing");
}

#[tokio::test]
async fn a_token_must_be_the_accounts() {
    let own = Control { secret: Some("EAAG2".into()), ..Control::of(Kind::MetaCloud) };
    let bench = Bench::start(MockConfig::default().with(own.account("106540352242922"))).await;
    let answer = bench.ask(valid()).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (401, &json!(190)));
    assert_eq!(bench.ask(valid().header("authorization", "Bearer EAAG2")).await.status, 200);
    let account = bench.account(Kind::MetaCloud, "106540352242922");
    assert_eq!((account.attempts, account.accepted, account.answers[&401]), (2, 1, 1));
}

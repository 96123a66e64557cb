//! Meta's WhatsApp on-premises API.

use std::time::Duration;

use otpd_sim::{Control, Kind, MockConfig};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Ask, Bench};

/// `otpd:Passw0rd!`
const BASIC: &str = "Basic b3RwZDpQYXNzdzByZCE=";

fn body() -> Value {
    let text = json!([{ "type": "text", "text": "482910" }]);
    json!({
        "to": "628123456890",
        "type": "template",
        "template": {
            "namespace": "ns-1",
            "name": "otp",
            "language": { "code": "en", "policy": "deterministic" },
            "components": [
                { "type": "body", "parameters": text },
                { "type": "button", "sub_type": "url", "index": 0, "parameters": text },
            ],
        },
    })
}

fn login(basic: &str) -> Ask {
    Ask::post("/v1/users/login", &[("authorization", basic)], &json!({}))
}

pub(crate) fn valid(token: &str) -> Ask {
    Ask::post("/v1/messages", &[("authorization", &format!("Bearer {token}"))], &body())
}

pub(crate) async fn token(bench: &Bench) -> String {
    let answer = bench.ask(login(BASIC)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["users"][0]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn logs_in_and_takes_a_template() {
    let bench = Bench::start(MockConfig::default()).await;
    let granted = bench.ask(login(BASIC)).await.json();
    let expires = granted["users"][0]["expires_after"].as_str().unwrap();
    assert!(expires.len() == 25 && expires.ends_with("+00:00"), "{expires}");
    let answer = bench.ask(valid(&token(&bench).await)).await;
    assert_eq!(answer.status, 201);
    assert!(answer.json()["messages"][0]["id"].as_str().unwrap().starts_with("gBEG"));
    let account = bench.account(Kind::MetaOnprem, "otpd");
    assert_eq!((account.accepted, account.lookups), (1, 2));
}

#[tokio::test]
async fn refuses_as_documented() {
    let bench = Bench::start(MockConfig::default()).await;
    let token = token(&bench).await;
    let valid = || valid(&token);
    let denied = r#"{"errors":[{"code":1005,"details":"-","title":"Access denied"}],"meta":"#;
    let (code, parts) = ("/template/components/0/parameters/0/text", "/template/components");
    bench
        .refuses(vec![
            ("no token", valid().without("authorization"), 401, denied),
            ("a token of nobody", valid().header("authorization", "Bearer x"), 401, denied),
            ("a login instead of a token", valid().header("authorization", BASIC), 401, denied),
            ("no login", login(BASIC).without("authorization"), 401, denied),
            ("no base64", login("Basic otpd:Passw0rd!"), 401, denied),
            ("the factory's password", login("Basic YWRtaW46c2VjcmV0"), 401, r#""code":1024"#),
            ("GET", valid().method(Method::GET), 405, r#""code":1006"#),
            ("another path", valid().path("/v1/message"), 404, r#""code":1006"#),
            ("not JSON", valid().raw("{"), 400, r#""code":1025"#),
            ("an unknown field", valid().set("/messaging_product", json!("whatsapp")), 400, r#""code":1025"#),
            ("a text", valid().set("/type", json!("text")), 400, r#""code":1009"#),
            ("no recipient", valid().cut("/to"), 400, r#""code":1008"#),
            ("a plus", valid().set("/to", json!("+628123456890")), 400, r#""code":1009"#),
            ("no namespace", valid().cut("/template/namespace"), 400, r#""code":2014"#),
            ("another policy", valid().set("/template/language/policy", json!("x")), 400, r#""code":1009"#),
            ("no button", valid().cut(&format!("{parts}/1")), 400, r#""code":2000"#),
            ("no body", valid().cut(&format!("{parts}/0")), 400, r#""code":2000"#),
            (
                "an index as text",
                valid().set("/template/components/1/index", json!("0")),
                400,
                r#""code":1009"#,
            ),
            ("different codes", valid().set(code, json!("482911")), 400, r#""code":1009"#),
            ("16 characters", valid().set(code, json!("1234567890123456")), 400, r#""code":2004"#),
        ])
        .await;
}

#[tokio::test]
async fn a_session_ends() {
    let bench = Bench::start(MockConfig::default()).await;
    let first = token(&bench).await;
    assert_eq!(bench.ask(valid(&first)).await.status, 201);
    bench.mock.control(&Control { expire_tokens: true, ..Control::of(Kind::MetaOnprem) });
    assert_eq!(bench.ask(valid(&first)).await.status, 401);
    let second = token(&bench).await;
    assert_ne!(first, second);
    assert_eq!(bench.ask(valid(&second)).await.status, 201);

    let brief = MockConfig { token_ttl: Duration::ZERO, ..MockConfig::default() };
    let bench = Bench::start(brief).await;
    let expired = token(&bench).await;
    assert_eq!(bench.ask(valid(&expired)).await.status, 401);
}

#[tokio::test]
async fn a_password_must_be_the_users() {
    let own = Control { secret: Some("Other0ne!".into()), ..Control::of(Kind::MetaOnprem) };
    let bench = Bench::start(MockConfig::default().with(own.account("otpd"))).await;
    assert_eq!(bench.ask(login(BASIC)).await.status, 401);
    // otpd:Other0ne!
    assert_eq!(bench.ask(login("Basic b3RwZDpPdGhlcjBuZSE=")).await.status, 200);
}

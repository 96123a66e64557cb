//! Verihubs.

use otpd_sim::mock::Accounts;
use otpd_sim::{Control, Kind, MockConfig};
use reqwest::Method;
use serde_json::json;

use super::{Ask, Bench};

pub(crate) fn valid() -> Ask {
    Ask::post(
        "/v2/whatsapp/otp/send",
        &[("App-ID", "app-1"), ("API-Key", "key-1")],
        &json!({
            "msisdn": "628123456890",
            "otp": "482910",
            "lang_code": "en",
            "template_name": "otp",
            "time_limit": "300",
            "challenge": "login",
            "callback_url": "https://otpd.example/callbacks/verihubs/t",
        }),
    )
}

#[tokio::test]
async fn takes_a_code() {
    let bench = Bench::start(MockConfig::default()).await;
    let answer = bench.ask(valid()).await;
    assert_eq!((answer.status, answer.header("content-type")), (201, Some("application/json")));
    let json = answer.json();
    let session = json["session_id"].as_str().unwrap();
    assert_eq!(session.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    assert_eq!(
        json,
        json!({
            "message": "OTP sent successfully",
            "otp": "482910",
            "msisdn": "628123456890",
            "session_id": session,
            "try_count": 1,
        })
    );
    let least = valid().cut("/template_name").cut("/time_limit").cut("/challenge").cut("/callback_url");
    let other = bench.ask(least).await.json();
    assert_ne!(other["session_id"], json["session_id"]);
}

#[tokio::test]
async fn makes_a_code_itself() {
    let bench = Bench::start(MockConfig::default()).await;
    let own = bench.ask(valid().cut("/otp")).await.json();
    assert_eq!(own["otp"].as_str().unwrap().len(), 4);
    let six = bench.ask(valid().cut("/otp").set("/otp_length", json!("6"))).await.json();
    assert!(six["otp"].as_str().unwrap().parse::<u32>().is_ok() && six["otp"].as_str().unwrap().len() == 6);
}

#[tokio::test]
async fn refuses_as_documented() {
    let bench = Bench::start(MockConfig::default()).await;
    let (invalid, auth) =
        (r#"{"code":400,"message":"Validation error"}"#, r#"{"code":401,"message":"Authorization failed"}"#);
    bench
        .refuses(vec![
            ("no app", valid().without("App-ID"), 401, auth),
            ("no key", valid().without("API-Key"), 401, auth),
            ("an empty key", valid().header("API-Key", ""), 401, auth),
            ("GET", valid().method(Method::GET), 405, "Method Not Allowed"),
            ("version 1", valid().path("/v1/whatsapp/otp/send"), 404, "Not Found"),
            ("not JSON", valid().raw("msisdn=628123456890"), 400, invalid),
            ("a form", valid().header("content-type", "application/x-www-form-urlencoded"), 400, invalid),
            ("an unknown field", valid().set("/lang", json!("en")), 400, invalid),
            ("no recipient", valid().cut("/msisdn"), 400, invalid),
            ("a plus", valid().set("/msisdn", json!("+628123456890")), 400, invalid),
            ("a local number", valid().set("/msisdn", json!("08123456890")), 400, invalid),
            ("a number as number", valid().set("/msisdn", json!(628_123_456_890_u64)), 400, invalid),
            ("no language", valid().cut("/lang_code"), 400, invalid),
            ("an empty language", valid().set("/lang_code", json!("")), 400, invalid),
            ("a code as number", valid().set("/otp", json!(482_910)), 400, invalid),
            ("16 characters", valid().set("/otp", json!("1234567890123456")), 400, invalid),
            ("a length beside a code", valid().set("/otp_length", json!("6")), 400, invalid),
            ("a limit as number", valid().set("/time_limit", json!(300)), 400, invalid),
            ("a limit in words", valid().set("/time_limit", json!("soon")), 400, invalid),
        ])
        .await;
    let stats = bench.mock.stats();
    assert_eq!(stats.account(Kind::Verihubs, "-").unwrap().answers[&401], 3, "whose they are is not known");
    assert_eq!(stats.account(Kind::Verihubs, "app-1").unwrap().answers[&400], 14);
    assert_eq!(stats.strays, 2);
}

#[tokio::test]
async fn only_known_accounts_where_that_is_asked() {
    let known = Control { accounts: Some(Accounts::Known), ..Control::of(Kind::Verihubs) };
    let bench = Bench::start(MockConfig::default().with(known.account("app-1"))).await;
    assert_eq!(bench.ask(valid()).await.status, 201);
    assert_eq!(bench.ask(valid().header("App-ID", "app-2")).await.status, 401);
}

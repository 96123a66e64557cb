//! Betatel.

use otpd_sim::{Kind, MockConfig};
use reqwest::Method;
use serde_json::json;

use super::{Ask, Bench};

const BASE: &str = "/api/v1/connect-hub/whatsapp";

fn ask(path: &str, body: &serde_json::Value) -> Ask {
    Ask::post(&format!("{BASE}/{path}"), &[("x-account-id", "acc-1"), ("x-api-key", "key-1")], body)
}

pub(crate) fn valid() -> Ask {
    ask("otp", &json!({ "to": "38761444555", "text": "482910" }))
}

#[tokio::test]
async fn takes_a_text_and_shows_its_record() {
    let bench = Bench::start(MockConfig::default()).await;
    let answer = bench.ask(valid()).await;
    assert_eq!(answer.status, 200);
    let json = answer.json();
    let uuid = json["uuid"].as_str().unwrap();
    assert_eq!((uuid.len(), &json["to"]), (26, &json!("38761444555")));

    let record = bench.ask(ask(&format!("{uuid}/wdr"), &json!({})).method(Method::GET)).await.json();
    assert_eq!((&record["uuid"], &record["to"]), (&json["uuid"], &json["to"]));
    assert_eq!((&record["text"], &record["status"]), (&json!("482910"), &json!("SENT")));
    assert_eq!(bench.account(Kind::Betatel, "acc-1").lookups, 1);
}

#[tokio::test]
async fn lists_records() {
    let bench = Bench::start(MockConfig::default()).await;
    for (to, text) in [("38761444555", "1111"), ("38761444556", "2222"), ("38761444555", "3333")] {
        assert_eq!(bench.ask(ask("otp", &json!({ "to": to, "text": text }))).await.status, 200);
    }
    let question = |page, rows, direction: &str, to: Option<&str>| {
        let filter = to.map_or(json!({}), |to| json!({ "to": to }));
        ask(
            "wdr",
            &json!({
                "page": page, "rows_per_page": rows, "sort_by": "timestamp",
                "sort_direction": direction, "filter": filter,
            }),
        )
    };
    for (ask, total, texts) in [
        (question(1, 100, "DESC", None), 3, vec!["3333", "2222", "1111"]),
        (question(1, 100, "ASC", None), 3, vec!["1111", "2222", "3333"]),
        (question(1, 100, "DESC", Some("38761444555")), 2, vec!["3333", "1111"]),
        (question(2, 1, "DESC", Some("38761444555")), 2, vec!["1111"]),
        (question(3, 1, "DESC", Some("38761444555")), 2, vec![]),
        (question(1, 10, "DESC", Some("38761444557")), 0, vec![]),
    ] {
        let json = bench.ask(ask).await.json();
        let found: Vec<&str> =
            json["list"].as_array().unwrap().iter().map(|r| r["text"].as_str().unwrap()).collect();
        assert_eq!((json["total"].as_u64(), found), (Some(total), texts));
    }
    let other = question(1, 10, "DESC", None).header("x-account-id", "acc-2");
    assert_eq!(bench.ask(other).await.json()["total"], 0, "an account sees its own records only");
}

#[tokio::test]
async fn refuses_as_documented() {
    let bench = Bench::start(MockConfig::default()).await;
    let (bad, auth) = (r#"{"message":"Bad Request"}"#, r#"{"message":"Unauthorized"}"#);
    let question = || ask("wdr", &json!({ "page": 1, "rows_per_page": 10 }));
    let nothing = "01JV5V54KPYK9GB29265EQRZ2P/wdr";
    bench
        .refuses(vec![
            ("no key", valid().without("x-api-key"), 401, auth),
            ("no account", valid().without("x-account-id"), 401, auth),
            ("GET", valid().method(Method::GET), 404, "Cannot GET"),
            ("another path", valid().path("/api/v1/connect-hub/sms/otp"), 404, "Cannot POST"),
            ("not JSON", valid().raw("{"), 400, bad),
            ("a form", valid().header("content-type", "text/plain"), 400, bad),
            ("an unknown field", valid().set("/from", json!("otpd")), 400, bad),
            ("a plus", valid().set("/to", json!("+38761444555")), 400, bad),
            ("no recipient", valid().cut("/to"), 400, bad),
            ("no text", valid().cut("/text"), 400, bad),
            ("an empty text", valid().set("/text", json!("")), 400, bad),
            ("a text as number", valid().set("/text", json!(482_910)), 400, bad),
            ("a long text", valid().set("/text", json!("x".repeat(4097))), 400, bad),
            (
                "a record of nobody",
                ask(nothing, &json!({})).method(Method::GET).without("x-api-key"),
                401,
                auth,
            ),
            ("no such record", ask(nothing, &json!({})).method(Method::GET), 404, "Not Found"),
            ("too many rows", question().set("/rows_per_page", json!(101)), 400, bad),
            ("page 0", question().set("/page", json!(0)), 400, bad),
            ("a list of nobody", question().without("x-account-id"), 401, auth),
        ])
        .await;
    assert_eq!(bench.ask(valid().set("/text", json!("é".repeat(4096)))).await.status, 200);
}

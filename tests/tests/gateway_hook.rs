//! The Supabase hook of a gateway process, with requests signed by another implementation (openssl).

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use otpd_sim::MockConfig;
use otpd_tests::gateway::Answer;
use otpd_tests::{Broker, GatewayProcess, Proxy, Scene};
use serde_json::{Value, json};

const CONFIG: &str = r#"
[providers.verihubs]
kind = "verihubs"
base_url = "{mock}"
app_id = "app"
api_key = "key"
[routes.login]
providers = ["verihubs"]
[gateway.supabase]
secrets = ["v1,whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="]
route = "login"
"#;
/// The secret's bytes: 0123456789abcdef, twice.
const SECRET_HEX: &str = "3031323334353637383961626364656630313233343536373839616263646566";

/// Base64 of the HMAC-SHA256, as the shell of an operator would make it.
fn sign(signed: &str) -> String {
    let make =
        format!("openssl dgst -sha256 -mac HMAC -macopt hexkey:{SECRET_HEX} -binary | openssl base64 -A");
    let mut shell = Command::new("sh")
        .args(["-c", &make])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    shell.stdin.take().unwrap().write_all(signed.as_bytes()).unwrap();
    let out = shell.wait_with_output().expect("openssl");
    assert!(out.status.success() && !out.stdout.is_empty(), "openssl is there");
    String::from_utf8(out.stdout).unwrap()
}

async fn call(gateway: &GatewayProcess, attempt: &str, body: &Value, signature: Option<&str>) -> Answer {
    let body = body.to_string();
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let signature =
        signature.map_or_else(|| format!("v1,{}", sign(&format!("{attempt}.{at}.{body}"))), Into::into);
    let request = gateway
        .request("POST", "/hooks/supabase/send-sms")
        .header("content-type", "application/json")
        .header("webhook-id", attempt)
        .header("webhook-timestamp", at.to_string())
        .header("webhook-signature", signature);
    gateway.send(request.body(body)).await.unwrap()
}

fn ask(uuid: &str, otp: &str) -> Value {
    json!({
        "metadata": { "uuid": uuid, "name": "send-sms" },
        "user": { "id": "u-1", "phone": "999120000001" },
        "sms": { "otp": otp, "phone": "999120000001" },
    })
}

async fn scene() -> Scene {
    let broker = Broker::shared();
    let lanes = [("verihubs", false, &["verihubs", "login"][..])];
    Scene::set(broker, &broker.url(), CONFIG, &lanes, MockConfig::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn supabase_is_answered_in_its_own_words_and_a_code_is_queued_once() {
    let mut scene = scene().await;
    let gateway = GatewayProcess::start("gateway", scene.config(), &[]);
    let another = GatewayProcess::start("gateway", scene.config(), &[]);
    gateway.process.ready().await;
    another.process.ready().await;
    let first = call(&gateway, "attempt-1", &ask("uuid-1", "561166"), None).await;
    assert_eq!((first.status, first.text.as_str()), (200, "{}"), "{first:?}");
    assert_eq!(first.header("content-type"), Some("application/json"));
    // The next attempts have other ids, and may come to another gateway.
    for replica in [&gateway, &another] {
        let again = call(replica, "attempt-2", &ask("uuid-1", "561166"), None).await;
        assert_eq!((again.status, again.text.as_str()), (200, "{}"), "{again:?}");
    }
    let other = call(&gateway, "attempt-3", &ask("uuid-1", "777777"), None).await;
    assert_eq!((other.status, other.json()["error"]["http_code"].as_u64()), (200, Some(409)), "{other:?}");
    let forged = call(&gateway, "attempt-4", &ask("uuid-2", "561166"), Some("v1,AAAA")).await;
    assert_eq!(forged.status, 401, "{forged:?}");
    let no_code = call(&gateway, "attempt-5", &ask("uuid-3", "5 6"), None).await;
    assert_eq!(
        (no_code.status, no_code.json()["error"]["http_code"].as_u64()),
        (200, Some(400)),
        "{no_code:?}"
    );
    for answer in [&first, &other, &forged, &no_code] {
        assert!(!answer.text.contains("561166") && !answer.text.contains("99912"), "{answer:?}");
    }
    // An older body has no uuid: the user and the code tell it.
    let older = json!({ "user": { "id": "u-2", "phone": "+999120000002" }, "sms": { "otp": "4821" } });
    for attempt in ["attempt-6", "attempt-7"] {
        assert_eq!(call(&gateway, attempt, &older, None).await.text, "{}");
    }
    let worker = scene.worker();
    scene.expect(["supabase-uuid-1"]);
    scene.until("both codes to be sent", |s| s.ended() == 2).await;
    scene.until_nothing_is_under_way().await;
    let stats = scene.mock.stats();
    let sent: u64 = stats.accounts.iter().map(|account| account.attempts).sum();
    assert_eq!(sent, 2, "a code was sent twice");
    assert!(worker.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_away_is_answered_within_the_time_that_supabase_has() {
    let scene = scene().await;
    let proxy = Proxy::start(Broker::shared().address()).await;
    let url = [("OTPD__BROKER__URL", format!("\"{}\"", proxy.url()))];
    let gateway = GatewayProcess::start("gateway", scene.config(), &url);
    gateway.process.ready().await;
    proxy.swallow();
    let began = Instant::now();
    let first = call(&gateway, "attempt-1", &ask("uuid-1", "561166"), None).await;
    let took = began.elapsed();
    assert_eq!((first.status, first.header("retry-after")), (503, Some("1")), "{first:?}");
    let second = call(&gateway, "attempt-2", &ask("uuid-1", "561166"), None).await;
    assert_eq!((second.status, second.json()["error"]["http_code"].as_u64()), (200, Some(503)), "{second:?}");
    assert!(took < Duration::from_millis(1_500), "{took:?}");
}

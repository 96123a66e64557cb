//! Faults: what the client sees, and what becomes of the message.

use std::time::{Duration, Instant};

use otpd_sim::{Control, Kind, MockConfig};
use serde_json::json;

use super::ceilings::valid;
use super::{Ask, Bench, betatel, onemsg, verihubs};

fn faults(text: &str) -> Control {
    Control::faults(text.parse().unwrap())
}

async fn bench(plan: &str) -> Bench {
    Bench::start(MockConfig::default().with(faults(plan))).await
}

fn to(phone: &str) -> Ask {
    verihubs::valid().set("/msisdn", json!(phone))
}

#[tokio::test]
async fn answers_in_the_providers_form() {
    for (plan, status, says, retry_after, sent) in [
        ("verihubs:429=100%", 429, "Too many request", None, 0),
        ("verihubs:429(2s)=100%", 429, "Too many request", Some("2"), 0),
        ("verihubs:500=100%", 500, "Internal server error", None, 0),
        ("verihubs:500+sent=100%", 500, "Internal server error", None, 1),
        ("verihubs:502=100%", 502, "", None, 0),
        ("verihubs:503(1500ms)=100%", 503, "", Some("2"), 0),
        ("verihubs:blocked=100%", 409, "msisdn has been blocked", None, 0),
        ("verihubs:quota=100%", 403, "Quota insufficient", None, 0),
        ("verihubs:garbage=100%", 200, "<html>", None, 1),
        ("onemsg:plan=100%", 403, "subscriptionBlocked", None, 0),
        (
            "onemsg:queued+sent=100%",
            200,
            r#""jobId":"7041","message":"Message is queued","sent":false"#,
            None,
            1,
        ),
        ("onemsg:pair_limit=100%", 200, "(#131056)", None, 0),
        ("meta_cloud:429(7s)=100%", 429, "(#130429)", Some("7"), 0),
        ("meta_cloud:131026=100%", 400, "(#131026) Message undeliverable", None, 0),
        ("meta_cloud:sender_unknown=100%", 400, r#""error_subcode":33"#, None, 0),
        ("meta_cloud:paused=100%", 200, r#""message_status":"paused""#, None, 0),
        ("meta_onprem:overloaded=100%", 429, r#""code":1016"#, None, 0),
        ("meta_onprem:error_object=100%", 400, r#"{"error":{"code":1009"#, None, 0),
        ("betatel:balance=100%", 402, "Payment Required", None, 0),
        ("betatel:bad_recipient=100%", 400, "Bad Request", None, 0),
        ("msgai:ip_blocked=100%", 403, r#""code":"ip_blocked""#, None, 0),
        ("msgai:500=100%", 500, "Failed to send template", None, 0),
        ("msgai:429=100%", 429, "Limit: 100 requests/minute", None, 0),
    ] {
        let bench = bench(plan).await;
        let kind = plan.split_once(':').unwrap().0.parse().unwrap();
        let ask = valid(&bench, kind).await;
        let answer = bench.ask(ask).await;
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (status, retry_after),
            "{plan}: {answer:?}"
        );
        assert!(answer.text.contains(says), "{plan}: {answer:?}");
        assert_eq!(bench.mock.stats().accepted(), sent, "{plan}");
    }
}

#[tokio::test]
async fn plain_text_where_the_provider_answers_so() {
    let bench = bench("onemsg:plan=100%").await;
    assert_eq!(bench.ask(onemsg::valid()).await.header("content-type"), Some("text/plain"));
}

#[tokio::test]
async fn a_reset_may_come_before_or_after_the_message() {
    let bench = bench("verihubs:reset=to:*000,reset+sent=to:*001").await;
    for (phone, accepted) in [("628123456000", 0), ("628123456001", 1)] {
        let error = bench.try_ask(to(phone)).await.unwrap_err();
        assert!(!error.is_timeout() && !error.is_connect(), "{error:?}");
        assert_eq!(bench.account(Kind::Verihubs, "app-1").accepted, accepted);
    }
    assert_eq!(bench.ask(to("628123456002")).await.status, 201);
    let stats = bench.account(Kind::Verihubs, "app-1");
    assert_eq!((stats.attempts, stats.resets, stats.answers[&201]), (3, 2, 1));
}

#[tokio::test]
async fn a_stall_lasts_until_somebody_gives_up() {
    let bench = bench("verihubs:stall=to:*000,stall+sent=to:*001").await;
    for (phone, stalls) in [("628123456000", 1), ("628123456001", 2)] {
        bench.leave(to(phone), Kind::Verihubs, "app-1", |stats| stats.stalls == stalls).await;
    }
    assert_eq!(bench.account(Kind::Verihubs, "app-1").accepted, 1);

    // The mock gives up too when it stops, and does not wait for the client.
    let Bench { mock, client } = bench;
    let request = client.post(format!("{}/v2/whatsapp/otp/send", mock.url()));
    let headers = [("App-ID", "app-1"), ("API-Key", "key-1"), ("content-type", "application/json")];
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let stalled = tokio::spawn(request.body(to("628123456000").body).send());
    while mock.stats().account(Kind::Verihubs, "app-1").unwrap().stalls < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let started = Instant::now();
    assert_eq!(mock.stop().await.account(Kind::Verihubs, "app-1").unwrap().stalls, 3);
    assert!(stalled.await.unwrap().is_err());
    assert!(started.elapsed() < crate::PATIENCE, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_slow_answer_is_the_right_one() {
    let bench = bench("verihubs:slow_headers=first:1").await;
    let started = Instant::now();
    let slow = bench.ask(verihubs::valid()).await;
    assert_eq!((slow.status, &slow.json()["otp"]), (201, &json!("482910")));
    let slowly = started.elapsed();
    assert!(slowly > Duration::from_secs(1), "{slowly:?}");
    let started = Instant::now();
    assert_eq!(bench.ask(verihubs::valid()).await.status, 201);
    assert!(started.elapsed() < slowly, "the connection is as quick as before");
}

#[tokio::test]
async fn the_first_attempts_of_each_phone() {
    let bench = bench("verihubs:503=first:2").await;
    let mut statuses = Vec::new();
    for phone in ["628123456000", "628123456001", "628123456000", "628123456000", "628123456001"] {
        statuses.push(bench.ask(to(phone)).await.status);
    }
    assert_eq!(statuses, [503, 503, 503, 201, 503]);
}

#[tokio::test]
async fn a_seed_repeats_its_faults() {
    let statuses = async |seed| {
        let plan = faults("verihubs:429=20%,500=20%,bad_recipient=10%");
        let bench = Bench::start(MockConfig { seed, ..MockConfig::default() }.with(plan)).await;
        let mut statuses = Vec::new();
        for i in 0..100 {
            statuses.push(bench.ask(to(&format!("6281234560{i:02}"))).await.status);
        }
        statuses
    };
    let once = statuses(7).await;
    assert_eq!(once, statuses(7).await);
    assert_ne!(once, statuses(8).await);
    for (status, least, most) in [(429, 8, 35), (500, 8, 35), (400, 2, 22), (201, 35, 65)] {
        let count = once.iter().filter(|s| **s == status).count();
        assert!((least..=most).contains(&count), "{count} times {status}");
    }
}

#[tokio::test]
async fn changed_while_it_runs() {
    let bench = Bench::start(MockConfig::default()).await;
    let control = |body: serde_json::Value| bench.ask(Ask::post("/control", &[], &body));
    for (change, expected) in [
        (json!({ "kind": "betatel", "balance": 1 }), 200),
        (json!({ "kind": "betatel" }), 402),
        (json!({ "kind": "betatel", "account": "acc-2", "balance": "unlimited" }), 402),
        (json!({ "kind": "betatel", "account": "acc-1", "balance": 1 }), 200),
        (json!({ "kind": "betatel", "balance": "unlimited", "faults": "500=100%" }), 500),
        (json!({ "kind": "betatel", "faults": "" }), 200),
        (json!({ "kind": "betatel", "secret": "key-2" }), 401),
    ] {
        let carried_out = control(change.clone()).await;
        assert_eq!(carried_out.status, 200, "{carried_out:?}");
        assert_eq!(bench.ask(betatel::valid()).await.status, expected, "{change}");
    }
    let wrong = control(json!({ "kind": "betatel", "faults": "otp_too_long=5%" })).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text.contains("betatel has no such fault"), "{wrong:?}");
}

#[tokio::test]
async fn without_balance_in_the_providers_form() {
    for (kind, status, says) in [
        (Kind::OneMsg, 403, "subscriptionBlocked"),
        (Kind::MetaCloud, 400, "(#131042)"),
        (Kind::MetaOnprem, 400, r#""code":402"#),
        (Kind::Verihubs, 403, "Quota insufficient"),
        (Kind::Betatel, 402, "Payment Required"),
        (Kind::Msgai, 402, "Insufficient balance"),
    ] {
        let none = Control { balance: Some(otpd_sim::Balance::Left(0)), ..Control::of(kind) };
        let bench = Bench::start(MockConfig::default().with(none)).await;
        let ask = valid(&bench, kind).await;
        let answer = bench.ask(ask).await;
        assert_eq!(answer.status, status, "{kind}");
        assert!(answer.text.contains(says), "{kind}: {answer:?}");
    }
}

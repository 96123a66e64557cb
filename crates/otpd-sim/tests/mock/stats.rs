//! What the mock tells about what it saw, over HTTP and as types.

use std::time::{Duration, Instant};

use otpd_core::Phone;
use otpd_sim::mock::{SentMessage, fingerprint};
use otpd_sim::{Control, Jobs, Kind, Latency, MockConfig, Stats};
use serde_json::json;

use super::{Ask, Bench, betatel, client, msgai, verihubs};

#[tokio::test]
async fn counts_alike_over_http_and_in_the_process() {
    let bench = Bench::start(MockConfig::default()).await;
    for ask in [verihubs::valid(), verihubs::valid(), verihubs::valid().raw("{"), msgai::valid()] {
        bench.ask(ask).await;
    }
    bench.ask(Ask::post("/nowhere/at/all", &[], &json!({}))).await;
    let over_http: Stats = serde_json::from_str(&bench.get("/stats").await.text).unwrap();
    let here = bench.mock.stats();
    assert_eq!(Stats { uptime_us: 0, ..over_http }, Stats { uptime_us: 0, ..here.clone() });
    assert_eq!((here.strays, here.accepted()), (1, 3));
    let verihubs = here.account(Kind::Verihubs, "app-1").unwrap();
    assert_eq!((verihubs.attempts, verihubs.accepted, verihubs.duplicates), (3, 2, 1));
    assert_eq!(verihubs.most_in(Duration::from_secs(1)), Some(3));
    assert!(verihubs.exact && verihubs.first_arrival_us < verihubs.last_arrival_us);
    assert!(!bench.get("/stats").await.text.contains("0123456789"), "a key is not a name");
}

#[tokio::test]
async fn shows_messages_without_phones_or_codes() {
    let bench = Bench::start(MockConfig { seed: 9, ..MockConfig::default() }).await;
    let jobs: Vec<_> = Jobs::new(9, 5).collect();
    for job in &jobs {
        let ask =
            betatel::valid().set("/to", json!(job.to.expose_digits())).set("/text", json!(job.code.expose()));
        assert_eq!(bench.ask(ask).await.status, 200);
    }
    bench.ask(verihubs::valid()).await;
    let answer = bench.get("/stats/messages?kind=betatel&account=acc-1&limit=3").await;
    let shown: Vec<SentMessage> = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(shown.len(), 3);
    for (message, job) in shown.iter().zip(jobs.iter().rev()) {
        assert_eq!(message.to, job.to.to_string());
        assert_eq!(message.fingerprint, format!("{:016x}", fingerprint(9, job.to, job.code.expose())));
        assert!(!answer.text.contains(job.code.expose()) && !answer.text.contains(&job.to.expose_digits()));
    }
    assert!(shown.is_sorted_by_key(|m| std::cmp::Reverse(m.at_us)));
    assert_eq!(bench.mock.messages(100).len(), 6);
    let other = fingerprint(9, Phone::parse("99912345678").unwrap(), jobs[0].code.expose());
    assert!(shown.iter().all(|m| m.fingerprint != format!("{other:016x}")));
}

#[tokio::test]
async fn lists_arrivals_and_forgets_them() {
    let bench = Bench::start(MockConfig::default()).await;
    for ask in [verihubs::valid(), betatel::valid(), verihubs::valid().raw("{"), verihubs::valid()] {
        bench.ask(ask).await;
    }
    let arrivals = async |query: &str| -> Vec<u64> {
        serde_json::from_str(&bench.get(&format!("/stats/arrivals{query}")).await.text).unwrap()
    };
    let verihubs = arrivals("?kind=verihubs&account=app-1").await;
    assert_eq!(verihubs, bench.mock.arrivals(Kind::Verihubs, "app-1"));
    assert!(verihubs.len() == 3 && verihubs.is_sorted());
    assert_eq!(arrivals("?kind=verihubs&limit=2").await, verihubs[1..]);
    assert_eq!(arrivals("").await.len(), 4);
    assert_eq!(bench.get("/stats/arrivals?kind=twilio").await.status, 400);
    assert_eq!(bench.get("/stats/messages?limits=2").await.status, 400);

    assert_eq!(bench.ask(Ask::post("/stats/reset", &[], &json!({}))).await.status, 200);
    assert!(arrivals("").await.is_empty());
    let stats = bench.account(Kind::Verihubs, "app-1");
    assert_eq!((stats.attempts, stats.accepted, stats.most_in(Duration::from_secs(60))), (0, 0, Some(0)));
    assert_eq!(bench.mock.messages(10).len(), 0);
}

#[tokio::test]
async fn takes_its_time() {
    let slow = |latency: &str| Control { latency: latency.parse().ok(), ..Control::of(Kind::Verihubs) };
    let bench = Bench::start(MockConfig::default().with(slow("120ms"))).await;
    let started = Instant::now();
    bench.ask(verihubs::valid()).await;
    assert!(started.elapsed() >= Duration::from_millis(120));
    bench.mock.control(&Control { latency: Some(Latency::None), ..Control::of(Kind::Verihubs) });
    // A client that goes away is not asked: its message is sent.
    bench.mock.control(&slow("30s"));
    bench.leave(verihubs::valid(), Kind::Verihubs, "app-1", |stats| stats.accepted == 2).await;
    let started = Instant::now();
    bench.mock.stop().await;
    assert!(started.elapsed() < crate::PATIENCE, "it does not wait for its own latency");
}

#[tokio::test]
async fn speaks_http_2_without_tls() {
    let mock = Bench::start(MockConfig::default()).await.mock;
    let client = client().http2_prior_knowledge().build().unwrap();
    let response = client.get(format!("{}/stats", mock.url())).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert_eq!(response.status(), 200);
}

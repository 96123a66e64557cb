//! Nothing sensitive gets out. Known codes, numbers and keys are sent through every path there is (taken,
//! retried, cut off, refused with an answer that repeats them, failed over, expired, superseded, repeated,
//! malformed, buried), with logs at `trace` and traces on. Then everything that a person or a system could
//! read beside the jobs themselves is searched for them.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use otpd_core::{FactKind, SendJob, UnixMs, fact_json};
use otpd_queue::{Burial, Carried, DeadFilter, Delivery, Move, Tag, TraceContext};
use otpd_sim::mock::Kind;
use otpd_sim::{Control, FaultPlan, MockConfig};
use otpd_tests::rabbit::{now, provider};
use otpd_tests::{Broker, Collector, Scene};

/// Keys that are nowhere but in the config and in requests.
const KEYS: [&str; 4] = ["app-7c1d2e", "key-9f8e7d6c", "sk_live_5e4d3c2b1a0f9e8d", "tok-0a1b2c3d4e"];
const CONFIG: &str = r#"
[retry]
initial = "50ms"
max = "100ms"
max_attempts = 4
[limits]
recipient = "off"
[providers.verihubs]
kind = "verihubs"
base_url = "{mock}"
ceiling = "200/s"
timeout = "1s"
connect_timeout = "500ms"
app_id = "app-7c1d2e"
api_key = "key-9f8e7d6c"
[providers.msgai]
kind = "msgai"
base_url = "{mock}"
template = "login_code"
timeout = "1s"
connect_timeout = "500ms"
api_key = "sk_live_5e4d3c2b1a0f9e8d"
[providers.onemsg]
kind = "onemsg"
base_url = "{mock}"
template = "otp"
timeout = "1s"
connect_timeout = "500ms"
namespace = "ns"
channel_id = "CH1"
token = "tok-0a1b2c3d4e"
[providers.echo]
kind = "verihubs"
base_url = "{echo}"
app_id = "app-7c1d2e"
api_key = "key-9f8e7d6c"
[routes.login]
providers = ["verihubs", "msgai"]
ttl = "8s"
[routes.verihubs]
ttl = "8s"
[routes.msgai]
ttl = "8s"
[routes.onemsg]
ttl = "8s"
[routes.echo]
ttl = "8s"
"#;

/// What is sent: the last digits choose what becomes of it.
struct Sent {
    codes: Vec<String>,
    numbers: Vec<String>,
    bodies: Vec<(String, String, Bytes)>,
}

impl Sent {
    fn one(&mut self, route: &str, tail: u64, more: &str) {
        let serial = self.bodies.len() as u64;
        let (number, code) =
            (format!("99955{:05}{tail:03}", serial % 100_000), format!("K7{serial:03}Q{tail:03}Z"));
        let id = format!("leak-{serial}");
        let body = format!(r#"{{"id":"{id}","to":"+{number}","code":"{code}"{more}}}"#);
        self.codes.push(code);
        self.numbers.push(number);
        self.bodies.push((route.into(), id, body.into()));
    }

    /// As many times as it is to be seen in what was searched.
    fn found_in(&self, text: &[u8]) -> Vec<String> {
        let has = |word: &str| text.windows(word.len()).any(|part| part == word.as_bytes());
        let words = self.codes.iter().chain(&self.numbers).map(String::as_str).chain(KEYS);
        words.filter(|word| has(word)).map(str::to_owned).collect()
    }
}

fn sent() -> Sent {
    let mut sent = Sent { codes: Vec::new(), numbers: Vec::new(), bodies: Vec::new() };
    let at = now();
    let over = format!(r#","created_at":"{at}","expires_at":"{}""#, at.plus(Duration::from_millis(1)));
    for route in ["login", "verihubs", "msgai", "onemsg", "echo"] {
        for tail in [1, 429, 500, 501, 502, 503, 504, 505] {
            sent.one(route, tail, "");
        }
        sent.one(route, 2, &over);
        sent.one(route, 3, r#","metadata":{"user":"u-1"}"#);
        sent.one(route, 4, r#","unknown_field":1"#);
        sent.one(route, 5, r#","expires_at":"never""#);
        sent.one(route, 6, r#","purpose":12"#);
    }
    // Twice the same id, and a newer code for the same number.
    let again = sent.bodies[0].clone();
    sent.bodies.push(again);
    let (number, code) = (sent.numbers[0].clone(), "NEWER9CODE".to_owned());
    let newer = format!(r#"{{"id":"leak-newer","to":"+{number}","code":"{code}"}}"#);
    sent.codes.push(code);
    sent.bodies.push(("login".into(), "leak-newer".into(), newer.into()));
    sent
}

fn mock() -> MockConfig {
    let faults = |kind: Kind, refusal: &str| {
        let cut_off = "429(1s)=to:*429,500=to:*500,reset=to:*501,garbage=to:*502,stall=to:*503";
        let plan = format!("{cut_off},{refusal}=to:*504,{refusal}=to:*505");
        Control::faults(FaultPlan::parse(kind, &plan).unwrap())
    };
    let setup = vec![
        faults(Kind::Verihubs, "invalid_request"),
        faults(Kind::Msgai, "bad_recipient"),
        faults(Kind::OneMsg, "bad_recipient"),
    ];
    MockConfig { setup, ..MockConfig::default() }
}

/// A provider that refuses everything, and repeats in its answer all that it was told, keys included.
async fn echo() -> String {
    let answer = |headers: HeaderMap, body: String| async move {
        let status =
            if body.contains("50") { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::BAD_REQUEST };
        let told = format!("cannot send {body} for {headers:?}");
        (
            status,
            axum::Json(serde_json::json!({ "message": told, "error": { "message": told, "field": body } })),
        )
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn no_code_number_or_key_is_found_in_anything_that_can_be_read() {
    let broker = Broker::shared();
    let lanes = [
        ("verihubs", true, &["verihubs", "login"][..]),
        ("msgai", false, &["msgai"][..]),
        ("onemsg", false, &["onemsg"][..]),
        ("echo", false, &["echo"][..]),
    ];
    let config = CONFIG.replace("{echo}", &echo().await);
    let mut scene = Scene::set(broker, &broker.url(), &config, &lanes, mock()).await;
    let collector = Collector::start().await;
    let sent = sent();
    for (route, id, body) in &sent.bodies {
        scene.publish_bodies(route, vec![(id.clone(), body.clone())]).await;
    }
    let worker = scene.worker_with(&[
        ("OTPD_LOG", "trace".into()),
        ("RUST_BACKTRACE", "1".into()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
    ]);
    let distinct = sent.bodies.len() - 1;
    scene.until("every job to end", |s| s.ended() >= distinct).await;
    let (_, metrics) = worker.admin("/metrics").await.unwrap();
    let (_, ready) = worker.admin("/readyz").await.unwrap();
    let listing = scene.otpd(&["dead", "list"]);
    let listing_json = scene.otpd(&["dead", "list", "--json"]);
    let config = scene.otpd(&["config", "show"]);
    let letters = scene.queue.dead_letters(&DeadFilter::default(), now(), 1000).await.unwrap();
    let shown: Vec<String> = letters
        .iter()
        .flat_map(|l| [scene.otpd(&["dead", "show", l.job.as_str()]).1, format!("{l:?}")])
        .collect();
    assert!(worker.stop().await.success());
    let events: Vec<String> =
        scene.seen.iter().map(|f| String::from_utf8_lossy(&fact_json::encode(f, "t")).into_owned()).collect();
    let log = scene.log();

    // The paths were really taken, and the places really hold something.
    for kind in [
        FactKind::Accepted,
        FactKind::Retrying,
        FactKind::FailedOver,
        FactKind::Expired,
        FactKind::Superseded,
        FactKind::Dead,
        FactKind::Duplicate,
    ] {
        assert!(scene.count(kind) > 0, "no {}", kind.as_str());
    }
    assert!(letters.len() > 15 && collector.spans().len() > 100 && log.lines().count() > 300);
    let places: [(&str, Vec<u8>); 9] = [
        ("log at trace", log.clone().into_bytes()),
        ("spans", collector.bytes()),
        ("/metrics", metrics.into_bytes()),
        ("/readyz", ready.into_bytes()),
        ("dead list", format!("{}{}", listing.1, listing.2).into_bytes()),
        ("dead list --json", format!("{}{}", listing_json.1, listing_json.2).into_bytes()),
        ("dead show", shown.concat().into_bytes()),
        ("config show", format!("{}{}", config.1, config.2).into_bytes()),
        ("events", events.concat().into_bytes()),
    ];
    let mut count = 0;
    for (place, bytes) in &places {
        let found = sent.found_in(bytes);
        println!("{place}: {} bytes, {} sensitive strings", bytes.len(), found.len());
        count += found.len();
        for word in found.iter().take(3) {
            let text = String::from_utf8_lossy(bytes);
            let line = text.lines().find(|l| l.contains(word.as_str())).unwrap_or_default();
            println!("    {word} in: {line}");
        }
    }
    let searched = sent.codes.len() + sent.numbers.len() + KEYS.len();
    println!("{searched} strings searched for in {} places: {count} found", places.len());
    assert_eq!(count, 0);
    // The search can find: where a code must be, it is.
    let body = String::from_utf8_lossy(&letters[0].body).into_owned();
    assert!(!sent.found_in(body.as_bytes()).is_empty(), "a replayable letter has its code");
}

/// A panic prints what its message formats; so nothing that carries a job may show it in `{:?}`.
#[test]
fn what_a_panic_could_print_shows_nothing() {
    let body = Bytes::from_static(br#"{"id":"a","to":"+628123456890","code":"K7Q9Z1"}"#);
    let job = SendJob::parse(&body, UnixMs(0)).unwrap();
    let tag = Tag { session: 1, number: 1 };
    let carried = Carried::default();
    let trace = TraceContext::default();
    let delivery = Delivery {
        tag,
        section: otpd_queue::Section::Main,
        body: body.clone(),
        carried: carried.clone(),
        message_id: Some(job.id.clone()),
        taken_at: None,
        redelivered: false,
        returned: 0,
        trace: trace.clone(),
    };
    let to = provider("p");
    let moved = Move {
        to: to.clone(),
        section: otpd_queue::Section::Main,
        job: job.id.clone(),
        body: body.clone(),
        carried,
        taken_at: UnixMs(0),
        trace: trace.clone(),
    };
    let burial = Burial {
        job: job.id.clone(),
        body: body.clone(),
        reason: otpd_core::Reason::Expired,
        class: None,
        provider: to,
        route: None,
        http_status: None,
        attempts: 1,
        detail: None,
        died_at: UnixMs(0),
        taken_at: UnixMs(1_800_000_000_000),
        life: otpd_core::Life::default(),
        trace,
    };
    let malformed =
        SendJob::parse(br#"{"id":"a","to":"+628123456890","code":"K7Q9Z1","code2":"K7Q9Z1"}"#, UnixMs(0));
    let error = malformed.unwrap_err();
    let printed = format!(
        "{job:?} {delivery:?} {moved:?} {burial:?} {error:?} {error} {:?}",
        otpd_client::Job::new("+628123456890", "K7Q9Z1")
    );
    for word in ["628123456890", "8123456890", "K7Q9Z1"] {
        assert!(!printed.contains(word), "{word} in {printed}");
    }
    assert!(printed.contains("47 bytes"), "{printed}");
}

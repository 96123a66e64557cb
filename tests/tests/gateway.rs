//! The gateway as a process, on a real RabbitMQ and on a file: jobs in, states out, callbacks, bad input, outages
//! and crashes.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use otpd_core::{DeliveryStatus, Fact, FactKind, JobId, MessageId, ProviderName, RouteName, UnixMs};
use otpd_sim::mock::Kind;
use otpd_sim::{Control, Mock, MockConfig};
use otpd_tests::past::publish_past;
use otpd_tests::rabbit::PATIENCE;
use otpd_tests::{Broker, GatewayProcess, Proxy, Scene, eventually};
use serde_json::{Value, json};

/// Its SHA-256 is in the config.
const KEY: &str = "a-key-of-the-tests";
const KEY_SHA256: &str = "fe5cf6eef1dc1ca10d8bfa761cf662da62aba67f81b3dd7665e5feaec19643d8";

const CONFIG: &str = r#"
[providers.verihubs]
kind = "verihubs"
base_url = "{mock}"
app_id = "app"
api_key = "key"
callback_token = "token-of-verihubs"
[providers.other]
kind = "verihubs"
base_url = "{mock}"
app_id = "other"
api_key = "key"
[routes.login]
providers = ["verihubs"]
[limits]
recipient = "off"
[gateway.keys.test]
sha256 = "{sha256}"
routes = ["login", "verihubs"]
[gateway.keys.little]
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
routes = ["login"]
"#;

fn config() -> String {
    CONFIG.replace("{sha256}", KEY_SHA256)
}

async fn scene() -> Scene {
    let broker = Broker::shared();
    let lanes = [("verihubs", false, &["verihubs", "login"][..]), ("other", false, &["other"][..])];
    let quick = Control { latency: "1ms..3ms".parse().ok(), ..Control::of(Kind::Verihubs) };
    let mock = MockConfig { setup: vec![quick], ..MockConfig::default() };
    Scene::set(broker, &broker.url(), &config(), &lanes, mock).await
}

fn job(id: &str, n: u32) -> String {
    json!({ "route": "login", "id": id, "to": format!("+99912{n:07}"), "code": "482913", "metadata": { "user": id } })
        .to_string()
}

async fn state_becomes(gateway: &GatewayProcess, id: &str, state: &str) -> Value {
    eventually(&format!("{id} to be {state}"), PATIENCE, || async {
        let answer = gateway.get(&format!("/v1/jobs/{id}"), KEY).await.ok()?;
        let view = answer.json();
        (view["state"] == state).then_some(view)
    })
    .await
}

fn types(view: &Value) -> Vec<String> {
    view["timeline"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap().to_owned()).collect()
}

/// Says that the message of a job was delivered, as Verihubs would.
async fn call_back(gateway: &GatewayProcess, view: &Value, status: u32) -> u16 {
    let message = view["timeline"].as_array().unwrap().iter().find_map(|e| e["message_id"].as_str()).unwrap();
    let path = format!("/callbacks/verihubs/token-of-verihubs?session_id={message}&status={status}");
    gateway.send(gateway.request("GET", &path)).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_followed_from_the_request_to_the_phone() {
    let mut scene = scene().await;
    let worker = scene.worker();
    let gateway = GatewayProcess::start("gateway", scene.config(), &[]);
    let another = GatewayProcess::start("gateway", scene.config(), &[]);
    worker.ready().await;
    gateway.process.ready().await;
    another.process.ready().await;
    scene.expect(["job-1"]);
    let taken = gateway.post("/v1/jobs", KEY, job("job-1", 1)).await.unwrap();
    assert_eq!((taken.status, taken.json()["id"].as_str()), (202, Some("job-1")), "{taken:?}");
    assert_eq!(taken.header("location"), Some("/v1/jobs/job-1"));
    let watched = gateway.send(gateway.request("GET", "/v1/jobs/job-1/events").bearer_auth(KEY));
    let told = async {
        let view = state_becomes(&another, "job-1", "accepted").await;
        assert_eq!(
            (view["to"].as_str(), view["provider"].as_str()),
            (Some("+99*******001"), Some("verihubs"))
        );
        assert_eq!(view["metadata"], json!({ "user": "job-1" }));
        // Each replica may hear it, twice, and in any order.
        assert_eq!(call_back(&another, &view, 2).await, 200);
        assert_eq!(call_back(&gateway, &view, 2).await, 200);
        assert_eq!(call_back(&another, &view, 1).await, 200);
    };
    let (watched, ()) = tokio::join!(watched, told);
    let watched = watched.unwrap();
    assert_eq!((watched.status, watched.header("content-type")), (200, Some("text/event-stream")));
    assert!(
        watched.text.contains("otp.delivery.delivered") && watched.text.contains("event: end"),
        "{watched:?}"
    );
    assert!(!watched.text.contains("482913") && !watched.text.contains("99912"), "{watched:?}");
    for replica in [&gateway, &another] {
        let view = eventually("both facts", PATIENCE, || async {
            let view = replica.get("/v1/jobs/job-1", KEY).await.ok()?.json();
            types(&view).contains(&"otp.delivery.sent".to_owned()).then_some(view)
        })
        .await;
        assert_eq!((view["state"].as_str(), view["is_end"].as_bool()), (Some("delivered"), Some(true)));
        assert_eq!(types(&view).iter().filter(|t| *t == "otp.delivery.delivered").count(), 1, "{view}");
    }
    scene.until_all_ended().await;
    let told: Vec<_> = scene.seen.iter().filter(|fact| matches!(fact.kind, FactKind::Delivery(_))).collect();
    assert_eq!(told.len(), 2, "a duplicate made a fact of its own: {told:?}");
    assert_eq!(told[0].kind, FactKind::Delivery(DeliveryStatus::Delivered));
    assert_eq!((told[0].attempt, told[0].route.as_ref().map(RouteName::as_str)), (1, Some("login")));
    assert_eq!((told[0].to.as_deref(), told[0].metadata.is_some()), (Some("+99*******001"), true));
    assert_eq!(another.process.sample("otpd_delivery_seconds_count{provider=\"verihubs\"}").await, 1.0);
    // One who was interrupted goes on where it was; at the end there is nothing more.
    let last = watched.text.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().unwrap();
    let request =
        gateway.request("GET", "/v1/jobs/job-1/events").bearer_auth(KEY).header("last-event-id", last);
    let resumed = gateway.send(request).await.unwrap();
    assert!(resumed.status == 204 || !resumed.text.contains("otp.job.accepted"), "{resumed:?}");
    // The user typed the code: told once, however often it is said, and seen at the other replica.
    for _ in 0..2 {
        let request = gateway.request("POST", "/v1/jobs/job-1/verified").bearer_auth(KEY);
        let said = gateway.send(request).await.unwrap();
        assert_eq!((said.status, said.json()["state"].as_str()), (200, Some("verified")), "{said:?}");
    }
    state_becomes(&another, "job-1", "verified").await;
    let verified = |s: &Scene| s.count(FactKind::Verified);
    scene.until("the fact", |s| verified(s) == 1).await;
    let unknown = gateway.request("POST", "/v1/jobs/nobody/verified").bearer_auth(KEY);
    assert_eq!(gateway.send(unknown).await.unwrap().status, 404);
    assert_eq!(gateway.send(gateway.request("POST", "/v1/jobs/job-1/verified")).await.unwrap().status, 401);
    assert_eq!((scene.close().accepted, verified(&scene)), (1, 1));
    assert!(gateway.process.stop().await.success() && worker.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_and_said() {
    let scene = scene().await;
    let gateway = GatewayProcess::start("gateway", scene.config(), &[]);
    gateway.process.ready().await;
    let good = job("bad-1", 1);
    let body = |text: &str| text.to_owned();
    let table: Vec<(&str, &str, &str, String, u16, &str)> = vec![
        ("POST", "/v1/jobs", "wrong", good.clone(), 401, "unauthorized"),
        ("GET", "/v1/jobs/bad-1", "wrong", String::new(), 401, "unauthorized"),
        ("POST", "/v1/jobs", KEY, body("{"), 400, "invalid_request"),
        ("POST", "/v1/jobs", KEY, body("[]"), 400, "invalid_request"),
        ("POST", "/v1/jobs", KEY, good.replace("482913", "4 8 2"), 400, "invalid_request"),
        ("POST", "/v1/jobs", KEY, good.replace("+999", "tel:"), 400, "invalid_request"),
        ("POST", "/v1/jobs", KEY, good.replace("\"login\"", "\"nowhere\""), 404, "unknown_route"),
        ("POST", "/v1/jobs", KEY, good.replace("\"login\"", "\"other\""), 403, "route_not_allowed"),
        ("POST", "/v1/jobs", KEY, format!("{good}{}", " ".repeat(70_000)), 413, "too_large"),
        ("GET", "/v1/jobs/unknown", KEY, String::new(), 404, "unknown_job"),
        ("GET", "/v1/jobs/a%20b", KEY, String::new(), 404, "unknown_job"),
        ("GET", "/v1/jobs/unknown/events", KEY, String::new(), 404, "unknown_job"),
        ("DELETE", "/v1/jobs", KEY, String::new(), 405, "method_not_allowed"),
        ("GET", "/v2", KEY, String::new(), 404, "not_found"),
        ("POST", "/v1/jobs:batch", KEY, body("{\"jobs\":[]}"), 400, "invalid_request"),
        ("POST", "/callbacks/verihubs/wrong", KEY, String::new(), 404, "not_found"),
        ("POST", "/callbacks/other/", KEY, String::new(), 404, "not_found"),
        ("POST", "/callbacks/other/token", KEY, String::new(), 404, "not_found"),
        ("POST", "/callbacks/nobody/token", KEY, String::new(), 404, "not_found"),
        ("POST", "/hooks/supabase/send-sms", KEY, body("{}"), 404, "not_found"),
    ];
    for (method, path, key, body, status, code) in table {
        let request =
            gateway.request(method, path).bearer_auth(key).header("content-type", "application/json");
        let answer = gateway.send(request.body(body.clone())).await.unwrap();
        let shown = format!("{method} {path} {}: {answer:?}", body.chars().take(80).collect::<String>());
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{shown}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{shown}");
        assert!(!answer.text.contains("482913") && !answer.text.contains("4 8 2"), "{shown}");
    }
    let plain = gateway.request("POST", "/v1/jobs").bearer_auth(KEY).header("content-type", "text/plain");
    assert_eq!(gateway.send(plain.body(good.clone())).await.unwrap().status, 415);
    // The same id: the same job is taken once, another one is refused.
    let (first, again) = (
        gateway.post("/v1/jobs", KEY, good.clone()).await,
        gateway.post("/v1/jobs", KEY, good.clone()).await,
    );
    assert_eq!((first.unwrap().status, again.unwrap().status), (202, 202));
    let other = gateway.post("/v1/jobs", KEY, good.replace("482913", "482914")).await.unwrap();
    assert_eq!((other.status, other.json()["code"].as_str()), (409, Some("id_taken")));
    // Of a batch each has its own result.
    let jobs = json!({ "jobs": [
        { "route": "login", "id": "batch-1", "to": "+999120000001", "code": "482913" },
        { "route": "login", "id": "batch-1", "to": "+999120000001", "code": "777777" },
        { "route": "nowhere", "id": "batch-2", "to": "+999120000002", "code": "482913" },
        { "route": "login", "to": "+999120000003", "code": "482913" },
        7,
    ] });
    let results = gateway.post("/v1/jobs:batch", KEY, jobs.to_string()).await.unwrap();
    let statuses: Vec<u64> =
        results.json()["results"].as_array().unwrap().iter().map(|r| r["status"].as_u64().unwrap()).collect();
    assert_eq!((results.status, statuses), (200, vec![202, 409, 404, 202, 400]), "{results:?}");
    assert_eq!(
        scene.queue.depths().await.unwrap().iter().map(|(_, n)| n).sum::<u64>(),
        3,
        "queued once each"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_away_is_said_with_when_to_come_again() {
    let scene = scene().await;
    let proxy = Proxy::start(Broker::shared().address()).await;
    let url = [("OTPD__BROKER__URL", format!("\"{}\"", proxy.url()))];
    let gateway = GatewayProcess::start("gateway", scene.config(), &url);
    gateway.process.ready().await;
    assert_eq!(gateway.post("/v1/jobs", KEY, job("before", 1)).await.unwrap().status, 202);
    proxy.swallow();
    let answer = gateway.post("/v1/jobs", KEY, job("during", 2)).await.unwrap();
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("queue_away")), "{answer:?}");
    assert_eq!((answer.header("retry-after"), answer.json()["id"].as_str()), (Some("1"), Some("during")));
    proxy.resume();
    eventually("the same request to be taken", PATIENCE, || async {
        let again = gateway.post("/v1/jobs", KEY, job("during", 2)).await.ok()?;
        (again.status == 202).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_a_kill_is_queued() {
    let mut scene = scene().await;
    let mut gateway = GatewayProcess::start("gateway", scene.config(), &[]);
    gateway.process.ready().await;
    let acknowledged = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let asked: Vec<String> = (0..2_000).map(|n| format!("kill-{n}")).collect();
    let send = futures::future::join_all((0..20).map(|lane| {
        let (gateway, acknowledged, asked) = (&gateway, acknowledged.clone(), &asked);
        async move {
            for n in (lane..asked.len()).step_by(20) {
                let body = job(&asked[n], u32::try_from(n).unwrap());
                match gateway.post("/v1/jobs", KEY, body).await {
                    Ok(answer) if answer.status == 202 => {
                        acknowledged.lock().unwrap().insert(asked[n].clone())
                    }
                    Ok(answer) => panic!("{answer:?}"),
                    Err(_) => return,
                };
            }
        }
    }));
    let kill = async {
        eventually("some to be taken", PATIENCE, || async {
            (acknowledged.lock().unwrap().len() > 300).then_some(())
        })
        .await;
        gateway.process.signal("KILL");
    };
    tokio::join!(send, kill);
    gateway.process.kill9();
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() < asked.len(), "killed too late");
    let worker = scene.worker();
    scene.expect(acknowledged.iter().map(String::as_str));
    scene
        .until("every acknowledged job to end", |s| {
            acknowledged.iter().all(|id| s.has_ended(&otpd_core::JobId::parse(id).unwrap()))
        })
        .await;
    // A job whose answer was lost may be queued too; it is one of those that were asked for.
    let unasked = scene.seen.iter().find(|fact| !asked.contains(&fact.job.to_string()));
    assert!(unasked.is_none(), "{unasked:?}");
    println!("{} acknowledged before the kill, all of them accepted", acknowledged.len());
    assert!(worker.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_on_one_file_does_it_all() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mock = Mock::start(MockConfig::default(), ([127, 0, 0, 1], 0).into()).await.unwrap();
    let folder: PathBuf = std::env::temp_dir().join(format!("otpd-serve-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("otpd.toml");
    let url = format!("[broker]\nurl = \"embedded:{}\"\n", folder.join("otpd.db").display());
    std::fs::write(&file, url + &config().replace("{mock}", &mock.url())).unwrap();
    let serve = GatewayProcess::start("serve", &file, &[]);
    serve.process.ready().await;
    for n in 0..50 {
        assert_eq!(serve.post("/v1/jobs", KEY, job(&format!("file-{n}"), n)).await.unwrap().status, 202);
    }
    for n in 0..50 {
        let view = state_becomes(&serve, &format!("file-{n}"), "accepted").await;
        assert_eq!(call_back(&serve, &view, if n % 2 == 0 { 3 } else { 6 }).await, 200);
    }
    state_becomes(&serve, "file-0", "read").await;
    state_becomes(&serve, "file-1", "failed").await;
    assert!(serve.process.stop().await.success());
    // What happened is in the file, and a new process knows it.
    let again = GatewayProcess::start("serve", &file, &[]);
    again.process.ready().await;
    state_becomes(&again, "file-48", "read").await;
    assert!(again.process.stop().await.success());
    assert_eq!(mock.stats().accounts.iter().map(|a| a.accepted).sum::<u64>(), 50);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_change_while_it_runs() {
    let scene = scene().await;
    let gateway = GatewayProcess::start("gateway", scene.config(), &[]);
    gateway.process.ready().await;
    assert_eq!(gateway.post("/v1/jobs", KEY, job("key-1", 1)).await.unwrap().status, 202);
    scene.edit_config(|text| text.replace("routes = [\"login\", \"verihubs\"]", "routes = [\"verihubs\"]"));
    gateway.process.applies(1).await;
    assert_eq!(gateway.post("/v1/jobs", KEY, job("key-2", 2)).await.unwrap().status, 403);
    scene.edit_config(|text| text.replace("routes = [\"verihubs\"]", "routes = [\"login\"]\nrate = \"1/h\""));
    gateway.process.applies(2).await;
    assert_eq!(gateway.post("/v1/jobs", KEY, job("key-3", 3)).await.unwrap().status, 202);
    let limited = gateway.post("/v1/jobs", KEY, job("key-4", 4)).await.unwrap();
    assert_eq!((limited.status, limited.json()["code"].as_str()), (429, Some("rate_limited")));
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((3_590..=3_600).contains(&wait), "{wait}");
    scene.edit_config(|text| text.replace(KEY_SHA256, &"1".repeat(64)));
    gateway.process.applies(3).await;
    assert_eq!(gateway.post("/v1/jobs", KEY, job("key-5", 5)).await.unwrap().status, 401);
}

/// A message that a lane has just had accepted.
fn accepted(n: u32) -> Fact {
    let (job, provider) =
        (JobId::parse(&format!("order-{n}")).unwrap(), ProviderName::parse("verihubs").unwrap());
    Fact {
        attempt: 1,
        route: RouteName::parse("login").ok(),
        message_id: MessageId::new(&format!("message-{n}")),
        to: Some("+99*******001".into()),
        ..Fact::new(FactKind::Accepted, job, provider, now())
    }
}

fn now() -> UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixMs(u64::try_from(since.as_millis()).unwrap())
}

/// Calls back until it is answered with 200, as a provider does that tries again.
async fn insist(gateways: &[&GatewayProcess], path: &str) {
    for turn in 0..100 {
        let gateway = gateways[turn % gateways.len()];
        if gateway.send(gateway.request("POST", path)).await.is_ok_and(|answer| answer.status == 200) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path} is not taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_in_any_order_twice_and_early_leave_every_job_in_its_state() {
    const JOBS: u32 = 3_000;
    let scene = scene().await;
    let steady = GatewayProcess::start("gateway", scene.config(), &[]);
    let mut doomed = GatewayProcess::start("gateway", scene.config(), &[]);
    steady.process.ready().await;
    doomed.process.ready().await;
    let path = |n: u32, status: u32, by_job: bool| {
        let job = if by_job { format!("/order-{n}") } else { String::new() };
        format!("/callbacks/verihubs/token-of-verihubs{job}?session_id=message-{n}&status={status}")
    };
    // Every third is read in the end, every seventh fails.
    let last = |n: u32| if n.is_multiple_of(7) { 6 } else { 2 + u32::from(n.is_multiple_of(3)) };
    // One in twenty is delivered before our own record of its message is on the stream.
    let early: Vec<u32> = (0..JOBS).filter(|n| n.is_multiple_of(20)).collect();
    let before = early.iter().map(|n| insist_on(&steady, path(*n, last(*n), n.is_multiple_of(40))));
    futures::future::join_all(before).await;
    publish_past(&Broker::shared().url(), &scene.plan, (0..JOBS).map(accepted)).await;
    // All of them twice, sent and the last word, in an order that has nothing to do with either.
    let mut all: Vec<String> = (0..2 * JOBS)
        .flat_map(|n| [path(n / 2, 1, false), path(n / 2, last(n / 2), n.is_multiple_of(4))])
        .collect();
    all.sort_by_cached_key(|path| {
        path.bytes()
            .fold(7u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
            .reverse_bits()
    });
    let half = all.split_off(all.len() / 2);
    let both = [&steady, &doomed];
    stream::iter(all.iter()).for_each_concurrent(32, |path| insist(&both, path)).await;
    doomed.process.kill9();
    let revived = GatewayProcess::start("gateway", scene.config(), &[]);
    let all_three = [&doomed, &revived, &steady];
    stream::iter(half.iter()).for_each_concurrent(32, |path| insist(&all_three, path)).await;
    revived.process.ready().await;
    for gateway in [&steady, &revived] {
        for n in 0..JOBS {
            let state = match last(n) {
                6 => "failed",
                2 => "delivered",
                _ => "read",
            };
            state_becomes(gateway, &format!("order-{n}"), state).await;
        }
    }
}

async fn insist_on(gateway: &GatewayProcess, path: String) {
    insist(&[gateway], &path).await;
}

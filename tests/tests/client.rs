//! The Rust producer's crate against a real broker.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use otpd_client::{Client, ClientConfig, ConnectError, Job, SendError};
use otpd_core::{SendJob, UnixMs};
use otpd_queue::Plan;
use otpd_tests::rabbit::{LaneInHand, PATIENCE, now, plan, rabbit};
use otpd_tests::{Broker, Proxy, eventually};

const PHONE: &str = "+628123456890";
const CODE: &str = "482910";

async fn topology(url: &str, prefix: &str) -> Plan {
    let plan = plan(prefix, &["verihubs"]);
    rabbit(url, &plan).apply_topology().await.unwrap();
    plan
}

fn config(url: &str, plan: &Plan) -> ClientConfig {
    ClientConfig { prefix: plan.prefix.clone(), ..ClientConfig::from(url) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_arrives_with_everything_on_it() {
    let broker = Broker::shared();
    let plan = topology(&broker.url(), &broker.prefix()).await;
    let client = Client::connect(config(&broker.url(), &plan)).await.unwrap();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let job =
        Job::new(PHONE, CODE).purpose("login").metadata("user", "u1").traced(parent, Some("k=v".into()));
    client.send("verihubs", &job).await.unwrap();
    client.close().await;

    let mut lane = LaneInHand::open(&rabbit(&broker.url(), &plan), "verihubs", 10);
    let got = lane.delivery().await;
    let parsed = SendJob::parse(&got.body, UnixMs(0)).unwrap();
    assert_eq!((parsed.id.as_str(), parsed.code.expose()), (job.id(), CODE));
    assert_eq!(got.message_id, Some(parsed.id));
    assert_eq!((got.trace.parent.as_deref(), got.trace.state.as_deref()), (Some(parent), Some("k=v")));
    assert!(now().since(got.taken_at.unwrap()) < Duration::from_secs(60));
    assert!(now().since(parsed.created_at) < Duration::from_secs(60));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_sent_is_refused_with_the_reason_and_nothing_secret() {
    let broker = Broker::shared();
    let plan = topology(&broker.url(), &broker.prefix()).await;
    let client = Client::connect(config(&broker.url(), &plan)).await.unwrap();
    let good = Job::new(PHONE, CODE);
    let errors = [
        client.send("no-such-route", &good).await.unwrap_err(),
        client.send("NOT A ROUTE", &good).await.unwrap_err(),
        client.send("verihubs", &Job::new("0812", CODE)).await.unwrap_err(),
        client.send("verihubs", &Job::new(PHONE, "48 29 10")).await.unwrap_err(),
        client.send("verihubs", &good.clone().metadata("note", "x".repeat(600))).await.unwrap_err(),
        client.send_body("verihubs", b"{\"id\":\"a\"}").await.unwrap_err(),
    ];
    assert!(matches!(errors[0], SendError::UnknownRoute(_)), "{:?}", errors[0]);
    assert!(matches!(errors[1], SendError::InvalidRoute(_)), "{:?}", errors[1]);
    assert!(errors[2..].iter().all(|e| matches!(e, SendError::InvalidJob(_))), "{errors:?}");
    assert!(errors.iter().all(|e| !e.is_passing()));
    for shown in [format!("{errors:?}"), errors.map(|e| e.to_string()).join("\n"), format!("{client:?}")] {
        assert!(
            !shown.contains(CODE) && !shown.contains("48 29 10") && !shown.contains("8123456890"),
            "{shown}"
        );
    }
    assert_eq!(rabbit(&broker.url(), &plan).depths().await.unwrap()[0].1, 0, "something was queued");

    // An unknown route among good jobs: each gets its own answer.
    let mixed = (0..200).map(|i| {
        let client = &client;
        async move {
            let route = if i % 7 == 0 { "no-such-route" } else { "verihubs" };
            (i, client.send(route, &Job::new(PHONE, CODE)).await)
        }
    });
    for (i, sent) in futures::future::join_all(mixed).await {
        assert_eq!(matches!(sent, Err(SendError::UnknownRoute(_))), i % 7 == 0, "{i}: {sent:?}");
        assert_eq!(sent.is_ok(), i % 7 != 0, "{i}: {sent:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_where_the_broker_refuses_or_is_away() {
    let broker = Broker::shared();
    let refused = broker.url().replace("guest:guest", "guest:s3cret");
    let error = Client::connect(refused.as_str()).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Refused { .. }) && !error.to_string().contains("s3cret"),
        "{error}"
    );
    let away = Client::connect("amqp://u:s3cret@127.0.0.1:1/%2f").await.unwrap_err();
    assert!(matches!(away, ConnectError::Away { .. }) && !away.to_string().contains("s3cret"), "{away}");
    let none: [&str; 0] = [];
    assert!(matches!(Client::connect(ClientConfig::new(none)).await, Err(ConnectError::NoUrl)));
    // One of two nodes is enough.
    Client::connect(ClientConfig::new(["amqp://127.0.0.1:1/%2f", &broker.url()])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_is_not_there_is_said_at_once() {
    let broker = Broker::shared();
    let client =
        Client::connect(ClientConfig { prefix: "nobody.".into(), patience: PATIENCE, ..broker.url().into() })
            .await
            .unwrap();
    let began = Instant::now();
    let error = client.send("verihubs", &Job::new(PHONE, CODE)).await.unwrap_err();
    assert!(error.to_string().contains("no exchange 'nobody.jobs'"), "{error}");
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_lose_nothing_that_was_confirmed() {
    let broker = Broker::shared();
    let proxy = Proxy::start(broker.address()).await;
    let plan = topology(&broker.url(), &broker.prefix()).await;
    let client = Client::connect(config(&proxy.url(), &plan)).await.unwrap();
    let progress = Arc::new(AtomicUsize::new(0));
    let sent = progress.clone();
    let sending = tokio::spawn(async move {
        let mut confirmed = HashSet::new();
        for batch in 0..40 {
            let jobs: Vec<Job> =
                (0..25).map(|i| Job::new(PHONE, CODE).with_id(format!("job-{batch}-{i}"))).collect();
            let sends = jobs.iter().map(|job| {
                let (client, sent) = (&client, &sent);
                async move {
                    // As the errors say: nobody knows, so send the same job again.
                    while let Err(error) = client.send("verihubs", job).await {
                        assert!(error.is_passing(), "{error}");
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                    job.id().to_owned()
                }
            });
            confirmed.extend(futures::future::join_all(sends).await);
        }
        confirmed
    });
    let mut resets = 0;
    while !sending.is_finished() {
        proxy.reset_all();
        resets += 1;
        // However slow the machine: between two resets something is sent.
        let before = progress.load(Ordering::Relaxed);
        eventually("some progress", PATIENCE, || async {
            (sending.is_finished() || progress.load(Ordering::Relaxed) >= before + 40).then_some(())
        })
        .await;
    }
    // On a quick machine more is sent between two looks.
    assert!(resets >= 3, "{resets} resets");
    let confirmed = sending.await.unwrap();
    assert_eq!(confirmed.len(), 1000);
    let mut lane = LaneInHand::open(&rabbit(&broker.url(), &plan), "verihubs", 5000);
    let mut arrived = HashSet::new();
    while arrived.len() < confirmed.len() {
        arrived.insert(lane.delivery().await.message_id.unwrap().to_string());
    }
    assert_eq!(arrived, confirmed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_restarts_is_found_again() {
    let broker = Broker::start();
    let plan = topology(&broker.url(), "otp.").await;
    let client = Client::connect(broker.url()).await.unwrap();
    let job = Job::new(PHONE, CODE);
    client.send("verihubs", &job).await.unwrap();
    tokio::task::block_in_place(|| broker.stop());
    let error = client.send("verihubs", &Job::new(PHONE, CODE)).await.unwrap_err();
    assert!(error.is_passing(), "{error}");
    tokio::task::block_in_place(|| broker.start_again());
    let second = Job::new(PHONE, CODE);
    client.send("verihubs", &second).await.unwrap();
    let mut lane = LaneInHand::open(&rabbit(&broker.url(), &plan), "verihubs", 10);
    let ids: HashSet<String> =
        lane.deliveries(2).await.iter().map(|d| d.message_id.clone().unwrap().to_string()).collect();
    assert_eq!(ids, HashSet::from([job.id().to_owned(), second.id().to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_send_does_not_answer_for_the_next() {
    let broker = Broker::shared();
    let proxy = Proxy::start(broker.address()).await;
    let plan = topology(&broker.url(), &broker.prefix()).await;
    let client = Client::connect(ClientConfig { channels: 1, ..config(&proxy.url(), &plan) }).await.unwrap();
    client.send("verihubs", &Job::new(PHONE, CODE)).await.unwrap();
    // Its confirm is still on its way when the caller gives up.
    proxy.swallow();
    let job = Job::new(PHONE, CODE);
    let abandoned =
        tokio::time::timeout(Duration::from_millis(300), client.send("no-such-route", &job)).await;
    assert!(abandoned.is_err(), "{abandoned:?}");
    proxy.resume();
    client.send("verihubs", &Job::new(PHONE, CODE)).await.unwrap();
    assert!(matches!(client.send("no-such-route", &job).await, Err(SendError::UnknownRoute(_))));
}

//! A queue and a lane, end to end: jobs are published and confirmed, read, sent (to a provider that answers
//! at once), told on the stream and acknowledged. On one durable file, and on a real RabbitMQ of its own.
//! What settling in batches gains shows here: the same with one job at a time.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::{StreamExt, TryStreamExt};
use otpd_benches::body;
use otpd_core::{
    Answered, JobId, MessageId, OnAmbiguous, Outcome, ProviderName, RetryPolicy, RouteName, RouteTable,
    SendJob, Stamp, UnixMs,
};
use otpd_queue::embedded::{Durability, Embedded, EmbeddedConfig};
use otpd_queue::rabbitmq::{Rabbit, RabbitConfig};
use otpd_queue::{LanePlan, Plan, Queue, TraceContext};
use otpd_tests::Broker;
use otpd_worker::{Clock, Endpoint, LaneSettings, Metrics, Shared, Worker};
use tokio::sync::mpsc;

const JOBS: usize = 4_000;
/// Publishes that are under way at once.
const PRODUCERS: usize = 256;

/// Answers at once, and tells that it was asked.
struct Told(mpsc::UnboundedSender<()>);

impl Endpoint for Told {
    async fn send(&self, _job: &SendJob, _expires_at: UnixMs, _stamp: &Stamp) -> Answered {
        let _ = self.0.send(());
        let message_id = MessageId::new("d0f5fb5c-2d50-4d3f-aea7-20018ab15806");
        Answered {
            outcome: Outcome::Accepted { message_id, note: None },
            http_status: Some(201),
            code: None,
            detail: None,
        }
    }
}

fn provider() -> ProviderName {
    ProviderName::parse("p").unwrap()
}

fn plan(prefix: &str) -> Plan {
    let lane = LanePlan::new(provider(), vec![RouteName::parse("p").unwrap()]);
    Plan {
        prefix: prefix.into(),
        lanes: vec![lane],
        dead_retention: Duration::from_secs(3600),
        events_retention: Duration::from_secs(3600),
        ..Plan::default()
    }
}

/// Publishes and works off `jobs` with at most `in_flight` requests under way; the worker is there before.
async fn through(queue: &Queue, round: usize, jobs: usize, in_flight: usize) -> Duration {
    let (asked, mut asks) = mpsc::unbounded_channel();
    let settings = LaneSettings {
        provider: provider(),
        ceiling: Vec::new(),
        burst: None,
        max_in_flight: in_flight,
        on_ambiguous: OnAmbiguous::Resend,
    };
    let shared = Shared {
        routes: Arc::new(RouteTable::new([provider()], [])),
        retry: RetryPolicy::default(),
        keep_code: true,
        recipients: otpd_worker::RecipientKeys::private(),
        memory: Arc::new(otpd_worker::Memory::new(Clock::system(), Vec::new())),
        board: Arc::default(),
    };
    let lanes = vec![(settings, Arc::new(Told(asked)))];
    let grace = Duration::from_secs(5);
    let worker = Worker::start(queue, lanes, &shared, Clock::system(), &Metrics::new(), grace).unwrap();
    let begun = Instant::now();
    let (route, trace) = (RouteName::parse("p").unwrap(), TraceContext::default());
    let publish = futures::stream::iter(round * jobs..(round + 1) * jobs).map(|i| {
        let body = body(i);
        let (route, trace) = (&route, &trace);
        async move {
            let job = JobId::parse(&format!("0193b2c4-7f00-7000-8000-{i:012x}")).unwrap();
            queue.enqueue(route, &job, body.into(), trace).await
        }
    });
    let published = publish.buffer_unordered(PRODUCERS).try_collect::<Vec<()>>();
    let sent = async {
        for _ in 0..jobs {
            asks.recv().await.unwrap();
        }
    };
    let (published, ()) = tokio::join!(published, sent);
    published.unwrap();
    // Ends when everything is confirmed and acknowledged.
    worker.drain().await;
    begun.elapsed()
}

fn queues(c: &mut Criterion) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = std::env::temp_dir().join(format!("otpd-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = {
        let config = EmbeddedConfig {
            path: dir.join("bench.db"),
            plan: plan("otp."),
            source: "bench".into(),
            durability: Durability::default(),
        };
        Queue::Embedded(Embedded::open(config).unwrap())
    };
    let broker = Broker::start();
    let rabbit = {
        let _inside = runtime.enter();
        let urls = vec![broker.url().parse().unwrap()];
        Queue::Rabbit(Rabbit::new(RabbitConfig {
            nodes: urls.into(),
            plan: plan("bench."),
            source: "bench".into(),
        }))
    };
    let mut round = 0;
    for (name, queue) in [("file", &file), ("RabbitMQ", &rabbit)] {
        runtime.block_on(queue.apply_topology()).unwrap();
        for (how, in_flight, jobs) in [("in batches", 256, JOBS), ("one at a time", 1, JOBS / 20)] {
            let mut group = c.benchmark_group(format!("queue/{name}"));
            group.throughput(Throughput::Elements(jobs as u64)).sample_size(10);
            group.bench_function(how, |b| {
                b.iter_custom(|times| {
                    (0..times)
                        .map(|_| {
                            round += 1;
                            runtime.block_on(through(queue, round, jobs, in_flight))
                        })
                        .sum()
                });
            });
            group.finish();
        }
        runtime.block_on(queue.close());
    }
    let _ = std::fs::remove_dir_all(&dir);
}

criterion_group!(benches, queues);
criterion_main!(benches);

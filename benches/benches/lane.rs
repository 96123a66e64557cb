//! The lane in memory: its queue is two channels and its provider answers at once, so what is left
//! is what the lane itself costs a job: parse, admit, wait, permit, decide, settle. Permits are taken by one
//! task, so contention for them is a backlog: thousands of jobs that wait for the same ceiling.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use otpd_benches::body;
use otpd_core::{
    Answered, MessageId, OnAmbiguous, Outcome, ProviderName, RetryPolicy, RouteTable, SendJob, Stamp, UnixMs,
};
use otpd_queue::seam::{Order, Proof};
use otpd_queue::{
    Carried, Checkpoint, Delivery, Inbound, LaneQueue, LaneStop, Prefetch, QueueNames, Settler, Tag, Then,
    TraceContext,
};
use otpd_worker::{Clock, Endpoint, Lane, LaneSettings, LaneState, Metrics, Shared};
use tokio::sync::{mpsc, watch};

const JOBS: usize = 10_000;

struct AtOnce;

impl Endpoint for AtOnce {
    async fn send(&self, _job: &SendJob, _expires_at: UnixMs, _stamp: &Stamp) -> Answered {
        let message_id = MessageId::new("d0f5fb5c-2d50-4d3f-aea7-20018ab15806");
        Answered {
            outcome: Outcome::Accepted { message_id, note: None },
            http_status: Some(201),
            code: None,
            detail: None,
        }
    }
}

async fn run(bodies: &[Bytes], ceiling: &str) -> Duration {
    let provider = ProviderName::parse("p").unwrap();
    let (inbox, inbox_rx) = mpsc::unbounded_channel();
    let (orders_tx, mut orders) = mpsc::unbounded_channel();
    let (stops, _stops_rx) = mpsc::unbounded_channel();
    let queue = LaneQueue {
        alive: otpd_queue::Alive::default(),
        inbox: inbox_rx,
        settler: Settler::new(orders_tx, Proof::default()),
        stop: LaneStop::new(stops),
        names: QueueNames { system: "rabbitmq", prefix: "otp.".into() },
        checkpoint: Checkpoint::default(),
        prefetch: Prefetch { main: 10_000, bulk: 500, later: None },
    };
    let settings = LaneSettings {
        provider: provider.clone(),
        ceiling: ceiling.parse().into_iter().collect(),
        burst: None,
        max_in_flight: 512,
        on_ambiguous: OnAmbiguous::Resend,
    };
    let shared = Shared {
        routes: Arc::new(RouteTable::new([provider.clone()], [])),
        retry: RetryPolicy::default(),
        keep_code: true,
        recipients: otpd_worker::RecipientKeys::private(),
        memory: Arc::new(otpd_worker::Memory::new(Clock::system(), Vec::new())),
        board: Arc::default(),
    };
    let (state, _seen) = watch::channel(LaneState::Opening);
    let metrics = Metrics::new().lane(&provider);
    let lane = Lane::new(settings, shared, Clock::system(), Arc::new(AtOnce), metrics, queue, state);
    let lane = tokio::spawn(lane.run(tokio_util::sync::CancellationToken::new(), Duration::ZERO));
    let begun = Instant::now();
    let _ = inbox.send(Inbound::Opened { session: 1 });
    for (i, body) in bodies.iter().enumerate() {
        let _ = inbox.send(Inbound::Delivery(Delivery {
            tag: Tag { session: 1, number: i as u64 + 1 },
            section: otpd_queue::Section::Main,
            body: body.clone(),
            carried: Carried::default(),
            message_id: None,
            taken_at: None,
            redelivered: false,
            returned: 0,
            trace: TraceContext::default(),
        }));
    }
    let mut settled = 0;
    while settled < bodies.len() {
        let Some(Order::Settle(settlement, mut ticket)) = orders.recv().await else { continue };
        // A request under a ceiling is announced first.
        if let Some(announced) = ticket.take_awaited() {
            let _ = announced.send(());
        } else if matches!(settlement.then, Then::Acknowledge(_)) {
            settled += 1;
        }
    }
    let took = begun.elapsed();
    lane.abort();
    took
}

fn lane(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let bodies: Vec<Bytes> = (0..JOBS).map(|i| Bytes::from(body(i))).collect();
    let mut group = c.benchmark_group("lane");
    group.throughput(Throughput::Elements(JOBS as u64)).sample_size(20);
    for (name, ceiling) in [("in memory, 10,000 jobs", ""), ("10,000 jobs contend for permits", "1000000/s")]
    {
        group.bench_function(name, |b| {
            b.iter_custom(|times| (0..times).map(|_| runtime.block_on(run(&bodies, ceiling))).sum());
        });
    }
    group.finish();
}

criterion_group!(benches, lane);
criterion_main!(benches);

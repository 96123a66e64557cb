//! Reading a job, writing and reading a fact.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use otpd_benches::{NOW, body, job};
use otpd_core::fact::Timings;
use otpd_core::{Class, Fact, FactKind, MessageId, ProviderName, RouteName, SendJob, fact_json};

fn fact() -> Fact {
    let job = job(1);
    Fact {
        attempt: 1,
        route: RouteName::parse("login").ok(),
        class: Some(Class::Accepted),
        http_status: Some(201),
        message_id: MessageId::new("d0f5fb5c-2d50-4d3f-aea7-20018ab15806"),
        metadata: job.metadata.clone(),
        sent_at: Some(NOW),
        timings: Some(Timings { queued_ms: 3, permit_ms: 1, http_ms: 42 }),
        ..Fact::new(FactKind::Accepted, job.id.clone(), ProviderName::parse("verihubs").unwrap(), NOW)
    }
    .about(job.to)
}

fn codec(c: &mut Criterion) {
    let published = body(1);
    c.bench_function("job/parse", |b| b.iter(|| SendJob::parse(black_box(published.as_bytes()), NOW)));
    let fact = fact();
    c.bench_function("fact/encode", |b| b.iter(|| fact_json::encode(black_box(&fact), "otpd/bench")));
    let encoded = fact_json::encode(&fact, "otpd/bench");
    c.bench_function("fact/decode", |b| b.iter(|| fact_json::decode(black_box(&encoded))));
}

criterion_group!(benches, codec);
criterion_main!(benches);

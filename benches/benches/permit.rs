//! The permit: granted, denied by the bucket, denied by the window; the decision before it (is the job worth
//! one?) and after an answer.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use otpd_core::admission::Waiting;
use otpd_core::{
    Answered, Attempted, Ceiling, Mono, OnAmbiguous, Outcome, Rate, Reason, RetryPolicy, UnixMs, admit,
    decide,
};

const START: Mono = Mono(3_600_000_000_000);

fn full(rate: &str) -> Ceiling {
    let rate: Rate = rate.parse().unwrap();
    let mut ceiling = Ceiling::new(&[rate], None, START);
    for _ in 0..rate.count {
        ceiling.take(START).unwrap().written(START);
    }
    ceiling
}

fn permit(c: &mut Criterion) {
    for rate in ["50/s", "2000/min"] {
        let idle = Ceiling::new(&[rate.parse().unwrap()], None, START);
        c.bench_function(&format!("permit/{rate}/granted"), |b| {
            b.iter_batched_ref(
                || (Ceiling::new(&[rate.parse().unwrap()], None, START), idle.per_second()),
                |(ceiling, _)| ceiling.take(black_box(START)).map(|s| s.written(START)),
                BatchSize::SmallInput,
            );
        });
        let mut denied = full(rate);
        c.bench_function(&format!("permit/{rate}/denied by the bucket"), |b| {
            b.iter(|| denied.take(black_box(START.plus(Duration::from_micros(10)))).is_ok());
        });
        let mut denied = full(rate);
        let later = START.plus(Duration::from_millis(900));
        c.bench_function(&format!("permit/{rate}/denied by the window"), |b| {
            b.iter(|| denied.take(black_box(later)).is_ok());
        });
    }
    let waiting = Waiting {
        expires_at: UnixMs(300_000),
        since: UnixMs(500),
        attempts: 0,
        max_wait: Some(Duration::from_secs(30)),
        superseded: false,
        delivered: false,
    };
    c.bench_function("admit", |b| b.iter(|| admit(black_box(&waiting), UnixMs(1000))));
    let answered = Answered {
        outcome: Outcome::Transient { reason: Reason::InternalError, wait: None, possibly_sent: true },
        http_status: Some(500),
        code: None,
        detail: None,
    };
    let attempted = Attempted {
        answered: &answered,
        attempts: 2,
        expires_at: UnixMs(300_000),
        providers_left: 1,
        refused_alone: 0,
        ambiguous: 0,
        limited_for: std::time::Duration::ZERO,
        now: UnixMs(1000),
        jitter: 0.5,
    };
    c.bench_function("decide/retry", |b| {
        b.iter(|| decide(black_box(&attempted), &RetryPolicy::default(), OnAmbiguous::Resend));
    });
}

criterion_group!(benches, permit);
criterion_main!(benches);

//! Spans: what a lane does with one job, as part of its producer's trace.
//!
//! One `process` span (consumer) a stay in a lane, from the moment the job is read to the moment its end
//! is handed in; below it one `attempt` span a try, and below that the transport's HTTP spans. Every
//! lane's span is a child of the producer's context, which headers carry unchanged from lane to lane: a
//! failover is the next `process` span of the same trace. Without a producer's context a job begins
//! its own trace.
//!
//! Where traces are off (the default) nobody listens to [`TARGET`], and a span costs one atomic load.
//! Names follow OpenTelemetry's conventions for messaging. Nothing here knows a code or a number.

use opentelemetry::KeyValue;
use opentelemetry::propagation::Extractor;
use otpd_core::{Answered, Fact, FactKind, ProviderName, UnixMs};
use otpd_queue::{Delivery, QueueNames, TraceContext};
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::held::Held;

/// The target of all spans that are exported; logs leave it out.
pub const TARGET: &str = otpd_providers::TRACE_TARGET;

/// The span of a job's stay in a lane.
pub(crate) fn process(
    names: &QueueNames,
    provider: &ProviderName,
    delivery: &Delivery,
    job: &otpd_core::JobId,
) -> Span {
    let span = tracing::info_span!(
        target: TARGET, parent: None, "process",
        otel.name = Empty, otel.kind = "consumer", otel.status_code = Empty, error.type = Empty,
        messaging.system = names.system, messaging.operation.name = "process", messaging.operation.type = "process",
        messaging.destination.name = Empty, messaging.rabbitmq.destination.routing_key = Empty,
        messaging.message.id = job.as_str(), messaging.message.body.size = delivery.body.len(),
        otpd.provider = provider.as_str(), otpd.redelivered = delivery.redelivered,
        otpd.outcome = Empty, otpd.reason = Empty, otpd.attempts = Empty, otpd.next_provider = Empty,
    );
    if !span.is_disabled() {
        name(&span, names, provider, delivery);
        let context =
            opentelemetry::global::get_text_map_propagator(|p| p.extract(&Headers(&delivery.trace)));
        // Refused only for a span that already began, which this one has not.
        let _ = span.set_parent(context);
    }
    span
}

/// As RabbitMQ's convention has it: exchange, routing key and queue.
fn name(span: &Span, names: &QueueNames, provider: &ProviderName, delivery: &Delivery) {
    let prefix = &names.prefix;
    let route = delivery.carried.route.as_ref().map_or(provider.as_str(), |r| r.as_str());
    let (exchange, key) =
        if delivery.carried.hops > 0 { ("lanes", provider.as_str()) } else { ("jobs", route) };
    let destination = format!("{prefix}{exchange}:{key}:{prefix}lane.{provider}");
    span.record("otel.name", format!("process {destination}"));
    span.record("messaging.destination.name", destination);
    span.record("messaging.rabbitmq.destination.routing_key", key);
}

/// The span of one attempt: from the permit to the answer.
pub(crate) fn attempt(held: &Held, permit_wait: std::time::Duration) -> Span {
    tracing::info_span!(
        target: TARGET, parent: &held.span, "attempt",
        otel.status_code = Empty, error.type = Empty,
        otpd.attempt = held.attempts, otpd.permit_wait_ms = millis(permit_wait),
        otpd.class = Empty, otpd.possibly_sent = Empty,
    )
}

/// What came of the attempt.
pub(crate) fn answered(span: &Span, answered: &Answered) {
    if span.is_disabled() {
        return;
    }
    span.record("otpd.class", answered.outcome.class().as_str());
    if let Some(reason) = answered.outcome.reason() {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", reason.as_str());
        span.record("otpd.possibly_sent", answered.outcome.may_have_been_sent());
    }
}

/// What a fact says about the job's stay in the lane.
pub(crate) fn told(span: &Span, fact: &Fact) {
    if span.is_disabled() {
        return;
    }
    if fact.kind == FactKind::Retrying {
        return retry(span, fact, fact.next_attempt_at);
    }
    span.record("otpd.outcome", fact.kind.as_str());
    span.record("otpd.attempts", fact.attempt);
    if let Some(next) = &fact.next_provider {
        span.record("otpd.next_provider", next.as_str());
    }
    if let Some(reason) = fact.reason {
        span.record("otpd.reason", reason.as_str());
    }
    if matches!(fact.kind, FactKind::Dead | FactKind::Expired) {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", fact.reason.map_or("expired", otpd_core::Reason::as_str));
    }
}

fn retry(span: &Span, fact: &Fact, at: Option<UnixMs>) {
    let mut attributes = vec![KeyValue::new("otpd.attempt", i64::from(fact.attempt))];
    attributes.extend(fact.reason.map(|reason| KeyValue::new("otpd.reason", reason.as_str())));
    if let Some(at) = at {
        attributes.push(KeyValue::new("otpd.next_attempt_in_ms", millis(at.since(fact.at))));
    }
    span.add_event("retry scheduled", attributes);
}

fn millis(d: std::time::Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

/// The producer's headers, as a propagator reads them.
struct Headers<'a>(&'a TraceContext);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.0.parent.as_deref(),
            "tracestate" => self.0.state.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

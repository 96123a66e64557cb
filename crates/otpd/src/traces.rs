//! Traces: where they go, and how many. OpenTelemetry over OTLP/HTTP; only spans of
//! [`otpd_worker::trace::TARGET`] are exported, which are made to hold nothing secret, never log lines.
//!
//! Spans are sent in batches by a thread of the SDK's own; where the collector is away or too slow they
//! are dropped and counted in the log. Sending codes never waits for them.

use std::collections::HashMap;
use std::time::Duration;

use opentelemetry::propagation::Extractor;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use otpd_core::{JobId, RouteName};
use otpd_queue::{QueueNames, TraceContext};
use tracing::field::Empty;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

use crate::config::Telemetry;
use crate::open;

/// How long the last spans may take to be sent when the process ends.
const LAST_SPANS: Duration = Duration::from_secs(3);
/// OpenTelemetry's own names for a collector's address.
const ADDRESS_VARIABLES: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// What sends spans; `None` where nobody wants any.
///
/// # Errors
/// A sentence, where the exporter cannot be made.
pub(crate) fn provider(config: &Telemetry) -> Result<Option<SdkTracerProvider>, String> {
    let disabled = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|yes| yes.eq_ignore_ascii_case("true"));
    let by_variable =
        ADDRESS_VARIABLES.iter().any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()));
    if disabled || (config.collector.is_none() && !by_variable) {
        return Ok(None);
    }
    let mut exporter = SpanExporter::builder().with_http();
    if let Some(collector) = &config.collector {
        exporter = exporter.with_endpoint(format!("{collector}/v1/traces"));
    }
    let exporter = exporter.build().map_err(|e| {
        format!("traces cannot be exported ({e}); write for example telemetry.otlp_endpoint = \"http://127.0.0.1:4318\"")
    })?;
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.trace_sample)));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(resource())
        .build();
    Ok(Some(provider))
}

/// Who speaks. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` go before it.
fn resource() -> Resource {
    let mut about = vec![
        opentelemetry::KeyValue::new("service.version", crate::version::VERSION),
        opentelemetry::KeyValue::new("service.instance.id", open::source()),
    ];
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        about.push(opentelemetry::KeyValue::new("service.name", "otpd"));
    }
    Resource::builder().with_attributes(about).build()
}

/// The layer that hands spans to the provider.
pub(crate) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("otpd"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target(otpd_worker::trace::TARGET, LevelFilter::INFO))
}

/// A producer's span: the job that is being sent to a route. Part of the trace that `TRACEPARENT` names, where
/// a caller set it.
pub(crate) fn sending(names: &QueueNames, route: &RouteName, job: &JobId) -> Span {
    let destination = format!("{}jobs:{route}", names.prefix);
    let span = tracing::info_span!(
        target: otpd_worker::trace::TARGET, parent: None, "send",
        otel.name = format!("send {destination}"), otel.kind = "producer", otel.status_code = Empty,
        messaging.system = names.system, messaging.operation.name = "send", messaging.operation.type = "send",
        messaging.destination.name = destination, messaging.rabbitmq.destination.routing_key = route.as_str(),
        messaging.message.id = job.as_str(),
    );
    if !span.is_disabled() {
        let from = opentelemetry::global::get_text_map_propagator(|p| p.extract(&Caller(caller())));
        let _ = span.set_parent(from);
    }
    span
}

/// What headers are to carry: the span's context, or the caller's where no spans are made.
pub(crate) fn context(span: &Span) -> TraceContext {
    if span.is_disabled() {
        return TraceContext { parent: caller().map(String::into_boxed_str), state: None };
    }
    let mut headers = HashMap::new();
    opentelemetry::global::get_text_map_propagator(|p| p.inject_context(&span.context(), &mut headers));
    let mut take = |key: &str| headers.remove(key).filter(|v| !v.is_empty()).map(String::into_boxed_str);
    TraceContext { parent: take("traceparent"), state: take("tracestate") }
}

/// The context of whoever called this process, as it is passed in the environment.
fn caller() -> Option<String> {
    std::env::var("TRACEPARENT").ok().filter(|text| text.len() <= 64 && text.is_ascii())
}

struct Caller(Option<String>);

impl Extractor for Caller {
    fn get(&self, key: &str) -> Option<&str> {
        if key == "traceparent" { self.0.as_deref() } else { None }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

/// Sends what is left, and says so where that fails.
pub(crate) async fn finish(provider: SdkTracerProvider) {
    // Blocks, and its thread needs none of ours.
    let done = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST_SPANS)).await;
    match done {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the last spans could not be sent"),
        Err(error) => tracing::warn!(%error, "the last spans could not be sent"),
    }
}

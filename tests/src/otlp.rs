//! A collector for tests: takes OTLP over HTTP, keeps the spans and every byte it got, and shows a trace as
//! the tree it is.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

#[derive(Default)]
struct Got {
    spans: Vec<Span>,
    bytes: Vec<u8>,
}

/// The collector; listens until the process ends.
#[derive(Clone)]
pub struct Collector {
    at: SocketAddr,
    got: Arc<Mutex<Got>>,
}

impl Collector {
    /// Listens on a free port.
    ///
    /// # Panics
    /// Where there is none.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let at = listener.local_addr().expect("it has an address");
        let got = Arc::<Mutex<Got>>::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(got.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { at, got }
    }

    /// What to put into `OTEL_EXPORTER_OTLP_ENDPOINT`, or `telemetry.otlp_endpoint`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// All spans so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).spans.clone()
    }

    /// Every byte that came.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).bytes.clone()
    }

    /// The spans as trees, children below their parents in the order of their beginning: one line a span,
    /// with its name and what `attribute`s it has of those that are asked for.
    #[must_use]
    pub fn tree(&self, attributes: &[&str]) -> String {
        let spans = self.spans();
        let known: Vec<&[u8]> = spans.iter().map(|s| s.span_id.as_slice()).collect();
        let mut children: BTreeMap<&[u8], Vec<&Span>> = BTreeMap::new();
        for span in &spans {
            let parent = span.parent_span_id.as_slice();
            children.entry(if known.contains(&parent) { parent } else { &[] }).or_default().push(span);
        }
        children.values_mut().for_each(|all| all.sort_by_key(|s| s.start_time_unix_nano));
        let mut text = String::new();
        grow(&children, &[], 0, attributes, &mut text);
        text
    }
}

fn grow(children: &BTreeMap<&[u8], Vec<&Span>>, of: &[u8], depth: usize, wanted: &[&str], text: &mut String) {
    for span in children.get(of).into_iter().flatten() {
        let shown: Vec<String> = wanted
            .iter()
            .filter_map(|key| Some(format!("{key}={}", value(&span.attributes, key)?)))
            .collect();
        text.push_str(&format!("{}{} [{}]\n", "  ".repeat(depth), span.name, shown.join(" ")));
        for event in &span.events {
            text.push_str(&format!("{}* {}\n", "  ".repeat(depth + 1), event.name));
        }
        grow(children, &span.span_id, depth + 1, wanted, text);
    }
}

/// An attribute, as text.
#[must_use]
pub fn value(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|a| a.key == key)?;
    match &found.value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => Some(text.clone()),
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => Some(number.to_string()),
        Some(AnyValue { value: Some(Value::BoolValue(yes)) }) => Some(yes.to_string()),
        Some(AnyValue { value: Some(Value::DoubleValue(number)) }) => Some(number.to_string()),
        Some(_) | None => None,
    }
}

async fn take(State(got): State<Arc<Mutex<Got>>>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body.clone()).expect("OTLP");
    let mut got = got.lock().unwrap_or_else(PoisonError::into_inner);
    got.bytes.extend_from_slice(&body);
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    got.spans.extend(scopes.flat_map(|scope| scope.spans));
}

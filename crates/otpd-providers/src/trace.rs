//! The span of one HTTP exchange, by OpenTelemetry's conventions for HTTP clients: one request on the wire
//! (the message, a login, a lookup) is one client span below whatever span is current. The query is
//! left out of the address: 1MSG carries its token there.

use reqwest::{Error, Response, Url};
use tracing::Span;
use tracing::field::Empty;

use crate::failure;

/// The target of all spans that are exported.
pub const TRACE_TARGET: &str = "otpd_trace";

/// The span of a POST to `url`.
pub(crate) fn post(url: &Url) -> Span {
    let span = tracing::info_span!(
        target: TRACE_TARGET, "POST",
        otel.name = Empty, otel.kind = "client", otel.status_code = Empty, error.type = Empty,
        http.request.method = "POST", http.response.status_code = Empty,
        server.address = Empty, server.port = Empty, url.scheme = url.scheme(), url.path = url.path(),
    );
    if !span.is_disabled() {
        span.record("otel.name", format!("POST {}", url.path()));
        span.record("server.address", url.host_str());
        span.record("server.port", url.port_or_known_default());
    }
    span
}

/// What came back.
pub(crate) fn exchanged(span: &Span, result: &Result<Response, Error>) {
    if span.is_disabled() {
        return;
    }
    match result {
        Ok(response) => {
            let status = response.status();
            span.record("http.response.status_code", status.as_u16());
            if status.is_client_error() || status.is_server_error() {
                span.record("otel.status_code", "ERROR");
                span.record("error.type", status.as_str());
            }
        }
        Err(error) => {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", failure::kind(error));
        }
    }
}

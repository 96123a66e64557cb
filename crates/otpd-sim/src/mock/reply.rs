//! What the mock answers, before it becomes HTTP.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde::Serialize;

use super::gzip;

/// An answer: status, body and, where the provider names one, the wait.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    content_type: Option<&'static str>,
    retry_after: Option<Duration>,
    header: Option<(&'static str, &'static str)>,
}

impl Reply {
    /// `body` as JSON.
    pub(crate) fn json(status: u16, body: &impl Serialize) -> Self {
        // Strings and numbers into memory: there is nothing that could fail.
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self { status, body, content_type: Some("application/json"), retry_after: None, header: None }
    }

    /// `body` as plain text.
    pub(crate) fn text(status: u16, body: impl Into<String>) -> Self {
        let body = body.into().into_bytes();
        Self { status, body, content_type: Some("text/plain"), retry_after: None, header: None }
    }

    /// Nothing but a status, as a gateway in front of the provider answers.
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, body: Vec::new(), content_type: None, retry_after: None, header: None }
    }

    /// A page that is not JSON, under a status that says it went well.
    pub(crate) fn garbage() -> Self {
        let body = b"<html><head><title>OK</title></head><body>{\"sent\":tr".to_vec();
        Self { status: 200, body, content_type: Some("text/html"), retry_after: None, header: None }
    }

    /// The same with `Retry-After` in whole seconds, rounded up.
    pub(crate) fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// The same with one more header.
    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }

    /// As an answer with more headers than anybody reads.
    pub(crate) fn with_huge_head(self) -> Response {
        let mut response = self.into_response();
        let filling =
            HeaderValue::try_from("x".repeat(8192)).unwrap_or_else(|_| HeaderValue::from_static(""));
        for _ in 0..64 {
            response.headers_mut().append("x-filling", filling.clone());
        }
        response
    }

    /// As a compressed answer.
    pub(crate) fn compressed(self) -> Response {
        let mut response = self.with_body(|data| Body::from(gzip::stored(&data)));
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
    }

    pub(crate) fn into_response(self) -> Response {
        self.with_body(Body::from)
    }

    /// As an answer whose body is made of these data.
    pub(crate) fn with_body(self, body: impl FnOnce(Bytes) -> Body) -> Response {
        let mut response = Response::new(body(self.body.into()));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        if let Some(content_type) = self.content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if let Some((name, value)) = self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// A wait in whole seconds, rounded up: waiting that long is enough.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

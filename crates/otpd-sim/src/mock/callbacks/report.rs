//! What every kind makes the request of a callback of.

use http::Method;
use otpd_core::{Phone, UnixMs};
use ring::hmac;

use super::journey::Step;

/// News of one message.
pub(crate) struct Report<'a> {
    /// The provider's id of it.
    pub(crate) id: &'a str,
    pub(crate) to: Phone,
    pub(crate) step: Step,
    /// When the message was taken.
    pub(crate) taken_at: UnixMs,
    /// When the step was reached.
    pub(crate) at: UnixMs,
    /// What its request asked to be repeated.
    pub(crate) echo: Option<&'a str>,
    /// What was sent, in clear.
    pub(crate) text: &'a str,
}

/// A request of a callback, but for its address.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) method: Method,
    /// What follows `?`, or nothing.
    pub(crate) query: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Posted {
    /// A POST of JSON.
    pub(crate) fn json(body: &serde_json::Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { method: Method::POST, query: String::new(), headers, body: body.to_string().into_bytes() }
    }

    /// The same with one more header.
    pub(crate) fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same signed: `prefix` and the HMAC-SHA256 of the body, in hexadecimal.
    pub(crate) fn signed(self, header: &'static str, prefix: &str, secret: Option<&str>) -> Self {
        let Some(secret) = secret else { return self };
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), &self.body);
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        self.header(header, format!("{prefix}{hex}"))
    }
}

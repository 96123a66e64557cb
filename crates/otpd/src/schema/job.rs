//! The job as a producer writes it: [`otpd_core::SendJob::parse`] in the words of JSON Schema.
//!
//! A schema cannot say everything the parser checks (that `expires_at` is later than `created_at`,
//! the size of `metadata` in bytes, a key given twice); what it cannot say, the descriptions do. A
//! test gives the same bodies to both.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

/// A one-time password to be sent, version 1. Published to the exchange `otp.jobs` with the route as
/// routing key. Unknown fields are refused. At most 64 KiB.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SendJob", deny_unknown_fields)]
pub struct SendJobBody {
    /// The idempotency key: a second job with the same id within the dedupe window is not sent again.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,64}$"), example = &"login-7f3a")]
    pub id: String,
    /// The recipient: E.164, 8 to 15 digits, with `+`; digits alone are accepted.
    #[schemars(regex(pattern = r"^\+?[1-9][0-9]{7,14}$"), example = "+628123456890")]
    pub to: String,
    /// The code. It is put into no log, event or metric.
    #[schemars(regex(pattern = r"^[0-9A-Za-z]{4,15}$"), example = "482910")]
    pub code: String,
    /// What the code is for, 1 to 64 printable characters, `default` when left out. A newer job for the
    /// same `to` and `purpose` supersedes an older one that has not been sent.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[^\x00-\x1F\x7F-\x9F]*$"), example = &"login")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Overrides of the provider's default template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateBody>,
    /// When the code was made (RFC 3339). Left out: when the broker or the gateway took the job.
    #[schemars(extend("format" = "date-time"), example = "2026-11-20T09:30:00Z")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// From when on the code is of no use (RFC 3339), later than `created_at`. Left out: `created_at`
    /// and the `ttl` of the route.
    #[schemars(extend("format" = "date-time"), example = "2026-11-20T09:35:00Z")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Strings that are echoed in every event about this job; at most 512 bytes as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// A template at the provider; what is left out is the provider's default.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Template", deny_unknown_fields)]
pub struct TemplateBody {
    /// Its name, 1 to 512 bytes.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^\x00-\x1F\x7F-\x9F]*$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its language, such as `en` or `pt_BR`.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^\x00-\x1F\x7F-\x9F]*$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Its namespace (1MSG, Meta on-premises).
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^\x00-\x1F\x7F-\x9F]*$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

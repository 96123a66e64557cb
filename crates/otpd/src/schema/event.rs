//! The events as their readers get them: [`otpd_core::fact_json`] in the words of JSON Schema. The
//! closed lists (types, classes, reasons) are the core's own. More fields may come in later versions,
//! so readers are told of no others but not forbidden any.

use std::collections::BTreeMap;

use otpd_core::{Class, FactKind, Reason};
use schemars::JsonSchema;

/// A CloudEvents 1.0 event in structured mode (`application/cloudevents+json`), published to the
/// exchange `otp.events` with the routing key `<type without "otp.">.<provider>`.
#[derive(JsonSchema)]
#[schemars(rename = "Event")]
pub struct JobEvent {
    /// Version of CloudEvents.
    #[schemars(extend("const" = "1.0"))]
    pub specversion: String,
    /// Names the event. The same event may come twice, with the same id.
    pub id: String,
    /// The worker or gateway it comes from.
    pub source: String,
    /// What happened.
    #[schemars(rename = "type", extend("enum" = types()))]
    pub event_type: String,
    /// The id of the job.
    pub subject: String,
    /// When it happened.
    #[schemars(extend("format" = "date-time"))]
    pub time: String,
    /// The form of `data`.
    #[schemars(extend("const" = "application/json"))]
    pub datacontenttype: String,
    /// The rest.
    pub data: EventData,
}

/// What happened, in detail. Never the code. A field that does not apply is absent.
#[derive(JsonSchema)]
pub struct EventData {
    /// In the lane of which provider.
    pub provider: String,
    /// The route that the job was published to.
    pub route: Option<String>,
    /// Attempts made so far, over all providers.
    pub attempt: Option<u32>,
    /// Which life of the job this is about: absent for the first; for one that began with a replay, or with the
    /// same id published anew, the time in milliseconds at which the life before ended.
    pub life: Option<u64>,
    /// True for everything about the extra send of a job that a provider had accepted: the job counts as accepted,
    /// whatever becomes of that. Absent otherwise.
    pub extra_send: Option<bool>,
    /// The class of the provider's answer.
    #[schemars(extend("enum" = Class::ALL.map(Class::as_str)))]
    pub class: Option<String>,
    /// Why.
    #[schemars(extend("enum" = reasons()))]
    pub reason: Option<String>,
    /// The HTTP status of the provider's answer.
    #[schemars(range(min = 100, max = 999))]
    pub http_status: Option<u16>,
    /// The provider's id of the message.
    pub message_id: Option<String>,
    /// The recipient, masked: `+62*******890`.
    pub to: Option<String>,
    /// The recipient as a keyed hash, only where the fleet has a key for it: the same for the same number, and
    /// worth nothing without the key. Workers keep the recipients' limits by it.
    #[schemars(regex(pattern = "^[0-9a-f]{16}$"))]
    pub recipient_key: Option<String>,
    /// Recipient and purpose as a keyed hash, only where the fleet has a key for it: of two jobs with the same
    /// one only the newer is sent.
    #[schemars(regex(pattern = "^[0-9a-f]{16}$"))]
    pub purpose_key: Option<String>,
    /// When the code was made: says which of two jobs with the same `purpose_key` is the newer.
    #[schemars(extend("format" = "date-time"))]
    pub created_at: Option<String>,
    /// The metadata of the job.
    pub metadata: Option<BTreeMap<String, String>>,
    /// When the next attempt is due (`otp.job.retrying`).
    #[schemars(extend("format" = "date-time"))]
    pub next_attempt_at: Option<String>,
    /// Where the job went (`otp.job.failed_over`).
    pub next_provider: Option<String>,
    /// When the request of this attempt was written.
    #[schemars(extend("format" = "date-time"))]
    pub sent_at: Option<String>,
    /// Milliseconds from being taken by the broker to being read by a lane (`otp.job.accepted`).
    pub queued_ms: Option<u64>,
    /// Milliseconds from there to the permit of the last attempt (`otp.job.accepted`).
    pub permit_ms: Option<u64>,
    /// Milliseconds from that permit to the provider's answer (`otp.job.accepted`).
    pub http_ms: Option<u64>,
    /// How many requests a second the provider was found to take, where that is less than the configured ceiling
    /// (`otp.provider.paused`, `otp.provider.resumed`).
    pub ceiling_per_second: Option<f64>,
}

fn types() -> Vec<&'static str> {
    FactKind::ALL.map(FactKind::event_type).to_vec()
}

fn reasons() -> Vec<&'static str> {
    Reason::ALL.iter().map(|reason| reason.as_str()).collect()
}

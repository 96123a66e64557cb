//! Betatel WhatsApp OTP: the one provider that takes a whole message instead of a template, and whose
//! errors are statuses without documented bodies. Also the one that shows its records (`lookup`).
//!
//! That there are callbacks is documented, and their form is not: a record, or a part of one, is read wherever it
//! may be. A record holds the code and the number, which are not looked at.

use reqwest::Url;
use serde::Serialize;
use serde_json::Value;

use otpd_core::code::MAX_LEN;
use otpd_core::{Class, DeliveryStatus, MessageId, Outcome, Reason, Scope, SendJob};

use crate::answer::Reading;
use crate::endpoint::{Endpoint, SetupError, json, path_part, url};
use crate::generic::{Verdict, accepted, by_status};
use crate::lookup;
use crate::provider_time;
use crate::secret::Secret;
use crate::update::{CallbackRead, Failure, Part, Told, Update, message_id};

const PLACEHOLDER: &str = "{code}";
/// The longest message that Betatel takes, in characters.
const MAX_TEXT: usize = 4096;

pub(crate) struct Betatel {
    text: String,
    /// Where the records of what was sent are.
    pub(crate) records: Url,
}

#[derive(Serialize)]
struct Body<'a> {
    to: &'a str,
    text: &'a str,
}

impl Betatel {
    pub(crate) fn new(
        base_url: &str,
        api_key: Secret,
        account_id: Secret,
        text: String,
    ) -> Result<(Endpoint, Self), SetupError> {
        let longest = text.replace(PLACEHOLDER, &"0".repeat(MAX_LEN)).chars().count();
        if !text.contains(PLACEHOLDER) || longest > MAX_TEXT {
            let problem = "must contain {code} and be at most 4096 characters with it filled in";
            return Err(SetupError::Setting { key: "text", problem });
        }
        let endpoint = Endpoint::new(url(base_url, &["api", "v1", "connect-hub", "whatsapp", "otp"])?)
            .with_secret("x-api-key", "api_key", api_key)?
            .with_secret("x-account-id", "account_id", account_id)?;
        Ok((endpoint, Self { text, records: lookup::address(base_url)? }))
    }

    pub(crate) fn body(&self, job: &SendJob) -> Result<bytes::Bytes, Reason> {
        json(&Body { to: &job.to.expose_digits(), text: &self.text(job) })
    }

    /// Where the record of this message is; `None` for an id that is none of Betatel's and would lead elsewhere.
    pub(crate) fn poll(&self, id: &MessageId) -> Option<Url> {
        path_part("uuid", id.as_str()).ok()?;
        let mut url = self.records.clone();
        url.path_segments_mut().ok()?.pop().extend([id.as_str(), "wdr"]);
        Some(url)
    }

    /// What the recipient reads: holds the code in clear.
    pub(crate) fn text(&self, job: &SendJob) -> String {
        self.text.replace(PLACEHOLDER, job.code.expose())
    }
}

pub(crate) fn read(answer: &Reading<'_>) -> Verdict {
    if !answer.is_success() {
        return by_status(answer.status, answer.wait, Scope::Account).into();
    }
    match answer.text("/uuid").filter(|uuid| !uuid.is_empty()) {
        Some(uuid) => accepted(Some(&uuid)).into(),
        None => Outcome::Ambiguous { reason: Reason::MalformedResponse }.into(),
    }
}

/// A record: by itself, in a list, or in `data` or `list`.
pub(crate) fn told(callback: &Value) -> CallbackRead {
    let wrapped = ["data", "list"].into_iter().find_map(|field| callback.get(field));
    match wrapped.filter(|_| callback.get("uuid").is_none()).unwrap_or(callback) {
        Value::Array(records) => Part::all(records.iter().map(record)),
        one @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            Part::all([record(one)])
        }
    }
}

/// What one record says. Its `timestamp` is when the message was sent.
pub(crate) fn record(record: &Value) -> Part {
    let Some(id) = message_id(record, &["uuid"]) else { return Part::Malformed("has no `uuid`") };
    let Some(status) = record.get("status").and_then(Value::as_str) else {
        return Part::Malformed("has no `status`");
    };
    let news = |status| Update::new(Told::Delivery(status));
    let at = |field| provider_time::field(record, field);
    let (update, at) = match status.trim().to_ascii_uppercase().as_str() {
        "PENDING" => (Update::new(Told::Accepted), at("timestamp")),
        "SENT" => (news(DeliveryStatus::Sent), at("timestamp")),
        "DELIVERED" => (news(DeliveryStatus::Delivered), at("delivery_timestamp")),
        "READ" => (news(DeliveryStatus::Read), None),
        "FAILED" => (Update::failed(Failure::UNKNOWN), None),
        "EXPIRED" => (Update::failed(Failure::new(Reason::ExpiredTtl, Class::Permanent)), None),
        _ => return Part::Ignored(Some(Reason::UnknownStatus)),
    };
    Part::News(Update { message_id: Some(id), at, ..update })
}

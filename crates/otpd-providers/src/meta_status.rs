//! One status of a message as Meta's APIs report it, which 1MSG passes on: `{id, status, timestamp, errors,
//! biz_opaque_callback_data}`. `recipient_id`, which holds the number, is not looked at.

use serde_json::Value;

use otpd_core::{DeliveryStatus, Reason};

use crate::answer::text_of;
use crate::echo::job_in;
use crate::generic::Verdict;
use crate::meta_codes::MetaError;
use crate::provider_time;
use crate::update::{Failure, Part, Told, Update, message_id};

/// The HTTP status that a message's error would have come with: the numbers say the same either way, and one that
/// nobody knows is the message's own.
pub(crate) const AS_ANSWERED: u16 = 400;

/// Reads one status; `verdict` is what an error number means at this provider.
pub(crate) fn read(status: &Value, verdict: fn(i64) -> Verdict) -> Part {
    let Some(id) = message_id(status, &["id"]) else { return Part::Malformed("has a status without an id") };
    let Some(word) = status.get("status").and_then(Value::as_str) else {
        return Part::Malformed("has a message without a status");
    };
    let news = |status| Update::new(Told::Delivery(status));
    let update = match word.trim().to_ascii_lowercase().as_str() {
        "sent" => news(DeliveryStatus::Sent),
        "delivered" => news(DeliveryStatus::Delivered),
        // 1MSG says `viewed`; what is played is a voice message.
        "read" | "viewed" | "played" => news(DeliveryStatus::Read),
        "failed" | "undelivered" => {
            Update::failed(error(status).map_or(Failure::UNKNOWN, |code| verdict(code).into()))
        }
        // By its recipient: it had arrived.
        "deleted" => return Part::Ignored(None),
        _ => return Part::Ignored(Some(Reason::UnknownStatus)),
    };
    let job = status.get("biz_opaque_callback_data").and_then(Value::as_str).and_then(job_in);
    Part::News(Update { message_id: Some(id), job, at: provider_time::field(status, "timestamp"), ..update })
}

/// What an error number means in the Cloud API.
pub(crate) fn cloud_error(code: i64) -> Verdict {
    MetaError { code, subcode: None, status: AS_ANSWERED, wait: None }.verdict()
}

fn error(status: &Value) -> Option<i64> {
    text_of(status.pointer("/errors/0/code")?)?.trim().parse().ok()
}

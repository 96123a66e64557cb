//! Asking a provider what became of a message, where it can be asked: 1MSG's `hookInfo` and Betatel's records.
//!
//! The answers hold what callbacks do and are read by the same functions, so polling and callbacks cannot
//! contradict each other. A poll costs no message; whether it counts against a provider's limits is not documented.

use http::HeaderMap;
use reqwest::Url;
use serde_json::Value;

use otpd_core::{DeliveryStatus, MessageId, Outcome, Reason, Scope};

use crate::answer::Reading;
use crate::generic::by_status;
use crate::update::{CallbackRead, Told, Update};

/// A request for the state of one message: a GET without a body.
pub struct Poll<'a> {
    /// Where to.
    pub url: Url,
    /// All headers but those that HTTP itself adds.
    pub headers: &'a HeaderMap,
}

/// What the answer to a [`Poll`] says.
#[derive(Clone, Debug, PartialEq)]
pub enum Polled {
    /// The furthest that the message has come.
    Update(Update),
    /// The provider says nothing of the message, or nothing that anybody documents: it may know more later.
    Nothing,
    /// The provider does not say: too many requests, a wrong credential, an answer that cannot be read.
    Refused(Outcome),
}

/// How a provider answers about a message that it does not know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// With a list that does not have it.
    NotListed,
    /// With 404.
    Status404,
}

/// Reads `answer` about the message `id` by `told`, which reads the provider's callbacks.
pub(crate) fn read(
    answer: &Reading<'_>,
    id: &MessageId,
    told: fn(&Value) -> CallbackRead,
    unknown: Unknown,
) -> Polled {
    if answer.status == 404 && unknown == Unknown::Status404 {
        return Polled::Nothing;
    }
    if !answer.is_success() {
        return Polled::Refused(by_status(answer.status, answer.wait, Scope::Account));
    }
    let unreadable = Polled::Refused(Outcome::Ambiguous { reason: Reason::MalformedResponse });
    let Some(body) = answer.at("") else { return unreadable };
    match told(body) {
        CallbackRead::Updates(updates) => {
            let about_it = updates.into_iter().filter(|update| update.message_id.as_ref() == Some(id));
            about_it.max_by_key(|update| rank(update.status)).map_or(Polled::Nothing, Polled::Update)
        }
        CallbackRead::Ignored(_) => Polled::Nothing,
        CallbackRead::Malformed(_) | CallbackRead::Challenge(_) | CallbackRead::Forged => unreadable,
    }
}

/// How far a message has come: what is delivered is, whatever failed on the way.
const fn rank(status: Told) -> u8 {
    match status {
        Told::Accepted => 0,
        Told::Delivery(DeliveryStatus::Sent) => 1,
        Told::Delivery(
            DeliveryStatus::Failed
            | DeliveryStatus::Expired
            | DeliveryStatus::Rejected
            | DeliveryStatus::Blocked,
        ) => 2,
        Told::Delivery(DeliveryStatus::Delivered) => 3,
        Told::Delivery(DeliveryStatus::Read) => 4,
        Told::Delivery(DeliveryStatus::Verified) => 5,
    }
}

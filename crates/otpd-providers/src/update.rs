//! What a provider says about a message after it took it: a callback as it came, and the updates that are read
//! from it. Each provider's words are in its own file; what the readings share is here.
//!
//! Invariants:
//! - An update holds ids, a status, a time and a reason from closed lists. Nothing else of a callback is kept, so
//!   neither a code nor a number can be (Betatel's records and 1MSG's chats hold both).
//! - One callback gives at most [`MAX_STATUSES`] updates, and its parts are read independently: one that nobody
//!   understands hides no other.

use http::HeaderMap;
use serde_json::Value;

use otpd_core::{Class, DeliveryStatus, JobId, MessageId, Outcome, Reason, UnixMs};

use crate::answer::text_of;
use crate::generic::Verdict;

/// The most statuses in one callback. Meta sends at most this many at once, and nobody else comes near.
pub const MAX_STATUSES: usize = 1000;

/// A request to a provider's callback address.
#[derive(Clone, Copy)]
pub struct Callback<'a> {
    /// How it came.
    pub method: CallbackMethod,
    /// What follows `?` in the address, still encoded.
    pub query: &'a str,
    /// The job that the address names, where it names one (`/callbacks/{provider}/{token}/{job}`). Only Verihubs
    /// is given such addresses; for others it means nothing.
    pub job: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body as it came: signatures are over these bytes.
    pub body: &'a [u8],
}

/// How a callback came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackMethod {
    /// Meta's challenge; Verihubs, which does not document its method.
    Get,
    /// Everything else.
    Post,
}

/// What a callback says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallbackRead {
    /// News of messages: at least one, in the order of the body, possibly the same twice.
    Updates(Vec<Update>),
    /// Meta registers this address and wants this text back, as `text/plain`: 1 to 128 letters, digits and `._-`.
    Challenge(String),
    /// Read, and of no interest: an incoming message, a test, a status that nobody documents
    /// ([`Reason::UnknownStatus`]), news of the account ([`Reason::AccountEvent`]).
    Ignored(Option<Reason>),
    /// Not a callback of this provider; says in words why.
    Malformed(&'static str),
    /// Its signature or token is missing or wrong.
    Forged,
}

/// News of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The provider's id of the message.
    pub message_id: Option<MessageId>,
    /// The job, where the provider repeats what it was sent, or was given an address for each job.
    pub job: Option<JobId>,
    /// What became of the message.
    pub status: Told,
    /// When, by the provider's clock, where it says so.
    pub at: Option<UnixMs>,
    /// Why, where the message is not delivered or its time is over.
    pub reason: Option<Reason>,
    /// What that means for another attempt: [`Class::Transient`] may help at the same provider,
    /// [`Class::Account`] concerns every message. Never `Accepted` or `Ambiguous`.
    pub class: Option<Class>,
    /// The provider's own error number, where it gives one.
    pub code: Option<i64>,
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The provider has it and has not sent it yet.
    Accepted,
    /// Something that events tell.
    Delivery(DeliveryStatus),
}

impl Update {
    /// News without a reason.
    pub(crate) const fn new(status: Told) -> Self {
        Self { message_id: None, job: None, status, at: None, reason: None, class: None, code: None }
    }

    /// News of a message that is not delivered.
    pub(crate) fn failed(failure: Failure) -> Self {
        let status = if failure.reason == Reason::ExpiredTtl {
            DeliveryStatus::Expired
        } else {
            DeliveryStatus::Failed
        };
        Self::undelivered(status, failure)
    }

    /// The same in a word of the provider's own.
    pub(crate) fn undelivered(status: DeliveryStatus, failure: Failure) -> Self {
        let Failure { reason, class, code } = failure;
        Self { reason: Some(reason), class: Some(class), code, ..Self::new(Told::Delivery(status)) }
    }
}

/// Why a message was not delivered.
#[derive(Clone, Copy)]
pub(crate) struct Failure {
    reason: Reason,
    class: Class,
    code: Option<i64>,
}

impl Failure {
    /// The provider does not say why: another attempt may well succeed.
    pub(crate) const UNKNOWN: Self = Self::new(Reason::UnknownError, Class::Transient);

    pub(crate) const fn new(reason: Reason, class: Class) -> Self {
        Self { reason, class, code: None }
    }
}

/// An error number means in a callback what it means in an answer; but what is not delivered is not in doubt.
impl From<Verdict> for Failure {
    fn from(verdict: Verdict) -> Self {
        let class = match verdict.outcome {
            Outcome::Accepted { .. } | Outcome::Transient { .. } | Outcome::Ambiguous { .. } => {
                Class::Transient
            }
            Outcome::RateLimited { .. } => Class::RateLimited,
            Outcome::Permanent { .. } => Class::Permanent,
            Outcome::Account { .. } => Class::Account,
        };
        let reason = verdict.outcome.reason().unwrap_or(Reason::UnknownError);
        Self { reason, class, code: verdict.code }
    }
}

/// What one part of a callback says.
#[derive(Debug)]
pub(crate) enum Part {
    News(Update),
    Ignored(Option<Reason>),
    Malformed(&'static str),
}

impl Part {
    /// What all of them say together: the news, else the first reason to ignore them, else what is wrong.
    pub(crate) fn all(parts: impl IntoIterator<Item = Self>) -> CallbackRead {
        let (mut updates, mut ignored, mut malformed) = (Vec::new(), None, None);
        for part in parts {
            match part {
                Self::News(_) if updates.len() >= MAX_STATUSES => {
                    return CallbackRead::Malformed("has more than 1000 statuses");
                }
                Self::News(update) => updates.push(update),
                Self::Ignored(reason) => ignored = Some(ignored.flatten().or(reason)),
                Self::Malformed(problem) => malformed = malformed.or(Some(problem)),
            }
        }
        match (ignored, malformed) {
            _ if !updates.is_empty() => CallbackRead::Updates(updates),
            (Some(reason), _) => CallbackRead::Ignored(reason),
            (None, Some(problem)) => CallbackRead::Malformed(problem),
            (None, None) => CallbackRead::Ignored(None),
        }
    }
}

/// The elements of a list; none of what is no list.
pub(crate) fn elements<'a>(parent: &'a Value, field: &str) -> &'a [Value] {
    parent.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The id in one of these fields of a message.
pub(crate) fn message_id(parent: &Value, fields: &[&str]) -> Option<MessageId> {
    fields.iter().find_map(|field| MessageId::new(text_of(parent.get(field)?)?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news() -> Part {
        Part::News(Update::new(Told::Accepted))
    }

    #[test]
    fn parts_are_read_independently() {
        let unknown = || Part::Ignored(Some(Reason::UnknownStatus));
        for (parts, read) in [
            (vec![], CallbackRead::Ignored(None)),
            (vec![Part::Ignored(None), unknown()], CallbackRead::Ignored(Some(Reason::UnknownStatus))),
            (vec![Part::Malformed("a"), Part::Malformed("b")], CallbackRead::Malformed("a")),
            (vec![Part::Malformed("a"), Part::Ignored(None)], CallbackRead::Ignored(None)),
            (
                vec![Part::Malformed("a"), unknown(), news()],
                CallbackRead::Updates(vec![Update::new(Told::Accepted)]),
            ),
        ] {
            assert_eq!(Part::all(parts), read);
        }
    }

    #[test]
    fn their_number_is_bounded() {
        let many = |count| Part::all(std::iter::repeat_with(news).take(count));
        assert!(
            matches!(many(MAX_STATUSES), CallbackRead::Updates(updates) if updates.len() == MAX_STATUSES)
        );
        assert!(matches!(many(MAX_STATUSES + 1), CallbackRead::Malformed(_)));
    }
}

//! What an HTTP status means where the provider says nothing better.
//!
//! From 500 on the request may have been carried out, so those are `transient`, possibly sent. The one
//! exception is 503: a server that says it does not serve. Some 4xx come before the request is looked
//! at (408, 425) and are worth another try.

use std::time::Duration;

use otpd_core::{MessageId, Outcome, Reason, Scope};

/// An outcome with the provider's own error number, where it gave one.
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    pub(crate) code: Option<i64>,
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, code: None }
    }
}

/// Reads a status that is no success of any use; `limited` is whom a 429 concerns.
pub(crate) fn by_status(status: u16, wait: Option<Duration>, limited: Scope) -> Outcome {
    match status {
        0..300 => Outcome::Ambiguous { reason: Reason::MalformedResponse },
        300..400 | 404 | 405 => account(Reason::EndpointNotFound),
        400 | 409 | 413 | 415 | 422 => permanent(Reason::InvalidRequest, Scope::Message),
        401 | 403 => account(Reason::AuthInvalid),
        402 => account(Reason::InsufficientBalance),
        408 => not_sent(Reason::Timeout, wait),
        425 => not_sent(Reason::ServiceUnavailable, wait),
        429 => rate_limited(Reason::RateProvider, limited, wait),
        400..500 => permanent(Reason::UnknownError, Scope::Message),
        503 => not_sent(Reason::ServiceUnavailable, wait),
        502 | 504 | 520..530 => unclear(status, Reason::GatewayError, wait),
        500.. => unclear(status, Reason::InternalError, wait),
    }
}

/// Taken; an id that is missing is remarked upon.
pub(crate) fn accepted(id: Option<&str>) -> Outcome {
    let message_id = id.and_then(MessageId::new);
    let note = if message_id.is_none() { Some(Reason::MissingId) } else { None };
    Outcome::Accepted { message_id, note }
}

pub(crate) const fn permanent(reason: Reason, scope: Scope) -> Outcome {
    Outcome::Permanent { reason, scope }
}

pub(crate) const fn account(reason: Reason) -> Outcome {
    Outcome::Account { reason }
}

pub(crate) const fn rate_limited(reason: Reason, scope: Scope, wait: Option<Duration>) -> Outcome {
    Outcome::RateLimited { reason, scope, wait, limit: None }
}

/// Passing, and the provider documents that nothing was sent.
pub(crate) const fn not_sent(reason: Reason, wait: Option<Duration>) -> Outcome {
    Outcome::Transient { reason, wait, possibly_sent: false }
}

/// May or may not have been sent: with a status of 500 or above worth trying again, otherwise a riddle.
pub(crate) const fn unclear(status: u16, reason: Reason, wait: Option<Duration>) -> Outcome {
    if status >= 500 {
        Outcome::Transient { reason, wait, possibly_sent: true }
    } else {
        Outcome::Ambiguous { reason }
    }
}

#[cfg(test)]
mod tests {
    use otpd_core::Class;

    use super::*;

    #[test]
    fn table() {
        for (statuses, class, reason, possibly_sent) in [
            (&[100, 200, 204][..], Class::Ambiguous, Reason::MalformedResponse, true),
            (&[301, 302, 307, 308, 404, 405], Class::Account, Reason::EndpointNotFound, false),
            (&[400, 409, 413, 415, 422], Class::Permanent, Reason::InvalidRequest, false),
            (&[401, 403], Class::Account, Reason::AuthInvalid, false),
            (&[402], Class::Account, Reason::InsufficientBalance, false),
            (&[408], Class::Transient, Reason::Timeout, false),
            (&[425, 503], Class::Transient, Reason::ServiceUnavailable, false),
            (&[429], Class::RateLimited, Reason::RateProvider, false),
            (&[410, 418, 451], Class::Permanent, Reason::UnknownError, false),
            (&[500, 501, 505, 599, 999], Class::Transient, Reason::InternalError, true),
            (&[502, 504, 520, 524, 529], Class::Transient, Reason::GatewayError, true),
        ] {
            for status in statuses {
                let outcome = by_status(*status, None, Scope::Account);
                assert_eq!((outcome.class(), outcome.reason()), (class, Some(reason)), "{status}");
                assert_eq!(outcome.may_have_been_sent(), possibly_sent, "{status}");
            }
        }
    }

    #[test]
    fn from_500_on_nothing_is_ambiguous() {
        assert!((500..=u16::MAX).all(|s| by_status(s, None, Scope::Account).class() == Class::Transient));
    }
}

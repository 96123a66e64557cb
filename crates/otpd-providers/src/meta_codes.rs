//! Meta's error numbers (Cloud API). Meta documents the number as what to build on and is not
//! consistent about the HTTP status, so the status is asked only where the number says nothing.
//!
//! 1MSG and Msgai pass the same numbers on inside their messages: `(#131026) Message undeliverable`.

use std::time::Duration;

use otpd_core::{Outcome, Reason, Scope};

use crate::generic::{Verdict, account, by_status, not_sent, permanent, rate_limited, unclear};
use crate::retry_after::LONGEST_WAIT;

/// An answer's error number and what goes with it.
#[derive(Clone, Copy)]
pub(crate) struct MetaError {
    pub(crate) code: i64,
    pub(crate) subcode: Option<i64>,
    pub(crate) status: u16,
    /// The wait that the answer asks for.
    pub(crate) wait: Option<Duration>,
}

impl MetaError {
    pub(crate) fn verdict(self) -> Verdict {
        Verdict { outcome: self.outcome(), code: Some(self.code) }
    }

    fn outcome(self) -> Outcome {
        self.account()
            .or_else(|| self.limit())
            .or_else(|| self.passing())
            .or_else(|| self.permanent())
            .unwrap_or_else(|| self.unknown())
    }

    fn account(self) -> Option<Outcome> {
        Some(account(match self.code {
            0 | 3 | 10 | 200..=299 | 131_005 => Reason::AuthInvalid,
            190 => Reason::AuthExpired,
            // The object in the URL does not exist, or not for this token.
            100 if self.subcode == Some(33) => Reason::AccountNotConfigured,
            368 | 131_031 => Reason::AccountLocked,
            131_042 => Reason::PaymentIssue,
            // The number's display name is not approved.
            131_037 => Reason::AccountNotConfigured,
            33 | 131_045 | 133_000 | 133_005 | 133_006 | 133_008..=133_010 | 133_015 | 133_016 => {
                Reason::SenderNotRegistered
            }
            _ => return None,
        }))
    }

    /// Limits. Where the answer names no wait, the documented one counts, if there is one.
    fn limit(self) -> Option<Outcome> {
        let or = |documented: Duration| self.wait.or(Some(documented));
        Some(match self.code {
            4 => rate_limited(Reason::RateProvider, Scope::App, or(Duration::from_secs(300))),
            80_007 => rate_limited(Reason::RateProvider, Scope::Account, self.wait),
            130_429 => rate_limited(Reason::RateProvider, Scope::Sender, self.wait),
            // Lasts for hours, and every further message makes it worse.
            131_048 => rate_limited(Reason::RateSpam, Scope::Sender, or(LONGEST_WAIT)),
            131_056 => rate_limited(Reason::RatePair, Scope::Pair, self.wait),
            _ => return None,
        })
    }

    /// What Meta documents as worth trying again: the message was not taken.
    fn passing(self) -> Option<Outcome> {
        Some(match self.code {
            2 | 131_016 | 133_004 => not_sent(Reason::ServiceUnavailable, self.wait),
            131_000 => not_sent(Reason::InternalError, self.wait),
            131_057 => not_sent(Reason::Maintenance, self.wait.or(Some(Duration::from_secs(60)))),
            _ => return None,
        })
    }

    fn permanent(self) -> Option<Outcome> {
        let (reason, scope) = match self.code {
            100 | 131_008 | 131_009 | 131_051..=131_053 => (Reason::InvalidRequest, Scope::Message),
            131_021 => (Reason::SenderIsRecipient, Scope::Recipient),
            131_026 => (Reason::RecipientNotOnWhatsapp, Scope::Recipient),
            131_030 => (Reason::RecipientNotAllowed, Scope::Recipient),
            131_047 => (Reason::WindowClosed, Scope::Message),
            130_472 | 131_049 => (Reason::RecipientExperiment, Scope::Recipient),
            130_497 => (Reason::RecipientCountryRestricted, Scope::Country),
            132_000 | 132_005 | 132_012 => (Reason::TemplateParamMismatch, Scope::Template),
            132_001 => (Reason::TemplateMissing, Scope::Template),
            132_007 | 132_068 | 132_069 => (Reason::TemplatePolicy, Scope::Template),
            132_015 => (Reason::TemplatePaused, Scope::Template),
            132_016 => (Reason::TemplateDisabled, Scope::Template),
            131_043 => (Reason::ExpiredTtl, Scope::Message),
            135_000 => (Reason::UnknownError, Scope::Message),
            _ => return None,
        };
        Some(permanent(reason, scope))
    }

    /// A number that says nothing (1), or that is not in the table.
    fn unknown(self) -> Outcome {
        match self.status {
            500.. if self.code == 1 => unclear(self.status, Reason::InternalError, self.wait),
            500.. => unclear(self.status, Reason::UnknownError, self.wait),
            401 | 429 => by_status(self.status, self.wait, Scope::Unknown),
            _ => permanent(Reason::UnknownError, Scope::Message),
        }
    }
}

/// The number in `(#131026) Message undeliverable`.
pub(crate) fn number_in(message: &str) -> Option<i64> {
    let (_, rest) = message.split_once("(#")?;
    let (digits, _) = rest.split_once(')')?;
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use otpd_core::Class;
    use proptest::prelude::*;

    use super::*;

    fn outcome(code: i64, status: u16) -> Outcome {
        MetaError { code, subcode: None, status, wait: None }.outcome()
    }

    #[test]
    fn what_the_examples_do_not_cover() {
        for (code, status, class, reason, scope) in [
            (3, 500, Class::Account, Reason::AuthInvalid, None),
            (190, 401, Class::Account, Reason::AuthExpired, None),
            (299, 403, Class::Account, Reason::AuthInvalid, None),
            (368, 403, Class::Account, Reason::AccountLocked, None),
            (131_042, 400, Class::Account, Reason::PaymentIssue, None),
            (131_037, 400, Class::Account, Reason::AccountNotConfigured, None),
            (133_016, 400, Class::Account, Reason::SenderNotRegistered, None),
            (80_007, 429, Class::RateLimited, Reason::RateProvider, Some(Scope::Account)),
            (131_048, 400, Class::RateLimited, Reason::RateSpam, Some(Scope::Sender)),
            (131_057, 500, Class::Transient, Reason::Maintenance, None),
            (131_016, 400, Class::Transient, Reason::ServiceUnavailable, None),
            (1, 400, Class::Permanent, Reason::UnknownError, Some(Scope::Message)),
            (131_021, 400, Class::Permanent, Reason::SenderIsRecipient, Some(Scope::Recipient)),
            (131_030, 400, Class::Permanent, Reason::RecipientNotAllowed, Some(Scope::Recipient)),
            (131_049, 400, Class::Permanent, Reason::RecipientExperiment, Some(Scope::Recipient)),
            (130_497, 403, Class::Permanent, Reason::RecipientCountryRestricted, Some(Scope::Country)),
            (132_012, 400, Class::Permanent, Reason::TemplateParamMismatch, Some(Scope::Template)),
            (132_016, 400, Class::Permanent, Reason::TemplateDisabled, Some(Scope::Template)),
            (131_043, 400, Class::Permanent, Reason::ExpiredTtl, Some(Scope::Message)),
            (999_999, 400, Class::Permanent, Reason::UnknownError, Some(Scope::Message)),
            (999_999, 429, Class::RateLimited, Reason::RateProvider, Some(Scope::Unknown)),
            (999_999, 401, Class::Account, Reason::AuthInvalid, None),
        ] {
            let outcome = outcome(code, status);
            let found = match outcome {
                Outcome::RateLimited { scope, .. } | Outcome::Permanent { scope, .. } => Some(scope),
                Outcome::Accepted { .. }
                | Outcome::Transient { .. }
                | Outcome::Ambiguous { .. }
                | Outcome::Account { .. } => None,
            };
            assert_eq!((outcome.class(), outcome.reason(), found), (class, Some(reason), scope), "{code}");
        }
    }

    #[test]
    fn documented_waits_give_way_to_named_ones() {
        let error = |code, wait| MetaError { code, subcode: None, status: 400, wait }.outcome();
        let named = Some(Duration::from_secs(5));
        for (code, documented) in [(4, 300), (131_048, 3600), (131_057, 60)] {
            for (wait, seconds) in [(None, documented), (named, 5)] {
                let outcome = error(code, wait);
                let (Outcome::RateLimited { wait, .. } | Outcome::Transient { wait, .. }) = outcome else {
                    panic!("{code}: {outcome:?}")
                };
                assert_eq!(wait, Some(Duration::from_secs(seconds)), "{code}");
            }
        }
    }

    #[test]
    fn numbers_in_messages() {
        for (message, number) in [
            ("(#131026) Message undeliverable", Some(131_026)),
            ("Please correct the following error - (#100) Invalid parameter", Some(100)),
            ("(#) x", None),
            ("(#12a) x", None),
            ("(#99999999999999999999) x", None),
            ("(#131026", None),
            ("131026", None),
        ] {
            assert_eq!(number_in(message), number, "{message}");
        }
    }

    proptest! {
        #[test]
        fn from_500_on_nothing_is_ambiguous(code in any::<i64>(), status in 500u16..) {
            prop_assert_ne!(outcome(code, status).class(), Class::Ambiguous);
        }
    }
}

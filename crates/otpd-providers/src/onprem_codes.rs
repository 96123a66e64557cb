//! The error numbers of Meta's on-premises API: another list than the Cloud API's, with other meanings
//! for some of the same numbers.

use std::time::Duration;

use otpd_core::{Outcome, Reason, Scope};

use crate::generic::{Verdict, account, not_sent, permanent, rate_limited, unclear};
use crate::meta_onprem::by_status;
use crate::retry_after::LONGEST_WAIT;

/// An answer's error number and what goes with it.
#[derive(Clone, Copy)]
pub(crate) struct OnPremError {
    pub(crate) code: i64,
    pub(crate) status: u16,
    /// The wait that the answer asks for.
    pub(crate) wait: Option<Duration>,
}

impl OnPremError {
    pub(crate) fn verdict(self) -> Verdict {
        Verdict { outcome: self.outcome(), code: Some(self.code) }
    }

    fn outcome(self) -> Outcome {
        self.account()
            .or_else(|| self.limit_or_passing())
            .or_else(|| self.about_the_message())
            .or_else(|| self.about_the_template())
            .unwrap_or_else(|| self.unknown())
    }

    fn account(self) -> Option<Outcome> {
        Some(account(match self.code {
            402 => Reason::PaymentIssue,
            430 | 432 | 433 => Reason::SenderNotRegistered,
            // 401: the token is no longer valid, another login helps. 403: it never will.
            1005 if self.status == 401 => Reason::AuthExpired,
            // 1024: the password must be changed first.
            1005 | 1024 => Reason::AuthInvalid,
            1006 => Reason::EndpointNotFound,
            1022 => Reason::AccountNotConfigured,
            1031 => Reason::AccountLocked,
            _ => return None,
        }))
    }

    fn limit_or_passing(self) -> Option<Outcome> {
        Some(match self.code {
            429 | 1015 => rate_limited(Reason::RateProvider, Scope::Sender, self.wait),
            // Lasts for hours.
            471 => rate_limited(Reason::RateSpam, Scope::Sender, self.wait.or(Some(LONGEST_WAIT))),
            1016 => rate_limited(Reason::Overloaded, Scope::Sender, self.wait),
            500 => not_sent(Reason::InternalError, self.wait),
            1011 | 1017 | 1018 | 2002 => not_sent(Reason::ServiceUnavailable, self.wait),
            1014 | 1023 => unclear(self.status, Reason::InternalError, self.wait),
            _ => return None,
        })
    }

    fn about_the_message(self) -> Option<Outcome> {
        let (reason, scope) = match self.code {
            400 | 501 | 1001 | 1002 | 1008..=1010 | 1025 => (Reason::InvalidRequest, Scope::Message),
            408 | 410 => (Reason::ExpiredTtl, Scope::Message),
            470 => (Reason::WindowClosed, Scope::Message),
            2004 => (Reason::OtpTooLong, Scope::Message),
            472 => (Reason::RecipientExperiment, Scope::Recipient),
            480 | 1028 => (Reason::IdentityChanged, Scope::Recipient),
            1007 => (Reason::RecipientBlocked, Scope::Recipient),
            1013 => (Reason::RecipientNotOnWhatsapp, Scope::Recipient),
            1021 => (Reason::SenderIsRecipient, Scope::Recipient),
            1026 | 2013 => (Reason::RecipientIncapable, Scope::Recipient),
            _ => return None,
        };
        Some(permanent(reason, scope))
    }

    fn about_the_template(self) -> Option<Outcome> {
        let reason = match self.code {
            2000 | 2005 | 2009..=2012 => Reason::TemplateParamMismatch,
            2001 | 2003 | 2014 => Reason::TemplateMissing,
            2006..=2008 => Reason::TemplatePolicy,
            2060 | 2062 => Reason::TemplateDisabled,
            2061 => Reason::TemplatePaused,
            _ => return None,
        };
        Some(permanent(reason, Scope::Template))
    }

    /// A number that says nothing (1000), or that is not in the table.
    fn unknown(self) -> Outcome {
        match self.status {
            401 | 429 | 503 => by_status(self.status, self.wait),
            500.. if self.code == 1000 => unclear(self.status, Reason::InternalError, self.wait),
            500.. => unclear(self.status, Reason::UnknownError, self.wait),
            _ => permanent(Reason::UnknownError, Scope::Message),
        }
    }
}

#[cfg(test)]
mod tests {
    use otpd_core::Class;
    use proptest::prelude::*;

    use super::*;

    fn outcome(code: i64, status: u16) -> Outcome {
        OnPremError { code, status, wait: None }.outcome()
    }

    #[test]
    fn what_the_examples_do_not_cover() {
        for (code, status, class, reason) in [
            (402, 400, Class::Account, Reason::PaymentIssue),
            (410, 400, Class::Permanent, Reason::ExpiredTtl),
            (433, 400, Class::Account, Reason::SenderNotRegistered),
            (471, 400, Class::RateLimited, Reason::RateSpam),
            (480, 400, Class::Permanent, Reason::IdentityChanged),
            (501, 400, Class::Permanent, Reason::InvalidRequest),
            (1000, 500, Class::Transient, Reason::InternalError),
            (1005, 401, Class::Account, Reason::AuthExpired),
            (1007, 400, Class::Permanent, Reason::RecipientBlocked),
            (1011, 503, Class::Transient, Reason::ServiceUnavailable),
            (1014, 500, Class::Transient, Reason::InternalError),
            (1014, 400, Class::Ambiguous, Reason::InternalError),
            (1016, 503, Class::RateLimited, Reason::Overloaded),
            (1018, 500, Class::Transient, Reason::ServiceUnavailable),
            (1022, 400, Class::Account, Reason::AccountNotConfigured),
            (1024, 400, Class::Account, Reason::AuthInvalid),
            (1026, 400, Class::Permanent, Reason::RecipientIncapable),
            (1031, 403, Class::Account, Reason::AccountLocked),
            (2003, 400, Class::Permanent, Reason::TemplateMissing),
            (2005, 400, Class::Permanent, Reason::TemplateParamMismatch),
            (2007, 400, Class::Permanent, Reason::TemplatePolicy),
            (2013, 400, Class::Permanent, Reason::RecipientIncapable),
            (2060, 400, Class::Permanent, Reason::TemplateDisabled),
            (9999, 400, Class::Permanent, Reason::UnknownError),
            (9999, 500, Class::Transient, Reason::UnknownError),
            (9999, 503, Class::RateLimited, Reason::Overloaded),
        ] {
            let outcome = outcome(code, status);
            assert_eq!((outcome.class(), outcome.reason()), (class, Some(reason)), "{code} {status}");
        }
    }

    proptest! {
        #[test]
        fn from_500_on_nothing_is_ambiguous(code in any::<i64>(), status in 500u16..) {
            prop_assert_ne!(outcome(code, status).class(), Class::Ambiguous);
        }
    }
}

//! Why: one closed list of reasons, shared by answers, facts, dead letters and metrics.

use std::fmt;

macro_rules! reasons {
    ($($variant:ident = $text:literal: $sentence:literal),+ $(,)?) => {
        /// Every reason otpd gives, in the words of its events and dead letters.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $(#[doc = $sentence] $variant),+ }

        impl Reason {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The reason as events, headers and labels spell it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// What it means, in one sentence for people.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence),+ }
            }

            /// The reason spelled `text`, if there is one.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

reasons! {
    // accepted, with a remark
    MissingId = "missing_id": "The provider accepted the message without giving it an id, so its callbacks cannot be matched.",
    HeldForQualityAssessment = "held_for_quality_assessment": "Meta accepted the message and holds it while it assesses the template; it may still be dropped.",
    // the account: an operator must act
    AuthInvalid = "auth_invalid": "The provider refuses the account's credentials.",
    AuthExpired = "auth_expired": "The account's token has expired.",
    IpNotAllowed = "ip_not_allowed": "The provider does not accept requests from this IP address; add it to the account's allow-list.",
    PlanInactive = "plan_inactive": "The account's plan or subscription is not active.",
    InsufficientBalance = "insufficient_balance": "The account's balance is used up.",
    QuotaExhausted = "quota_exhausted": "The account's quota is used up.",
    PaymentIssue = "payment_issue": "The provider reports a problem with the account's payment method.",
    AccountLocked = "account_locked": "The provider has blocked or locked the account.",
    AccountNotConfigured = "account_not_configured": "The account is not set up for sending at the provider.",
    SenderNotRegistered = "sender_not_registered": "The sending number or channel is not registered at the provider.",
    EndpointNotFound = "endpoint_not_found": "The provider does not know the address that was called; check `base_url` and the ids in it.",
    TierLimit = "tier_limit": "The account has reached the number of recipients that its messaging tier allows for a day.",
    // too fast
    RateProvider = "rate_provider": "The provider's rate limit was reached.",
    RatePair = "rate_pair": "Too many messages went from this sender to this recipient in a short time.",
    RateSpam = "rate_spam": "The provider limits the sender because recipients reported its messages as spam.",
    Overloaded = "overloaded": "The provider is overloaded and asks to be given time.",
    // this message, this recipient, this template
    InvalidRequest = "invalid_request": "The provider refuses the request as invalid.",
    InvalidRecipient = "invalid_recipient": "The recipient's number is not a valid number.",
    RecipientNotOnWhatsapp = "recipient_not_on_whatsapp": "The recipient cannot be reached by WhatsApp.",
    RecipientIncapable = "recipient_incapable": "The recipient's application cannot show this kind of message.",
    RecipientBlocked = "recipient_blocked": "The recipient is blocked at the provider.",
    RecipientNotAllowed = "recipient_not_allowed": "The sender is a test number, and the recipient is not on its list.",
    RecipientExperiment = "recipient_experiment": "Meta withheld the message from this recipient to limit how many they receive.",
    RecipientCountryRestricted = "recipient_country_restricted": "The provider does not deliver to the recipient's country from this account.",
    SenderIsRecipient = "sender_is_recipient": "The sender and the recipient are the same number.",
    IdentityChanged = "identity_changed": "The recipient's identity has changed since the last message and must be confirmed.",
    OtpTooLong = "otp_too_long": "The code is longer than the provider allows.",
    WindowClosed = "window_closed": "The time in which free-form messages are allowed is over; only templates are.",
    TemplateMissing = "template_missing": "The template does not exist in this language, or neither the job nor the config names one.",
    TemplatePaused = "template_paused": "The provider has paused the template because of its quality.",
    TemplateDisabled = "template_disabled": "The provider has disabled the template.",
    TemplateParamMismatch = "template_param_mismatch": "The number or form of the template's parameters does not match the template.",
    TemplatePolicy = "template_policy": "The template breaks a policy of the provider.",
    TemplateCategoryMismatch = "template_category_mismatch": "The template is not of the authentication category.",
    ExpiredTtl = "expired_ttl": "The message was not delivered within its validity.",
    OtpTimeLimit = "otp_time_limit": "The time in which the provider checks the code is over; the message may well have arrived.",
    // passing, or not known
    ServiceUnavailable = "service_unavailable": "The provider's service is unavailable.",
    Maintenance = "maintenance": "The provider is under maintenance.",
    InternalError = "internal_error": "The provider had an internal error.",
    GatewayError = "gateway_error": "A gateway in front of the provider answered with an error.",
    ConnectFailed = "connect_failed": "The provider could not be reached; the request was not written.",
    Timeout = "timeout": "The provider did not answer in time; nobody can tell whether the message was sent.",
    MalformedResponse = "malformed_response": "The provider's answer could not be read; nobody can tell whether the message was sent.",
    QueuedUnconfirmed = "queued_unconfirmed": "The provider took the message and has not confirmed that it was sent.",
    UnknownError = "unknown_error": "The provider gave an error that is not documented.",
    UnknownStatus = "unknown_status": "The provider gave a status that is not documented.",
    AccountEvent = "account_event": "The provider reported something about the account, not about a message.",
    // the worker's own
    MalformedJob = "malformed_job": "The message in the queue is not a valid job.",
    Expired = "expired": "The code expired before it could be sent.",
    Superseded = "superseded": "A newer code for the same recipient and purpose replaced it.",
    AttemptsExhausted = "attempts_exhausted": "All attempts that the retry policy allows were used.",
    WaitedTooLong = "waited_too_long": "The job waited longer than its route's `max_wait` for its first attempt.",
    DeliveryLimit = "delivery_limit": "The broker handed the job out too often; workers may have crashed with it.",
    MaybeEnded = "maybe_ended": "A job with this id may have ended before; the times on it do not tell whether it is a new one.",
    RecipientLimited = "recipient_limited": "The recipient's limit leaves no time for it before the code expires.",
    Unroutable = "unroutable": "No provider is left that the job could go to.",
    AmbiguousParked = "ambiguous_parked": "Nobody can tell whether the message was sent, and it may not be sent again.",
}

impl Reason {
    /// True if another provider may be tried for a job that met this reason for good (the fail-over rule of
    /// the providers' page).
    ///
    /// Every provider otpd speaks to delivers by WhatsApp, so a recipient who cannot be reached
    /// there is not tried again on the next one; bad input stays bad everywhere.
    #[must_use]
    pub const fn may_fail_over(self) -> bool {
        match self {
            Self::InvalidRequest
            | Self::InvalidRecipient
            | Self::RecipientNotOnWhatsapp
            | Self::RecipientIncapable
            | Self::SenderIsRecipient
            | Self::IdentityChanged
            | Self::OtpTooLong
            | Self::MalformedJob
            | Self::Expired
            | Self::Superseded
            | Self::WaitedTooLong
            | Self::DeliveryLimit
            | Self::MaybeEnded
            | Self::RecipientLimited
            | Self::Unroutable => false,
            Self::MissingId
            | Self::HeldForQualityAssessment
            | Self::AuthInvalid
            | Self::AuthExpired
            | Self::IpNotAllowed
            | Self::PlanInactive
            | Self::InsufficientBalance
            | Self::QuotaExhausted
            | Self::PaymentIssue
            | Self::AccountLocked
            | Self::AccountNotConfigured
            | Self::SenderNotRegistered
            | Self::EndpointNotFound
            | Self::TierLimit
            | Self::RateProvider
            | Self::RatePair
            | Self::RateSpam
            | Self::Overloaded
            | Self::RecipientBlocked
            | Self::RecipientNotAllowed
            | Self::RecipientExperiment
            | Self::RecipientCountryRestricted
            | Self::WindowClosed
            | Self::TemplateMissing
            | Self::TemplatePaused
            | Self::TemplateDisabled
            | Self::TemplateParamMismatch
            | Self::TemplatePolicy
            | Self::TemplateCategoryMismatch
            | Self::ExpiredTtl
            | Self::OtpTimeLimit
            | Self::ServiceUnavailable
            | Self::Maintenance
            | Self::InternalError
            | Self::GatewayError
            | Self::ConnectFailed
            | Self::Timeout
            | Self::MalformedResponse
            | Self::QueuedUnconfirmed
            | Self::UnknownError
            | Self::UnknownStatus
            | Self::AccountEvent
            | Self::AttemptsExhausted
            | Self::AmbiguousParked => true,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_spelled_once_and_read_back() {
        for (i, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
            assert!(!Reason::ALL[..i].iter().any(|r| r.as_str() == reason.as_str()), "{reason} twice");
        }
        assert_eq!(Reason::parse("because"), None);
    }
}

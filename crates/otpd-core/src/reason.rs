//! Why: one closed list of reasons, shared by answers, facts, dead letters and metrics.

use std::fmt;

macro_rules! reasons {
    ($($variant:ident = $text:literal),+ $(,)?) => {
        /// Every reason otpd gives, in the words of its events and dead letters.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "each variant is its own text, explained in the README's outcome table")]
        pub enum Reason { $($variant),+ }

        impl Reason {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The reason as events, headers and labels spell it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
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
    MissingId = "missing_id",
    HeldForQualityAssessment = "held_for_quality_assessment",
    // the account: an operator must act
    AuthInvalid = "auth_invalid",
    AuthExpired = "auth_expired",
    IpNotAllowed = "ip_not_allowed",
    PlanInactive = "plan_inactive",
    InsufficientBalance = "insufficient_balance",
    QuotaExhausted = "quota_exhausted",
    PaymentIssue = "payment_issue",
    AccountLocked = "account_locked",
    AccountNotConfigured = "account_not_configured",
    SenderNotRegistered = "sender_not_registered",
    EndpointNotFound = "endpoint_not_found",
    TierLimit = "tier_limit",
    // too fast
    RateProvider = "rate_provider",
    RatePair = "rate_pair",
    RateSpam = "rate_spam",
    Overloaded = "overloaded",
    // this message, this recipient, this template
    InvalidRequest = "invalid_request",
    InvalidRecipient = "invalid_recipient",
    RecipientNotOnWhatsapp = "recipient_not_on_whatsapp",
    RecipientIncapable = "recipient_incapable",
    RecipientBlocked = "recipient_blocked",
    RecipientNotAllowed = "recipient_not_allowed",
    RecipientExperiment = "recipient_experiment",
    RecipientCountryRestricted = "recipient_country_restricted",
    SenderIsRecipient = "sender_is_recipient",
    IdentityChanged = "identity_changed",
    OtpTooLong = "otp_too_long",
    WindowClosed = "window_closed",
    TemplateMissing = "template_missing",
    TemplatePaused = "template_paused",
    TemplateDisabled = "template_disabled",
    TemplateParamMismatch = "template_param_mismatch",
    TemplatePolicy = "template_policy",
    TemplateCategoryMismatch = "template_category_mismatch",
    ExpiredTtl = "expired_ttl",
    OtpTimeLimit = "otp_time_limit",
    // passing, or not known
    ServiceUnavailable = "service_unavailable",
    Maintenance = "maintenance",
    InternalError = "internal_error",
    GatewayError = "gateway_error",
    ConnectFailed = "connect_failed",
    Timeout = "timeout",
    MalformedResponse = "malformed_response",
    QueuedUnconfirmed = "queued_unconfirmed",
    UnknownError = "unknown_error",
    UnknownStatus = "unknown_status",
    AccountEvent = "account_event",
    // the worker's own
    MalformedJob = "malformed_job",
    Expired = "expired",
    Superseded = "superseded",
    AttemptsExhausted = "attempts_exhausted",
    WaitedTooLong = "waited_too_long",
    DeliveryLimit = "delivery_limit",
    MaybeEnded = "maybe_ended",
    RecipientLimited = "recipient_limited",
    Unroutable = "unroutable",
    AmbiguousParked = "ambiguous_parked",
}

impl Reason {
    /// Whether another provider may be tried for a job that met this reason for good
    /// (the fail-over rule of the providers' page).
    ///
    /// Every provider otpd speaks to delivers by WhatsApp, so a recipient who cannot be reached
    /// there is not tried again on the next one; bad input stays bad everywhere.
    #[must_use]
    pub const fn may_fail_over(self) -> bool {
        !matches!(
            self,
            Self::RecipientNotOnWhatsapp
                | Self::RecipientIncapable
                | Self::IdentityChanged
                | Self::OtpTooLong
                | Self::InvalidRecipient
                | Self::InvalidRequest
                | Self::SenderIsRecipient
                | Self::MalformedJob
                | Self::Expired
                | Self::Superseded
                | Self::WaitedTooLong
                | Self::RecipientLimited
                | Self::DeliveryLimit
                | Self::MaybeEnded
                | Self::Unroutable
        )
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

//! The errors of Meta's WhatsApp on-premises API, by code. Meta documents titles and meanings; the
//! HTTP statuses are inferred from them.

use crate::mock::contract::{Documented, Form};

pub(super) const INVALID: Documented = Documented::new("invalid_request", 400, 1025, "Invalid Request");
pub(super) const MISSING: Documented = Documented::new("", 400, 1008, "Required parameter is missing");
pub(super) const NOT_VALID: Documented =
    Documented::new("bad_recipient", 400, 1009, "Parameter value is not valid");
pub(super) const PARAMETER_COUNT: Documented =
    Documented::new("template_params", 400, 2000, "Template Param Count Mismatch");
pub(super) const CODE_TOO_LONG: Documented = Documented::new("", 400, 2004, "Template Param Length Too Long");
pub(super) const NAMESPACE: Documented = Documented::new("", 400, 2014, "Expected Namespace is Empty");
pub(super) const NOT_FOUND: Documented = Documented::new("not_found", 404, 1006, "Resource not found");
pub(super) const ACCESS_DENIED: Documented = Documented::new("auth_expired", 401, 1005, "Access denied");
pub(super) const CHANGE_PASSWORD: Documented = Documented::new("", 401, 1024, "Password change required");
pub(super) const PAYMENT: Documented =
    Documented::new("balance", 400, 402, "Business eligibility - Payment issue");
pub(super) const TOO_MANY: Documented = Documented::new("", 429, 1015, "Too many requests");

pub(super) static DOCUMENTED: &[Documented] = &[
    INVALID,
    MISSING,
    NOT_VALID,
    PARAMETER_COUNT,
    CODE_TOO_LONG,
    NAMESPACE,
    NOT_FOUND,
    ACCESS_DENIED,
    CHANGE_PASSWORD,
    PAYMENT,
    TOO_MANY,
    Documented::new("auth", 403, 1005, "Access denied"),
    Documented::new("error_object", 400, 1009, "Parameter value is not valid").form(Form::Other),
    Documented::new("", 400, 400, "Media download error"),
    Documented::new("resend", 429, 429, "Rate limit hit"),
    Documented::new("", 400, 430, "Unsigned certificate"),
    Documented::new("not_registered", 400, 432, "Certificate ID mismatch"),
    Documented::new("", 400, 433, "Certificate expired"),
    Documented::new("window_closed", 400, 470, "Re-engagement message"),
    Documented::new("spam_limit", 400, 471, "Spam rate limit hit"),
    Documented::new("experiment", 400, 472, "User's number is part of an experiment"),
    Documented::new("", 400, 480, "User potentially changed"),
    Documented::new("", 400, 501, "Message type is not currently supported"),
    Documented::new("unknown", 400, 1000, "Generic error"),
    Documented::new("", 400, 1001, "Message too long"),
    Documented::new("", 400, 1002, "Invalid recipient type"),
    Documented::new("blocked", 400, 1007, "Recipient blocked to receive message"),
    Documented::new("", 400, 1010, "Parameter is not required"),
    Documented::new("", 500, 1011, "Service not ready"),
    Documented::new("not_on_whatsapp", 400, 1013, "User is not valid"),
    Documented::new("", 500, 1014, "Internal error"),
    Documented::new("overloaded", 429, 1016, "System overloaded"),
    Documented::new("", 500, 1017, "Not Primary Master"),
    Documented::new("", 500, 1018, "Not Shard Master"),
    Documented::new("sender_is_recipient", 400, 1021, "Bad User"),
    Documented::new("not_configured", 400, 1022, "Webhooks URL is not configured"),
    Documented::new("", 500, 1023, "Database error occurred"),
    Documented::new("incapable", 400, 1026, "Receiver incapable"),
    Documented::new(
        "identity_changed",
        400,
        1028,
        "A user_identity_changed system notification requires acknowledgement",
    ),
    Documented::new("locked", 403, 1031, "Sender account has been locked"),
    Documented::new("template_missing", 400, 2001, "Template Missing"),
    Documented::new("", 500, 2002, "Template Fetch Failed"),
    Documented::new("", 400, 2003, "Template Pack Missing"),
    Documented::new("", 400, 2005, "Template Hydrated String Too Long"),
    Documented::new("template_policy", 400, 2006, "Template White Space Policy Violated"),
    Documented::new("", 400, 2012, "Template Parameter Format Mismatch"),
    Documented::new("", 400, 2013, "Template unsupported by the receiver"),
    Documented::new("template_disabled", 400, 2060, "Template Disabled"),
    Documented::new("template_paused", 400, 2061, "Template Paused"),
    Documented::new("", 400, 2062, "Template permanently disabled"),
];

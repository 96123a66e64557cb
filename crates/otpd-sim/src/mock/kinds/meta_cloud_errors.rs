//! The errors of Meta's WhatsApp Cloud API that its table lists for sending, with the status that the
//! table gives (real answers vary: build on the code).

use crate::mock::contract::{Documented, Form};

pub(super) const INVALID: Documented = Documented::new("invalid_request", 400, 100, "Invalid parameter");
pub(super) const MISSING: Documented = Documented::new("", 400, 131_008, "Required parameter is missing");
pub(super) const NOT_VALID: Documented =
    Documented::new("bad_recipient", 400, 131_009, "Parameter value is not valid");
pub(super) const TYPE: Documented = Documented::new("", 400, 131_051, "Unsupported message type");
pub(super) const PARAMETER_COUNT: Documented =
    Documented::new("template_params", 400, 132_000, "Number of parameters does not match");
pub(super) const TEMPLATE_MISSING: Documented =
    Documented::new("template_missing", 404, 132_001, "Template name does not exist in the translation");
pub(super) const PAYMENT: Documented =
    Documented::new("balance", 400, 131_042, "Business eligibility payment issue");
pub(super) const THROUGHPUT: Documented = Documented::new("throughput", 429, 130_429, "Rate limit hit");

pub(super) static DOCUMENTED: &[Documented] = &[
    INVALID,
    MISSING,
    NOT_VALID,
    TYPE,
    PARAMETER_COUNT,
    TEMPLATE_MISSING,
    PAYMENT,
    THROUGHPUT,
    Documented::new("auth", 401, 0, "AuthException"),
    Documented::new("auth_expired", 401, 190, "Error validating access token: Session has expired"),
    Documented::new("", 500, 3, "API Method"),
    Documented::new("permission", 403, 10, "Application does not have permission for this action"),
    Documented::new("", 403, 200, "You do not have the necessary permissions"),
    Documented::new("sender_deleted", 400, 33, "Parameter value is not valid: business phone number deleted"),
    Documented::new("sender_unknown", 400, 100, "Unsupported post request. Object does not exist")
        .form(Form::Subcode(33)),
    Documented::new("app_limit", 429, 4, "Application request limit reached"),
    Documented::new("account_limit", 429, 80_007, "Rate limit issues"),
    Documented::new("spam_limit", 400, 131_048, "Spam Rate limit hit"),
    Documented::new("pair_limit", 400, 131_056, "(Business Account, Consumer Account) pair rate limit hit"),
    Documented::new("", 403, 368, "Temporarily blocked for policies violations"),
    Documented::new("locked", 403, 131_031, "Account has been locked"),
    Documented::new("access_denied", 403, 131_005, "Access denied"),
    Documented::new("", 500, 131_045, "Incorrect certificate"),
    Documented::new("", 500, 133_000, "Incomplete deregistration"),
    Documented::new("", 400, 133_005, "Two step verification PIN Mismatch"),
    Documented::new("", 400, 133_006, "Phone number re-verification needed"),
    Documented::new("", 400, 133_008, "Too many PIN guesses"),
    Documented::new("", 400, 133_009, "PIN guessed too fast"),
    Documented::new("not_registered", 400, 133_010, "Phone number not registered"),
    Documented::new("", 400, 133_015, "Please wait a few minutes before attempting to register"),
    Documented::new("", 400, 133_016, "Account register deregister rate limit exceeded"),
    Documented::new("", 503, 2, "API Service"),
    Documented::new("service_unavailable", 500, 131_016, "Service unavailable"),
    Documented::new("", 503, 133_004, "Server temporarily unavailable"),
    Documented::new("something_wrong", 500, 131_000, "Something went wrong"),
    Documented::new("maintenance", 500, 131_057, "Account in maintenance mode"),
    Documented::new("unknown", 400, 1, "API Unknown"),
    Documented::new("", 400, 131_052, "Media download error"),
    Documented::new("", 400, 131_053, "Media upload error"),
    Documented::new("sender_is_recipient", 400, 131_021, "Recipient cannot be sender"),
    Documented::new("not_on_whatsapp", 400, 131_026, "Message undeliverable"),
    Documented::new("not_allowed", 400, 131_030, "Recipient phone number not in allowed list"),
    Documented::new("window_closed", 400, 131_047, "Re-engagement message"),
    Documented::new("experiment", 400, 130_472, "User's number is part of an experiment"),
    Documented::new("", 400, 131_049, "Not delivered to maintain healthy ecosystem engagement"),
    Documented::new("country", 403, 130_497, "Business account is restricted from messaging in this country"),
    Documented::new("", 400, 132_005, "Template hydrated text too long"),
    Documented::new("", 400, 132_007, "Template Format Character Policy Violated"),
    Documented::new("", 400, 132_012, "Template parameter format mismatch"),
    Documented::new("template_paused", 400, 132_015, "Template is paused"),
    Documented::new("template_disabled", 400, 132_016, "Template is disabled"),
    Documented::new("", 400, 131_043, "Message expired"),
    Documented::new("", 400, 135_000, "Generic user error"),
    Documented::new("held", 200, 0, "held_for_quality_assessment").form(Form::Other),
    Documented::new("paused", 200, 0, "paused").form(Form::Other),
];

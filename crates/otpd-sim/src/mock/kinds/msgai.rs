//! Msgai: `POST /api/v1/public/message`.
//!
//! `Authorization: Basic` with the raw `sk_live_…` key, *not* base64: an encoded one is an invalid key.
//! Answers are `{"result", "message"}`; what Meta refuses is a 400 whose message begins with "Please
//! correct the following error". A 429 names the limit per minute in its text and the wait in its *body*.
//! The other form of a 403 is the allow-list's `{"success": false, "code": "ip_blocked"}`.
//!
//! A callback is one event, in the body and in `X-Webhook-Event`; it never comes again. It may be signed: in which
//! header is not documented (`X-Webhook-Signature` here, in hexadecimal).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use otpd_core::{Phone, Rate};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::mock::callbacks::journey::Step;
use crate::mock::callbacks::report::{Posted, Report};
use crate::mock::contract::{
    Call, Contract, Credential, Documented, Form, Message, Reporting, Wrong, authorization, fits_template,
    is_json, uuid,
};
use crate::mock::fault::ServerError;
use crate::mock::reply::{Reply, whole_seconds};

pub(crate) struct Msgai;

/// The default plan's requests a minute.
const PLAN: u64 = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow, default)]
    full_phone_number: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    phone_number: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    country_code: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    callback_data: Option<Cow<'a, str>>,
    #[serde(rename = "type", borrow, default)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    template: Option<Template<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Template<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    language_code: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    body_values: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    button_values: Option<BTreeMap<Cow<'a, str>, Vec<Cow<'a, str>>>>,
    #[serde(rename = "template_category", borrow, default)]
    category: Option<Cow<'a, str>>,
}

macro_rules! corrected {
    ($text:literal) => {
        concat!("Please correct the following error - ", $text)
    };
}

const NO_KEY: Documented =
    Documented::new("", 401, 0, "Missing API key. Use Authorization: Basic YOUR_API_KEY");
const AUTH: Documented = Documented::new("auth", 401, 0, "Invalid API key.");
const NO_PHONE: Documented = Documented::new("invalid_request", 400, 0, "phoneNumber is required");
const NO_TYPE: Documented = Documented::new("", 400, 0, "type is required");
const NO_TEMPLATE: Documented = Documented::new("", 400, 0, "template object is required for type Template");
const NO_NAME: Documented = Documented::new("", 400, 0, "template.name is required");
const BAD_PHONE: Documented = Documented::new("bad_recipient", 400, 0, corrected!("phone invalid"));
const TOO_LONG: Documented =
    Documented::new("otp_too_long", 400, 0, corrected!("OTP must be at most 15 chars"));
const PARAMS: Documented = Documented::new(
    "template_params",
    400,
    132_000,
    corrected!("(#132000) Number of parameters does not match"),
);
const INVALID: Documented = Documented::new("", 400, 100, corrected!("(#100) Invalid parameter"));
const CATEGORY: Documented = Documented::new(
    "category_mismatch",
    400,
    0,
    "Message not sent. Template category mismatch: Expected 'authentication', but received 'MARKETING'",
);
const BALANCE: Documented =
    Documented::new("balance", 402, 0, corrected!("Insufficient balance. Top up your wallet."));

static DOCUMENTED: &[Documented] = &[
    AUTH,
    NO_PHONE,
    BAD_PHONE,
    TOO_LONG,
    PARAMS,
    INVALID,
    CATEGORY,
    BALANCE,
    Documented::new("not_configured", 400, 0, "WhatsApp Business Account not configured"),
    Documented::new("not_on_whatsapp", 400, 131_026, corrected!("(#131026) Message undeliverable")),
    Documented::new("", 400, 0, corrected!("Recipient is not on WhatsApp")),
    Documented::new(
        "template_missing",
        400,
        132_001,
        corrected!("(#132001) Template name does not exist in the translation"),
    ),
    Documented::new("locked", 400, 131_031, corrected!("(#131031) Account has been locked")),
    Documented::new(
        "pair_limit",
        400,
        131_056,
        corrected!("(#131056) (Business Account, Consumer Account) pair rate limit hit"),
    ),
    Documented::new("subscription", 403, 0, "An active subscription is required to use Public APIs."),
    Documented::new("plan", 403, 0, "Public APIs are not accessible on your current plan. Please upgrade."),
    Documented::new(
        "ip_not_allowed",
        403,
        0,
        "Access denied — your IP address is not on this account's allowlist.",
    ),
    Documented::new(
        "ip_blocked",
        403,
        0,
        "Access denied — your IP address is not on this account's allowlist.",
    )
    .form(Form::Other),
];

impl Contract for Msgai {
    fn credential<'a>(&self, call: &Call<'a>) -> Result<Credential<'a>, Reply> {
        match authorization(call.headers, "Basic") {
            Some(key) if key.starts_with("sk_live_") => Ok(Credential::Account { name: key, secret: key }),
            Some(_) => Err(self.unauthorised(call)),
            None => Err(self.refused(&NO_KEY)),
        }
    }

    fn unauthorised(&self, _call: &Call<'_>) -> Reply {
        self.refused(&AUTH)
    }

    fn message<'a>(&self, call: &Call<'a>) -> Result<Message<'a>, Reply> {
        read(call).map_err(|refusal| self.refused(&refusal))
    }

    fn accepted(&self, _message: &Message<'_>, id: &str) -> Reply {
        Reply::json(200, &json!({ "result": true, "message": "Message created successfully", "id": id }))
    }

    fn too_many(&self, full: Option<Rate>, wait: Duration) -> Reply {
        let per_minute = full.map_or(PLAN, |rate| {
            let seconds = rate.per.as_millis().max(1);
            u64::try_from(u128::from(rate.count) * 60_000 / seconds).unwrap_or(u64::MAX)
        });
        let message = format!(
            "Rate limit exceeded for this resource. Limit: {per_minute} requests/minute. Error Code: 429"
        );
        let wait = whole_seconds(wait);
        Reply::json(429, &json!({ "result": false, "message": message, "Retry-After": wait }))
    }

    fn failed(&self, error: ServerError) -> Reply {
        match error {
            ServerError::Internal => {
                Reply::json(500, &json!({ "result": false, "message": "Failed to send template" }))
            }
            ServerError::BadGateway | ServerError::Unavailable | ServerError::GatewayTimeout => {
                Reply::empty(error.status())
            }
        }
    }

    fn documented(&self) -> &'static [Documented] {
        DOCUMENTED
    }

    fn refused(&self, refusal: &Documented) -> Reply {
        let (status, text) = (refusal.status, refusal.text);
        match refusal.form {
            Form::Usual | Form::Subcode(_) => {
                Reply::json(status, &json!({ "result": false, "message": text }))
            }
            Form::Other => {
                let ip = "203.0.113.45";
                Reply::json(
                    status,
                    &json!({ "success": false, "code": "ip_blocked", "ip": ip, "message": text }),
                )
            }
        }
    }

    fn out_of_balance(&self) -> Reply {
        self.refused(&BALANCE)
    }

    fn no_such_endpoint(&self, _wrong: Wrong) -> Reply {
        Reply::json(404, &json!({ "message": "Not Found" }))
    }

    fn callbacks(&self) -> Reporting {
        Reporting { at_once: 1, are_repeated: false }
    }

    fn callback(&self, _account: &str, reports: &[Report<'_>], secret: Option<&str>) -> Posted {
        let (event, body) = reports.first().map(event).unwrap_or_default();
        Posted::json(&body)
            .header("x-webhook-event", event.to_owned())
            .header("x-webhook-source", "splashifypro".to_owned())
            .signed("x-webhook-signature", "", secret)
    }

    fn message_id(&self, origin: u64, number: u64) -> String {
        uuid(origin, number)
    }
}

/// The event of a callback, and its body.
fn event(report: &Report<'_>) -> (&'static str, Value) {
    let event = match report.step {
        Step::Sent => "message.sent",
        Step::Delivered => "message.delivered",
        Step::Read => "message.read",
        Step::Failed => "message.failed",
    };
    let mut data = json!({ "message_id": report.id, "channel": "whatsapp" });
    if let (Some(fields), Some(echo)) = (data.as_object_mut(), report.echo) {
        fields.insert("callbackData".into(), echo.into());
    }
    (event, json!({ "event": event, "timestamp": report.at.to_string(), "data": data }))
}

fn read<'a>(call: &Call<'a>) -> Result<Message<'a>, Documented> {
    if !is_json(call.headers) {
        return Err(INVALID);
    }
    let body: Body<'a> = serde_json::from_slice(call.body).map_err(|_| INVALID)?;
    let to = match (body.full_phone_number, body.phone_number, body.country_code) {
        (Some(full), None, None) => full,
        (None, Some(local), Some(country)) => Cow::Owned(format!("{country}{local}")),
        (None, None, _) => return Err(NO_PHONE),
        (Some(_), _, _) | (None, Some(_), None) => return Err(INVALID),
    };
    if to.is_empty() {
        return Err(NO_PHONE);
    }
    let content = body.content.filter(|c| !c.is_empty()).ok_or(NO_TYPE)?;
    if !content.eq_ignore_ascii_case("template") {
        return Err(INVALID);
    }
    let template = body.template.ok_or(NO_TEMPLATE)?;
    let phone = Phone::parse(&to).ok_or(BAD_PHONE)?;
    if body.callback_data.as_ref().is_some_and(|d| d.chars().count() > 512) {
        return Err(INVALID);
    }
    let code = template.code()?;
    Ok(Message { phone, to, code, echo: body.callback_data, callback_url: None })
}

impl<'a> Template<'a> {
    fn code(self) -> Result<Cow<'a, str>, Documented> {
        if self.name.is_none_or(|n| n.is_empty()) {
            return Err(NO_NAME);
        }
        if self.language_code.is_some_and(|l| l.is_empty()) {
            return Err(INVALID);
        }
        if self.category.is_some_and(|c| !c.eq_ignore_ascii_case("authentication")) {
            return Err(CATEGORY);
        }
        let mut values = self.body_values.into_iter();
        let (Some(code), None) = (values.next(), values.next()) else { return Err(PARAMS) };
        if !fits_template(&code) {
            return Err(TOO_LONG);
        }
        // A button's value may differ from the body's, as long as there is one for index 0 and no other.
        let button = self.button_values.is_none_or(|buttons| {
            buttons.len() == 1
                && buttons.get("0").is_some_and(|v| matches!(v.as_slice(), [one] if fits_template(one)))
        });
        if button { Ok(code) } else { Err(PARAMS) }
    }
}

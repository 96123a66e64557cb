//! Verihubs WhatsApp OTP V2: `POST /v2/whatsapp/otp/send`.
//!
//! The account is `App-ID`, proved by `API-Key`. Every field of the body is a string, numbers too.
//! A success is **201** and repeats the code in clear. Without `otp` Verihubs makes a code itself, of
//! `otp_length` digits. Errors are `{"code", "message"}` with the HTTP status as code; a 429 names no wait.
//!
//! A callback is the address in the request, or the account's, with `session_id` and a number as `status`. Its method is
//! not documented (GET here), nor whether it comes again (it does not here); it is not signed.

use std::borrow::Cow;
use std::time::Duration;

use http::Method;
use otpd_core::Rate;
use serde::Deserialize;
use serde_json::json;

use crate::chance::Chance;
use crate::mock::callbacks::journey::Step;
use crate::mock::callbacks::report::{Posted, Report};
use crate::mock::contract::{
    Call, Contract, Credential, Documented, Message, Reporting, Wrong, digits_alone, fits_template, header,
    is_json, uuid,
};
use crate::mock::fault::ServerError;
use crate::mock::reply::Reply;

pub(crate) struct Verihubs;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    msisdn: Cow<'a, str>,
    #[serde(borrow)]
    lang_code: Cow<'a, str>,
    #[serde(borrow, default)]
    otp: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    otp_length: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    challenge: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    time_limit: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    template_name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    callback_url: Option<Cow<'a, str>>,
}

const INVALID: Documented = Documented::new("invalid_request", 400, 0, "Validation error");
const AUTH: Documented = Documented::new("auth", 401, 0, "Authorization failed");
const QUOTA: Documented = Documented::new("quota", 403, 0, "Quota insufficient");
const TOO_MANY: &str = "Too many request in the allowed time frame";

static DOCUMENTED: &[Documented] = &[
    INVALID,
    AUTH,
    QUOTA,
    Documented::new("bad_recipient", 400, 0, "Validation error"),
    Documented::new("blocked", 409, 0, "Msisdn invalid: msisdn has been blocked"),
    Documented::new("conflict", 409, 0, "Conflict"),
    Documented::new("unprocessable", 422, 0, "Unprocessable"),
];

impl Contract for Verihubs {
    fn credential<'a>(&self, call: &Call<'a>) -> Result<Credential<'a>, Reply> {
        match (header(call.headers, "app-id"), header(call.headers, "api-key")) {
            (Some(name), Some(secret)) => Ok(Credential::Account { name, secret }),
            (_, _) => Err(self.unauthorised(call)),
        }
    }

    fn unauthorised(&self, _call: &Call<'_>) -> Reply {
        self.refused(&AUTH)
    }

    fn message<'a>(&self, call: &Call<'a>) -> Result<Message<'a>, Reply> {
        read(call).ok_or_else(|| self.refused(&INVALID))
    }

    fn accepted(&self, message: &Message<'_>, id: &str) -> Reply {
        Reply::json(
            201,
            &json!({
                "message": "OTP sent successfully",
                "otp": message.code,
                "msisdn": message.to,
                "session_id": id,
                "try_count": 1,
            }),
        )
    }

    fn too_many(&self, _full: Option<Rate>, _wait: Duration) -> Reply {
        Reply::json(429, &json!({ "code": 429, "message": TOO_MANY }))
    }

    fn failed(&self, error: ServerError) -> Reply {
        match error {
            ServerError::Internal => {
                Reply::json(500, &json!({ "code": 500, "message": "Internal server error" }))
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
        Reply::json(refusal.status, &json!({ "code": refusal.status, "message": refusal.text }))
    }

    fn out_of_balance(&self) -> Reply {
        self.refused(&QUOTA)
    }

    fn no_such_endpoint(&self, wrong: Wrong) -> Reply {
        match wrong {
            Wrong::Path => Reply::json(404, &json!({ "code": 404, "message": "Not Found" })),
            Wrong::Method => Reply::json(405, &json!({ "code": 405, "message": "Method Not Allowed" })),
        }
    }

    fn callbacks(&self) -> Reporting {
        Reporting { at_once: 1, are_repeated: false }
    }

    fn callback(&self, _account: &str, reports: &[Report<'_>], _secret: Option<&str>) -> Posted {
        let query = reports.iter().map(|report| {
            let status = match report.step {
                Step::Sent => 1,
                Step::Delivered => 2,
                Step::Read => 3,
                Step::Failed => 6,
            };
            format!("session_id={}&status={status}", report.id)
        });
        let query = query.collect::<Vec<_>>().join("&");
        Posted { method: Method::GET, query, headers: Vec::new(), body: Vec::new() }
    }

    fn message_id(&self, origin: u64, number: u64) -> String {
        uuid(origin, number)
    }
}

fn read<'a>(call: &Call<'a>) -> Option<Message<'a>> {
    if !is_json(call.headers) {
        return None;
    }
    let body: Body<'a> = serde_json::from_slice(call.body).ok()?;
    let phone = digits_alone(&body.msisdn)?;
    let filled = |field: &Option<Cow<'_, str>>| field.as_ref().is_none_or(|text| !text.is_empty());
    let whole = |field: &Option<Cow<'_, str>>| {
        field.as_ref().is_none_or(|text| text.parse::<u32>().is_ok_and(|n| n > 0))
    };
    let valid = !body.lang_code.is_empty()
        && filled(&body.challenge)
        && filled(&body.template_name)
        && filled(&body.callback_url)
        && whole(&body.time_limit)
        && whole(&body.otp_length);
    let code = match (body.otp, body.otp_length) {
        (Some(otp), None) if fits_template(&otp) => otp,
        (None, length) => Cow::Owned(own_code(phone.expose_digits().as_bytes(), length.as_deref())?),
        (Some(_), _) => return None,
    };
    valid.then_some(Message { phone, to: body.msisdn, code, echo: None, callback_url: body.callback_url })
}

/// A code of Verihubs' own making: four digits unless the length is named.
fn own_code(seed: &[u8], length: Option<&str>) -> Option<String> {
    let length: usize = length.unwrap_or("4").parse().ok().filter(|n| (1..=15).contains(n))?;
    let facts: Vec<u64> = seed.iter().map(|b| u64::from(*b)).collect();
    let digits = Chance::of(&facts).next_u64() % 1_000_000_000_000_000;
    format!("{digits:015}").get(..length).map(ToOwned::to_owned)
}

//! Betatel WhatsApp OTP: `POST /api/v1/connect-hub/whatsapp/otp`, and the records of what was sent
//! (`GET …/whatsapp/{uuid}/wdr`, `POST …/whatsapp/wdr`), by which a timed-out send can be looked up.
//!
//! The account is `x-account-id`, proved by `x-api-key`. A number has no `+`. Betatel documents the
//! statuses 400, 401, 402 and 500 without bodies; `{"message": <status text>}` is assumed, and a plain
//! `Bad Request` is its other form. A record holds the text that was sent, in clear. That there are callbacks is
//! documented, and their form is not: here it is the record.

use std::borrow::Cow;
use std::time::Duration;

use otpd_core::{Phone, Rate, UnixMs};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::chance::mix;
use crate::mock::callbacks::journey::Step;
use crate::mock::callbacks::report::{Posted, Report};
use crate::mock::contract::{
    Call, Contract, Credential, Documented, Form, Message, Reporting, Wrong, digits_alone, header, is_json,
};
use crate::mock::fault::ServerError;
use crate::mock::reply::Reply;

pub(crate) struct Betatel;

/// The most characters of a text.
const MAX_TEXT: usize = 4096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    to: Cow<'a, str>,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

const INVALID: Documented = Documented::new("invalid_request", 400, 0, "Bad Request");
const AUTH: Documented = Documented::new("auth", 401, 0, "Unauthorized");
const BALANCE: Documented = Documented::new("balance", 402, 0, "Payment Required");

static DOCUMENTED: &[Documented] = &[
    INVALID,
    AUTH,
    BALANCE,
    Documented::new("bad_recipient", 400, 0, "Bad Request").form(Form::Other),
    Documented::new("forbidden", 403, 0, "Forbidden"),
    Documented::new("not_found", 404, 0, "Cannot POST"),
    Documented::new("unprocessable", 422, 0, "Unprocessable Entity"),
];

impl Contract for Betatel {
    fn credential<'a>(&self, call: &Call<'a>) -> Result<Credential<'a>, Reply> {
        match (header(call.headers, "x-account-id"), header(call.headers, "x-api-key")) {
            (Some(name), Some(secret)) => Ok(Credential::Account { name, secret }),
            (_, _) => Err(self.unauthorised(call)),
        }
    }

    fn unauthorised(&self, _call: &Call<'_>) -> Reply {
        self.refused(&AUTH)
    }

    fn message<'a>(&self, call: &Call<'a>) -> Result<Message<'a>, Reply> {
        let body: Option<Body<'a>> =
            if is_json(call.headers) { serde_json::from_slice(call.body).ok() } else { None };
        body.filter(|b| (1..=MAX_TEXT).contains(&b.text.chars().count()))
            .and_then(|b| Some(message(digits_alone(&b.to)?, b)))
            .ok_or_else(|| self.refused(&INVALID))
    }

    fn accepted(&self, message: &Message<'_>, id: &str) -> Reply {
        Reply::json(200, &json!({ "uuid": id, "to": message.to }))
    }

    fn too_many(&self, _full: Option<Rate>, _wait: Duration) -> Reply {
        Reply::json(429, &json!({ "message": "Too Many Requests" }))
    }

    fn failed(&self, error: ServerError) -> Reply {
        match error {
            ServerError::Internal => Reply::json(500, &json!({ "message": "Internal Server Error" })),
            ServerError::BadGateway | ServerError::Unavailable | ServerError::GatewayTimeout => {
                Reply::empty(error.status())
            }
        }
    }

    fn documented(&self) -> &'static [Documented] {
        DOCUMENTED
    }

    fn refused(&self, refusal: &Documented) -> Reply {
        match refusal.form {
            Form::Usual | Form::Subcode(_) => {
                Reply::json(refusal.status, &json!({ "message": refusal.text }))
            }
            Form::Other => Reply::text(refusal.status, refusal.text),
        }
    }

    fn out_of_balance(&self) -> Reply {
        self.refused(&BALANCE)
    }

    fn no_such_endpoint(&self, wrong: Wrong) -> Reply {
        match wrong {
            Wrong::Path => Reply::json(404, &json!({ "message": "Cannot POST" })),
            Wrong::Method => Reply::json(404, &json!({ "message": "Cannot GET" })),
        }
    }

    fn callbacks(&self) -> Reporting {
        Reporting { at_once: 1, are_repeated: false }
    }

    fn callback(&self, _account: &str, reports: &[Report<'_>], _secret: Option<&str>) -> Posted {
        let record = reports.first().map(|report| {
            let delivered_at = (report.step == Step::Delivered).then_some(report.at);
            let (to, text, at, step) = (report.to, report.text, report.taken_at, Some(report.step));
            Record { uuid: report.id.to_owned(), to, text, at, step, delivered_at }.to_json()
        });
        Posted::json(&record.unwrap_or_default())
    }

    fn message_id(&self, origin: u64, number: u64) -> String {
        ulid(u128::from(mix(origin)) << 64 | u128::from(number))
    }
}

fn message(phone: Phone, body: Body<'_>) -> Message<'_> {
    Message { phone, to: body.to, code: body.text, echo: None, callback_url: None }
}

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// 26 letters and digits, like a ULID; the first is at most 7.
fn ulid(bits: u128) -> String {
    let letter = |place: u32| CROCKFORD.get(usize::from((bits >> (5 * place)) as u8 & 31)).copied();
    (0..26).rev().filter_map(letter).map(char::from).collect()
}

/// The number of the message with this id, whichever account's it is.
pub(crate) fn number_in(id: &str) -> Option<u64> {
    let mut bits: u128 = 0;
    for letter in id.bytes() {
        let value = CROCKFORD.iter().position(|c| *c == letter)?;
        bits = bits.checked_mul(32)?.checked_add(value as u128)?;
    }
    (id.len() == 26).then_some(bits as u64)
}

/// A record of a message, as the two lookups show it.
pub(crate) struct Record<'a> {
    pub(crate) uuid: String,
    pub(crate) to: Phone,
    pub(crate) text: &'a str,
    /// When it was taken.
    pub(crate) at: UnixMs,
    /// The last step of the message; `None` before the first.
    pub(crate) step: Option<Step>,
    pub(crate) delivered_at: Option<UnixMs>,
}

impl Record<'_> {
    pub(crate) fn to_json(&self) -> Value {
        let status = match self.step {
            None => "PENDING",
            Some(Step::Sent) => "SENT",
            Some(Step::Failed) => "FAILED",
            Some(Step::Delivered) => "DELIVERED",
            Some(Step::Read) => "READ",
        };
        let delivery_time = self.delivered_at.map(|at| at.0.saturating_sub(self.at.0));
        json!({
            "uuid": self.uuid,
            "wam_id": null,
            "to": self.to.expose_digits(),
            "text": self.text,
            "status": status,
            "timestamp": self.at.to_string(),
            "delivery_timestamp": self.delivered_at.map(|at| at.to_string()),
            "delivery_time": delivery_time,
            "webhook_delivered": false,
        })
    }
}

/// A question for a list of records.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    page: usize,
    rows_per_page: usize,
    #[serde(default)]
    sort_by: Option<String>,
    #[serde(default)]
    sort_direction: Option<String>,
    #[serde(default)]
    filter: Filter,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Filter {
    #[serde(default)]
    to: Option<String>,
}

impl Question {
    /// Reads a body; `Err` is the answer to one that is not a question.
    pub(crate) fn read(call: &Call<'_>) -> Result<Self, Reply> {
        let question: Option<Self> =
            if is_json(call.headers) { serde_json::from_slice(call.body).ok() } else { None };
        question
            .filter(|q| {
                q.page >= 1
                    && (1..=100).contains(&q.rows_per_page)
                    && q.sort_by.as_deref().is_none_or(|by| by == "timestamp")
                    && q.sort_direction.as_deref().is_none_or(|d| matches!(d, "ASC" | "DESC"))
            })
            .ok_or_else(|| Betatel.refused(&INVALID))
    }

    /// The answer, from all records of the account, oldest first.
    pub(crate) fn answer<'a>(&self, records: impl DoubleEndedIterator<Item = Record<'a>>) -> Reply {
        let wanted = |r: &Record<'_>| self.filter.to.as_ref().is_none_or(|to| *to == r.to.expose_digits());
        let mut found: Vec<Value> = records.rev().filter(wanted).map(|r| r.to_json()).collect();
        if self.sort_direction.as_deref() == Some("ASC") {
            found.reverse();
        }
        let total = found.len();
        let skipped = (self.page - 1).saturating_mul(self.rows_per_page);
        let list: Vec<Value> = found.into_iter().skip(skipped).take(self.rows_per_page).collect();
        Reply::json(200, &json!({ "total": total, "list": list }))
    }

    /// The answer where there is no such record.
    pub(crate) fn not_found() -> Reply {
        Reply::json(404, &json!({ "message": "Not Found" }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_back_to_its_message() {
        for number in [0, 1, 77, u64::MAX] {
            let id = Betatel.message_id(12_345, number);
            assert_eq!(id.len(), 26);
            assert_eq!(number_in(&id), Some(number));
        }
        for bad in
            ["", "01JV5V54KPYK9GB29265EQRZ2", "01JV5V54KPYK9GB29265EQRZ2U", "ZZZZZZZZZZZZZZZZZZZZZZZZZZ", "é"]
        {
            assert_eq!(number_in(bad), None, "{bad}");
        }
    }
}

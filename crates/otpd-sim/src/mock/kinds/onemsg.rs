//! 1MSG: `POST /{channelId}/sendTemplate`.
//!
//! Auth is a channel token as `Authorization: Bearer`; the generated SDKs send `?token=` instead, and
//! both at once is a conflict. Errors of 1MSG itself are `{"error"}` (400: `{"message"}`), what Meta
//! refuses upstream is HTTP 200 with `"sent": false`, a blocked subscription is 403 in plain text.
//! The other form of a 200 is a queued send: `"sent": false` with a `jobId`. No rate header exists.
//!
//! Callbacks are `ack[]`, unsigned; whether they come again is not documented. `GET /{channelId}/hookInfo?messageId=`
//! shows what there is to tell of a message.

use std::borrow::Cow;
use std::time::Duration;

use otpd_core::{Phone, Rate, UnixMs};
use serde::Deserialize;
use serde_json::json;

use super::components::{self, Component, IndexForm, Misfit};
use crate::mock::callbacks::journey::Step;
use crate::mock::callbacks::report::{Posted, Report};
use crate::mock::contract::{
    Call, Contract, Credential, Documented, Form, Message, Reporting, Wrong, authorization, base64_id,
    digits_alone, is_json, mixed_in,
};
use crate::mock::fault::ServerError;
use crate::mock::reply::Reply;

pub(crate) struct OneMsg;

/// How its message ids begin.
const PREFIX: &str = "wamid.HBgL";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow, default)]
    phone: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    chat_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    template: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow)]
    language: Language<'a>,
    #[serde(borrow)]
    params: Vec<Component<'a>>,
    #[serde(default)]
    message_send_ttl_seconds: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Language<'a> {
    #[serde(borrow)]
    policy: Cow<'a, str>,
    #[serde(borrow)]
    code: Cow<'a, str>,
}

const INVALID: Documented = Documented::new("invalid_request", 400, 0, "Invalid request");
const BAD_RECIPIENT: Documented = Documented::new("bad_recipient", 400, 0, "Invalid phone number");
const TEMPLATE_MISSING: Documented = Documented::new("template_missing", 200, 0, "template is not defined");
const NAMESPACE: Documented = Documented::new("namespace", 422, 0, "namespace is required");
const PARAMS: Documented = Documented::new("template_params", 422, 0, "Template variable count mismatch");
const EMPTY: Documented = Documented::new("empty_body", 200, 0, "empty body");
const BLOCKED: Documented = Documented::new("plan", 403, 0, "subscriptionBlocked");
const BODY_ONLY: Documented = Documented::new("", 200, 131_008, "(#131008) Required parameter is missing");
const BAD_CODE: Documented = Documented::new("", 200, 131_009, "(#131009) Parameter value is not valid");

static DOCUMENTED: &[Documented] = &[
    INVALID,
    BAD_RECIPIENT,
    TEMPLATE_MISSING,
    NAMESPACE,
    PARAMS,
    EMPTY,
    BLOCKED,
    BODY_ONLY,
    BAD_CODE,
    Documented::new("window_closed", 400, 0, "Dialog window is closed"),
    Documented::new("auth", 401, 0, "Wrong token for channel. Please provide token as a GET parameter."),
    Documented::new("not_found", 404, 0, "Channel not found"),
    Documented::new("not_on_whatsapp", 200, 131_026, "(#131026) Message undeliverable"),
    Documented::new("locked", 200, 131_031, "(#131031) Account has been locked"),
    Documented::new("throughput", 200, 130_429, "(#130429) Rate limit hit"),
    Documented::new(
        "pair_limit",
        200,
        131_056,
        "(#131056) (Business Account, Consumer Account) pair rate limit hit",
    ),
    Documented::new("queued", 200, 0, "Message is queued").form(Form::Other),
];

impl Contract for OneMsg {
    fn credential<'a>(&self, call: &Call<'a>) -> Result<Credential<'a>, Reply> {
        let bearer = authorization(call.headers, "Bearer");
        let query = call.query.and_then(token_parameter);
        match (bearer, query) {
            (Some(secret), None) | (None, Some(secret)) => {
                Ok(Credential::Account { name: call.sender, secret })
            }
            (Some(_), Some(_)) | (None, None) => Err(self.unauthorised(call)),
        }
    }

    /// The real one repeats the token that it was given, which a client must keep out of its logs.
    fn unauthorised(&self, call: &Call<'_>) -> Reply {
        let token = authorization(call.headers, "Bearer").unwrap_or_default();
        let channel = call.sender;
        let text = format!(
            "Wrong token \"{token}\" for channel \"{channel}\". Please provide token as a GET parameter."
        );
        Reply::json(401, &json!({ "error": text }))
    }

    fn message<'a>(&self, call: &Call<'a>) -> Result<Message<'a>, Reply> {
        if call.body.is_empty() {
            return Err(self.refused(&EMPTY));
        }
        read(call).map_err(|refusal| self.refused(&refusal))
    }

    fn accepted(&self, message: &Message<'_>, id: &str) -> Reply {
        let to = message.phone.expose_digits();
        Reply::json(
            200,
            &json!({
                "sent": true,
                "id": id,
                "message": format!("Sent to {to}@c.us"),
                "description": "Message has been sent to the provider",
            }),
        )
    }

    fn too_many(&self, _full: Option<Rate>, _wait: Duration) -> Reply {
        Reply::json(429, &json!({ "error": "Rate limit exceeded" }))
    }

    fn failed(&self, error: ServerError) -> Reply {
        match error {
            ServerError::Internal => Reply::json(500, &json!({ "error": "Internal server error" })),
            ServerError::Unavailable => Reply::json(503, &json!({ "error": "Service unavailable" })),
            ServerError::BadGateway | ServerError::GatewayTimeout => Reply::empty(error.status()),
        }
    }

    fn documented(&self) -> &'static [Documented] {
        DOCUMENTED
    }

    fn refused(&self, refusal: &Documented) -> Reply {
        let (status, text) = (refusal.status, refusal.text);
        match (refusal.form, status) {
            (Form::Other, _) => {
                Reply::json(status, &json!({ "sent": false, "jobId": "7041", "message": text }))
            }
            (Form::Usual | Form::Subcode(_), 200) => {
                Reply::json(status, &json!({ "sent": false, "message": text }))
            }
            (Form::Usual | Form::Subcode(_), 400) => Reply::json(status, &json!({ "message": text })),
            (Form::Usual | Form::Subcode(_), 403) => Reply::text(status, text),
            (Form::Usual | Form::Subcode(_), _) => Reply::json(status, &json!({ "error": text })),
        }
    }

    /// 1MSG sells subscriptions, not balance: one that is not paid is blocked.
    fn out_of_balance(&self) -> Reply {
        self.refused(&BLOCKED)
    }

    fn no_such_endpoint(&self, wrong: Wrong) -> Reply {
        match wrong {
            Wrong::Path => Reply::json(404, &json!({ "error": "Method not found" })),
            Wrong::Method => Reply::json(405, &json!({ "error": "Method not allowed" })),
        }
    }

    fn callbacks(&self) -> Reporting {
        Reporting { at_once: 10, are_repeated: false }
    }

    fn callback(&self, account: &str, reports: &[Report<'_>], _secret: Option<&str>) -> Posted {
        let ack = |report: &Report<'_>| {
            let chat = format!("{}@c.us", report.to.expose_digits());
            json!({ "id": report.id, "chatId": chat, "status": word(report.step) })
        };
        Posted::json(&json!({ "ack": reports.iter().map(ack).collect::<Vec<_>>(), "instanceId": account }))
    }

    fn message_id(&self, origin: u64, number: u64) -> String {
        base64_id(PREFIX, origin, number)
    }
}

const fn word(step: Step) -> &'static str {
    match step {
        Step::Sent => "sent",
        Step::Failed => "failed",
        Step::Delivered => "delivered",
        Step::Read => "viewed",
    }
}

/// The answer about one message: all of its steps so far, none for a message that is not known.
pub(crate) fn hook_info(id: &str, to: Option<Phone>, steps: &[(Step, UnixMs)]) -> Reply {
    let to = to.map(|to| to.expose_digits().to_string());
    let hook = |(step, at): &(Step, UnixMs)| {
        let status = if *step == Step::Read { "read" } else { word(*step) };
        json!({
            "id": id,
            "type": "message",
            "status": status,
            "timestamp": (at.0 / 1000).to_string(),
            "recipient_id": to,
        })
    };
    Reply::json(200, &json!({ "hooks": steps.iter().map(hook).collect::<Vec<_>>() }))
}

/// The message that is asked about, and by what its number can be told.
pub(crate) fn message_asked(query: Option<&str>) -> Option<(&str, u64)> {
    let id = query?.split('&').find_map(|pair| pair.strip_prefix("messageId="))?;
    Some((id, mixed_in(PREFIX, id)?))
}

fn token_parameter(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("token=")).filter(|token| !token.is_empty())
}

fn read<'a>(call: &Call<'a>) -> Result<Message<'a>, Documented> {
    if !is_json(call.headers) {
        return Err(INVALID);
    }
    let body: Body<'a> = serde_json::from_slice(call.body).map_err(|_| INVALID)?;
    let to = match (body.phone, body.chat_id) {
        (Some(phone), None) => phone,
        (None, Some(chat)) => Cow::Owned(chat.strip_suffix("@c.us").ok_or(BAD_RECIPIENT)?.to_owned()),
        (Some(_), Some(_)) | (None, None) => return Err(INVALID),
    };
    let phone = digits_alone(&to).ok_or(BAD_RECIPIENT)?;
    if body.template.is_none_or(|t| t.is_empty()) {
        return Err(TEMPLATE_MISSING);
    }
    if body.namespace.is_none_or(|n| n.is_empty()) {
        return Err(NAMESPACE);
    }
    if body.language.policy != "deterministic" || body.language.code.is_empty() {
        return Err(INVALID);
    }
    if body.message_send_ttl_seconds.is_some_and(|ttl| ttl != -1 && !(30..=900).contains(&ttl)) {
        return Err(INVALID);
    }
    let code = components::code(body.params, IndexForm::Text).map_err(|misfit| match misfit {
        Misfit::NoButton => BODY_ONLY,
        Misfit::NoBody | Misfit::Count => PARAMS,
        Misfit::Length | Misfit::Differ => BAD_CODE,
        Misfit::Shape => INVALID,
    })?;
    Ok(Message { phone, to, code, echo: None, callback_url: None })
}

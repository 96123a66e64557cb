//! Meta's WhatsApp Cloud API: `POST /{vNN.0}/{phone_number_id}/messages`.
//!
//! Errors are `{"error": {message, type, code, error_data, fbtrace_id}}`, and the code says more than
//! the status; the statuses here are those of Meta's own table. The other form is a 200 whose
//! `message_status` is not `accepted`. A template has no namespace here, and a button's index is text.
//!
//! Callbacks come in batches, are signed with the app's secret in `X-Hub-Signature-256`, and come again until they are
//! answered with 2xx.

use std::borrow::Cow;
use std::time::Duration;

use otpd_core::{Phone, Rate};
use serde::Deserialize;
use serde_json::{Value, json};

use super::components::{self, Component, IndexForm, Misfit};
use super::meta_cloud_errors::{
    DOCUMENTED, INVALID, MISSING, NOT_VALID, PARAMETER_COUNT, PAYMENT, TEMPLATE_MISSING, THROUGHPUT, TYPE,
};
use crate::mock::callbacks::journey::Step;
use crate::mock::callbacks::report::{Posted, Report};
use crate::mock::contract::{
    Call, Contract, Credential, Documented, Form, Message, Reporting, Wrong, authorization, base64_id,
    is_json,
};
use crate::mock::fault::ServerError;
use crate::mock::reply::Reply;

pub(crate) struct MetaCloud;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    messaging_product: Cow<'a, str>,
    #[serde(borrow, default)]
    recipient_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    to: Option<Cow<'a, str>>,
    #[serde(rename = "type", borrow)]
    content: Cow<'a, str>,
    #[serde(borrow, default)]
    template: Option<Template<'a>>,
    #[serde(borrow, default)]
    biz_opaque_callback_data: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Template<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    language: Language<'a>,
    #[serde(borrow)]
    components: Vec<Component<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Language<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(borrow, default)]
    policy: Option<Cow<'a, str>>,
}

impl Contract for MetaCloud {
    fn credential<'a>(&self, call: &Call<'a>) -> Result<Credential<'a>, Reply> {
        authorization(call.headers, "Bearer")
            .map(|secret| Credential::Account { name: call.sender, secret })
            .ok_or_else(|| error(401, 190, "An access token is required to request this resource.", None))
    }

    fn unauthorised(&self, _call: &Call<'_>) -> Reply {
        error(401, 190, "Error validating access token: the session is invalid.", None)
    }

    fn message<'a>(&self, call: &Call<'a>) -> Result<Message<'a>, Reply> {
        read(call).map_err(|refusal| self.refused(&refusal))
    }

    fn accepted(&self, message: &Message<'_>, id: &str) -> Reply {
        Reply::json(200, &taken(&message.to, &message.phone.expose_digits(), id, "accepted"))
    }

    fn too_many(&self, _full: Option<Rate>, _wait: Duration) -> Reply {
        self.refused(&THROUGHPUT)
    }

    fn failed(&self, failure: ServerError) -> Reply {
        match failure {
            ServerError::Internal => error(500, 1, "An unknown error occurred", None),
            ServerError::Unavailable => error(503, 2, "Service temporarily unavailable", None),
            ServerError::BadGateway | ServerError::GatewayTimeout => Reply::empty(failure.status()),
        }
    }

    fn documented(&self) -> &'static [Documented] {
        DOCUMENTED
    }

    fn refused(&self, refusal: &Documented) -> Reply {
        let (status, code, text) = (refusal.status, refusal.code, refusal.text);
        match refusal.form {
            Form::Usual => error(status, code, text, None),
            Form::Subcode(subcode) => error(status, code, text, Some(subcode)),
            Form::Other => Reply::json(status, &taken("0", "0", "wamid.HBgLheld", text)),
        }
    }

    fn out_of_balance(&self) -> Reply {
        self.refused(&PAYMENT)
    }

    fn no_such_endpoint(&self, wrong: Wrong) -> Reply {
        match wrong {
            Wrong::Path => error(400, 2500, "Unknown path components", None),
            Wrong::Method => error(400, 100, "Unsupported get request.", Some(33)),
        }
    }

    fn callbacks(&self) -> Reporting {
        Reporting { at_once: 20, are_repeated: true }
    }

    fn callback(&self, account: &str, reports: &[Report<'_>], secret: Option<&str>) -> Posted {
        let value = json!({
            "messaging_product": "whatsapp",
            "metadata": { "display_phone_number": "15550783881", "phone_number_id": account },
            "statuses": reports.iter().map(status).collect::<Vec<_>>(),
        });
        let entry = json!({ "id": "102290129340398", "changes": [{ "value": value, "field": "messages" }] });
        Posted::json(&json!({ "object": "whatsapp_business_account", "entry": [entry] })).signed(
            "x-hub-signature-256",
            "sha256=",
            secret,
        )
    }

    fn message_id(&self, origin: u64, number: u64) -> String {
        base64_id("wamid.HBgM", origin, number)
    }
}

/// The status of a message in a callback.
fn status(report: &Report<'_>) -> Value {
    let word = match report.step {
        Step::Sent => "sent",
        Step::Failed => "failed",
        Step::Delivered => "delivered",
        Step::Read => "read",
    };
    let mut status = json!({
        "id": report.id,
        "status": word,
        "timestamp": (report.at.0 / 1000).to_string(),
        "recipient_id": report.to.expose_digits(),
    });
    if let Some(fields) = status.as_object_mut() {
        if let Some(echo) = report.echo {
            fields.insert("biz_opaque_callback_data".into(), echo.into());
        }
        if report.step == Step::Failed {
            let data = json!({ "details": "Message undeliverable." });
            let error = json!({ "code": 131_026, "title": "Message undeliverable", "error_data": data });
            fields.insert("errors".into(), json!([error]));
        }
    }
    status
}

fn taken(to: &str, wa_id: &str, id: &str, status: &str) -> Value {
    json!({
        "messaging_product": "whatsapp",
        "contacts": [{ "input": to, "wa_id": wa_id }],
        "messages": [{ "id": id, "message_status": status }],
    })
}

/// WhatsApp's own codes have six digits and come with `error_data`; most codes stand in the message too.
fn error(status: u16, code: i64, text: &str, subcode: Option<i64>) -> Reply {
    let numbered = matches!(code, 4 | 10 | 100..190 | 200..300 | 368 | 80_000..) && subcode.is_none();
    let message = if numbered { format!("(#{code}) {text}") } else { text.to_owned() };
    let kind = if subcode.is_some() { "GraphMethodException" } else { "OAuthException" };
    let mut error = json!({ "message": message, "type": kind, "code": code, "fbtrace_id": "AmockTraceId" });
    if let Some(fields) = error.as_object_mut() {
        if code >= 100_000 {
            let data = json!({ "messaging_product": "whatsapp", "details": text });
            fields.insert("error_data".into(), data);
        }
        if let Some(subcode) = subcode {
            fields.insert("error_subcode".into(), subcode.into());
        }
    }
    Reply::json(status, &json!({ "error": error }))
}

fn read<'a>(call: &Call<'a>) -> Result<Message<'a>, Documented> {
    if !is_json(call.headers) {
        return Err(INVALID);
    }
    let body: Body<'a> = serde_json::from_slice(call.body).map_err(|_| INVALID)?;
    if body.messaging_product != "whatsapp"
        || body.recipient_type.is_some_and(|r| r != "individual")
        || body.biz_opaque_callback_data.as_ref().is_some_and(|d| d.chars().count() > 512)
    {
        return Err(INVALID);
    }
    if body.content != "template" {
        return Err(TYPE);
    }
    let to = body.to.ok_or(MISSING)?;
    // Meta drops a leading `+`.
    let phone = Phone::parse(&to).ok_or(NOT_VALID)?;
    let template = body.template.ok_or(MISSING)?;
    if template.name.is_empty() || template.language.code.is_empty() {
        return Err(TEMPLATE_MISSING);
    }
    if template.language.policy.is_some_and(|p| p != "deterministic") {
        return Err(INVALID);
    }
    let code = components::code(template.components, IndexForm::Text).map_err(|misfit| match misfit {
        Misfit::NoButton => MISSING,
        Misfit::NoBody | Misfit::Count => PARAMETER_COUNT,
        Misfit::Length | Misfit::Differ => NOT_VALID,
        Misfit::Shape => INVALID,
    })?;
    Ok(Message { phone, to, code, echo: body.biz_opaque_callback_data, callback_url: None })
}

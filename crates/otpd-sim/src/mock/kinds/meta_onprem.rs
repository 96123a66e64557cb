//! Meta's WhatsApp on-premises API: `POST /v1/users/login`, then `POST /v1/messages`.
//!
//! Logging in with HTTP Basic gives a bearer token that expires; who sends with it is known from the
//! session. Errors are `{"errors": [{code, title, details}]}`; Meta's own prose says "an `error`
//! object", which is the other form. A template needs its namespace and a language policy, and a
//! button's index is a number.
//!
//! Callbacks are `statuses[]`, unsigned, and come again until they are answered with 2xx.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use otpd_core::{Rate, UnixMs};
use serde::Deserialize;
use serde_json::{Value, json};

use super::components::{self, Component, IndexForm, Misfit};
use super::meta_onprem_errors::{
    ACCESS_DENIED, CHANGE_PASSWORD, CODE_TOO_LONG, DOCUMENTED, INVALID, MISSING, NAMESPACE, NOT_FOUND,
    NOT_VALID, PARAMETER_COUNT, PAYMENT, TOO_MANY,
};
use crate::mock::callbacks::journey::Step;
use crate::mock::callbacks::report::{Posted, Report};
use crate::mock::contract::{
    Call, Contract, Credential, Documented, Form, Message, Reporting, Wrong, authorization, base64_id,
    digits_alone, is_json,
};
use crate::mock::fault::ServerError;
use crate::mock::reply::Reply;

pub(crate) struct MetaOnprem;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow, default)]
    to: Option<Cow<'a, str>>,
    #[serde(rename = "type", borrow)]
    content: Cow<'a, str>,
    #[serde(borrow, default)]
    recipient_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    template: Option<Template<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Template<'a> {
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
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
    policy: Cow<'a, str>,
    #[serde(borrow)]
    code: Cow<'a, str>,
}

impl Contract for MetaOnprem {
    fn credential<'a>(&self, call: &Call<'a>) -> Result<Credential<'a>, Reply> {
        authorization(call.headers, "Bearer").map(Credential::Session).ok_or_else(|| self.unauthorised(call))
    }

    fn unauthorised(&self, _call: &Call<'_>) -> Reply {
        self.refused(&ACCESS_DENIED)
    }

    fn message<'a>(&self, call: &Call<'a>) -> Result<Message<'a>, Reply> {
        read(call).map_err(|refusal| self.refused(&refusal))
    }

    fn accepted(&self, _message: &Message<'_>, id: &str) -> Reply {
        Reply::json(201, &json!({ "messages": [{ "id": id }], "meta": meta() }))
    }

    fn too_many(&self, _full: Option<Rate>, _wait: Duration) -> Reply {
        self.refused(&TOO_MANY)
    }

    /// An overloaded core answers 503 without a body.
    fn failed(&self, error: ServerError) -> Reply {
        match error {
            ServerError::Internal => self.refused(&Documented::new("", 500, 500, "Generic error")),
            ServerError::BadGateway | ServerError::Unavailable | ServerError::GatewayTimeout => {
                Reply::empty(error.status())
            }
        }
    }

    fn documented(&self) -> &'static [Documented] {
        DOCUMENTED
    }

    fn refused(&self, refusal: &Documented) -> Reply {
        let error = json!({ "code": refusal.code, "title": refusal.text, "details": "-" });
        match refusal.form {
            Form::Usual | Form::Subcode(_) => {
                Reply::json(refusal.status, &json!({ "errors": [error], "meta": meta() }))
            }
            Form::Other => Reply::json(refusal.status, &json!({ "error": error })),
        }
    }

    fn out_of_balance(&self) -> Reply {
        self.refused(&PAYMENT)
    }

    fn no_such_endpoint(&self, wrong: Wrong) -> Reply {
        match wrong {
            Wrong::Path => self.refused(&NOT_FOUND),
            Wrong::Method => self.refused(&Documented { status: 405, ..NOT_FOUND }),
        }
    }

    fn callbacks(&self) -> Reporting {
        Reporting { at_once: 20, are_repeated: true }
    }

    fn callback(&self, _account: &str, reports: &[Report<'_>], _secret: Option<&str>) -> Posted {
        Posted::json(&json!({ "statuses": reports.iter().map(status).collect::<Vec<_>>() }))
    }

    fn message_id(&self, origin: u64, number: u64) -> String {
        base64_id("gBEG", origin, number)
    }
}

/// The status of a message in a callback.
fn status(report: &Report<'_>) -> Value {
    let to = report.to.expose_digits();
    let status = |word: &str| {
        let at = (report.at.0 / 1000).to_string();
        json!({ "id": report.id, "recipient_id": to, "status": word, "timestamp": at })
    };
    match report.step {
        Step::Sent => status("sent"),
        Step::Delivered => status("delivered"),
        Step::Read => status("read"),
        Step::Failed => {
            let mut failed = status("failed");
            if let Some(fields) = failed.as_object_mut() {
                let error = json!({ "code": 1013, "title": "User is not valid" });
                fields.insert("errors".into(), json!([error]));
            }
            failed
        }
    }
}

fn meta() -> Value {
    json!({ "api_status": "stable", "version": "2.53.1" })
}

/// The user and password of a login.
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Login {
    /// Reads HTTP Basic; `Err` is the answer. The factory's password must be changed before it opens
    /// anything, which otpd leaves to the operator.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Reply> {
        let basic = authorization(headers, "Basic").and_then(|text| STANDARD.decode(text).ok());
        let text = basic.and_then(|bytes| String::from_utf8(bytes).ok());
        match text.as_deref().and_then(|text| text.split_once(':')) {
            Some(("admin", "secret")) => Err(MetaOnprem.refused(&CHANGE_PASSWORD)),
            Some((user, password)) if !user.is_empty() && !password.is_empty() => {
                Ok(Self { user: user.to_owned(), password: password.to_owned() })
            }
            Some(_) | None => Err(Self::refused()),
        }
    }

    /// The answer to a user or password that is not valid.
    pub(crate) fn refused() -> Reply {
        MetaOnprem.refused(&ACCESS_DENIED)
    }

    /// The answer to a login.
    pub(crate) fn granted(token: &str, until: UnixMs) -> Reply {
        // `2027-01-15T08:00:00.000Z` as this API writes it: `2027-01-15 08:00:00+00:00`.
        let until = until.to_string();
        let until = until.get(..19).unwrap_or_default().replace('T', " ");
        let user = json!({ "token": token, "expires_after": format!("{until}+00:00") });
        Reply::json(200, &json!({ "users": [user], "meta": meta() }))
    }
}

fn read<'a>(call: &Call<'a>) -> Result<Message<'a>, Documented> {
    if !is_json(call.headers) {
        return Err(INVALID);
    }
    let body: Body<'a> = serde_json::from_slice(call.body).map_err(|_| INVALID)?;
    if body.content != "template" || body.recipient_type.is_some_and(|r| r != "individual") {
        return Err(NOT_VALID);
    }
    let to = body.to.ok_or(MISSING)?;
    let phone = digits_alone(&to).ok_or(NOT_VALID)?;
    let template = body.template.ok_or(MISSING)?;
    if template.namespace.is_none_or(|n| n.is_empty()) {
        return Err(NAMESPACE);
    }
    if template.name.is_empty()
        || template.language.code.is_empty()
        || template.language.policy != "deterministic"
    {
        return Err(NOT_VALID);
    }
    let code = components::code(template.components, IndexForm::Number).map_err(|misfit| match misfit {
        Misfit::NoButton | Misfit::NoBody | Misfit::Count => PARAMETER_COUNT,
        Misfit::Length => CODE_TOO_LONG,
        Misfit::Differ | Misfit::Shape => NOT_VALID,
    })?;
    Ok(Message { phone, to, code, echo: None, callback_url: None })
}

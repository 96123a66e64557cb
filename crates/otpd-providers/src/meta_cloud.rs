//! Meta's WhatsApp Cloud API. Errors are read by `error.code` (see `meta_codes`), never by HTTP status
//! while there is a code. Callbacks come in batches, signed with the app's secret, and are repeated for days until
//! they are answered with 200.

use std::time::Duration;

use http::HeaderName;
use serde::Serialize;
use serde_json::Value;

use otpd_core::{MessageId, Outcome, Reason, Scope, SendJob, TemplateChoice};

use crate::answer::Reading;
use crate::echo::echo;
use crate::endpoint::{Endpoint, SetupError, json, path_part, url};
use crate::generic::{Verdict, by_status, permanent};
use crate::meta_codes::MetaError;
use crate::meta_status::{self, cloud_error};
use crate::meta_usage;
use crate::pairs;
use crate::secret::Secret;
use crate::update::{CallbackRead, Part, elements};
use crate::whatsapp::{ButtonIndex, Component, Template, components};

/// Where the signature of a callback is: `sha256=` and hexadecimal digits.
pub(crate) const SIGNATURE_HEADER: HeaderName = HeaderName::from_static("x-hub-signature-256");
/// The longest challenge that is given back; Meta's are numbers.
const MAX_CHALLENGE: usize = 128;

pub(crate) struct MetaCloud {
    template: TemplateChoice,
}

#[derive(Serialize)]
struct Body<'a> {
    messaging_product: &'static str,
    recipient_type: &'static str,
    to: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    template: BodyTemplate<'a>,
    biz_opaque_callback_data: &'a str,
}

#[derive(Serialize)]
struct BodyTemplate<'a> {
    name: &'a str,
    language: Language<'a>,
    components: [Component<'a>; 2],
}

#[derive(Serialize)]
struct Language<'a> {
    code: &'a str,
}

impl MetaCloud {
    pub(crate) fn new(
        base_url: &str,
        phone_number_id: &str,
        token: Secret,
        api_version: &str,
        template: TemplateChoice,
    ) -> Result<(Endpoint, Self), SetupError> {
        path_part("phone_number_id", phone_number_id)?;
        path_part("api_version", api_version)?;
        let endpoint = Endpoint::new(url(base_url, &[api_version, phone_number_id, "messages"])?)
            .with_authorization("Bearer ", "token", token)?;
        Ok((endpoint, Self { template }))
    }

    pub(crate) fn body(&self, job: &SendJob) -> Result<bytes::Bytes, Reason> {
        let template = Template::of(job, &self.template);
        json(&Body {
            messaging_product: "whatsapp",
            recipient_type: "individual",
            to: &job.to.expose_digits(),
            kind: "template",
            template: BodyTemplate {
                name: template.needed_name()?,
                language: Language { code: template.needed_language() },
                components: components(&job.code, ButtonIndex::Text("0")),
            },
            biz_opaque_callback_data: &echo(job)?,
        })
    }
}

pub(crate) fn read(answer: &Reading<'_>) -> Verdict {
    if let Some(taken) = taken(answer) {
        return taken.into();
    }
    let wait = wait(answer);
    match answer.integer("/error/code") {
        Some(code) => {
            let subcode = answer.integer("/error/error_subcode");
            MetaError { code, subcode, status: answer.status, wait }.verdict()
        }
        None => by_status(answer.status, wait, Scope::Sender).into(),
    }
}

/// A 2xx with the id of a message.
fn taken(answer: &Reading<'_>) -> Option<Outcome> {
    let id = answer.text("/messages/0/id").filter(|_| answer.is_success())?;
    let message_id = Some(MessageId::new(&id)?);
    let status = answer.text("/messages/0/message_status");
    Some(match status.as_deref() {
        // It has an id and will not be sent.
        Some("paused") => permanent(Reason::TemplatePaused, Scope::Template),
        Some("held_for_quality_assessment") => {
            Outcome::Accepted { message_id, note: Some(Reason::HeldForQualityAssessment) }
        }
        Some(_) | None => Outcome::Accepted { message_id, note: None },
    })
}

fn wait(answer: &Reading<'_>) -> Option<Duration> {
    answer.wait.or_else(|| meta_usage::in_headers(answer.headers))
}

/// `entry[].changes[].value`: statuses of messages, incoming messages, and errors that concern no message.
pub(crate) fn told(callback: &Value) -> CallbackRead {
    if !callback.get("entry").is_some_and(Value::is_array) {
        return CallbackRead::Malformed("has no `entry`");
    }
    Part::all(
        elements(callback, "entry").iter().flat_map(|entry| elements(entry, "changes")).flat_map(change),
    )
}

/// What one change says: its statuses one by one.
fn change(change: &Value) -> impl Iterator<Item = Part> {
    let value = change.get("value").unwrap_or(&Value::Null);
    let is_of_the_account =
        value.get("errors").is_some() || change.get("field").is_some_and(|field| field != "messages");
    let statuses = elements(value, "statuses");
    let otherwise = Part::Ignored(is_of_the_account.then_some(Reason::AccountEvent));
    let read = statuses.iter().map(|status| meta_status::read(status, cloud_error));
    read.chain(statuses.is_empty().then_some(otherwise))
}

/// Meta registers the address: `hub.mode=subscribe` with the token that the operator gave it.
pub(crate) fn challenge(query: &str, verify_token: Option<&Secret>) -> CallbackRead {
    let value = |name| pairs::value(query.as_bytes(), name).unwrap_or_default();
    if value("hub.mode") != "subscribe" {
        return CallbackRead::Malformed("is a GET without hub.mode=subscribe");
    }
    if !verify_token.is_some_and(|token| token.is(&value("hub.verify_token"))) {
        return CallbackRead::Forged;
    }
    let challenge = value("hub.challenge");
    let is_plain = challenge.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if is_plain && (1..=MAX_CHALLENGE).contains(&challenge.len()) {
        CallbackRead::Challenge(challenge)
    } else {
        CallbackRead::Malformed("has a challenge that is not one of Meta's")
    }
}

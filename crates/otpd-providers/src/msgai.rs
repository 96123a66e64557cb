//! Msgai (a label of Splashify Pro). It builds Meta's envelope itself from a stored template, and its
//! errors are sentences: the status alone tells little.
//!
//! A callback is one event of one message and comes once: one that is lost is lost. It may be signed, though the
//! header is not documented (`signature_header`). What a send put into `callbackData` comes back in it.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use otpd_core::{DeliveryStatus, Outcome, Rate, Reason, Scope, SendJob, TemplateChoice, UnixMs};

use crate::answer::Reading;
use crate::echo::{echo, job_in};
use crate::endpoint::{Endpoint, SetupError, json, url};
use crate::generic::{Verdict, accepted, account, by_status, not_sent, permanent};
use crate::meta_codes::{MetaError, number_in};
use crate::meta_status::cloud_error;
use crate::provider_time;
use crate::retry_after;
use crate::secret::Secret;
use crate::update::{CallbackRead, Failure, Part, Told, Update, message_id};
use crate::whatsapp::Template;

const MINUTE: Duration = Duration::from_secs(60);

pub(crate) struct Msgai {
    template: TemplateChoice,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    full_phone_number: &'a str,
    callback_data: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    template: BodyTemplate<'a>,
}

/// The button's value is left to Msgai, which takes it from the body's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BodyTemplate<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    language_code: Option<&'a str>,
    body_values: [&'a str; 1],
    /// Refuses the send, rather than billing it as marketing, when Meta has moved the template.
    #[serde(rename = "template_category")]
    category: &'static str,
}

impl Msgai {
    pub(crate) fn new(
        base_url: &str,
        api_key: Secret,
        template: TemplateChoice,
    ) -> Result<(Endpoint, Self), SetupError> {
        // `Basic` and the raw key, not base64: Msgai documents it so.
        let endpoint = Endpoint::new(url(base_url, &["api", "v1", "public", "message"])?)
            .with_authorization("Basic ", "api_key", api_key)?;
        Ok((endpoint, Self { template }))
    }

    pub(crate) fn body(&self, job: &SendJob) -> Result<bytes::Bytes, Reason> {
        let template = Template::of(job, &self.template);
        json(&Body {
            full_phone_number: &job.to.expose_e164(),
            callback_data: &echo(job)?,
            kind: "Template",
            template: BodyTemplate {
                name: template.needed_name()?,
                language_code: template.language(),
                body_values: [job.code.expose()],
                category: "authentication",
            },
        })
    }
}

pub(crate) fn read(answer: &Reading<'_>, now: UnixMs) -> Verdict {
    let message = answer.message().unwrap_or_default();
    match answer.status {
        200..300 => taken_or_refused(answer, &message),
        400 => by_text(answer, &message)
            .unwrap_or_else(|| permanent(Reason::InvalidRequest, Scope::Message).into()),
        403 => account(forbidden(answer, &message)).into(),
        429 => too_fast(answer, &message, now).into(),
        // Documented as passing, upstream of Msgai: nothing was sent.
        500 if message.contains("Failed to send template") => {
            not_sent(Reason::InternalError, answer.wait).into()
        }
        status => by_status(status, answer.wait, Scope::Account).into(),
    }
}

fn taken_or_refused(answer: &Reading<'_>, message: &str) -> Verdict {
    match answer.flag("/result") {
        Some(true) => accepted(answer.text("/id").as_deref()).into(),
        Some(false) => {
            by_text(answer, message).unwrap_or_else(|| permanent(Reason::UnknownError, Scope::Message).into())
        }
        None => Outcome::Ambiguous { reason: Reason::MalformedResponse }.into(),
    }
}

/// What a sentence means; `None` for one nobody has documented.
fn by_text(answer: &Reading<'_>, message: &str) -> Option<Verdict> {
    if let Some((_, from_meta)) = message.split_once("Please correct the following error") {
        return Some(passed_on(answer, from_meta));
    }
    if message.contains("WhatsApp Business Account not configured") {
        Some(account(Reason::AccountNotConfigured).into())
    } else if message.contains("Template category mismatch") {
        Some(permanent(Reason::TemplateCategoryMismatch, Scope::Template).into())
    } else if message.contains("is required") {
        Some(permanent(Reason::InvalidRequest, Scope::Message).into())
    } else {
        None
    }
}

/// An error of Meta's that Msgai passes on: with its number, or in words alone.
fn passed_on(answer: &Reading<'_>, from_meta: &str) -> Verdict {
    if let Some(code) = number_in(from_meta) {
        return MetaError { code, subcode: None, status: answer.status, wait: answer.wait }.verdict();
    }
    let text = from_meta.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let (reason, scope) = if says(&["15 char"]) {
        (Reason::OtpTooLong, Scope::Message)
    } else if says(&["not on whatsapp"]) {
        (Reason::RecipientNotOnWhatsapp, Scope::Recipient)
    } else if says(&["phone"]) && says(&["invalid", "not valid"]) {
        (Reason::InvalidRecipient, Scope::Recipient)
    } else if says(&["template"]) && says(&["not approved", "not exist", "not found"]) {
        (Reason::TemplateMissing, Scope::Template)
    } else {
        (Reason::UnknownError, Scope::Message)
    };
    permanent(reason, scope).into()
}

fn forbidden(answer: &Reading<'_>, message: &str) -> Reason {
    let text = message.to_ascii_lowercase();
    let is_ip = answer.text("/code").as_deref() == Some("ip_blocked");
    if is_ip || text.contains("allowlist") || text.contains("ip address") {
        Reason::IpNotAllowed
    } else if text.contains("subscription") || text.contains("plan") {
        Reason::PlanInactive
    } else {
        Reason::AuthInvalid
    }
}

/// `Rate limit exceeded for this resource. Limit: N requests/minute. Error Code: 429`. The wait is in
/// the header, or in the body under the header's name, or else a minute.
fn too_fast(answer: &Reading<'_>, message: &str, now: UnixMs) -> Outcome {
    let in_body = || answer.text("/Retry-After").and_then(|text| retry_after::parse(&text, now));
    let wait = answer.wait.or_else(in_body).or(Some(MINUTE));
    let limit = limit_in(message);
    Outcome::RateLimited { reason: Reason::RateProvider, scope: Scope::Account, wait, limit }
}

/// The N of `Limit: N requests/minute`.
fn limit_in(message: &str) -> Option<Rate> {
    let (_, rest) = message.split_once("Limit:")?;
    let (count, _) = rest.split_once("requests/minute")?;
    Rate::new(count.trim().parse().ok()?, MINUTE).ok()
}

/// `{"event", "timestamp", "data": {"message_id", "callbackData"}}`. An event is written with a dot or with an
/// underscore. It stands in a header too, which is not looked at: a signature does not cover it.
pub(crate) fn told(callback: &Value) -> CallbackRead {
    let Some(event) = callback.get("event").and_then(Value::as_str) else {
        return CallbackRead::Malformed("has no `event`");
    };
    Part::all([event_of(&event.trim().to_ascii_lowercase().replace('_', "."), callback)])
}

fn event_of(event: &str, body: &Value) -> Part {
    let data = body.get("data").unwrap_or(&Value::Null);
    let news = |status| Update::new(Told::Delivery(status));
    let update = match event {
        "message.sent" => news(DeliveryStatus::Sent),
        "message.delivered" => news(DeliveryStatus::Delivered),
        "message.read" => news(DeliveryStatus::Read),
        "message.failed" => Update::failed(failure(data)),
        "wallet.low" | "wallet.empty" => return Part::Ignored(Some(Reason::AccountEvent)),
        other if other.starts_with("message.") => return Part::Ignored(Some(Reason::UnknownStatus)),
        _ => return Part::Ignored(None),
    };
    let id = message_id(data, &["message_id", "messageId"]);
    let echoed = data.get("callbackData").or_else(|| body.get("callbackData"));
    let job = echoed.and_then(Value::as_str).and_then(job_in);
    if id.is_none() && job.is_none() {
        return Part::Malformed("has no `message_id`");
    }
    Part::News(Update { message_id: id, job, at: provider_time::field(body, "timestamp"), ..update })
}

/// Why a message failed. Undocumented; where Meta's number stands in a sentence it means what it does in an answer.
fn failure(data: &Value) -> Failure {
    let sentence = |field: &&str| data.get(field).and_then(Value::as_str).and_then(number_in);
    let code = ["error", "reason", "message", "error_message"].iter().find_map(sentence);
    code.map_or(Failure::UNKNOWN, |code| cloud_error(code).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_it_names() {
        for (message, count) in [
            ("Rate limit exceeded for this resource. Limit: 600 requests/minute. Error Code: 429", Some(600)),
            ("Limit: 0 requests/minute", None),
            ("Limit: -5 requests/minute", None),
            ("Limit: 99999999999 requests/minute", None),
            ("Limit: many requests/minute", None),
            ("slow down", None),
        ] {
            assert_eq!(limit_in(message).map(|rate| rate.count), count, "{message}");
        }
    }
}

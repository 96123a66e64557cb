//! 1MSG: Meta's template in an envelope of its own, and answers that speak through `sent` and a
//! sentence. An HTTP 200 with `sent: false` is its usual way to refuse; only with a `jobId` is it a
//! message that still waits in its queue, which must not be sent again.
//!
//! Its callbacks are not signed and have three shapes, by the channel's settings: all three are read.

use reqwest::Url;
use serde::Serialize;
use serde_json::Value;

use otpd_core::{MessageId, Outcome, Reason, Scope, SendJob, TemplateChoice};

use crate::answer::Reading;
use crate::endpoint::{Endpoint, SetupError, json, path_part, url};
use crate::generic::{Verdict, accepted, account, by_status, permanent};
use crate::meta_codes::{MetaError, number_in};
use crate::meta_status::{self, cloud_error};
use crate::secret::Secret;
use crate::update::{CallbackRead, Part, elements};
use crate::whatsapp::{ButtonIndex, Component, Template, components};

pub(crate) struct OneMsg {
    template: TemplateChoice,
    /// Where the state of a message is asked for.
    hook_info: Url,
}

#[derive(Serialize)]
struct Body<'a> {
    phone: &'a str,
    template: &'a str,
    namespace: &'a str,
    language: Language<'a>,
    params: [Component<'a>; 2],
}

#[derive(Serialize)]
struct Language<'a> {
    policy: &'static str,
    code: &'a str,
}

impl OneMsg {
    pub(crate) fn new(
        base_url: &str,
        channel_id: &str,
        token: Secret,
        template: TemplateChoice,
    ) -> Result<(Endpoint, Self), SetupError> {
        path_part("channel_id", channel_id)?;
        let endpoint = Endpoint::new(url(base_url, &[channel_id, "sendTemplate"])?)
            .with_authorization("Bearer ", "token", token)?;
        Ok((endpoint, Self { template, hook_info: url(base_url, &[channel_id, "hookInfo"])? }))
    }

    /// Where the state of this message is asked for.
    pub(crate) fn poll(&self, id: &MessageId) -> Url {
        let mut url = self.hook_info.clone();
        url.query_pairs_mut().append_pair("messageId", id.as_str());
        url
    }

    pub(crate) fn body(&self, job: &SendJob) -> Result<bytes::Bytes, Reason> {
        let template = Template::of(job, &self.template);
        json(&Body {
            phone: &job.to.expose_digits(),
            template: template.needed_name()?,
            namespace: template.needed_namespace()?,
            language: Language { policy: "deterministic", code: template.needed_language() },
            params: components(&job.code, ButtonIndex::Text("0")),
        })
    }
}

pub(crate) fn read(answer: &Reading<'_>) -> Verdict {
    if answer.is_success() {
        return taken_or_refused(answer);
    }
    match answer.status {
        400 => by_text(answer).unwrap_or_else(|| permanent(Reason::InvalidRequest, Scope::Message).into()),
        // A trial that ended, or `subscriptionBlocked`: plain text.
        403 => account(Reason::PlanInactive).into(),
        422 => about_the_template(answer),
        status => by_status(status, answer.wait, Scope::Account).into(),
    }
}

fn taken_or_refused(answer: &Reading<'_>) -> Verdict {
    match answer.flag("/sent") {
        Some(true) => accepted(answer.text("/id").as_deref()).into(),
        Some(false) => match answer.text("/jobId").as_deref().and_then(MessageId::new) {
            Some(job_id) => queued(answer, job_id),
            None => by_text(answer).unwrap_or_else(|| permanent(Reason::UnknownError, Scope::Message).into()),
        },
        None => Outcome::Ambiguous { reason: Reason::MalformedResponse }.into(),
    }
}

/// Not sent yet, but 1MSG will. Its reports name the message's `id`, if it has one by now.
fn queued(answer: &Reading<'_>, job_id: MessageId) -> Verdict {
    let id = answer.text("/id").as_deref().and_then(MessageId::new).unwrap_or(job_id);
    Outcome::Accepted { message_id: Some(id), note: Some(Reason::QueuedUnconfirmed) }.into()
}

/// What a sentence of 1MSG's, or of Meta's behind it, means.
fn by_text(answer: &Reading<'_>) -> Option<Verdict> {
    let message = answer.message()?;
    if let Some(code) = number_in(&message) {
        return Some(MetaError { code, subcode: None, status: answer.status, wait: answer.wait }.verdict());
    }
    let message = message.to_ascii_lowercase();
    let (reason, scope) = if message.contains("template is not defined") {
        (Reason::TemplateMissing, Scope::Template)
    } else if message.contains("window is closed") {
        (Reason::WindowClosed, Scope::Message)
    } else if message.contains("empty body") {
        (Reason::InvalidRequest, Scope::Message)
    } else {
        return None;
    };
    Some(permanent(reason, scope).into())
}

fn about_the_template(answer: &Reading<'_>) -> Verdict {
    let message = answer.message().unwrap_or_default().to_ascii_lowercase();
    let is_missing = message.contains("namespace") || message.contains("template is not defined");
    let reason = if is_missing { Reason::TemplateMissing } else { Reason::TemplateParamMismatch };
    permanent(reason, Scope::Template).into()
}

/// `ack[]` (the usual shape), `hooks[]` (what `hookInfo` answers too), or Meta's own `entry[]` (`rawHooks`). Incoming
/// `messages[]` are ignored.
pub(crate) fn told(callback: &Value) -> CallbackRead {
    let of_meta = elements(callback, "entry").iter().flat_map(|entry| elements(entry, "changes"));
    let of_meta = of_meta.filter_map(|change| change.get("value"));
    let statuses = ["ack", "hooks"].into_iter().flat_map(|shape| elements(callback, shape));
    let statuses = statuses.chain(of_meta.flat_map(|value| elements(value, "statuses")));
    let is_one = ["ack", "hooks", "entry", "messages"].into_iter().any(|shape| callback.get(shape).is_some());
    if !is_one {
        return CallbackRead::Malformed("has neither `ack` nor `hooks` nor `entry`");
    }
    Part::all(statuses.map(|status| meta_status::read(status, cloud_error)))
}

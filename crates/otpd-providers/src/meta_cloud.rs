//! Meta's WhatsApp Cloud API. Errors are read by `error.code` (see `meta_codes`), never by HTTP status
//! while there is a code.

use std::time::Duration;

use serde::Serialize;

use otpd_core::{MessageId, Outcome, Reason, Scope, SendJob, TemplateChoice};

use crate::answer::Reading;
use crate::echo::echo;
use crate::endpoint::{Endpoint, SetupError, json, path_part, url};
use crate::generic::{Verdict, by_status, permanent};
use crate::meta_codes::MetaError;
use crate::meta_usage;
use crate::secret::Secret;
use crate::whatsapp::{ButtonIndex, Component, Template, components};

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

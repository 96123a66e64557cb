//! Meta's on-premises API. Meta ended it in October 2025; this adapter serves conformance tests and
//! whoever still runs a compatible server. Its token comes from a login (see `login`, `session`). Its callbacks are
//! not signed.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use otpd_core::{MessageId, Outcome, Reason, Scope, SendJob, TemplateChoice};

use crate::answer::Reading;
use crate::endpoint::{Endpoint, SetupError, json, url};
use crate::generic::{self, Verdict, rate_limited};
use crate::login::Login;
use crate::meta_status::{self, AS_ANSWERED};
use crate::onprem_codes::OnPremError;
use crate::secret::Secret;
use crate::update::{CallbackRead, Part, elements};
use crate::whatsapp::{ButtonIndex, Component, Template, components};

pub(crate) struct MetaOnPrem {
    template: TemplateChoice,
    pub(crate) login: Login,
}

#[derive(Serialize)]
struct Body<'a> {
    to: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    template: BodyTemplate<'a>,
}

#[derive(Serialize)]
struct BodyTemplate<'a> {
    namespace: &'a str,
    name: &'a str,
    language: Language<'a>,
    components: [Component<'a>; 2],
}

#[derive(Serialize)]
struct Language<'a> {
    code: &'a str,
    policy: &'static str,
}

impl MetaOnPrem {
    pub(crate) fn new(
        base_url: &str,
        username: &str,
        password: Secret,
        template: TemplateChoice,
    ) -> Result<(Endpoint, Self), SetupError> {
        let login = Login::new(base_url, username, &password)?;
        let mut endpoint = Endpoint::new(url(base_url, &["v1", "messages"])?);
        endpoint.secrets.push(password);
        Ok((endpoint, Self { template, login }))
    }

    pub(crate) fn body(&self, job: &SendJob) -> Result<bytes::Bytes, Reason> {
        let template = Template::of(job, &self.template);
        json(&Body {
            to: &job.to.expose_digits(),
            kind: "template",
            template: BodyTemplate {
                namespace: template.needed_namespace()?,
                name: template.needed_name()?,
                language: Language { code: template.needed_language(), policy: "deterministic" },
                components: components(&job.code, ButtonIndex::Number(0)),
            },
        })
    }
}

pub(crate) fn read(answer: &Reading<'_>) -> Verdict {
    let id = answer.text("/messages/0/id").filter(|_| answer.is_success());
    if let Some(message_id) = id.as_deref().and_then(MessageId::new) {
        return Outcome::Accepted { message_id: Some(message_id), note: None }.into();
    }
    // Documented both as a list and as a single object.
    match answer.integer("/errors/0/code").or_else(|| answer.integer("/error/code")) {
        Some(code) => OnPremError { code, status: answer.status, wait: answer.wait }.verdict(),
        None => by_status(answer.status, answer.wait).into(),
    }
}

/// As everywhere, but a 503 is the core's way to say that it is overloaded.
pub(crate) fn by_status(status: u16, wait: Option<Duration>) -> Outcome {
    match status {
        503 => rate_limited(Reason::Overloaded, Scope::Sender, wait),
        status => generic::by_status(status, wait, Scope::Sender),
    }
}

/// `statuses[]`, incoming `messages[]`, and `errors[]` that concern no message.
pub(crate) fn told(callback: &Value) -> CallbackRead {
    let error = |code| OnPremError { code, status: AS_ANSWERED, wait: None }.verdict();
    let has = |field: &str| callback.get(field).is_some_and(Value::is_array);
    if !["statuses", "messages", "errors"].into_iter().any(has) {
        return CallbackRead::Malformed("has no `statuses`");
    }
    let statuses = elements(callback, "statuses");
    if statuses.is_empty() {
        return CallbackRead::Ignored(has("errors").then_some(Reason::AccountEvent));
    }
    Part::all(statuses.iter().map(|status| meta_status::read(status, error)))
}

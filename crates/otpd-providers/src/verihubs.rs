//! Verihubs WhatsApp OTP V2: every value a text, the numbers too. Its success answer repeats the code
//! in clear, so nothing of a success is ever shown.

use serde::Serialize;

use otpd_core::{Outcome, Reason, Scope, SendJob, TemplateChoice, UnixMs};

use crate::answer::Reading;
use crate::endpoint::{Endpoint, SetupError, json, url};
use crate::generic::{Verdict, accepted, account, by_status, permanent};
use crate::secret::Secret;
use crate::whatsapp::Template;

pub(crate) struct Verihubs {
    callback_url: Option<String>,
    template: TemplateChoice,
}

#[derive(Serialize)]
struct Body<'a> {
    msisdn: &'a str,
    otp: &'a str,
    time_limit: &'a str,
    lang_code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    template_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_url: Option<&'a str>,
}

impl Verihubs {
    pub(crate) fn new(
        base_url: &str,
        app_id: Secret,
        api_key: Secret,
        callback_url: Option<String>,
        template: TemplateChoice,
    ) -> Result<(Endpoint, Self), SetupError> {
        let endpoint = Endpoint::new(url(base_url, &["v2", "whatsapp", "otp", "send"])?)
            .with(http::header::ACCEPT, "application/json")
            .with_secret("app-id", "app_id", app_id)?
            .with_secret("api-key", "api_key", api_key)?;
        Ok((endpoint, Self { callback_url, template }))
    }

    /// `expires_at` becomes Verihubs' own time limit for verifying, in whole seconds.
    pub(crate) fn body(
        &self,
        job: &SendJob,
        now: UnixMs,
        expires_at: UnixMs,
    ) -> Result<bytes::Bytes, Reason> {
        let template = Template::of(job, &self.template);
        json(&Body {
            msisdn: &job.to.expose_digits(),
            otp: job.code.expose(),
            time_limit: &expires_at.since(now).as_secs().max(1).to_string(),
            lang_code: template.needed_language(),
            template_name: template.name(),
            callback_url: self.callback_url.as_deref(),
        })
    }
}

pub(crate) fn read(answer: &Reading<'_>) -> Verdict {
    let outcome = match answer.status {
        200..300 if answer.is_json() => accepted(answer.text("/session_id").as_deref()),
        200..300 => Outcome::Ambiguous { reason: Reason::MalformedResponse },
        403 => account(Reason::QuotaExhausted),
        409 if says_blocked(answer) => permanent(Reason::RecipientBlocked, Scope::Recipient),
        // A 429 may concern the account or one number: it does not say.
        status => by_status(status, answer.wait, Scope::Unknown),
    };
    outcome.into()
}

/// `Msisdn invalid: msisdn has been blocked`
fn says_blocked(answer: &Reading<'_>) -> bool {
    answer.message().is_some_and(|message| message.to_ascii_lowercase().contains("blocked"))
}

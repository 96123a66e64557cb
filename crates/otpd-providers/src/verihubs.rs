//! Verihubs WhatsApp OTP V2: every value a text, the numbers too. Its success answer repeats the code
//! in clear, so nothing of a success is ever shown.
//!
//! A callback is the address of the message with `session_id` and `status` added. Whether it is a GET or a POST, and
//! whether it comes again, is not documented; it is not signed. So every form is read, and each message has an address
//! of its own, by which its job is known.

use reqwest::Url;
use serde::Serialize;
use serde_json::Value;

use otpd_core::{
    Class, DeliveryStatus, JobId, MessageId, Outcome, Reason, Scope, SendJob, TemplateChoice, UnixMs,
};

use crate::answer::{Reading, text_of};
use crate::endpoint::{Endpoint, SetupError, json, url};
use crate::generic::{Verdict, accepted, account, by_status, permanent};
use crate::pairs;
use crate::secret::Secret;
use crate::update::{Callback, CallbackRead, Failure, Part, Told, Update};
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
    callback_url: Option<String>,
}

impl Verihubs {
    pub(crate) fn new(
        base_url: &str,
        app_id: Secret,
        api_key: Secret,
        callback_url: Option<String>,
        template: TemplateChoice,
    ) -> Result<(Endpoint, Self), SetupError> {
        let callback_url = callback_url.map(|text| address(&text)).transpose()?;
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
            callback_url: self.callback_url.as_deref().map(|base| for_job(base, &job.id)),
        })
    }
}

/// Checks the address of callbacks, to which Verihubs adds a query and otpd the job.
fn address(text: &str) -> Result<String, SetupError> {
    let problem = "must be a URL such as https://host/path, without query and fragment";
    let url = Url::parse(text).ok();
    let is_plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none()
    };
    if url.is_some_and(|url| is_plain(&url)) {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(SetupError::Setting { key: "callback_url", problem })
    }
}

/// The address of callbacks about one job. Ids need no escaping in a path, but two of them would lead out of it.
fn for_job(base: &str, job: &JobId) -> String {
    match job.as_str() {
        "." | ".." => base.to_owned(),
        job => format!("{base}/{job}"),
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

/// `session_id` and `status`, in the query or in the body.
pub(crate) fn told(callback: &Callback<'_>) -> CallbackRead {
    let json: Option<Value> = serde_json::from_slice(callback.body).ok();
    let field = |name: &str| {
        pairs::value(callback.query.as_bytes(), name)
            .or_else(|| json.as_ref().and_then(|body| Some(text_of(body.get(name)?)?.into_owned())))
            .or_else(|| pairs::value(callback.body, name))
    };
    let session = field("session_id").as_deref().map(str::trim).and_then(MessageId::new);
    let job = callback.job.and_then(|job| JobId::parse(job).ok());
    let Some(status) = field("status").filter(|status| !status.trim().is_empty()) else {
        return CallbackRead::Malformed("has no `status`");
    };
    if session.is_none() && job.is_none() {
        return CallbackRead::Malformed("names neither a `session_id` nor a job");
    }
    Part::all([match by_number(status.trim()) {
        Some(update) => Part::News(Update { message_id: session, job, ..update }),
        None => Part::Ignored(Some(Reason::UnknownStatus)),
    }])
}

/// What a status means. (Verihubs' SMS statuses are the same numbers with other meanings.)
fn by_number(status: &str) -> Option<Update> {
    let news = |status| Some(Update::new(Told::Delivery(status)));
    let not = |status, reason, class| Some(Update::undelivered(status, Failure::new(reason, class)));
    match status {
        "0" => Some(Update::new(Told::Accepted)),
        "1" => news(DeliveryStatus::Sent),
        "2" => news(DeliveryStatus::Delivered),
        "3" => news(DeliveryStatus::Read),
        "4" => news(DeliveryStatus::Verified),
        // The time to type the code is over: the message may well have arrived.
        "5" => {
            let over = Update::new(Told::Delivery(DeliveryStatus::Expired));
            Some(Update { reason: Some(Reason::OtpTimeLimit), ..over })
        }
        // "Whatsapp cannot send OTP to destination number".
        "6" => not(DeliveryStatus::Failed, Reason::RecipientNotOnWhatsapp, Class::Permanent),
        // "Verihubs cannot reach WhatsApp".
        "7" => not(DeliveryStatus::Failed, Reason::ServiceUnavailable, Class::Transient),
        "8" => not(DeliveryStatus::Rejected, Reason::RateProvider, Class::RateLimited),
        "9" => not(DeliveryStatus::Blocked, Reason::RecipientBlocked, Class::Permanent),
        "10" => not(DeliveryStatus::Rejected, Reason::TierLimit, Class::Account),
        "11" => not(DeliveryStatus::Rejected, Reason::InvalidRequest, Class::Permanent),
        _ => None,
    }
}

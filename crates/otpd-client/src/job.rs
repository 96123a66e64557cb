//! A job, as a producer writes it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use otpd_core::UnixMs;
use serde::Serialize;

/// One code for one recipient. Checked when it is sent.
#[derive(Clone, Serialize)]
pub struct Job {
    id: String,
    to: String,
    code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<Template>,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(skip)]
    traceparent: Option<String>,
    #[serde(skip)]
    tracestate: Option<String>,
}

#[derive(Clone, Default, Serialize)]
struct Template {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
}

impl Job {
    /// A job with a new id (UUID version 7), made now. `to` is E.164 (`+628123456890`), `code` 4 to
    /// 15 of `0-9 A-Z a-z`.
    pub fn new(to: impl Into<String>, code: impl Into<String>) -> Self {
        Self {
            id: uuid::Uuid::now_v7().to_string(),
            to: to.into(),
            code: code.into(),
            purpose: None,
            template: None,
            created_at: unix(SystemTime::now()).to_string(),
            expires_at: None,
            metadata: BTreeMap::new(),
            traceparent: None,
            tracestate: None,
        }
    }

    /// With an id of your own: 1 to 64 of `A-Z a-z 0-9 . _ -`. A second job with the same id is not sent.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// For this purpose, at most 64 characters: a newer job for the same recipient and purpose replaces
    /// one that has not been sent yet.
    #[must_use]
    pub fn purpose(mut self, purpose: impl Into<String>) -> Self {
        self.purpose = Some(purpose.into());
        self
    }

    /// With this template, by its name at the provider.
    #[must_use]
    pub fn template(mut self, name: impl Into<String>) -> Self {
        self.template.get_or_insert_default().name = Some(name.into());
        self
    }

    /// In this language of the template (`en`, `pt_BR`).
    #[must_use]
    pub fn language(mut self, language: impl Into<String>) -> Self {
        self.template.get_or_insert_default().language = Some(language.into());
        self
    }

    /// From this namespace of templates (1MSG, Meta on-premises).
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.template.get_or_insert_default().namespace = Some(namespace.into());
        self
    }

    /// Of no use from then on; without it, the route's `ttl` decides.
    #[must_use]
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(unix(at).to_string());
        self
    }

    /// Of no use this long after now.
    #[must_use]
    pub fn valid_for(self, validity: Duration) -> Self {
        let at = unix(SystemTime::now()).plus(validity);
        Self { expires_at: Some(at.to_string()), ..self }
    }

    /// With a word to be found again in every event, at most 512 bytes of JSON in all.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// As part of a trace: the W3C `traceparent` and, where there is one, `tracestate`.
    #[must_use]
    pub fn traced(mut self, traceparent: impl Into<String>, tracestate: Option<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self.tracestate = tracestate;
        self
    }

    /// The id, to look for in events.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        // Strings into memory: there is nothing that could fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn trace(&self) -> (Option<&str>, Option<&str>) {
        (self.traceparent.as_deref(), self.tracestate.as_deref())
    }
}

/// Shows neither the code nor the recipient.
impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("id", &self.id).field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

/// A moment as otpd writes it; before 1970 it is 1970.
pub(crate) fn unix(at: SystemTime) -> UnixMs {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use otpd_core::SendJob;

    #[test]
    fn what_is_built_is_a_job() {
        let job = Job::new("+628123456890", "482910")
            .with_id("signup-1")
            .purpose("signup")
            .template("otp_code")
            .language("id")
            .valid_for(Duration::from_secs(120))
            .metadata("user", "u1");
        let parsed = SendJob::parse(&job.body(), UnixMs(0)).unwrap();
        assert_eq!((parsed.id.as_str(), parsed.purpose.as_str()), ("signup-1", "signup"));
        assert_eq!((parsed.to.expose_digits().as_str(), parsed.code.expose()), ("628123456890", "482910"));
        assert_eq!(parsed.template.to_string(), "otp_code/id");
        assert_eq!(parsed.metadata.unwrap().as_json(), r#"{"user":"u1"}"#);
        let validity = parsed.named_expiry.unwrap().since(parsed.created_at);
        assert!((120_000..121_000).contains(&validity.as_millis()), "{validity:?}");
    }

    #[test]
    fn the_least_is_a_job_too_and_has_an_id_of_its_own() {
        let (one, two) = (Job::new("+12025550123", "0000"), Job::new("+12025550123", "0000"));
        assert_ne!(one.id(), two.id());
        assert_eq!(SendJob::parse(&one.body(), UnixMs(0)).unwrap().named_expiry, None);
    }

    #[test]
    fn debug_shows_neither_code_nor_recipient() {
        let shown = format!("{:?}", Job::new("+628123456890", "482910"));
        assert!(!shown.contains("482910") && !shown.contains("8123456"), "{shown}");
    }
}

//! The on-premises login: name and password for a token that the messages' requests carry. Pure; the
//! token is kept by `session`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use reqwest::Url;

use otpd_core::{Answered, Outcome, Reason, UnixMs};

use crate::answer::{Answer, Reading};
use crate::endpoint::{SetupError, sensitive, url};
use crate::generic::account;
use crate::meta_onprem;
use crate::retry_after;
use crate::scrub::scrub;
use crate::secret::Secret;

/// Where and how to log in: a POST without a body.
pub(crate) struct Login {
    pub(crate) url: Url,
    /// `Authorization: Basic ...`
    pub(crate) authorization: HeaderValue,
    secrets: [Secret; 2],
}

impl Login {
    pub(crate) fn new(base_url: &str, username: &str, password: &Secret) -> Result<Self, SetupError> {
        if username.is_empty() || username.contains(':') {
            let problem = "must not be empty nor contain `:`";
            return Err(SetupError::Setting { key: "username", problem });
        }
        if password.expose().is_empty() {
            return Err(SetupError::Setting { key: "password", problem: "must not be empty" });
        }
        let pair = Secret::new(format!("{username}:{}", password.expose()));
        let encoded = Secret::new(STANDARD.encode(pair.expose()));
        Ok(Self {
            url: url(base_url, &["v1", "users", "login"])?,
            authorization: sensitive("password", "Basic ", encoded.expose())?,
            secrets: [password.clone(), encoded],
        })
    }

    /// The token's header, or what a job comes to that could not be sent for want of one.
    pub(crate) fn read(&self, answer: &Answer, now: UnixMs) -> Result<HeaderValue, Answered> {
        let reading = Reading::new(answer, retry_after::in_headers(&answer.headers, now));
        if let Some(token) = token(&reading) {
            return Ok(token);
        }
        let verdict = meta_onprem::read(&reading);
        let message = reading.message();
        Err(Answered {
            outcome: refused(verdict.outcome),
            http_status: Some(answer.status),
            code: verdict.code,
            detail: message.and_then(|m| scrub(&format!("login: {m}"), None, &self.secrets)),
        })
    }
}

fn token(reading: &Reading<'_>) -> Option<HeaderValue> {
    let token = reading.text("/users/0/token").filter(|_| reading.is_success())?;
    sensitive("token", "Bearer ", &token).ok()
}

/// A refused login, as the outcome of the message that waited for it: the message was not sent, and
/// what is permanent for the login is so for every message.
fn refused(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Accepted { .. } => {
            Outcome::Transient { reason: Reason::MalformedResponse, wait: None, possibly_sent: false }
        }
        Outcome::Ambiguous { reason } => Outcome::Transient { reason, wait: None, possibly_sent: false },
        Outcome::Transient { reason, wait, .. } => Outcome::Transient { reason, wait, possibly_sent: false },
        Outcome::Permanent { .. } => account(Reason::AuthInvalid),
        Outcome::RateLimited { .. } | Outcome::Account { .. } => outcome,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;
    use otpd_core::Class;

    use super::*;

    fn login() -> Login {
        Login::new("http://127.0.0.1:9/wa", "admin", &Secret::new("Passw0rd!")).unwrap()
    }

    fn read(status: u16, body: &'static str) -> Result<HeaderValue, Answered> {
        let body = Bytes::from_static(body.as_bytes());
        login().read(&Answer { status, headers: HeaderMap::new(), body, truncated: false }, UnixMs(0))
    }

    #[test]
    fn asks_as_documented() {
        let login = login();
        assert_eq!(login.url.as_str(), "http://127.0.0.1:9/wa/v1/users/login");
        assert_eq!(login.authorization, "Basic YWRtaW46UGFzc3cwcmQh");
        assert!(login.authorization.is_sensitive());
    }

    #[test]
    fn takes_the_token() {
        let bearer =
            read(200, r#"{"users":[{"token":"eyJ.abc","expires_after":"2018-03-01 15:29:26+00:00"}]}"#);
        let bearer = bearer.unwrap();
        assert_eq!(bearer, "Bearer eyJ.abc");
        assert!(bearer.is_sensitive());
    }

    #[test]
    fn a_refusal_never_counts_as_sent() {
        for (status, body, class, reason) in [
            (200, "{}", Class::Transient, Reason::MalformedResponse),
            (200, r#"{"users":[{"token":"a b"}]}"#, Class::Transient, Reason::MalformedResponse),
            (200, r#"{"messages":[{"id":"x"}]}"#, Class::Transient, Reason::MalformedResponse),
            (400, r#"{"errors":[{"code":1008,"title":"x"}]}"#, Class::Account, Reason::AuthInvalid),
            (401, "", Class::Account, Reason::AuthInvalid),
            (403, r#"{"errors":[{"code":1024,"title":"x"}]}"#, Class::Account, Reason::AuthInvalid),
            (404, "", Class::Account, Reason::EndpointNotFound),
            (429, "", Class::RateLimited, Reason::RateProvider),
            (500, "", Class::Transient, Reason::InternalError),
            (503, "", Class::RateLimited, Reason::Overloaded),
        ] {
            let outcome = read(status, body).unwrap_err().outcome;
            assert_eq!((outcome.class(), outcome.reason()), (class, Some(reason)), "{status} {body}");
            assert!(!outcome.may_have_been_sent());
        }
    }

    #[test]
    fn a_password_repeated_is_not_shown() {
        let refused = read(401, r#"{"errors":[{"code":1005,"title":"wrong Passw0rd! given"}]}"#).unwrap_err();
        assert_eq!(refused.detail.as_deref(), Some("login: wrong *** given"));
    }
}

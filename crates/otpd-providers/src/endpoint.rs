//! Where requests go and with which headers: worked out and checked once, when the provider is set
//! up, so that a request costs no parsing and cannot fail for its credentials.

use std::fmt;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;
use serde::Serialize;

use otpd_core::Reason;

use crate::secret::Secret;

/// Why a provider cannot be set up. Names the config key, never its value.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A setting that cannot be used.
    #[error("`{key}` {problem}")]
    Setting {
        /// The config key.
        key: &'static str,
        /// What it must be.
        problem: &'static str,
    },
    /// The process has installed no TLS implementation.
    #[error("no TLS implementation is installed: install rustls' default provider first")]
    NoTls,
    /// There are no certificate authorities to trust, or they cannot be read.
    #[error(
        "the certificate authorities to trust cannot be read ({0}); install the system's, or name a file in SSL_CERT_FILE"
    )]
    Authorities(#[source] rustls::Error),
    /// The HTTP client could not be built.
    #[error("the HTTP client could not be built")]
    Client(#[from] reqwest::Error),
}

/// A request to a provider: always a POST with a JSON body.
pub struct Request<'a> {
    /// Where to.
    pub url: &'a Url,
    /// All headers but those that HTTP itself adds (`host`, `content-length`).
    pub headers: &'a HeaderMap,
    /// The JSON. Holds the code and the number in clear.
    pub body: Bytes,
}

/// Shows the address and how long the body is.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "POST {} ({} bytes)", self.url.origin().ascii_serialization(), self.body.len())
    }
}

/// A provider's address and headers.
pub(crate) struct Endpoint {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    /// What must never come back in a message we show.
    pub(crate) secrets: Vec<Secret>,
}

impl Endpoint {
    pub(crate) fn new(url: Url) -> Self {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { url, headers, secrets: Vec::new() }
    }

    /// Adds a header that needs no hiding.
    pub(crate) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// Adds a credential, `key` in the config, as a header of its own.
    pub(crate) fn with_secret(
        mut self,
        name: &'static str,
        key: &'static str,
        secret: Secret,
    ) -> Result<Self, SetupError> {
        self.headers.insert(HeaderName::from_static(name), sensitive(key, "", secret.expose())?);
        self.secrets.push(secret);
        Ok(self)
    }

    /// Adds a credential as `Authorization: {scheme}{secret}`.
    pub(crate) fn with_authorization(
        mut self,
        scheme: &str,
        key: &'static str,
        secret: Secret,
    ) -> Result<Self, SetupError> {
        self.headers.insert(AUTHORIZATION, sensitive(key, scheme, secret.expose())?);
        self.secrets.push(secret);
        Ok(self)
    }
}

/// A header's value that no `Debug` shows.
pub(crate) fn sensitive(key: &'static str, prefix: &str, secret: &str) -> Result<HeaderValue, SetupError> {
    let problem = "must be printable ASCII without spaces, and not empty";
    let usable = !secret.is_empty() && secret.bytes().all(|b| b.is_ascii_graphic());
    let value = HeaderValue::from_str(&format!("{prefix}{secret}"));
    match value {
        Ok(mut value) if usable => {
            value.set_sensitive(true);
            Ok(value)
        }
        Ok(_) | Err(_) => Err(SetupError::Setting { key, problem }),
    }
}

/// `base_url` with `path` below it.
pub(crate) fn url(base_url: &str, path: &[&str]) -> Result<Url, SetupError> {
    let problem =
        "must be a URL such as https://host or http://host:port/path, without user, query and fragment";
    let invalid = || SetupError::Setting { key: "base_url", problem };
    let mut url = Url::parse(base_url).map_err(|_| invalid())?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !plain || !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(invalid());
    }
    url.path_segments_mut().map_err(|()| invalid())?.pop_if_empty().extend(path);
    Ok(url)
}

/// Checks a setting that becomes one part of a URL's path.
pub(crate) fn path_part(key: &'static str, text: &str) -> Result<(), SetupError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if (1..=128).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('.') {
        Ok(())
    } else {
        Err(SetupError::Setting { key, problem: "must be 1 to 128 of A-Z a-z 0-9 . _ -" })
    }
}

/// `body` as JSON. Our bodies are plain structures of texts, for which writing cannot fail.
pub(crate) fn json(body: &impl Serialize) -> Result<Bytes, Reason> {
    let mut bytes = Vec::with_capacity(512);
    serde_json::to_writer(&mut bytes, body).map_err(|_| Reason::InvalidRequest)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_put_below_the_base() {
        for (base, is) in [
            ("https://api.example", "https://api.example/v1/messages"),
            ("https://api.example/", "https://api.example/v1/messages"),
            ("http://127.0.0.1:8080/mock/a", "http://127.0.0.1:8080/mock/a/v1/messages"),
            ("http://127.0.0.1:8080/mock/a/", "http://127.0.0.1:8080/mock/a/v1/messages"),
        ] {
            assert_eq!(url(base, &["v1", "messages"]).unwrap().as_str(), is);
        }
        for bad in ["", "api.example", "ftp://a", "https://u:p@a", "https://a?x=1", "https://a#x", "data:x"] {
            assert!(url(bad, &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_part_of_a_path_cannot_leave_it() {
        for bad in ["", "..", ".", "a/b", "a?b", "a b", "a%2fb"] {
            assert!(path_part("channel_id", bad).is_err(), "{bad}");
        }
        assert!(path_part("channel_id", "ABC-1_2.3").is_ok());
    }

    #[test]
    fn a_credential_is_hidden_and_checked() {
        let value = sensitive("token", "Bearer ", "s3cret").unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer s3cret");
        assert_eq!(format!("{value:?}"), "Sensitive");
        for bad in ["", "a b", "a\nb", "é"] {
            let error = sensitive("token", "Bearer ", bad).unwrap_err().to_string();
            assert!(error.starts_with("`token` must be"), "{error}");
        }
    }
}

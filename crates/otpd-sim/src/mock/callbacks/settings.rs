//! What can be set about an account's callbacks, as a part of a [`super::super::Control`]:
//!
//! ```json
//! {"url": "http://127.0.0.1:8080/callbacks/verihubs/t0ken", "delay": "p50=2s,p99=20s",
//!  "shares": "undelivered=5%,twice=10%", "secret": "s3cret"}
//! ```

use std::fmt;
use std::str::FromStr;

use http::Uri;
use serde::{Deserialize, Serialize};

use super::shares::{InvalidShares, Shares};
use crate::mock::latency::{InvalidLatency, Latency};

/// A change of an account's callbacks. What it does not mention stays as it is.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Callbacks {
    /// Where it calls back, unless a request names an address of its own (Verihubs).
    pub url: Option<CallTo>,
    /// How long it takes until a message is delivered; it is sent after a fifth of that, and read after twice that.
    pub delay: Option<Latency>,
    /// What becomes of which share of the messages, and of the callbacks.
    pub shares: Option<Shares>,
    /// What it signs with (Meta Cloud API, Msgai).
    pub secret: Option<String>,
}

/// Where an account calls back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CallTo {
    /// Nowhere. Messages have their states all the same.
    #[default]
    Nowhere,
    /// There.
    Address(Address),
}

/// An address that can be called: plain HTTP, because what receives callbacks has its TLS in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Host and port.
    pub(super) authority: Box<str>,
    pub(super) path: Box<str>,
}

/// A text that is not such an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be http://HOST[:PORT]/PATH, without a query")]
pub struct InvalidAddress;

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let uri: Uri = text.parse().map_err(|_| InvalidAddress)?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(InvalidAddress)?;
        if uri.scheme_str() != Some("http") || uri.query().is_some() || text.contains('@') {
            return Err(InvalidAddress);
        }
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(80)).into();
        Ok(Self { authority, path: uri.path().into() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// What an account is like; the part of it that [`Callbacks`] change.
#[derive(Clone, Default)]
pub(crate) struct Calling {
    pub(crate) to: CallTo,
    pub(crate) delay: Latency,
    pub(crate) shares: Shares,
    pub(crate) secret: Option<Box<str>>,
}

impl Calling {
    pub(crate) fn change(&mut self, change: &Callbacks) {
        let Callbacks { url, delay, shares, secret } = change;
        if let Some(to) = url {
            self.to.clone_from(to);
        }
        self.delay = delay.unwrap_or(self.delay);
        self.shares = shares.unwrap_or(self.shares);
        if let Some(secret) = secret {
            self.secret = Some(secret.as_str().into());
        }
    }
}

/// Callbacks that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCallbacks {
    /// The address.
    #[error("`url`: {0}")]
    Url(#[from] InvalidAddress),
    /// The time until a message is delivered.
    #[error("`delay`: {0}")]
    Delay(#[from] InvalidLatency),
    /// The shares.
    #[error("`shares`: {0}")]
    Shares(#[from] InvalidShares),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    /// Empty for nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shares: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl TryFrom<Wire> for Callbacks {
    type Error = InvalidCallbacks;

    fn try_from(wire: Wire) -> Result<Self, InvalidCallbacks> {
        let to = |url: String| match url.as_str() {
            "" => Ok(CallTo::Nowhere),
            url => url.parse().map(CallTo::Address),
        };
        Ok(Self {
            url: wire.url.map(to).transpose()?,
            delay: wire.delay.map(|text| text.parse()).transpose()?,
            shares: wire.shares.map(|text| text.parse()).transpose()?,
            secret: wire.secret,
        })
    }
}

impl From<Callbacks> for Wire {
    fn from(callbacks: Callbacks) -> Self {
        Self {
            url: callbacks.url.map(|to| match to {
                CallTo::Nowhere => String::new(),
                CallTo::Address(address) => address.to_string(),
            }),
            delay: callbacks.delay.map(|delay| delay.to_string()),
            shares: callbacks.shares.map(|shares| shares.to_string()),
            secret: callbacks.secret,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_written_alike() {
        for text in [
            "{}",
            r#"{"url":""}"#,
            r#"{"url":"http://127.0.0.1:8080/cb/t","delay":"p50=2s,p99=20s","shares":"undelivered=5%,twice=10%","secret":"s"}"#,
        ] {
            let callbacks: Callbacks = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&callbacks).unwrap(), text);
        }
        let address: Address = "http://cb.example".parse().unwrap();
        assert_eq!(address.to_string(), "http://cb.example:80/");
        assert_eq!("http://[::1]:9/x".parse::<Address>().unwrap().to_string(), "http://[::1]:9/x");
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, says) in [
            (r#"{"url":"https://cb.example/t"}"#, "`url`: must be http://"),
            (r#"{"url":"http://cb.example/t?x=1"}"#, "`url`: must be http://"),
            (r#"{"url":"/t"}"#, "`url`: must be http://"),
            (r#"{"delay":"soon"}"#, "`delay`: must be a time"),
            (r#"{"shares":"lost=5%"}"#, "`shares`: `lost=5%`"),
            (r#"{"adress":""}"#, "unknown field `adress`"),
        ] {
            let Err(error) = serde_json::from_str::<Callbacks>(text) else { panic!("{text}") };
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
    }
}

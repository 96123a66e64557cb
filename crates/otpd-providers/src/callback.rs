//! One provider's callbacks, read: the other half of an [`crate::Adapter`]. Pure: neither waits nor looks anything
//! up; who calls it finds the job of a message, and publishes.
//!
//! Invariants:
//! - Reading is total: no query, header or body makes it panic.
//! - Where a signature is configured nothing of a body is looked at before the signature is right.
//! - An update of a callback without a signature is worth what its address is: the caller checks the token in it
//!   first ([`Secret::is`]).

use std::fmt;

use http::HeaderName;
use serde_json::Value;

use crate::kind::Kind;
use crate::secret::Secret;
use crate::signature::Signer;
use crate::update::{Callback, CallbackMethod, CallbackRead};
use crate::{betatel, meta_cloud, meta_onprem, msgai, onemsg, verihubs};

/// Where Msgai's signature is looked for, unless said otherwise. Msgai documents that there is one, and not where.
pub const DEFAULT_SIGNATURE_HEADER: HeaderName = HeaderName::from_static("x-webhook-signature");

/// What proves a provider's callbacks, beside their address.
pub struct CallbackKeys {
    /// What they are signed with: `app_secret` (Meta Cloud API) or `signature_secret` (Msgai). Without one they are
    /// read unsigned; the other kinds sign none.
    pub signature: Option<Secret>,
    /// The header of Msgai's signature, which is read as hexadecimal and as base64. Meta's is always
    /// `X-Hub-Signature-256`.
    pub signature_header: HeaderName,
    /// What Meta (Cloud API) shows when it registers the address. Without one it cannot be registered.
    pub verify_token: Option<Secret>,
}

impl Default for CallbackKeys {
    fn default() -> Self {
        Self { signature: None, signature_header: DEFAULT_SIGNATURE_HEADER, verify_token: None }
    }
}

/// Reads the callbacks of one provider account.
pub struct CallbackReader {
    kind: Kind,
    /// With the header that the signature is in.
    signer: Option<(Signer, HeaderName)>,
    verify_token: Option<Secret>,
}

impl fmt::Debug for CallbackReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = if self.signer.is_some() { ", signed" } else { "" };
        write!(f, "CallbackReader({}{signed})", self.kind)
    }
}

impl CallbackReader {
    /// A reader for an account of this kind.
    #[must_use]
    pub fn new(kind: Kind, keys: &CallbackKeys) -> Self {
        let header = match kind {
            Kind::MetaCloud => Some(meta_cloud::SIGNATURE_HEADER),
            Kind::Msgai => Some(keys.signature_header.clone()),
            Kind::Verihubs | Kind::OneMsg | Kind::MetaOnPrem | Kind::Betatel => None,
        };
        let signer =
            keys.signature.as_ref().zip(header).map(|(secret, header)| (Signer::new(secret), header));
        Self { kind, signer, verify_token: keys.verify_token.clone() }
    }

    /// Which kind of provider.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The longest body that is read, in bytes; a longer one is malformed. Those who report in batches need room
    /// for some hundred statuses with what they repeat of each request.
    #[must_use]
    pub const fn max_body(&self) -> usize {
        match self.kind {
            Kind::MetaCloud | Kind::MetaOnPrem | Kind::OneMsg => 1024 * 1024,
            Kind::Verihubs | Kind::Msgai | Kind::Betatel => 64 * 1024,
        }
    }

    /// What a callback says.
    #[must_use]
    pub fn read(&self, callback: &Callback<'_>) -> CallbackRead {
        let json: fn(&Value) -> CallbackRead = match (self.kind, callback.method) {
            (Kind::MetaCloud, CallbackMethod::Get) => {
                return meta_cloud::challenge(callback.query, self.verify_token.as_ref());
            }
            (_, _) if callback.body.len() > self.max_body() => {
                return CallbackRead::Malformed("is longer than callbacks of this provider are");
            }
            (_, _) if !self.is_genuine(callback) => return CallbackRead::Forged,
            (Kind::Verihubs, CallbackMethod::Get | CallbackMethod::Post) => return verihubs::told(callback),
            (Kind::OneMsg | Kind::MetaOnPrem | Kind::Betatel | Kind::Msgai, CallbackMethod::Get) => {
                return CallbackRead::Malformed("is a GET, and this provider sends POST");
            }
            (Kind::OneMsg, CallbackMethod::Post) => onemsg::told,
            (Kind::MetaCloud, CallbackMethod::Post) => meta_cloud::told,
            (Kind::MetaOnPrem, CallbackMethod::Post) => meta_onprem::told,
            (Kind::Betatel, CallbackMethod::Post) => betatel::told,
            (Kind::Msgai, CallbackMethod::Post) => msgai::told,
        };
        match serde_json::from_slice::<Value>(callback.body) {
            Ok(body) => json(&body),
            Err(_) => CallbackRead::Malformed("is not JSON"),
        }
    }

    /// True if the callback bears the signature that it must, or need not bear any.
    fn is_genuine(&self, callback: &Callback<'_>) -> bool {
        let is_signed = |(signer, header): &(Signer, HeaderName)| {
            signer.has_signed(callback.body, callback.headers, header)
        };
        self.signer.as_ref().is_none_or(is_signed)
    }
}

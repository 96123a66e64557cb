//! Signatures of webhooks: Standard Webhooks, as Supabase signs, and the hexadecimal one of the Msgai document. Pure;
//! compared in constant time by `ring`.

use std::time::Duration;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use otpd_core::UnixMs;
use otpd_providers::Secret;
use ring::hmac;

/// How far the caller's clock may be from ours.
const TOLERANCE: Duration = Duration::from_secs(300);
/// The most signatures of one request that are looked at.
const MOST: usize = 16;
/// What the secret of a Standard Webhook begins with.
const PREFIXES: [&str; 2] = ["v1,whsec_", "whsec_"];

/// Why a webhook is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A header is missing.
    MissingHeader,
    /// The time is no time.
    BadTimestamp,
    /// It was signed too long ago.
    TimestampTooOld,
    /// It was signed in the future.
    TimestampTooNew,
    /// No signature fits.
    BadSignature,
}

impl Refused {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::MissingHeader => "missing_header",
            Self::BadTimestamp => "bad_timestamp",
            Self::TimestampTooOld => "timestamp_too_old",
            Self::TimestampTooNew => "timestamp_too_new",
            Self::BadSignature => "bad_signature",
        }
    }
}

/// What a secret of a Standard Webhook signs with; `None` where it is none.
pub(crate) fn standard_key(secret: &Secret) -> Option<hmac::Key> {
    let text = secret.expose();
    let encoded = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    let key = STANDARD.decode(encoded.trim()).ok().filter(|key| !key.is_empty())?;
    Some(hmac::Key::new(hmac::HMAC_SHA256, &key))
}

/// What a secret of the Msgai document signs with.
pub(crate) fn legacy_key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes())
}

/// Checks a Standard Webhook; gives the key that signed it.
pub(crate) fn standard<'k>(
    keys: &'k [hmac::Key],
    headers: &HeaderMap,
    body: &[u8],
    now: UnixMs,
) -> Result<&'k hmac::Key, Refused> {
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    let id = text("webhook-id").ok_or(Refused::MissingHeader)?;
    let timestamp = text("webhook-timestamp").ok_or(Refused::MissingHeader)?;
    let signatures = text("webhook-signature").ok_or(Refused::MissingHeader)?;
    let seconds: u64 = timestamp.parse().map_err(|_| Refused::BadTimestamp)?;
    let at = UnixMs(seconds.checked_mul(1000).ok_or(Refused::BadTimestamp)?);
    // Whole seconds, as the caller counts them.
    let now = UnixMs(now.0 / 1000 * 1000);
    if now.since(at) > TOLERANCE {
        return Err(Refused::TimestampTooOld);
    }
    if at.since(now) > TOLERANCE {
        return Err(Refused::TimestampTooNew);
    }
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let given = signatures.split_whitespace().take(MOST).filter_map(|one| {
        let encoded = one.trim_end_matches(',').strip_prefix("v1,")?;
        STANDARD.decode(encoded).ok()
    });
    first_that_fits(keys, &signed, given)
}

/// Checks the signature of the Msgai document.
pub(crate) fn legacy<'k>(
    keys: &'k [hmac::Key],
    headers: &HeaderMap,
    body: &[u8],
) -> Result<&'k hmac::Key, Refused> {
    let given = headers.get("webhook-signature").ok_or(Refused::MissingHeader)?;
    let digits = given.as_bytes().iter().map(|byte| char::from(*byte).to_digit(16)?.try_into().ok());
    let digits: Vec<u8> = digits.collect::<Option<_>>().unwrap_or_default();
    let bytes = digits.chunks_exact(2).filter_map(|two| Some(two.first()? * 16 + two.last()?)).collect();
    first_that_fits(keys, body, [bytes].into_iter())
}

fn first_that_fits<'k>(
    keys: &'k [hmac::Key],
    signed: &[u8],
    given: impl Iterator<Item = Vec<u8>>,
) -> Result<&'k hmac::Key, Refused> {
    for signature in given {
        if let Some(key) = keys.iter().find(|key| hmac::verify(key, signed, &signature).is_ok()) {
            return Ok(key);
        }
    }
    Err(Refused::BadSignature)
}

//! Signatures of callbacks: HMAC-SHA256 with a shared secret over the body as it came, compared in constant time.
//!
//! HMAC of `ring`, which TLS uses already.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};
use ring::hmac;

use crate::secret::Secret;

/// The length of a signature in bytes.
const LENGTH: usize = 32;
/// The most values of the header that are looked at.
const MAX_VALUES: usize = 4;

/// Checks signatures made with one secret.
pub(crate) struct Signer(hmac::Key);

impl Signer {
    pub(crate) fn new(secret: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()))
    }

    /// True if the header holds a signature of `body`: in hexadecimal or base64, with or without `sha256=`.
    pub(crate) fn has_signed(&self, body: &[u8], headers: &HeaderMap, header: &HeaderName) -> bool {
        headers
            .get_all(header)
            .iter()
            .take(MAX_VALUES)
            .filter_map(|value| decoded(value.to_str().ok()?.trim()))
            .any(|signature| hmac::verify(&self.0, body, &signature).is_ok())
    }
}

/// The bytes of a signature; hexadecimal has 64 characters and base64 44, so they cannot be confused.
fn decoded(text: &str) -> Option<[u8; LENGTH]> {
    let text = text.strip_prefix("sha256=").unwrap_or(text);
    if text.len() == 2 * LENGTH {
        return from_hex(text.as_bytes());
    }
    let mut bytes = [0; LENGTH + 1];
    let length = STANDARD.decode_slice(text, &mut bytes).ok()?;
    bytes.get(..length)?.try_into().ok()
}

fn from_hex(text: &[u8]) -> Option<[u8; LENGTH]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; LENGTH];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Of RFC 4231, test case 2.
    const HEX: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    const BASE64: &str = "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=";

    fn has_signed(values: &[&str]) -> bool {
        let name = HeaderName::from_static("x-signature");
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_str(value).unwrap());
        }
        Signer::new(&Secret::new("Jefe")).has_signed(b"what do ya want for nothing?", &headers, &name)
    }

    #[test]
    fn in_both_encodings() {
        for good in
            [HEX, &HEX.to_uppercase(), BASE64, &format!("sha256={HEX}"), &format!(" sha256={BASE64} ")]
        {
            assert!(has_signed(&[good]), "{good}");
        }
        assert!(has_signed(&["old", HEX]));
        for bad in [
            "",
            "sha256=",
            &HEX.replace('5', "6"),
            HEX.get(2..).unwrap(),
            &format!("{HEX}00"),
            &HEX.replace("5b", "é"),
            &BASE64.replace('W', "X"),
            BASE64.get(4..).unwrap(),
            &format!("AAAA{BASE64}"),
            &"=".repeat(64),
            &"=".repeat(44),
            &"A".repeat(9000),
        ] {
            assert!(!has_signed(&[bad]), "{bad}");
        }
        assert!(!has_signed(&[]));
        assert!(!has_signed(&["a", "b", "c", "d", HEX]), "only so many are looked at");
    }
}

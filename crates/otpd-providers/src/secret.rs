//! A credential: can be sent, cannot be printed.

use ring::hmac;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A token, key or password. It has neither `Debug` nor `Display`, so nothing that holds one can
/// derive them by accident, and it is wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Takes the text over.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text in clear, for a request's header and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True if `given` is this secret. Takes as long whatever the difference: both are hashed with the secret as the
    /// key, and the hashes compared in constant time.
    #[must_use]
    pub fn is(&self, given: &str) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes());
        let of_given = hmac::sign(&key, given.as_bytes());
        hmac::verify(&key, self.0.as_bytes(), of_given.as_ref()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compared() {
        let secret = Secret::new("t0ken");
        assert!(secret.is("t0ken"));
        for other in ["", "t0ke", "t0kenn", "T0ken"] {
            assert!(!secret.is(other), "{other}");
        }
        assert!(Secret::new("").is("") && !Secret::new("").is("x"));
    }
}

//! A credential: can be sent, cannot be printed.

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
}

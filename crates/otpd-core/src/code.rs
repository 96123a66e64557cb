//! The one-time password itself: a value that can be sent but not printed.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// The longest code a WhatsApp authentication template takes (Meta: 15 characters).
pub const MAX_LEN: usize = 15;
/// The shortest code a job may carry.
pub const MIN_LEN: usize = 4;

/// A code of 4 to 15 of `0-9 A-Z a-z`. It has no `Display`, its `Debug` shows nothing, and its
/// bytes are wiped when it is dropped; [`OtpCode::expose`] is the one way to read it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct OtpCode {
    bytes: [u8; MAX_LEN],
    len: u8,
}

impl OtpCode {
    /// Checks length and alphabet; `None` where they do not fit (the caller must not echo the text).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits =
            (MIN_LEN..=MAX_LEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if !fits {
            return None;
        }
        let mut bytes = [0; MAX_LEN];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { bytes, len: u8::try_from(text.len()).ok()? })
    }

    /// The code in clear, for the body of a provider's request and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default()
    }
}

impl fmt::Debug for OtpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtpCode(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_to_fifteen_letters_and_digits() {
        for good in ["0000", "123456", "aB3dE6", "123456789012345"] {
            assert_eq!(OtpCode::parse(good).unwrap().expose(), good);
        }
        for bad in ["", "123", "1234567890123456", "12 34", "12-34", "１２３４", "1234\n"] {
            assert!(OtpCode::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", OtpCode::parse("482910").unwrap()), "OtpCode(***)");
    }
}

//! Recipients without their numbers: what the workers of a fleet tell each other of whom they sent to.
//!
//! A fact names a recipient, and what a code was for, by keyed hashes: HMAC-SHA256 with a secret that only
//! the workers have, cut to 64 bits. Without the secret nobody can tell by trying numbers whose hash it is (a
//! plain hash of a telephone number is found in seconds); with another secret the same number has another
//! hash. Whoever reads facts can still tell that two are about the same recipient: that is what they are
//! for. HMAC of `ring`, which the broker's and the providers' TLS use already: a construction whose use as
//! a keyed hash needs no argument, at half a microsecond a job. Two of 400,000 numbers are taken for one with
//! a chance of 1 in 200 million.

use std::fmt;

use ring::hmac;

use crate::names::Purpose;
use crate::phone::Phone;

/// A recipient, as far as facts tell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecipientKey(pub u64);

/// A recipient and a purpose, as far as facts tell: of two jobs with the same key only the newer is worth
/// sending.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PurposeKey(pub u64);

macro_rules! hex {
    ($name:ident) => {
        impl $name {
            /// Reads 16 lowercase hexadecimal digits.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let is_hex = text.len() == 16
                    && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                if is_hex { u64::from_str_radix(text, 16).ok().map(Self) } else { None }
            }
        }

        /// 16 lowercase hexadecimal digits.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

hex!(RecipientKey);
hex!(PurposeKey);

/// Both keys of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobKeys {
    /// Whom it is for.
    pub recipient: RecipientKey,
    /// Whom and what it is for.
    pub purpose: PurposeKey,
}

/// Makes keys with one secret. Its `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct RecipientHasher(hmac::Key);

impl RecipientHasher {
    /// With this secret. Workers with the same one understand each other's facts; one that has none takes
    /// random bytes and keeps its keys to itself.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The key of a recipient.
    #[must_use]
    pub fn recipient(&self, to: Phone) -> RecipientKey {
        RecipientKey(self.hash(&[b"recipient", to.expose_digits().as_bytes()]))
    }

    /// The key of a recipient and a purpose.
    #[must_use]
    pub fn purpose(&self, to: Phone, purpose: &Purpose) -> PurposeKey {
        PurposeKey(self.hash(&[b"purpose", to.expose_digits().as_bytes(), purpose.as_str().as_bytes()]))
    }

    /// Both keys of a job.
    #[must_use]
    pub fn keys(&self, to: Phone, purpose: &Purpose) -> JobKeys {
        JobKeys { recipient: self.recipient(to), purpose: self.purpose(to, purpose) }
    }

    /// Parts are set apart by a byte that none of them holds.
    fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(part);
            context.update(&[0]);
        }
        let tag = context.sign();
        tag.as_ref().first_chunk().copied().map_or(0, u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_and_told_apart() {
        let to = |text: &str| Phone::parse(text).unwrap();
        let (mine, other) = (RecipientHasher::new(b"secret"), RecipientHasher::new(b"another"));
        let purpose = |text: &str| Purpose::parse(text).unwrap();
        let key = mine.recipient(to("+628123456890"));
        assert_eq!(key, RecipientHasher::new(b"secret").recipient(to("628123456890")));
        assert_ne!(key, other.recipient(to("+628123456890")));
        assert_ne!(key, mine.recipient(to("+628123456891")));
        let login = mine.purpose(to("+628123456890"), &purpose("login"));
        assert_ne!(login.0, key.0);
        assert_ne!(login, mine.purpose(to("+628123456890"), &purpose("pay")));
        assert_eq!(
            mine.keys(to("+628123456890"), &purpose("login")),
            JobKeys { recipient: key, purpose: login }
        );
        // Fixed for ever, because facts outlive processes; the reference is another library's HMAC-SHA256.
        assert_eq!(key.to_string(), "7ca2a67011043758");
        assert!(!format!("{mine:?}").contains("secret"));
    }

    #[test]
    fn hexadecimal_both_ways() {
        for n in [0, 1, 0x00ab_cdef_0123_4567, u64::MAX] {
            assert_eq!(RecipientKey::parse(&RecipientKey(n).to_string()), Some(RecipientKey(n)));
        }
        for bad in ["", "0", "00ABCDEF01234567", "+0abcdef01234567", "00abcdef012345678", "é0abcdef0123456"]
        {
            assert_eq!(RecipientKey::parse(bad), None, "{bad}");
        }
    }
}

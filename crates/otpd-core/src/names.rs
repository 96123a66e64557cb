//! Names that come from outside, checked once: job ids, providers, routes, purposes.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A name that does not fit its rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {max} of {alphabet}")]
pub struct InvalidName {
    /// The most characters it may have.
    pub max: usize,
    /// The characters it may have, in words.
    pub alphabet: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:literal, $alphabet:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks length and alphabet.
            ///
            /// # Errors
            /// [`InvalidName`] says what would fit; it does not repeat the text.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                let allowed: fn(u8) -> bool = $allowed;
                if (1..=$max).contains(&text.len()) && text.bytes().all(allowed) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidName { max: $max, alphabet: $alphabet })
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// A job's id: the idempotency key.
    JobId, 64, "A-Z a-z 0-9 . _ -", |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
}
name! {
    /// The name of a provider instance in the config; part of queue names, routing keys and labels.
    ProviderName, 32, "a-z 0-9 _ -", |b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-')
}
name! {
    /// A route: the routing key that producers publish with.
    RouteName, 32, "a-z 0-9 _ -", |b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-')
}

impl From<&ProviderName> for RouteName {
    /// Every provider is a route to itself.
    fn from(provider: &ProviderName) -> Self {
        Self(provider.0.clone())
    }
}

/// What the code is for; jobs for the same recipient and purpose supersede each other.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Purpose(Option<Arc<str>>);

impl Purpose {
    /// At most 64 characters without control characters; empty is refused.
    ///
    /// # Errors
    /// [`InvalidName`] says what would fit.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let fits = (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        match (fits, text) {
            (false, _) => Err(InvalidName { max: 64, alphabet: "printable characters" }),
            (true, "default") => Ok(Self(None)),
            (true, _) => Ok(Self(Some(text.into()))),
        }
    }

    /// The purpose as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("default")
    }
}

impl fmt::Debug for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names() {
        let long = "x".repeat(64);
        for good in ["a", "A.b_c-9", long.as_str()] {
            assert_eq!(JobId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a/b", "é", "x".repeat(65).as_str()] {
            assert!(JobId::parse(bad).is_err(), "{bad}");
        }
        assert!(ProviderName::parse("verihubs").is_ok());
        for bad in ["Verihubs", "", "a.b", "a b", "*"] {
            assert!(ProviderName::parse(bad).is_err(), "{bad}");
            assert!(RouteName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_purpose_defaults() {
        assert_eq!(Purpose::default(), Purpose::parse("default").unwrap());
        assert_eq!(Purpose::parse("log in").unwrap().as_str(), "log in");
        for bad in ["", "a\nb", "x".repeat(65).as_str()] {
            assert!(Purpose::parse(bad).is_err(), "{bad:?}");
        }
    }
}

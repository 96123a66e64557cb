//! What a producer wants to see again in every event: a small object of strings.

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The most bytes of metadata, as JSON.
pub const MAX_BYTES: usize = 512;

/// An object of strings, at most 512 bytes as JSON, kept as the text that is echoed. Its values are
/// the producer's business and stay out of `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Metadata(Box<str>);

impl Metadata {
    /// Checks that `json` is an object of strings and not too long.
    ///
    /// # Errors
    /// A sentence that does not repeat the values.
    pub fn parse(json: &str) -> Result<Self, &'static str> {
        let map: std::collections::BTreeMap<String, String> =
            serde_json::from_str(json).map_err(|_| "must be an object whose values are strings")?;
        let canonical = serde_json::to_string(&map).map_err(|_| "cannot be written as JSON")?;
        if canonical.len() > MAX_BYTES {
            return Err("must be at most 512 bytes as JSON");
        }
        Ok(Self(canonical.into()))
    }

    /// The object as JSON, keys in order.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metadata({} bytes)", self.0.len())
    }
}

impl serde::Serialize for Metadata {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(raw.get()).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_only_and_small() {
        assert_eq!(Metadata::parse(r#"{ "b":"2", "a":"1" }"#).unwrap().as_json(), r#"{"a":"1","b":"2"}"#);
        assert_eq!(Metadata::parse("{}").unwrap().as_json(), "{}");
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(505));
        for bad in ["[]", "1", r#"{"a":1}"#, r#"{"a":{"b":"c"}}"#, r#"{"a":null}"#, "", long.as_str()] {
            assert!(Metadata::parse(bad).is_err(), "{bad}");
        }
    }
}

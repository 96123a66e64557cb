//! The leaves of the config: times, rates, counts, addresses. Each is read once into its type, and
//! says what it must be, with an example to write, when it cannot be.
//!
//! `{key}` in a rule stands for the key at hand; whoever knows the path puts it in.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use otpd_core::Rate;
use otpd_providers::Kind;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

/// Reads a text and parses it; anything else breaks `rule`. What was written is not repeated.
pub(super) fn parsed<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    rule: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error> {
    match Value::deserialize(deserializer) {
        Ok(Value::String(text)) => parse(&text).ok_or_else(|| D::Error::custom(rule)),
        Ok(_) | Err(_) => Err(D::Error::custom(rule)),
    }
}

/// A time with its unit, such as `500ms`, `30s`, `5m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Duration);

/// In the largest unit that it is a whole number of: `7d`, `90s`, `1500ms`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        if self.0.is_zero() || !self.0.as_nanos().is_multiple_of(1_000_000) {
            return humantime::format_duration(self.0).fmt(f);
        }
        let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
        match units.into_iter().find(|(_, length)| ms.is_multiple_of(*length)) {
            Some((unit, length)) => write!(f, "{}{unit}", ms / length),
            None => write!(f, "{ms}ms"),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rule = r#"must be a time with its unit; write for example {key} = "30s""#;
        parsed(deserializer, rule, |text| humantime::parse_duration(text).ok().map(Self))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A time with its unit: `500ms`, `30s`, `5m`, `1h 30m`.",
            "type": "string",
            "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*[A-Za-zµ]+\s*)+$",
        })
    }
}

/// Limits that all hold at once: one rate, several in a list, or several in one text with commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rates(pub Vec<Rate>);

/// The most rates that one ceiling may have.
pub const MAX_RATES: usize = 8;

impl Rates {
    fn parse(texts: &[&str]) -> Option<Self> {
        let rates: Vec<Rate> =
            texts.iter().flat_map(|text| text.split(',')).map(str::parse).collect::<Result<_, _>>().ok()?;
        (1..=MAX_RATES).contains(&rates.len()).then_some(Self(rates))
    }

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Self::parse(&[text]),
            Value::Array(all) => Self::parse(&all.iter().map(Value::as_str).collect::<Option<Vec<&str>>>()?),
            Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Table(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Rates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer).ok();
        value.as_ref().and_then(Self::read).ok_or_else(|| {
            D::Error::custom(format!(
                r#"{}; write for example {{key}} = "50/s""#,
                otpd_core::rate::InvalidRate
            ))
        })
    }
}

impl Serialize for Rates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => serializer.collect_str(one),
            all => serializer.collect_seq(all.iter().map(ToString::to_string)),
        }
    }
}

impl JsonSchema for Rates {
    fn schema_name() -> Cow<'static, str> {
        "Rates".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = r"^\s*[0-9]+\s*/\s*[0-9]*\s*[a-z]+\s*(,\s*[0-9]+\s*/\s*[0-9]*\s*[a-z]+\s*)*$";
        json_schema!({
            "description": "COUNT/TIME, such as `50/s`, `600/min`, `1/30s`; several limits as a list, all of them hold.",
            "anyOf": [
                { "type": "string", "pattern": pattern },
                { "type": "array", "items": { "type": "string", "pattern": pattern }, "minItems": 1, "maxItems": MAX_RATES },
            ],
        })
    }
}

/// Rates, or `"off"` (empty).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RatesOrOff(pub Vec<Rate>);

impl<'de> Deserialize<'de> for RatesOrOff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer).ok();
        match value.as_ref() {
            Some(Value::String(text)) if text == "off" => Ok(Self(Vec::new())),
            other => other.and_then(Rates::read).map(|rates| Self(rates.0)).ok_or_else(|| {
                let rule = r#"must be COUNT/TIME (several with commas) or "off"; write for example {key} = "1/30s, 5/h""#;
                D::Error::custom(rule)
            }),
        }
    }
}

impl Serialize for RatesOrOff {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_empty() {
            serializer.serialize_str("off")
        } else {
            Rates(self.0.clone()).serialize(serializer)
        }
    }
}

impl JsonSchema for RatesOrOff {
    fn schema_name() -> Cow<'static, str> {
        "RatesOrOff".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rates = generator.subschema_for::<Rates>();
        json_schema!({ "anyOf": [{ "const": "off" }, rates] })
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count<const MIN: u32, const MAX: u32>(pub u32);

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Count<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer).ok();
        let number = value.as_ref().and_then(Value::as_integer).and_then(|n| u32::try_from(n).ok());
        number.filter(|n| (MIN..=MAX).contains(n)).map(Self).ok_or_else(|| {
            D::Error::custom(format!(
                "must be a whole number from {MIN} to {MAX}; write for example {{key}} = {}",
                MIN.max(6).min(MAX)
            ))
        })
    }
}

impl<const MIN: u32, const MAX: u32> Serialize for Count<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<const MIN: u32, const MAX: u32> JsonSchema for Count<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Count{MIN}To{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// A factor, 1.0 to 100.0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor(pub f64);

impl<'de> Deserialize<'de> for Factor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let factor = match Value::deserialize(deserializer) {
            Ok(Value::Float(factor)) => Some(factor),
            Ok(Value::Integer(whole)) => i32::try_from(whole).ok().map(f64::from),
            Ok(_) | Err(_) => None,
        };
        factor.filter(|factor| (1.0..=100.0).contains(factor)).map(Self).ok_or_else(|| {
            D::Error::custom("must be a number from 1.0 to 100.0; write for example {key} = 2.0")
        })
    }
}

impl Serialize for Factor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl JsonSchema for Factor {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Factor".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 1.0, "maximum": 100.0 })
    }
}

/// A share of a whole, 0.0 to 1.0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = match Value::deserialize(deserializer) {
            Ok(Value::Float(share)) => Some(share),
            Ok(Value::Integer(whole)) => i32::try_from(whole).ok().map(f64::from),
            Ok(_) | Err(_) => None,
        };
        share.filter(|share| (0.0..=1.0).contains(share)).map(Self).ok_or_else(|| {
            D::Error::custom("must be a number from 0.0 to 1.0; write for example {key} = 0.1")
        })
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl JsonSchema for Share {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0.0, "maximum": 1.0 })
    }
}

/// The address of a collector: `http://HOST:PORT` or `https://...`, without user and query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Collector(pub String);

impl<'de> Deserialize<'de> for Collector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rule = r#"must be the http:// or https:// address of a collector; write for example {key} = "http://127.0.0.1:4318""#;
        parsed(deserializer, rule, |text| {
            let uri: axum::http::Uri = text.parse().ok()?;
            let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
            let plain = uri.query().is_none() && !uri.authority()?.as_str().contains('@');
            (scheme && plain).then(|| Self(text.trim_end_matches('/').to_owned()))
        })
    }
}

impl JsonSchema for Collector {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Collector".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^https?://[^@?]+$" })
    }
}

/// Names in order; at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Names(#[schemars(length(min = 1))] pub Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names: Option<Vec<String>> = match Value::deserialize(deserializer) {
            Ok(Value::Array(all)) => all.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
            Ok(_) | Err(_) => None,
        };
        names.filter(|names| !names.is_empty()).map(Self).ok_or_else(|| {
            D::Error::custom(r#"must be a list of at least one name; write for example {key} = ["verihubs"]"#)
        })
    }
}

/// Where a server listens: `IP:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rule = r#"must be IP:PORT; write for example {key} = "127.0.0.1:9090", or "0.0.0.0:9090" for all interfaces"#;
        parsed(deserializer, rule, |text| text.parse().ok().map(Self))
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for Listen {
    fn schema_name() -> Cow<'static, str> {
        "Listen".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "IP:PORT.", "type": "string", "pattern": "^.+:[0-9]{1,5}$" })
    }
}

/// The kind of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindName(pub Kind);

/// All kinds, as the config spells them.
#[must_use]
pub fn kinds() -> String {
    Kind::ALL.map(Kind::as_str).join(", ")
}

impl<'de> Deserialize<'de> for KindName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rule = format!(r#"must be one of {}; write for example {{key}} = "verihubs""#, kinds());
        parsed(deserializer, &rule, |text| Kind::parse(text).map(Self))
    }
}

impl Serialize for KindName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl JsonSchema for KindName {
    fn schema_name() -> Cow<'static, str> {
        "Kind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "Which provider's API.", "enum": Kind::ALL.map(Kind::as_str) })
    }
}

//! `[gateway]` as it is written: where it listens, who may send what, and the Supabase hook.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

use super::secret::SecretSource;
use super::value::{Count, Listen, Names, Rates, parsed};

/// The HTTP gateway.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table: [gateway]")]
pub struct GatewaySection {
    /// Where it listens; `0.0.0.0:8080` in a container. TLS is the ingress's.
    pub listen: Listen,
    /// How providers reach it from outside, such as `https://otp.example`. Verihubs is told its callback address by
    /// this and by its `callback_token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<PublicUrl>,
    /// API keys, by a name of your choice (1 to 32 of a-z 0-9 _ -).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, KeySection>,
    /// The hook by which Supabase Auth sends its codes (`/hooks/supabase/send-sms`). Default: off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supabase: Option<SupabaseSection>,
}

impl Default for GatewaySection {
    fn default() -> Self {
        Self {
            listen: Listen(([127, 0, 0, 1], 8080).into()),
            public_url: None,
            keys: BTreeMap::new(),
            supabase: None,
        }
    }
}

/// An API key. The key itself is not written here: make one with `openssl rand -hex 32`.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table: [gateway.keys.NAME]")]
pub struct KeySection {
    /// SHA-256 of the key, 64 hexadecimal digits: `printf %s "$KEY" | sha256sum`.
    pub sha256: Sha256,
    /// The routes to which it may send, and whose jobs it may see.
    pub routes: Names,
    /// How many jobs it may send in which time, such as `50/s`, at each gateway. Default: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rates>,
    /// How many jobs it may send in a day (UTC), at each gateway. Default: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily: Option<Count<1, { u32::MAX }>>,
}

/// The Supabase send-sms hook.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table: [gateway.supabase]")]
pub struct SupabaseSection {
    /// The hook's secrets as Supabase shows them (`v1,whsec_...`); several while one is replaced by another.
    pub secrets: Vec<SecretSource>,
    /// The route to which its codes go.
    pub route: String,
    /// Takes the signature of the Msgai document instead, a hexadecimal HMAC of the body without a time, which
    /// Supabase itself never sends. Whoever records one request can then repeat it.
    #[serde(default)]
    pub legacy_hex: bool,
}

/// The address of the gateway from outside: `https://HOST` or `http://HOST`, perhaps with a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PublicUrl(pub String);

impl<'de> Deserialize<'de> for PublicUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rule = r#"must be the https:// or http:// address of the gateway from outside, without user and query; write for example {key} = "https://otp.example""#;
        parsed(deserializer, rule, |text| {
            let uri: axum::http::Uri = text.parse().ok()?;
            let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
            let plain =
                uri.query().is_none() && !text.contains('#') && !uri.authority()?.as_str().contains('@');
            (scheme && plain).then(|| Self(text.trim_end_matches('/').to_owned()))
        })
    }
}

impl JsonSchema for PublicUrl {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PublicUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^https?://[^@?#]+$" })
    }
}

/// A SHA-256.
#[derive(Clone, PartialEq, Eq)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    fn parse(text: &str) -> Option<Self> {
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let digits: Vec<u8> = text.as_bytes().iter().map(digit).collect::<Option<_>>()?;
        let bytes: Vec<u8> =
            digits.chunks_exact(2).filter_map(|two| Some(two.first()? * 16 + two.last()?)).collect();
        if digits.len() != 64 {
            return None;
        }
        bytes.try_into().ok().map(Self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rule = r#"must be the SHA-256 of the key, 64 hexadecimal digits; make it with `printf %s "$KEY" | sha256sum`"#;
        let parsed = parsed(deserializer, rule, Self::parse);
        parsed.map_err(|e: D::Error| D::Error::custom(e))
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&hex)
    }
}

impl JsonSchema for Sha256 {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Sha256".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9A-Fa-f]{64}$" })
    }
}

//! Where the queue is: a RabbitMQ broker, a cluster of them, or one file.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use otpd_providers::Authorities;
use otpd_queue::rabbitmq::{Access, BrokerUrl, InvalidUrl};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

use super::secret::{Environment, MASK, SecretSource};

/// The broker of a developer's machine.
pub const LOCAL: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";
/// What an address must be.
pub(super) const RULE: &str = r#"must be amqp://user:password@host:port/vhost, amqps://... or embedded:PATH; write for example {key} = "amqp://guest:guest@127.0.0.1:5672/%2f""#;

/// `url` with `***` for its password. It need not be valid: a password that breaks it must not show either.
fn masked(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("amqp", url));
    match rest.rsplit_once('@') {
        None => format!("{scheme}://{rest}"),
        Some((credentials, host)) => {
            let user = credentials.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:{MASK}@{host}")
        }
    }
}

/// Whether a password is in `url`, other than the one that every new broker has.
pub(super) fn has_password(url: &str) -> bool {
    let credentials =
        url.rsplit_once('@').map(|(before, _)| before.split_once("://").map_or(before, |(_, rest)| rest));
    credentials
        .and_then(|text| text.split_once(':'))
        .is_some_and(|(_, password)| !matches!(password, "" | "guest"))
}

/// Which queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// RabbitMQ: the nodes of one cluster, tried in turn; never empty.
    Amqp(Vec<BrokerUrl>),
    /// A SQLite file.
    Embedded(PathBuf),
}

impl Address {
    /// Whether both are the same queue, whoever it is that speaks to it.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Amqp(these), Self::Amqp(those)) => {
                let all_in = |some: &[BrokerUrl], others: &[BrokerUrl]| {
                    some.iter().all(|one| others.iter().any(|other| other.is_same_place(one)))
                };
                all_in(these, those) && all_in(those, these)
            }
            (Self::Embedded(this), Self::Embedded(that)) => this == that,
            (Self::Amqp(_), Self::Embedded(_)) | (Self::Embedded(_), Self::Amqp(_)) => false,
        }
    }
}

impl Default for Address {
    fn default() -> Self {
        Self::Amqp(LOCAL.parse().into_iter().collect())
    }
}

/// Without credentials.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amqp(urls) => {
                let all: Vec<String> = urls.iter().map(ToString::to_string).collect();
                f.write_str(&all.join(", "))
            }
            Self::Embedded(path) => write!(f, "embedded:{}", path.display()),
        }
    }
}

/// Where address and certificate authorities are kept. A password may be another one at every connection.
#[derive(Clone, Default)]
pub(crate) struct BrokerSources {
    pub(super) urls: Vec<UrlSource>,
    pub(super) ca: Option<SecretSource>,
    pub(super) environment: Environment,
}

/// Shows nothing of it.
impl fmt::Debug for BrokerSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BrokerSources(***)")
    }
}

impl BrokerSources {
    /// True if the config names no address.
    pub(super) fn names_no_url(&self) -> bool {
        self.urls.is_empty()
    }

    /// Reads addresses where `former` did.
    pub(crate) fn keep_urls_of(&mut self, former: &Self) {
        self.urls.clone_from(&former.urls);
    }

    /// Reads what a connection needs. Blocks on files.
    ///
    /// # Errors
    /// What is missing or wrong; no secret is in it.
    pub(crate) fn read(&self) -> Result<Access, String> {
        let url = |source: &UrlSource| -> Result<BrokerUrl, String> {
            let text = source.0.open(&self.environment)?;
            text.expose().parse().map_err(|invalid: InvalidUrl| format!("broker.url is {invalid}"))
        };
        let urls = self.urls.iter().map(url).collect::<Result<_, _>>()?;
        let ca = self.ca.as_ref().map(|source| authorities(source, &self.environment)).transpose()?;
        Ok(Access { urls, ca })
    }
}

/// The authorities at `source`, as PEM.
pub(super) fn authorities(source: &SecretSource, environment: &Environment) -> Result<Arc<str>, String> {
    let pem = source.open(environment)?;
    match Authorities::from_pem(pem.expose().as_bytes()) {
        Ok(_) => Ok(pem.expose().into()),
        Err(_) => {
            Err("must be PEM with at least one CERTIFICATE; write for example ca = { file = \"/etc/ssl/company.pem\" }".into())
        }
    }
}

/// One address as the config gives it: a text, or where that text is kept.
#[derive(Clone)]
pub struct UrlSource(pub(super) SecretSource);

impl<'de> Deserialize<'de> for UrlSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SecretSource::deserialize(deserializer).map(Self).map_err(|_| D::Error::custom(RULE))
    }
}

/// Shown without its password.
impl Serialize for UrlSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            SecretSource::Literal(text) if text.expose().starts_with("embedded:") => {
                serializer.serialize_str(text.expose())
            }
            SecretSource::Literal(text) => serializer.serialize_str(&masked(text.expose())),
            elsewhere @ (SecretSource::Env(_) | SecretSource::File(_)) => elsewhere.serialize(serializer),
        }
    }
}

impl JsonSchema for UrlSource {
    fn schema_name() -> Cow<'static, str> {
        "Url".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let secret = generator.subschema_for::<SecretSource>();
        json_schema!({
            "description": "`amqp://user:password@host:port/vhost`, `amqps://...`, or `embedded:PATH`; may be kept elsewhere like a secret.",
            "allOf": [secret],
        })
    }
}

/// One address, or the nodes of a cluster.
#[derive(Clone)]
pub struct UrlSources(pub(super) Vec<UrlSource>);

/// The most nodes that may be named.
pub const MAX_URLS: usize = 32;

impl UrlSources {
    /// One address, said outright.
    pub(super) fn of(url: &str) -> Self {
        Self(vec![UrlSource(SecretSource::Literal(otpd_providers::Secret::new(url)))])
    }
}

impl<'de> Deserialize<'de> for UrlSources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer).map_err(|_| D::Error::custom(RULE))?;
        let written = if let Value::Array(all) = value { all } else { vec![value] };
        let sources: Result<Vec<UrlSource>, _> = written.into_iter().map(UrlSource::deserialize).collect();
        let sources = sources.map_err(|_| D::Error::custom(RULE))?;
        if (1..=MAX_URLS).contains(&sources.len()) { Ok(Self(sources)) } else { Err(D::Error::custom(RULE)) }
    }
}

impl Serialize for UrlSources {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            all => all.serialize(serializer),
        }
    }
}

impl JsonSchema for UrlSources {
    fn schema_name() -> Cow<'static, str> {
        "Urls".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let url = generator.subschema_for::<UrlSource>();
        json_schema!({
            "anyOf": [url, { "type": "array", "items": url, "minItems": 1, "maxItems": MAX_URLS }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (text, shown, has) in [
            (LOCAL, "amqp://guest:***@127.0.0.1:5672/%2f", false),
            ("amqps://mq.example", "amqps://mq.example", false),
            ("amqp://u@h/v?heartbeat=10", "amqp://u:***@h/v?heartbeat=10", false),
            ("amqp://u:p@ss@h:1/v", "amqp://u:***@h:1/v", true),
            ("amqp://u:p/ss@h:1/v", "amqp://u:***@h:1/v", true),
            ("u:pass@h", "amqp://u:***@h", true),
        ] {
            assert_eq!((masked(text).as_str(), has_password(text)), (shown, has), "{text}");
        }
    }

    #[test]
    fn the_default_is_a_broker() {
        assert_eq!(Address::default().to_string(), "amqp://127.0.0.1:5672/%2f");
    }
}

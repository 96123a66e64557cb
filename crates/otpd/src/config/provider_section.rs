//! A provider as the config gives it: the keys of all kinds in one struct, most of them optional.
//! Which of them a kind takes is known to [`otpd_providers::keys`] alone; [`super::provider`] asks it.

use std::collections::BTreeSet;

use otpd_core::OnAmbiguous;
use otpd_providers::{HttpLimits, HttpVersion, Kind, keys};
use otpd_queue::Owners;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::secret::SecretSource;
use super::value::{Count, KindName, Rates, Time};

/// One account at a provider.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table: [providers.NAME]")]
#[schemars(transform = keys_of_kinds)]
pub struct ProviderSection {
    /// Which provider's API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<KindName>,
    /// Where the API is, such as `https://host` or `http://host:port/path`. Default: the provider's
    /// own address; `meta_onprem`, which everyone hosts for themselves, has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The most requests in any window of that length, over the whole fleet: `"50/s"`, `"600/min"`,
    /// or a list of limits that all hold. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Rates>,
    /// How many of the ceiling may start at one moment after a quiet time, 1 to 1000000. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<Count<1, 1_000_000>>,
    /// How many workers take this provider's jobs at once: `one`, the others stand by; or `many`, which only
    /// a provider without a ceiling may have. With `many` the id is no idempotency key (a job published twice
    /// may be sent twice), a newer code does not replace an older one that another worker holds, recipient
    /// limits hold for each worker alone, and bulk jobs wait in one queue with the others.
    pub owners: OwnersName,
    /// How many requests may be open at once, 1 to 10000.
    pub max_in_flight: Count<1, 10_000>,
    /// How long connecting may take, 1ms to 5m; shorter than `timeout`, so that a request that was
    /// never sent is not mistaken for one that may have been.
    pub connect_timeout: Time,
    /// How long a request may take in all, 1ms to 5m.
    pub timeout: Time,
    /// Which HTTP is spoken: `auto`, which is HTTP/2 where TLS offers it and HTTP/1.1 otherwise; `1.1` only,
    /// with a connection for each open request; or `2` only, without TLS too.
    pub http_version: HttpVersionName,
    /// Certificate authorities that are trusted beside the system's, as PEM: `{ file = "/etc/ssl/company.pem" }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretSource>,
    /// What to do when nobody can tell whether a message was sent: `resend` the same code (counted as
    /// a possible duplicate), use the `next_provider`, or `park` the job as a dead letter.
    pub on_ambiguous: OnAmbiguousName,

    /// Template for jobs that name none: its name at the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Language of the template, such as `en` or `pt_BR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Namespace of the template (onemsg, meta_onprem).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The message, with `{code}` where the code goes (betatel). Default: the code alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,

    /// Verihubs: App-ID of the application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<SecretSource>,
    /// Verihubs, Betatel, Msgai: API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretSource>,
    /// Betatel: account id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<SecretSource>,
    /// 1MSG: id of the channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<String>,
    /// Meta Cloud API: id of the sending phone number (not the number itself).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone_number_id: Option<String>,
    /// 1MSG: token of the channel. Meta Cloud API: token of a system user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretSource>,
    /// Meta Cloud API: version of the Graph API, such as `v25.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Meta on-premises: user who may send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Meta on-premises: password of that user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretSource>,

    /// Verihubs: address of delivery reports, to which each job's id is added. Default: the one set in its dashboard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
    /// The unguessable last part of this provider's callback address at the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_token: Option<SecretSource>,
    /// Msgai: secret that its callbacks are signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature_secret: Option<SecretSource>,
    /// Meta Cloud API: secret of the app, which signs its callbacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_secret: Option<SecretSource>,
    /// Meta Cloud API: token that Meta proves itself with when the callback address is registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_token: Option<SecretSource>,
}

/// The keys that mean something to every kind.
pub(super) const COMMON: [&str; 10] = [
    "kind",
    "ceiling",
    "burst",
    "owners",
    "max_in_flight",
    "connect_timeout",
    "timeout",
    "http_version",
    "ca",
    "on_ambiguous",
];

/// The keys that every kind takes, even where they mean nothing to it.
pub(super) const HARMLESS: [&str; 6] =
    ["template", "language", "namespace", "text", "callback_token", "signature_secret"];

impl Default for ProviderSection {
    fn default() -> Self {
        let http = HttpLimits::default();
        Self {
            kind: None,
            base_url: None,
            ceiling: None,
            burst: None,
            owners: OwnersName::One,
            max_in_flight: Count(u32::try_from(http.max_in_flight).unwrap_or(u32::MAX)),
            connect_timeout: Time(http.connect_timeout),
            timeout: Time(http.timeout),
            http_version: HttpVersionName::Auto,
            ca: None,
            on_ambiguous: OnAmbiguousName::Resend,
            template: None,
            language: None,
            namespace: None,
            text: None,
            app_id: None,
            api_key: None,
            account_id: None,
            channel_id: None,
            phone_number_id: None,
            token: None,
            api_version: None,
            username: None,
            password: None,
            callback_url: None,
            callback_token: None,
            signature_secret: None,
            app_secret: None,
            verify_token: None,
        }
    }
}

impl ProviderSection {
    /// The secrets it names, each with its key, and what else is opened like one.
    pub(super) fn secrets(&self) -> Vec<(&'static str, &SecretSource)> {
        let all = [
            ("ca", &self.ca),
            ("app_id", &self.app_id),
            ("api_key", &self.api_key),
            ("account_id", &self.account_id),
            ("token", &self.token),
            ("password", &self.password),
            ("callback_token", &self.callback_token),
            ("signature_secret", &self.signature_secret),
            ("app_secret", &self.app_secret),
            ("verify_token", &self.verify_token),
        ];
        all.into_iter().filter_map(|(key, source)| Some((key, source.as_ref()?))).collect()
    }
}

/// How many workers take a provider's jobs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OwnersName {
    /// One; the others stand by.
    One,
    /// Every worker.
    Many,
}

impl From<OwnersName> for Owners {
    fn from(name: OwnersName) -> Self {
        match name {
            OwnersName::One => Self::One,
            OwnersName::Many => Self::Many,
        }
    }
}

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum HttpVersionName {
    /// What TLS offers.
    #[serde(rename = "auto")]
    Auto,
    /// HTTP/1.1.
    #[serde(rename = "1.1")]
    Http1,
    /// HTTP/2.
    #[serde(rename = "2")]
    Http2,
}

impl From<HttpVersionName> for HttpVersion {
    fn from(name: HttpVersionName) -> Self {
        match name {
            HttpVersionName::Auto => Self::Auto,
            HttpVersionName::Http1 => Self::Http1,
            HttpVersionName::Http2 => Self::Http2,
        }
    }
}

/// What to do when nobody can tell whether a message was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnAmbiguousName {
    /// Send the same code once more, by the next provider of the route where there is one.
    Resend,
    /// Send it once more by the next provider of the route; without one, dead letter.
    NextProvider,
    /// Dead letter.
    Park,
}

impl From<OnAmbiguousName> for OnAmbiguous {
    fn from(name: OnAmbiguousName) -> Self {
        match name {
            OnAmbiguousName::Resend => Self::Resend,
            OnAmbiguousName::NextProvider => Self::NextProvider,
            OnAmbiguousName::Park => Self::Park,
        }
    }
}

/// Tells the schema which keys each kind needs and takes, so that an editor can complete them.
fn keys_of_kinds(schema: &mut Schema) {
    let rules: Vec<_> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let takes: BTreeSet<&str> = known(kind).chain(HARMLESS).collect();
            json!({
                "if": { "properties": { "kind": { "const": kind.as_str() } }, "required": ["kind"] },
                "then": { "required": keys(kind).required, "propertyNames": { "enum": takes } },
            })
        })
        .collect();
    schema.insert("required".to_owned(), json!(["kind"]));
    schema.insert("allOf".to_owned(), rules.into());
}

/// The keys that mean something to a kind.
pub(super) fn known(kind: Kind) -> impl Iterator<Item = &'static str> {
    let keys = keys(kind);
    COMMON.into_iter().chain(keys.required.iter().copied()).chain(keys.optional.iter().copied())
}

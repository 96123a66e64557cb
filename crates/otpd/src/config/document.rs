//! The config as it is written: one struct a section, one field a key, every default in its place.
//!
//! The comments of the fields are what an operator reads: they become the descriptions of the JSON
//! Schema. What a single value must be is checked while it is read ([`super::value`]); what values
//! must be to each other is checked in [`super::build`].

use std::collections::BTreeMap;
use std::time::Duration;

use otpd_core::RetryPolicy;
use otpd_core::route::DEFAULT_TTL;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::broker::UrlSources;
use super::gateway_section::GatewaySection;
use super::provider_section::ProviderSection;
use super::secret::SecretSource;
use super::value::{Collector, Count, Factor, Listen, Names, RatesOrOff, Share, Time};

/// The configuration of otpd.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table of sections")]
#[schemars(title = "otpd.toml")]
pub struct Document {
    /// Where jobs are queued.
    pub broker: BrokerSection,
    /// When and how often a failed attempt is repeated.
    pub retry: RetrySection,
    /// Provider accounts, by a name of your choice (1 to 32 of a-z 0-9 _ -). Each is a route to itself.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub providers: BTreeMap<String, ProviderSection>,
    /// Routes, by the name that producers publish to (1 to 32 of a-z 0-9 _ -).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub routes: BTreeMap<String, RouteSection>,
    /// Limits that protect recipients.
    pub limits: LimitsSection,
    /// The worker.
    pub worker: WorkerSection,
    /// Dead letters.
    pub dead: DeadSection,
    /// The port for probes and metrics.
    pub admin: AdminSection,
    /// The HTTP gateway.
    pub gateway: GatewaySection,
    /// Logs and traces.
    pub telemetry: TelemetrySection,
}

/// Where jobs are queued.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table: [broker]")]
pub struct BrokerSection {
    /// RabbitMQ (`amqp://user:password@host:port/vhost`, or `amqps://`), a list of such URLs for a
    /// cluster, or `embedded:PATH` for a queue in one file. Default: RabbitMQ on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<UrlSources>,
    /// Certificate authorities that are trusted for `amqps://` beside the system's, as PEM:
    /// `{ file = "/etc/ssl/company.pem" }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretSource>,
    /// What the names of all exchanges and queues begin with: up to 32 of A-Z a-z 0-9 . _ -
    pub prefix: String,
}

impl Default for BrokerSection {
    fn default() -> Self {
        Self { url: None, ca: None, prefix: "otp.".to_owned() }
    }
}

/// When and how often a failed attempt is repeated.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table: [retry]")]
pub struct RetrySection {
    /// The wait after the first failure, 10ms to 1h; each wait is spread by ±25 %.
    pub initial: Time,
    /// By how much each further wait is longer, 1.0 to 100.0.
    pub multiplier: Factor,
    /// The longest wait, 10ms to 1h.
    pub max: Time,
    /// How many requests one job may cost in all, over all its providers, 1 to 100.
    pub max_attempts: Count<1, 100>,
}

impl Default for RetrySection {
    fn default() -> Self {
        let policy = RetryPolicy::default();
        Self {
            initial: Time(policy.initial),
            multiplier: Factor(policy.multiplier),
            max: Time(policy.max),
            max_attempts: Count(policy.max_attempts),
        }
    }
}

/// One route: which providers, in which order, and how long its codes are of use.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table: [routes.NAME]")]
pub struct RouteSection {
    /// Providers by name, first choice first, none twice. A route named like a provider may leave it
    /// out: then it is that provider alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub providers: Option<Names>,
    /// How long a code is valid whose job names no `expires_at`, 1s to 24h. RabbitMQ takes a job back
    /// that is held longer than its `consumer_timeout` (30 minutes unless configured otherwise).
    pub ttl: Time,
    /// A job that would wait longer than this for a permit goes to the next provider that has room,
    /// 1ms to 24h. Default: it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spill_after: Option<Time>,
    /// A job that waited this long for its first attempt is dead (reason `waited_too_long`), 1ms to
    /// 24h. Default: it waits as long as its code is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<Time>,
    /// How long an accepted job is held until it is heard that its message arrived, 1s to 24h. What is lost, or not heard
    /// of by then, is sent once more through the next provider while its code is valid. Default: off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm_within: Option<Time>,
    /// Who waits for the code: jobs of class `interactive` go before jobs of class `bulk`.
    pub class: TrafficName,
}

impl Default for RouteSection {
    fn default() -> Self {
        Self {
            providers: None,
            ttl: Time(DEFAULT_TTL),
            spill_after: None,
            max_wait: None,
            confirm_within: None,
            class: TrafficName::Interactive,
        }
    }
}

/// Who waits for a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrafficName {
    /// A person at a screen.
    Interactive,
    /// Nobody in particular.
    Bulk,
}

/// Limits that protect recipients.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table: [limits]")]
pub struct LimitsSection {
    /// How many messages one recipient may get, such as `1/30s, 5/h`, or `off`. A code
    /// that can still be sent in time waits its turn; one that cannot is dead as `recipient_limited`.
    /// Default `1/30s, 5/h`.
    pub recipient: RatesOrOff,
    /// A secret that all workers share, at least 16 bytes. With it facts name a recipient by a keyed hash, and
    /// these limits, and a newer code that replaces an older one, hold over all workers and outlive them; without
    /// it each worker keeps them to itself and forgets them when it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretSource>,
}

impl Default for LimitsSection {
    fn default() -> Self {
        let rate = |count, seconds| otpd_core::Rate { count, per: std::time::Duration::from_secs(seconds) };
        Self { recipient: RatesOrOff(vec![rate(1, 30), rate(5, 3600)]), key: None }
    }
}

/// The worker.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table: [worker]")]
pub struct WorkerSection {
    /// How long requests in flight may take to end after SIGTERM, 1s to 10m. Keep it below the
    /// orchestrator's own grace period (Kubernetes: 30 s).
    pub shutdown_grace: Time,
}

impl Default for WorkerSection {
    fn default() -> Self {
        Self { shutdown_grace: Time(Duration::from_secs(25)) }
    }
}

/// Dead letters.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table: [dead]")]
pub struct DeadSection {
    /// How long dead letters are kept, 1s to 3650 days.
    pub retention: Time,
    /// Whether a dead letter keeps its code. Without it nothing secret is left, and nothing can be replayed.
    pub keep_code: bool,
}

impl Default for DeadSection {
    fn default() -> Self {
        Self { retention: Time(Duration::from_secs(7 * 86_400)), keep_code: true }
    }
}

/// The port for probes and metrics: `/healthz`, `/readyz`, `/metrics`.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table: [admin]")]
pub struct AdminSection {
    /// Where it listens; `0.0.0.0:9090` in a container.
    pub listen: Listen,
}

impl Default for AdminSection {
    fn default() -> Self {
        Self { listen: Listen(([127, 0, 0, 1], 9090).into()) }
    }
}

/// Logs and traces.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table: [telemetry]")]
pub struct TelemetrySection {
    /// What is logged: `error`, `warn`, `info`, `debug` or `trace`, or a filter such as
    /// `info,otpd_queue=debug`. `--log-level` and `OTPD_LOG` go before it.
    pub log_level: String,
    /// How: `text` for people, `json` for machines, `auto` for text on a terminal and JSON elsewhere.
    pub log_format: LogFormat,
    /// Where traces go: an OpenTelemetry collector that speaks OTLP over HTTP (`/v1/traces` is added).
    /// Default: `OTEL_EXPORTER_OTLP_ENDPOINT`, or else no traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<Collector>,
    /// The share of the traces begun here that is kept, 0.0 to 1.0. A job whose producer sends a
    /// `traceparent` follows its producer's decision.
    pub trace_sample: Share,
}

impl Default for TelemetrySection {
    fn default() -> Self {
        Self {
            log_level: "info".to_owned(),
            log_format: LogFormat::Auto,
            otlp_endpoint: None,
            trace_sample: Share(1.0),
        }
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

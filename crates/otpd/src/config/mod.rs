//! The configuration: read from a file, variables and flags, checked once, and from then on valid.
//!
//! The way of a config: [`layers`] (file, then `OTPD__...`, then `--set`) make one table with the
//! place of every key; [`read`] makes the [`document`] of it, sections of typed values; [`build`]
//! checks what the values are to each other, and the [`Config`] comes out, made of the core's own
//! types. Nothing after that checks again. Every error is found, not only the first, and each says
//! where (file and line, variable, flag), which key, and what to write.
//!
//! Invariants: no message and no output shows a secret; provider secrets are opened only by
//! [`ProviderConfig::open`], for the commands that send.

mod admin_listen;
pub mod broker;
mod build;
mod check;
mod clear_text;
pub mod document;
mod gateway_check;
pub mod gateway_section;
pub mod issue;
mod layers;
pub mod path;
pub mod provider;
mod provider_check;
pub mod provider_section;
mod read;
mod remedy;
mod route;
pub mod secret;
mod show;
pub mod value;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use otpd_core::{ProviderName, Rate, RecipientHasher, RetryPolicy, RouteTable, TrafficClass};
use otpd_queue::{LanePlan, Plan};

pub use broker::Address;
pub(crate) use broker::BrokerSources;
pub use document::{Document, LogFormat};
pub(crate) use gateway_check::secrets_path;
pub use gateway_check::{GatewayConfig, SupabaseConfig};
pub use issue::{Issue, Issues, Severity};
pub use provider::{CallbackSecrets, OpenProvider, ProviderConfig};
pub use secret::Environment;

/// The file that is read where none is named.
pub const DEFAULT_FILE: &str = "otpd.toml";
/// The largest config file, in bytes.
pub const MAX_FILE: u64 = 1024 * 1024;

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where jobs are queued.
    pub broker: Broker,
    /// When and how often a failed attempt is repeated.
    pub retry: RetryPolicy,
    /// All providers, in the order of their names.
    pub providers: Vec<ProviderConfig>,
    /// All routes, each provider's own included.
    pub routes: RouteTable,
    /// How many messages one recipient may get; empty: any number.
    pub recipient_limits: Vec<Rate>,
    /// Makes the keys by which the workers of a fleet know a recipient; `None`: each has its own.
    pub recipient_hasher: Option<RecipientHasher>,
    /// How long requests in flight may take to end after SIGTERM, 1 s to 10 min.
    pub shutdown_grace: Duration,
    /// Dead letters.
    pub dead: Dead,
    /// Where probes and metrics are.
    pub admin_listen: SocketAddr,
    /// Where the gateway is.
    pub gateway_listen: SocketAddr,
    /// Who may send through the gateway, and how it is reached.
    pub gateway: GatewayConfig,
    /// Logs and traces.
    pub telemetry: Telemetry,
}

/// Where jobs are queued.
#[derive(Clone, Debug)]
pub struct Broker {
    /// `None` where the config says nothing.
    pub address: Option<Address>,
    /// Certificate authorities that are trusted beside the system's, as PEM.
    pub ca: Option<Arc<str>>,
    /// What all names begin with.
    pub prefix: String,
    /// How address and authorities are read again, for each connection.
    pub(crate) sources: BrokerSources,
}

/// Whether they say the same at this moment, wherever they read it.
impl PartialEq for Broker {
    fn eq(&self, other: &Self) -> bool {
        (&self.address, &self.ca, &self.prefix) == (&other.address, &other.ca, &other.prefix)
    }
}

impl Broker {
    /// False if the config says where it is by a secret that is not there; see [`Environment::with_stand_ins`].
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.address.is_some() || self.sources.names_no_url()
    }

    /// Where jobs are queued: RabbitMQ on this machine, unless the config says otherwise.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address.clone().unwrap_or_default()
    }
}

/// Dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dead {
    /// How long they are kept, 1 s to 3650 days.
    pub retention: Duration,
    /// Whether they keep their code.
    pub keep_code: bool,
}

/// Logs and traces.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// A level, or a filter of levels.
    pub log_level: String,
    /// Their form.
    pub log_format: LogFormat,
    /// Where traces go; `None`: where OpenTelemetry's variables say, or nowhere.
    pub collector: Option<String>,
    /// The share of the traces begun here that is kept, 0 to 1.
    pub trace_sample: f64,
}

/// Where a config comes from.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file; `None`: `./otpd.toml` where there is one.
    pub file: Option<PathBuf>,
    /// The process's variables: overrides, and secrets by name.
    pub environment: Environment,
    /// `PATH=VALUE`, in order.
    pub sets: Vec<String>,
    /// What `broker.url` is where nothing says so; empty: RabbitMQ on this machine.
    pub default_url: &'static str,
}

/// A config that was read and is valid.
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// What works but is probably not meant.
    pub warnings: Issues,
    /// The config as it was written, with all defaults in it.
    pub document: Document,
}

impl Sources {
    /// Reads and checks.
    ///
    /// # Errors
    /// All that is wrong, errors and warnings.
    pub fn load(&self) -> Result<Loaded, Issues> {
        match self.text()? {
            Some((name, text)) => self.load_over(Some((&name, &text))),
            None => self.load_over(None),
        }
    }

    /// Reads and checks, with this name and text for a file.
    ///
    /// # Errors
    /// As [`Sources::load`].
    pub fn load_over(&self, file: Option<(&str, &str)>) -> Result<Loaded, Issues> {
        let mut layers = layers::Layers::default();
        if let Some((name, text)) = file {
            layers.file(name, text);
            if !layers.issues.is_empty() {
                // What could be read of a file that is no TOML is not what was meant.
                return Err(Issues(layers.issues).sorted());
            }
        }
        layers.variables(&self.environment);
        for set in &self.sets {
            layers.set(set);
        }
        let (mut document, removed) = read::read(&mut layers);
        if document.broker.url.is_none() && !self.default_url.is_empty() {
            document.broker.url = Some(broker::UrlSources::of(self.default_url));
        }
        let layers::Layers { table, origins, issues } = layers;
        let mut check = check::Check { origins, removed, issues };
        let config = build::build(&mut check, &document, &table, &self.environment);
        let issues = Issues(check.issues).sorted();
        if issues.has_errors() { Err(issues) } else { Ok(Loaded { config, warnings: issues, document }) }
    }

    /// The file's name and text, where there is a file.
    fn text(&self) -> Result<Option<(String, String)>, Issues> {
        let path = match &self.file {
            Some(path) => path.as_path(),
            None if Path::new(DEFAULT_FILE).exists() => Path::new(DEFAULT_FILE),
            None => return Ok(None),
        };
        let name = path.display().to_string();
        let unreadable = |problem: String| {
            let place = issue::Place::File { file: name.clone(), line: 0 };
            Issues(vec![Issue { severity: Severity::Error, place, path: path::KeyPath::default(), problem }])
        };
        let size = std::fs::metadata(path).map_err(|e| {
            unreadable(format!("cannot be read ({}); name another file with --config", e.kind()))
        })?;
        if !size.is_file() || size.len() > MAX_FILE {
            return Err(unreadable(
                "is not a file of at most 1 MiB; name another file with --config".to_owned(),
            ));
        }
        let text = std::fs::read_to_string(path).map_err(|e| {
            unreadable(format!("cannot be read ({}); it must be UTF-8, and readable by this user", e.kind()))
        })?;
        Ok(Some((name, text)))
    }
}

impl Config {
    /// What the queue must look like.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let routes = |provider: &ProviderName, class: TrafficClass| {
            let all = self.routes.all().into_iter();
            all.filter(|route| route.providers.first() == Some(provider) && route.class == class)
                .map(|route| route.name.clone())
                .collect()
        };
        let lanes = self.providers.iter().map(|provider| LanePlan {
            provider: provider.name.clone(),
            owners: provider.owners,
            routes: routes(&provider.name, TrafficClass::Interactive),
            bulk_routes: routes(&provider.name, TrafficClass::Bulk),
        });
        Plan {
            prefix: self.broker.prefix.clone(),
            lanes: lanes.collect(),
            dead_retention: self.dead.retention,
            ..Plan::default()
        }
    }

    /// Opens all providers.
    ///
    /// # Errors
    /// Every secret that is missing and every setting that cannot be used.
    pub fn open_providers(&self, environment: &Environment) -> Result<Vec<OpenProvider>, Issues> {
        let mut issues = Issues::default();
        let mut open = Vec::with_capacity(self.providers.len());
        for provider in &self.providers {
            match provider.open(environment) {
                Ok(provider) => open.push(provider),
                Err(more) => issues.0.extend(more.0),
            }
        }
        if issues.0.is_empty() { Ok(open) } else { Err(issues.sorted()) }
    }
}

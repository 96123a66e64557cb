//! A config as it was found at one moment, with everything it refers to: what is compared, so that
//! only a change of content is a change. Kubernetes swaps links and rewrites times whenever it likes.

use std::collections::BTreeMap;

use otpd_providers::Secret;
use serde_json::Value;

use crate::config::path::KeyPath;
use crate::config::secrets_path;
use crate::config::{Config, Environment, Issue, Issues, Loaded, Severity, Sources, issue::Place};
use crate::wiring;

/// What a process does with its config, and so which secrets it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It sends: every provider's credentials.
    Worker,
    /// It serves HTTP: what callbacks and hooks are checked with.
    Gateway,
    /// Both.
    Both,
}

impl Role {
    /// True if it has lanes.
    #[must_use]
    pub const fn sends(self) -> bool {
        match self {
            Self::Worker | Self::Both => true,
            Self::Gateway => false,
        }
    }

    /// True if it has a gateway.
    #[must_use]
    pub const fn serves(self) -> bool {
        match self {
            Self::Gateway | Self::Both => true,
            Self::Worker => false,
        }
    }
}

/// A config, valid and with all its secrets there. No `Debug`: it holds them in clear.
#[derive(Clone)]
pub struct Snapshot {
    /// The config.
    pub config: Config,
    /// What works but is probably not meant.
    pub warnings: Issues,
    /// The config as it was written, with all defaults in it and all secrets masked.
    pub(super) document: Value,
    /// The secrets, by key path.
    pub(super) secrets: BTreeMap<KeyPath, Secret>,
}

impl Snapshot {
    /// Reads and checks everything that `otpd config check` checks.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn read(sources: &Sources, role: Role) -> Result<Self, Issues> {
        Self::of(sources.load()?, &sources.environment, role)
    }

    /// Of a config that was just read.
    ///
    /// # Errors
    /// Every secret that is missing and every setting that a provider cannot use.
    pub fn of(loaded: Loaded, environment: &Environment, role: Role) -> Result<Self, Issues> {
        let Loaded { config, warnings, document } = loaded;
        if role.sends() {
            config.open_providers(environment)?;
        }
        let mut secrets = BTreeMap::new();
        if role.serves() {
            let settings = wiring::gateway(&config, environment)?;
            let hook = settings.supabase.into_iter().flat_map(|hook| hook.secrets);
            let all: Vec<String> = hook.map(|secret| secret.expose().to_owned()).collect();
            secrets.insert(secrets_path(), Secret::new(all.join("\n")));
        }
        for provider in &config.providers {
            for (key, secret) in provider.credentials(environment) {
                secrets.insert(KeyPath::of(&["providers", provider.name.as_str(), key]), secret);
            }
        }
        let unwritable = |e: serde_json::Error| wrong(Place::Defaults, &[], e.to_string());
        let document = document.effective().to_json().map_err(unwritable)?;
        Ok(Self { config, warnings, document, secrets })
    }

    /// Whether `other` says the same in everything.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        let secrets = |one: &Self| -> Vec<(KeyPath, String)> {
            one.secrets.iter().map(|(path, secret)| (path.clone(), secret.expose().to_owned())).collect()
        };
        self.document == other.document
            && self.config.broker == other.config.broker
            && secrets(self) == secrets(other)
    }
}

/// One error.
pub(super) fn wrong(place: Place, path: &[&str], problem: String) -> Issues {
    Issues(vec![Issue { severity: Severity::Error, place, path: KeyPath::of(path), problem }])
}

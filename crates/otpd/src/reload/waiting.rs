//! What of a changed config a running worker follows, and what waits for a restart.
//!
//! One key that waits holds nothing else up: a password, a ceiling or a route must be taken although an
//! address was edited in the same file. What a running worker goes by is then the config on disk with the
//! keys that wait as they were, and that is a config too: it passed the same checks, key by key.
//!
//! What depends on a key that waits, waits with it: all keys of a provider whose kind changed, and a route
//! that names a provider for which this worker has no lane yet.

use otpd_core::{ProviderName, RouteTable};
use serde_json::{Map, Value};

use super::difference::{Change, between};
use super::snapshot::Snapshot;
use crate::config::path::KeyPath;
use crate::config::{Config, ProviderConfig};

/// A changed config, divided.
pub(crate) struct Divided {
    /// What can be followed, with everything else as it is in effect.
    pub(crate) snapshot: Snapshot,
    /// The keys that are followed.
    pub(crate) live: Vec<Change>,
    /// The keys that only a restart applies.
    pub(crate) waiting: Vec<Change>,
}

impl Divided {
    /// Divides what is different in `found`.
    pub(crate) fn of(in_effect: &Snapshot, found: &Snapshot) -> Self {
        let changes = between(in_effect, found);
        let (waiting, live): (Vec<Change>, Vec<Change>) =
            changes.into_iter().partition(|change| waits(change, &in_effect.config, &found.config));
        if waiting.is_empty() {
            return Self { snapshot: found.clone(), live, waiting };
        }
        let mut snapshot = found.clone();
        snapshot.config = config(&in_effect.config, &found.config, &waiting);
        for change in &waiting {
            let path = &change.path;
            put_back(&mut snapshot.document, path.keys(), &in_effect.document);
            snapshot.secrets.retain(|secret, _| !secret.is_within(path));
            let former = in_effect.secrets.iter().filter(|(secret, _)| secret.is_within(path));
            snapshot.secrets.extend(former.map(|(path, secret)| (path.clone(), secret.clone())));
        }
        Self { snapshot, live, waiting }
    }
}

fn waits(change: &Change, in_effect: &Config, found: &Config) -> bool {
    match change.path.keys() {
        [section, name, ..] if section == "providers" => {
            let kind = |config: &Config| named(config, name).map(|provider| provider.kind);
            change.needs_restart() || kind(in_effect) != kind(found)
        }
        [section, name, ..] if section == "routes" => {
            change.needs_restart() || found.routes.get(name).is_some_and(|route| !has_lanes(in_effect, route))
        }
        _ => change.needs_restart(),
    }
}

fn named<'a>(config: &'a Config, name: &str) -> Option<&'a ProviderConfig> {
    config.providers.iter().find(|provider| provider.name.as_str() == name)
}

fn has_lanes(in_effect: &Config, route: &otpd_core::Route) -> bool {
    route.providers.iter().all(|provider| named(in_effect, provider.as_str()).is_some())
}

/// `found` with what waits as it is in effect. A key that is not named here is one that no part of a running
/// worker looks at again.
fn config(in_effect: &Config, found: &Config, waiting: &[Change]) -> Config {
    let mut config = found.clone();
    for change in waiting {
        let keys: Vec<&str> = change.path.keys().iter().map(String::as_str).collect();
        match keys.as_slice() {
            ["broker", "url"] => {
                config.broker.address.clone_from(&in_effect.broker.address);
                config.broker.sources.keep_urls_of(&in_effect.broker.sources);
            }
            ["broker", "prefix"] => config.broker.prefix.clone_from(&in_effect.broker.prefix),
            ["limits", "key"] => config.recipient_hasher.clone_from(&in_effect.recipient_hasher),
            ["dead", "retention"] => config.dead.retention = in_effect.dead.retention,
            ["admin", "listen"] => config.admin_listen = in_effect.admin_listen,
            ["gateway", "listen"] => config.gateway_listen = in_effect.gateway_listen,
            ["gateway", "public_url"] => config.gateway.public_url.clone_from(&in_effect.gateway.public_url),
            ["telemetry", "log_format"] => config.telemetry.log_format = in_effect.telemetry.log_format,
            ["telemetry", "otlp_endpoint"] => {
                config.telemetry.collector.clone_from(&in_effect.telemetry.collector);
            }
            ["telemetry", "trace_sample"] => config.telemetry.trace_sample = in_effect.telemetry.trace_sample,
            _ => {}
        }
    }
    config.providers = in_effect.providers.iter().map(|former| provider(former, found, waiting)).collect();
    config.routes = routes(in_effect, found);
    config
}

/// A provider of the lanes that run: as it is in `found`, but for the keys that wait.
fn provider(former: &ProviderConfig, found: &Config, waiting: &[Change]) -> ProviderConfig {
    let Some(new) = named(found, former.name.as_str()).filter(|new| new.kind == former.kind) else {
        return former.clone();
    };
    let waits =
        |key: &str| waiting.iter().any(|c| c.path == KeyPath::of(&["providers", former.name.as_str(), key]));
    let mut provider = new.clone();
    provider.callback_base.clone_from(&former.callback_base);
    if waits("ceiling") {
        provider.ceiling.clone_from(&former.ceiling);
    }
    if waits("owners") {
        provider.owners = former.owners;
    }
    provider
}

/// The routes of `found`; one that names a provider without a lane is as it was, or not there yet.
fn routes(in_effect: &Config, found: &Config) -> RouteTable {
    let lanes =
        in_effect.providers.iter().map(|provider: &ProviderConfig| -> ProviderName { provider.name.clone() });
    let named = found.routes.all().into_iter().filter_map(|route| {
        if has_lanes(in_effect, route) { Some(route) } else { in_effect.routes.get(route.name.as_str()) }
    });
    RouteTable::new(lanes, named.cloned())
}

/// Makes `document` say under this path what `former` says.
fn put_back(document: &mut Value, path: &[String], former: &Value) {
    let Some((key, rest)) = path.split_first() else { return };
    if !document.is_object() {
        *document = Value::Object(Map::new());
    }
    let Some(table) = document.as_object_mut() else { return };
    match former.get(key) {
        None => drop(table.remove(key)),
        Some(value) if rest.is_empty() => drop(table.insert(key.clone(), value.clone())),
        Some(value) => put_back(table.entry(key.clone()).or_insert(Value::Null), rest, value),
    }
}

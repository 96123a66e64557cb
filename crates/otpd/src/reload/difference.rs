//! What is different between two configs, key by key, and whether a running worker can follow.
//!
//! Found by comparing the documents, so that no key is forgotten: one that is not known here to be
//! followed needs a restart.

use std::collections::BTreeSet;
use std::fmt;

use otpd_core::ProviderName;
use serde_json::{Map, Value};

use super::snapshot::Snapshot;
use crate::config::path::KeyPath;

/// One key that is different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub path: KeyPath,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Added,
    Removed,
    /// A secret, which is not shown.
    Secret,
    /// User or password of the broker, which stays where it is.
    Credentials,
    Value {
        from: Option<String>,
        to: Option<String>,
    },
}

/// `providers.verihubs.ceiling: 50/s -> 30/s`; of a secret only that it changed.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.what {
            What::Added => write!(f, "{path}: added"),
            What::Removed => write!(f, "{path}: removed"),
            What::Secret => write!(f, "{path}: changed"),
            What::Credentials => write!(f, "{path}: other credentials, for new connections"),
            What::Value { from, to } => {
                let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
                write!(f, "{path}: {} -> {}", shown(from), shown(to))
            }
        }
    }
}

impl Change {
    /// Whether only a restart applies it: what the queues, the ports and the process were set up with.
    #[must_use]
    pub fn needs_restart(&self) -> bool {
        let keys: Vec<&str> = self.path.keys().iter().map(String::as_str).collect();
        match keys.as_slice() {
            // What was remembered by one key is not found by another.
            ["limits", "key"] => true,
            // Read anew for each connection, as long as it is the same broker.
            ["broker", "url"] => self.what != What::Credentials,
            ["broker", "ca"]
            | ["retry" | "routes" | "limits", ..]
            | ["worker", "shutdown_grace"]
            | ["dead", "keep_code"]
            | ["telemetry", "log_level"]
            | ["gateway", "keys" | "supabase", ..] => false,
            // Announcements and the owner's hand-over begin or end with the ceiling.
            ["providers", _, "ceiling"] => !matches!(&self.what, What::Value { from: Some(_), to: Some(_) }),
            // The queue itself is another one with one owner or many.
            ["providers", _, "kind" | "owners"] => true,
            ["providers", _, _] => false,
            _ => true,
        }
    }

    /// The provider that is reached in another way.
    #[must_use]
    pub fn another_way_to(&self) -> Option<ProviderName> {
        match self.path.keys() {
            [section, name, key] if section == "providers" => {
                let stays = matches!(key.as_str(), "ceiling" | "burst" | "on_ambiguous");
                ProviderName::parse(name).ok().filter(|_| !stays)
            }
            _ => None,
        }
    }
}

/// All that is different, in the order of the keys.
#[must_use]
pub fn between(from: &Snapshot, to: &Snapshot) -> Vec<Change> {
    let (url, ca) = (KeyPath::of(&["broker", "url"]), KeyPath::of(&["broker", "ca"]));
    let secrets: BTreeSet<&KeyPath> =
        from.secrets.keys().chain(to.secrets.keys()).chain([&url, &ca]).collect();
    let mut changes = Vec::new();
    compare(&KeyPath::default(), Some(&from.document), Some(&to.document), &secrets, &mut changes);
    let changed = secrets.into_iter().filter(|path| {
        let exposed = |one: &Snapshot| one.secrets.get(*path).map(|secret| secret.expose().to_owned());
        exposed(from) != exposed(to)
    });
    let (before, after) = (&from.config.broker, &to.config.broker);
    let address = (before.address() != after.address()).then_some(&url);
    let authorities = (before.ca != after.ca).then_some(&ca);
    // Behind the same place, or the same mask, may be another value.
    for path in changed.chain(address).chain(authorities) {
        if !changes.iter().any(|change| path.is_within(&change.path)) {
            changes.push(Change { path: path.clone(), what: What::Secret });
        }
    }
    if before.address().is_same_place(&after.address()) {
        for change in changes.iter_mut().filter(|change| change.path == url) {
            change.what = What::Credentials;
        }
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

fn compare(
    path: &KeyPath,
    from: Option<&Value>,
    to: Option<&Value>,
    secrets: &BTreeSet<&KeyPath>,
    changes: &mut Vec<Change>,
) {
    if from == to {
        return;
    }
    let none = Value::Object(Map::new());
    // A section that is not written is one without keys.
    let or_none = |value| Some(Option::unwrap_or(value, &none));
    let (from, to) = if path.keys().len() == 1 { (or_none(from), or_none(to)) } else { (from, to) };
    let what = match (from, to) {
        // A hash shows nothing, but what a short key was can be tried against it.
        _ if secrets.contains(path) || path.last() == "sha256" => What::Secret,
        (Some(Value::Object(from)), Some(Value::Object(to))) => {
            let keys: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
            for key in keys {
                compare(&path.with(key), from.get(key), to.get(key), secrets, changes);
            }
            return;
        }
        (None, Some(Value::Object(_))) => What::Added,
        (Some(Value::Object(_)), None) => What::Removed,
        (from, to) => What::Value { from: from.map(shown), to: to.map(shown) },
    };
    changes.push(Change { path: path.clone(), what });
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

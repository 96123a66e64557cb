//! From a table to a [`Document`], with every error in it, not only the first.
//!
//! serde stops at the first error. So each error is noted, the key it concerns is taken out, and what
//! is left is read again, until it reads: every round removes a key, so it ends.

use otpd_providers::Kind;
use toml::{Table, Value};

use super::document::Document;
use super::issue::{Issue, Severity};
use super::layers::Layers;
use super::path::KeyPath;
use super::provider_section;

/// After so many errors the rest is left unread.
const MOST: usize = 100;

/// Reads the table. Keys that were taken out are in the second part: what depends on them is not to be
/// complained about again.
pub(super) fn read(layers: &mut Layers) -> (Document, Vec<KeyPath>) {
    let mut removed = Vec::new();
    while removed.len() < MOST {
        let table = Value::Table(layers.table.clone());
        let error = match serde_path_to_error::deserialize::<_, Document>(table) {
            Ok(document) => return (document, removed),
            Err(error) => error,
        };
        let path = existing(&layers.table, KeyPath::from(error.path()));
        if let Some(text) = layers.origins.take_untyped(&path) {
            replace(&mut layers.table, &path, Value::String(text));
            continue;
        }
        let problem = explain(error.inner().message(), &path, &layers.table);
        let place = layers.origins.place(&path);
        layers.issues.push(Issue { severity: Severity::Error, place, path: path.clone(), problem });
        if !remove(&mut layers.table, &path) {
            break;
        }
        removed.push(path);
    }
    (Document::default(), vec![KeyPath::default()])
}

/// serde's words in ours: what it must be and what to write, never what was written.
fn explain(message: &str, path: &KeyPath, table: &Table) -> String {
    let message = message.lines().next().unwrap_or_default();
    let Some((_, expected)) = message.split_once(", expected ") else {
        return message.replace("{key}", path.last());
    };
    let expected = expected.trim_start_matches("one of ");
    let key = path.last();
    if message.starts_with("unknown field") {
        let known = known(path, table).unwrap_or_else(|| expected.replace('`', ""));
        format!("unknown key; known are {known}")
    } else if message.starts_with("unknown variant") {
        let first = expected.split('`').nth(1).unwrap_or_default();
        format!("must be one of {}; write for example {key} = \"{first}\"", expected.replace('`', ""))
    } else {
        match expected {
            "a boolean" => format!("must be true or false; write for example {key} = true"),
            "a string" => format!("must be a text; write for example {key} = \"...\""),
            other => format!("must be {other}"),
        }
    }
}

/// The keys that could be meant by an unknown one of a provider of this kind.
fn known(path: &KeyPath, table: &Table) -> Option<String> {
    let [providers, name, _] = path.keys() else { return None };
    let kind = table.get(providers)?.get(name)?.get("kind")?.as_str()?;
    let keys: Vec<&str> = provider_section::known(Kind::parse(kind)?).collect();
    (providers == "providers").then(|| keys.join(", "))
}

/// The longest part of `path` that is in `table`.
fn existing(table: &Table, path: KeyPath) -> KeyPath {
    let mut at = table;
    let mut found = KeyPath::default();
    for key in path.keys() {
        let Some(value) = at.get(key) else { return found };
        found = found.with(key);
        match value {
            Value::Table(inner) => at = inner,
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_) => return found,
        }
    }
    found
}

fn parent<'a>(table: &'a mut Table, path: &KeyPath) -> Option<&'a mut Table> {
    let (_, sections) = path.keys().split_last()?;
    sections.iter().try_fold(table, |table, key| table.get_mut(key)?.as_table_mut())
}

fn remove(table: &mut Table, path: &KeyPath) -> bool {
    parent(table, path).is_some_and(|table| table.remove(path.last()).is_some())
}

fn replace(table: &mut Table, path: &KeyPath, value: Value) {
    if let Some(table) = parent(table, path) {
        table.insert(path.last().to_owned(), value);
    }
}

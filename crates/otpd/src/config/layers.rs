//! The layers of a config: the file, then `OTPD__...` variables over it, then `--set` over both. What
//! comes out is one TOML table, and for every key the place where it was written, for the messages.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::issue::{Issue, Place, Severity};
use super::path::KeyPath;
use super::secret::Environment;

/// What every overriding variable begins with.
pub(super) const VARIABLE_PREFIX: &str = "OTPD__";

/// Where each key was written.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins {
    file: Option<String>,
    places: BTreeMap<KeyPath, Origin>,
}

#[derive(Clone, Debug)]
struct Origin {
    place: Place,
    /// What was written, where it came without a type: it may be a number or a text.
    untyped: Option<String>,
}

impl Origins {
    /// The place of `path`, or else of the nearest table around it.
    pub(super) fn place(&self, path: &KeyPath) -> Place {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if let Some(origin) = self.places.get(&path) {
                return origin.place.clone();
            }
            at = path.parent();
        }
        match &self.file {
            Some(file) => Place::File { file: file.clone(), line: 0 },
            None => Place::Defaults,
        }
    }

    /// The text of an override that was taken for something else than a text. Asked once: the text is
    /// all there is to fall back on.
    pub(super) fn take_untyped(&mut self, path: &KeyPath) -> Option<String> {
        self.places.get_mut(path).and_then(|origin| origin.untyped.take())
    }

    /// `path` was written anew, with all that is below it.
    fn write(&mut self, path: KeyPath, place: Place, untyped: Option<String>) {
        self.places.retain(|other, _| !other.is_within(&path));
        self.places.insert(path, Origin { place, untyped });
    }
}

/// All layers, one over the other.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) table: Table,
    pub(super) origins: Origins,
    pub(super) issues: Vec<Issue>,
}

impl Layers {
    /// Puts the file down. `name` is how messages call it.
    pub(super) fn file(&mut self, name: &str, text: &str) {
        self.origins.file = Some(name.to_owned());
        let lines = Lines::of(text);
        let place = |offset: usize| Place::File { file: name.to_owned(), line: lines.line(offset) };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            // toml's full message quotes the line, which may hold a secret.
            let problem = format!("not valid TOML: {}", error.message().replace('\n', " "));
            let offset = error.span().map_or(0, |span| span.start);
            self.issue(place(offset), KeyPath::default(), problem);
        }
        self.table = self.typed_table(table.get_ref(), &KeyPath::default(), &place);
    }

    /// Puts the variables over what is there.
    pub(super) fn variables(&mut self, environment: &Environment) {
        for (name, text) in environment.iter() {
            let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else { continue };
            let keys: Vec<&str> = rest.split("__").collect();
            let place = Place::Variable(name.to_owned());
            if keys.iter().any(|key| key.is_empty()) {
                let problem =
                    "must be named OTPD__SECTION__KEY; write for example OTPD__RETRY__MAX_ATTEMPTS=6";
                self.issue(place, KeyPath::default(), problem.to_owned());
            } else {
                self.put(&keys, text, place, Spelling::Variable);
            }
        }
    }

    /// Puts one `--set PATH=VALUE` over what is there.
    pub(super) fn set(&mut self, assignment: &str) {
        let split = assignment.split_once('=').map(|(path, value)| {
            let keys: Vec<&str> = path.split('.').map(str::trim).collect();
            (keys, value.trim())
        });
        match split {
            Some((keys, value)) if keys.iter().all(|key| !key.is_empty()) => {
                self.put(&keys, value, Place::Flag, Spelling::Exact);
            }
            Some(_) | None => {
                let problem = "must be PATH=VALUE; write for example --set retry.max_attempts=6";
                self.issue(Place::Flag, KeyPath::default(), problem.to_owned());
            }
        }
    }

    fn put(&mut self, keys: &[&str], text: &str, place: Place, spelling: Spelling) {
        let Some((last, sections)) = keys.split_last() else { return };
        let mut path = KeyPath::default();
        let mut table = &mut self.table;
        for key in sections {
            let key = spelling.find(table, key);
            path = path.with(&key);
            let below = table.entry(key).or_insert_with(|| {
                self.origins.write(path.clone(), place.clone(), None);
                Value::Table(Table::new())
            });
            let Value::Table(inner) = below else {
                let problem =
                    format!("is a value, not a table; give it a whole new value instead of `{last}` in it");
                self.issue(place, path, problem);
                return;
            };
            table = inner;
        }
        let key = spelling.find(table, last);
        let path = path.with(&key);
        let value = typed(text);
        let untyped = (!value.is_str()).then(|| text.to_owned());
        table.insert(key, value);
        self.origins.write(path, place, untyped);
    }

    fn typed_table(&mut self, table: &DeTable<'_>, path: &KeyPath, place: &dyn Fn(usize) -> Place) -> Table {
        let mut out = Table::new();
        for (key, value) in table {
            let path = path.with(key.get_ref());
            self.origins
                .places
                .insert(path.clone(), Origin { place: place(key.span().start), untyped: None });
            if let Some(value) = self.typed_value(value, &path, place) {
                out.insert(key.get_ref().to_string(), value);
            }
        }
        out
    }

    fn typed_value(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        path: &KeyPath,
        place: &dyn Fn(usize) -> Place,
    ) -> Option<Value> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Value::Table(self.typed_table(table, path, place))),
            DeValue::Array(all) => {
                let all = all.iter().filter_map(|one| self.typed_value(one, path, place));
                Some(Value::Array(all.collect()))
            }
            DeValue::String(text) => Some(Value::String(text.to_string())),
            DeValue::Boolean(yes) => Some(Value::Boolean(*yes)),
            DeValue::Datetime(at) => Some(Value::Datetime(*at)),
            DeValue::Integer(_) | DeValue::Float(_) => {
                let number = Value::deserialize(toml::de::ValueDeserializer::from(value.clone())).ok();
                if number.is_none() {
                    let problem = "is a number out of every range; write a smaller one";
                    self.issue(place(value.span().start), path.clone(), problem.to_owned());
                }
                number
            }
        }
    }

    fn issue(&mut self, place: Place, path: KeyPath, problem: String) {
        self.issues.push(Issue { severity: Severity::Error, place, path, problem });
    }
}

/// How an override names keys.
#[derive(Clone, Copy)]
enum Spelling {
    /// As the file does.
    Exact,
    /// In capitals, and without `-`, which shells do not take in a name.
    Variable,
}

impl Spelling {
    /// The key of `table` that is meant, or a new one.
    fn find(self, table: &Table, key: &str) -> String {
        let plain = |key: &str| key.to_ascii_lowercase().replace('-', "_");
        match self {
            Self::Exact => key.to_owned(),
            Self::Variable => {
                let known = table.keys().find(|known| plain(known) == plain(key));
                known.cloned().unwrap_or_else(|| key.to_ascii_lowercase())
            }
        }
    }
}

/// `text` as a TOML value where it is one, else as it stands.
fn typed(text: &str) -> Value {
    toml::de::ValueDeserializer::parse(text)
        .ok()
        .and_then(|value| Value::deserialize(value).ok())
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    /// The line of a place in the text, counted from 1.
    fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|newline| *newline < offset) + 1
    }
}

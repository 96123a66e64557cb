//! Secrets in the config: said outright, or by where they are. Reading the config does not open them;
//! a command that needs them does, so that an operator's laptop can list dead letters without the
//! provider's keys. Nothing here can be printed but the place.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use otpd_providers::Secret;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

/// What stands for a secret wherever the config is shown.
pub const MASK: &str = "***";
/// The largest file of a secret, in bytes.
pub const MAX_FILE: u64 = 64 * 1024;

/// What is read for a secret that is not there, where that is allowed: it passes every check that a secret of
/// any kind has to pass, and no provider takes it.
const STAND_IN: &str = "stand-in-for-a-secret-0123456789abcdef";

/// What a secret is that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Absent {
    /// An error: nothing can be sent without it.
    #[default]
    Error,
    /// Something else in its place, so that all the rest can be checked.
    StandIn,
}

/// The environment's variables, read once.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    absent: Absent,
}

impl Environment {
    /// The variables of this process; those that are no UTF-8 are left out.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The same, with something in the place of every secret that is not there: for a pipeline, which has none.
    #[must_use]
    pub fn with_stand_ins(self) -> Self {
        Self { absent: Absent::StandIn, ..self }
    }

    /// One variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(variables: T) -> Self {
        Self { variables: variables.into_iter().collect(), absent: Absent::Error }
    }
}

/// A secret as the config gives it.
#[derive(Clone)]
pub enum SecretSource {
    /// The secret itself.
    Literal(Secret),
    /// An environment variable.
    Env(String),
    /// A file; a newline at its end is not part of the secret.
    File(PathBuf),
}

impl SecretSource {
    fn read(value: Value) -> Option<Self> {
        match value {
            Value::String(text) if !text.is_empty() => Some(Self::Literal(Secret::new(text))),
            Value::Table(table) if table.len() == 1 => match table.into_iter().next()? {
                (key, Value::String(name)) if key == "env" && !name.is_empty() => Some(Self::Env(name)),
                (key, Value::String(path)) if key == "file" && !path.is_empty() => {
                    Some(Self::File(path.into()))
                }
                _ => None,
            },
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_)
            | Value::Table(_) => None,
        }
    }

    /// True if it is not there and something else is read in its place.
    #[must_use]
    pub fn is_stood_in(&self, environment: &Environment) -> bool {
        environment.absent == Absent::StandIn
            && match self {
                Self::Literal(_) => false,
                Self::Env(name) => environment.get(name).is_none(),
                Self::File(path) => !path.exists(),
            }
    }

    /// The secret.
    ///
    /// # Errors
    /// What is missing, and what to do about it.
    pub fn open(&self, environment: &Environment) -> Result<Secret, String> {
        if self.is_stood_in(environment) {
            return Ok(Secret::new(STAND_IN));
        }
        match self {
            Self::Literal(secret) => Ok(secret.clone()),
            Self::Env(name) => match environment.get(name) {
                Some(text) if !text.is_empty() => Ok(Secret::new(text)),
                Some(_) => Err(format!("the environment variable {name} is empty; set it to the secret")),
                None => Err(format!(
                    "the environment variable {name} is not set; set it, or write {{ file = \"/path/of/the/secret\" }}"
                )),
            },
            Self::File(path) => open_file(path),
        }
    }
}

fn open_file(path: &std::path::Path) -> Result<Secret, String> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|e| {
        format!("the secret's file {shown} cannot be read ({}); mount it, or correct the path", e.kind())
    })?;
    if !size.is_file() || size.len() > MAX_FILE {
        return Err(format!("{shown} is not a file of at most 64 KiB; write the secret alone into it"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| {
        format!("the secret's file {shown} cannot be read ({}); let otpd's user read it", e.kind())
    })?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(format!("the secret's file {shown} is empty; write the secret into it"));
    }
    Ok(Secret::new(line))
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).ok().and_then(Self::read).ok_or_else(|| {
            D::Error::custom(
                r#"must be a text, { env = "NAME" } or { file = "/path" }; write for example {key} = { env = "NAME" }"#,
            )
        })
    }
}

/// A literal is shown as `***`; the place of a secret is no secret.
impl Serialize for SecretSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let one = |serializer: S, key: &str, value: &str| {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(key, value)?;
            map.end()
        };
        match self {
            Self::Literal(_) => serializer.serialize_str(MASK),
            Self::Env(name) => one(serializer, "env", name),
            Self::File(path) => one(serializer, "file", &path.to_string_lossy()),
        }
    }
}

impl JsonSchema for SecretSource {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let place = |key: &str| {
            json_schema!({
                "type": "object",
                "properties": { key: { "type": "string", "minLength": 1 } },
                "required": [key],
                "additionalProperties": false,
            })
        };
        json_schema!({
            "description": "A secret: `{ env = \"NAME\" }`, `{ file = \"/run/secrets/name\" }`, or the text itself (`config check` warns).",
            "anyOf": [place("env"), place("file"), { "type": "string", "minLength": 1 }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opened_from_where_it_is() {
        let environment: Environment =
            [("KEY".to_owned(), "s3cret".to_owned()), ("NONE".to_owned(), String::new())]
                .into_iter()
                .collect();
        let folder = std::env::temp_dir().join(format!("otpd-secret-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (content, is) in
            [("abc\n", Some("abc")), ("abc\r\n", Some("abc")), ("a\n\n", Some("a\n")), ("\n", None)]
        {
            let path = folder.join("secret");
            std::fs::write(&path, content).unwrap();
            let opened = SecretSource::File(path).open(&environment);
            assert_eq!(opened.ok().as_ref().map(Secret::expose), is, "{content:?}");
        }
        let open = |source: SecretSource| source.open(&environment).map(|s| s.expose().to_owned());
        assert_eq!(open(SecretSource::Env("KEY".into())).unwrap(), "s3cret");
        assert!(open(SecretSource::Env("NONE".into())).unwrap_err().contains("NONE is empty"));
        assert!(open(SecretSource::Env("GONE".into())).unwrap_err().contains("GONE is not set; set it"));
        assert!(open(SecretSource::File(folder.join("gone"))).unwrap_err().contains("cannot be read"));
        assert!(open(SecretSource::File(folder.clone())).unwrap_err().contains("is not a file"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

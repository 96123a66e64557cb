//! The effective config, as an operator may see it: every default filled in, every secret masked.

use otpd_providers::{DEFAULT_API_VERSION, DEFAULT_TEXT, Kind, Secret, keys};
use serde_json::Value;

use super::broker::{LOCAL, UrlSource, UrlSources};
use super::document::Document;
use super::provider_section::ProviderSection;
use super::secret::SecretSource;

impl Document {
    /// The same with the defaults that depend on other keys written out.
    #[must_use]
    pub fn effective(mut self) -> Self {
        let local = || UrlSources(vec![UrlSource(SecretSource::Literal(Secret::new(LOCAL)))]);
        self.broker.url.get_or_insert_with(local);
        for section in self.providers.values_mut() {
            fill(section);
        }
        self
    }

    /// As JSON, secrets masked.
    ///
    /// # Errors
    /// Where serde_json cannot write it, which no valid document brings about.
    pub fn to_json(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }

    /// As TOML, secrets masked. It reads back as a config (with `***` for secrets).
    ///
    /// # Errors
    /// Where toml cannot write it, which no valid document brings about.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

fn fill(section: &mut ProviderSection) {
    let Some(kind) = section.kind.map(|kind| kind.0) else { return };
    if let (None, Some(url)) = (&section.base_url, kind.default_base_url()) {
        section.base_url = Some(url.to_owned());
    }
    if kind == Kind::MetaCloud {
        section.api_version.get_or_insert_with(|| DEFAULT_API_VERSION.to_owned());
    }
    if keys(kind).optional.contains(&"text") {
        section.text.get_or_insert_with(|| DEFAULT_TEXT.to_owned());
    }
}

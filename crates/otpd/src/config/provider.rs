//! Providers: checked with what is known about their kinds when the config is read, opened (secrets
//! read, adapter made) only by the commands that send.

use std::fmt;
use std::sync::Arc;

use otpd_core::{OnAmbiguous, ProviderName, Rate, TemplateChoice};
use otpd_providers::{
    Adapter, Authorities, DEFAULT_API_VERSION, DEFAULT_TEXT, HttpLimits, HttpOptions, HttpVersion, Kind,
    ProviderSettings, Secret, SetupError,
};
use otpd_queue::Owners;

use super::issue::{Issue, Issues, Severity};
use super::layers::Origins;
use super::path::KeyPath;
use super::provider_section::ProviderSection;
use super::secret::{Environment, SecretSource};

/// One provider, checked; its secrets still where they are.
#[derive(Clone)]
pub struct ProviderConfig {
    /// Its name: of its lane, its route, its labels.
    pub name: ProviderName,
    /// Which provider's API.
    pub kind: Kind,
    /// All of these hold; empty: unlimited.
    pub ceiling: Vec<Rate>,
    /// How many of the ceiling may start at one moment; `None`: all.
    pub burst: Option<u32>,
    /// How many workers may consume its lane at once.
    pub owners: Owners,
    /// How many requests may be open at once, and for how long.
    pub http: HttpLimits,
    /// Which HTTP is spoken.
    pub http_version: HttpVersion,
    /// What to do when nobody can tell whether a message was sent.
    pub on_ambiguous: OnAmbiguous,
    /// How providers reach the gateway from outside (`gateway.public_url`).
    pub(crate) callback_base: Option<Arc<str>>,
    pub(super) section: ProviderSection,
    pub(super) origins: Origins,
}

/// A provider ready to be sent to.
pub struct OpenProvider {
    /// Its name.
    pub name: ProviderName,
    /// How to speak to it, credentials included.
    pub adapter: Adapter,
    /// How it is reached.
    pub http: HttpOptions,
    /// What its callbacks are checked with.
    pub callbacks: CallbackSecrets,
}

/// What the gateway checks a provider's callbacks with. `Debug` shows nothing of them.
#[derive(Clone, Default)]
pub struct CallbackSecrets {
    /// The last part of the callback address.
    pub token: Option<Secret>,
    /// What the provider signs with (Msgai).
    pub signature: Option<Secret>,
    /// What the app signs with (Meta Cloud API).
    pub app: Option<Secret>,
    /// What registering the address is proved with (Meta Cloud API).
    pub verify: Option<Secret>,
}

impl fmt::Debug for CallbackSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackSecrets(***)")
    }
}

impl fmt::Debug for OpenProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenProvider").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Shows no key of a kind, so no secret.
impl fmt::Debug for ProviderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderConfig")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("ceiling", &self.ceiling)
            .finish_non_exhaustive()
    }
}

impl ProviderConfig {
    /// Where requests go.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.section.base_url.as_deref().or(self.kind.default_base_url()).unwrap_or_default()
    }

    /// True if it may call back.
    pub(super) fn calls_back(&self) -> bool {
        self.section.callback_token.is_some()
    }

    /// Every secret that it names and that is there, by its key.
    #[must_use]
    pub fn credentials(&self, environment: &Environment) -> Vec<(&'static str, Secret)> {
        let named = self.section.secrets().into_iter();
        named.filter_map(|(key, source)| Some((key, source.open(environment).ok()?))).collect()
    }

    /// Reads the secrets and makes the adapter.
    ///
    /// # Errors
    /// Every secret that is not there, and the first setting that the adapter refuses.
    pub fn open(&self, environment: &Environment) -> Result<OpenProvider, Issues> {
        let mut opening = Opening { provider: self, environment, issues: Issues::default() };
        let callbacks = opening.callbacks();
        let ca = opening
            .optional("ca", self.section.ca.as_ref().filter(|source| !source.is_stood_in(environment)));
        let settings = opening.settings(&callbacks);
        match settings {
            Some(settings) if opening.issues.0.is_empty() => match self.reached(settings, ca.as_ref()) {
                Ok((adapter, http)) => {
                    return Ok(OpenProvider { name: self.name.clone(), adapter, http, callbacks });
                }
                Err(SetupError::Setting { key, problem }) => opening.issue(key, problem.to_owned()),
                Err(other @ (SetupError::NoTls | SetupError::Authorities(_) | SetupError::Client(_))) => {
                    opening.issue("base_url", other.to_string());
                }
            },
            Some(_) | None => {}
        }
        Err(opening.issues)
    }

    /// Reads the secrets that its callbacks are checked with, and no others.
    ///
    /// # Errors
    /// Every one of them that is not there.
    pub fn callbacks(&self, environment: &Environment) -> Result<CallbackSecrets, Issues> {
        let mut opening = Opening { provider: self, environment, issues: Issues::default() };
        let callbacks = opening.callbacks();
        if opening.issues.0.is_empty() { Ok(callbacks) } else { Err(opening.issues) }
    }

    /// Where this provider calls back, without the job: what the config says, or else the gateway's own address.
    fn callback_url(&self, callbacks: &CallbackSecrets) -> Option<String> {
        let by_gateway = || {
            let (base, token) = (self.callback_base.as_ref()?, callbacks.token.as_ref()?);
            Some(format!("{base}/callbacks/{}/{}", self.name, token.expose()))
        };
        self.section.callback_url.clone().or_else(by_gateway)
    }

    /// How to speak to it, and how it is reached.
    fn reached(
        &self,
        settings: ProviderSettings,
        ca: Option<&Secret>,
    ) -> Result<(Adapter, HttpOptions), SetupError> {
        let authorities = ca.map(|pem| Authorities::from_pem(pem.expose().as_bytes())).transpose()?;
        let http = HttpOptions {
            limits: self.http,
            version: self.http_version,
            authorities: authorities.unwrap_or_default(),
            ..HttpOptions::default()
        };
        Ok((Adapter::new(settings)?, http))
    }
}

struct Opening<'a> {
    provider: &'a ProviderConfig,
    environment: &'a Environment,
    issues: Issues,
}

impl Opening<'_> {
    fn callbacks(&mut self) -> CallbackSecrets {
        let section = &self.provider.section;
        CallbackSecrets {
            token: self.optional("callback_token", section.callback_token.as_ref()),
            signature: self.optional("signature_secret", section.signature_secret.as_ref()),
            app: self.optional("app_secret", section.app_secret.as_ref()),
            verify: self.optional("verify_token", section.verify_token.as_ref()),
        }
    }

    fn settings(&mut self, callbacks: &CallbackSecrets) -> Option<ProviderSettings> {
        let section = &self.provider.section;
        let base_url = self.provider.base_url().to_owned();
        let settings = match self.provider.kind {
            Kind::Verihubs => {
                let (app_id, api_key) = (
                    self.secret("app_id", section.app_id.as_ref()),
                    self.secret("api_key", section.api_key.as_ref()),
                );
                ProviderSettings::Verihubs {
                    base_url,
                    app_id: app_id?,
                    api_key: api_key?,
                    callback_url: self.provider.callback_url(callbacks),
                    template: template(section),
                }
            }
            Kind::Msgai => ProviderSettings::Msgai {
                base_url,
                api_key: self.secret("api_key", section.api_key.as_ref())?,
                template: template(section),
            },
            Kind::OneMsg => ProviderSettings::OneMsg {
                base_url,
                channel_id: self.text("channel_id", section.channel_id.as_ref())?,
                token: self.secret("token", section.token.as_ref())?,
                template: template(section),
            },
            Kind::MetaCloud => ProviderSettings::MetaCloud {
                base_url,
                phone_number_id: self.text("phone_number_id", section.phone_number_id.as_ref())?,
                token: self.secret("token", section.token.as_ref())?,
                api_version: section.api_version.clone().unwrap_or_else(|| DEFAULT_API_VERSION.to_owned()),
                template: template(section),
            },
            Kind::MetaOnPrem => ProviderSettings::MetaOnPrem {
                base_url,
                username: self.text("username", section.username.as_ref())?,
                password: self.secret("password", section.password.as_ref())?,
                template: template(section),
            },
            Kind::Betatel => {
                let (api_key, account_id) = (
                    self.secret("api_key", section.api_key.as_ref()),
                    self.secret("account_id", section.account_id.as_ref()),
                );
                ProviderSettings::Betatel {
                    base_url,
                    api_key: api_key?,
                    account_id: account_id?,
                    text: section.text.clone().unwrap_or_else(|| DEFAULT_TEXT.to_owned()),
                }
            }
        };
        Some(settings)
    }

    fn text(&mut self, key: &str, text: Option<&String>) -> Option<String> {
        if text.is_none() {
            self.issue(key, "is missing".to_owned());
        }
        text.cloned()
    }

    fn secret(&mut self, key: &str, source: Option<&SecretSource>) -> Option<Secret> {
        if source.is_none() {
            self.issue(key, "is missing".to_owned());
        }
        self.optional(key, source)
    }

    fn optional(&mut self, key: &str, source: Option<&SecretSource>) -> Option<Secret> {
        match source?.open(self.environment) {
            Ok(secret) => Some(secret),
            Err(problem) => {
                self.issue(key, problem);
                None
            }
        }
    }

    fn issue(&mut self, key: &str, problem: String) {
        let path = KeyPath::of(&["providers", self.provider.name.as_str(), key]);
        let place = self.provider.origins.place(&path);
        self.issues.0.push(Issue { severity: Severity::Error, place, path, problem });
    }
}

fn template(section: &ProviderSection) -> TemplateChoice {
    let part = |text: &Option<String>| text.as_deref().map(Into::into);
    TemplateChoice {
        name: part(&section.template),
        language: part(&section.language),
        namespace: part(&section.namespace),
    }
}

//! `[gateway]`, held against the routes there are; made into what the gateway goes by.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use otpd_core::{ProviderName, RouteName, RouteTable};
use otpd_gateway::{ApiKey, HookSignature, SupabaseHook};

use super::check::Check;
use super::gateway_section::{GatewaySection, KeySection, SupabaseSection};
use super::issue::{Issue, Issues, Place, Severity};
use super::path::KeyPath;
use super::provider::ProviderConfig;
use super::secret::{Environment, SecretSource};

/// The gateway, checked; its secrets still where they are.
#[derive(Clone, Default)]
pub struct GatewayConfig {
    /// How it is reached from outside.
    pub public_url: Option<Arc<str>>,
    /// The API keys.
    pub keys: Vec<ApiKey>,
    /// The Supabase hook.
    pub supabase: Option<SupabaseConfig>,
}

impl fmt::Debug for GatewayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayConfig").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// The Supabase hook, checked.
#[derive(Clone)]
pub struct SupabaseConfig {
    /// Where its codes go.
    pub route: RouteName,
    /// True if it takes the Msgai document's signature.
    pub legacy_hex: bool,
    secrets: Vec<SecretSource>,
    place: Place,
}

impl GatewayConfig {
    /// The hook, with its secrets.
    ///
    /// # Errors
    /// Every one of them that is not there, or is none.
    pub fn hook(&self, environment: &Environment) -> Result<Option<SupabaseHook>, Issues> {
        let Some(hook) = &self.supabase else { return Ok(None) };
        let signature = if hook.legacy_hex { HookSignature::LegacyHex } else { HookSignature::Standard };
        let (mut issues, mut secrets) = (Issues::default(), Vec::with_capacity(hook.secrets.len()));
        for source in &hook.secrets {
            let opened = source.open(environment).and_then(|secret| {
                let wrong = SupabaseHook::cannot_use(&secret, signature) && !source.is_stood_in(environment);
                if wrong { Err(NO_SECRET.to_owned()) } else { Ok(secret) }
            });
            match opened {
                Ok(secret) => secrets.push(secret),
                Err(problem) => issues.0.push(Issue {
                    severity: Severity::Error,
                    place: hook.place.clone(),
                    path: secrets_path(),
                    problem,
                }),
            }
        }
        if !issues.0.is_empty() {
            return Err(issues);
        }
        Ok(Some(SupabaseHook { secrets, route: hook.route.clone(), signature }))
    }
}

/// Said of a secret that signs nothing.
const NO_SECRET: &str =
    "is not a secret as Supabase shows it; copy it whole from Authentication, Hooks: v1,whsec_ and base64";

/// Where the secrets of the hook are.
pub(crate) fn secrets_path() -> KeyPath {
    KeyPath::of(&["gateway", "supabase", "secrets"])
}

/// Warns of routes that wait for deliveries that nobody tells of.
pub(super) fn confirmations(check: &mut Check, providers: &[ProviderConfig], routes: &RouteTable) {
    for route in routes.all().into_iter().filter(|route| route.confirm_within.is_some()) {
        let tells = |name: &ProviderName| {
            providers.iter().find(|provider| provider.name == *name).is_none_or(ProviderConfig::calls_back)
        };
        // Of the last one nothing is awaited: there is no next provider.
        let awaited = route.providers.iter().take(route.providers.len().saturating_sub(1));
        for silent in awaited.filter(|name| !tells(name)) {
            check.warning(
                &KeyPath::of(&["routes", route.name.as_str(), "confirm_within"]),
                format!(
                    "waits for deliveries, and providers.{silent} has no callback_token by which it could tell of them, so that every code would be sent twice; set callback_token there, or leave confirm_within out"
                ),
            );
        }
    }
}

/// Checks the section. What is wrong is noted, and left out.
pub(super) fn gateway(check: &mut Check, section: &GatewaySection, routes: &RouteTable) -> GatewayConfig {
    let at = KeyPath::of(&["gateway"]);
    let keys = section.keys.iter().filter_map(|(name, key)| {
        let at = at.with("keys").with(name);
        self::key(check, &at, name, key, routes)
    });
    let keys = keys.collect();
    let supabase = section.supabase.as_ref().and_then(|hook| {
        let at = at.with("supabase");
        supabase(check, &at, hook, routes)
    });
    let public_url = section.public_url.as_ref().map(|url| url.0.as_str().into());
    GatewayConfig { public_url, keys, supabase }
}

fn key(
    check: &mut Check,
    at: &KeyPath,
    name: &str,
    section: &KeySection,
    routes: &RouteTable,
) -> Option<ApiKey> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    if !(1..=32).contains(&name.len()) || !name.bytes().all(allowed) {
        check.error(at, "the name of a key must be 1 to 32 of a-z 0-9 _ -");
    }
    let mut known = BTreeSet::new();
    for route in &section.routes.0 {
        known.extend(self::route(check, &at.with("routes"), route, routes));
    }
    let rate = section.rate.as_ref().and_then(|rates| match rates.0.as_slice() {
        [rate] => Some(*rate),
        _ => {
            check.error(&at.with("rate"), "must be one rate; write for example rate = \"50/s\"");
            None
        }
    });
    let daily = section.daily.map(|count| count.0);
    Some(ApiKey { name: name.into(), sha256: section.sha256.0, routes: known, rate, daily })
}

fn supabase(
    check: &mut Check,
    at: &KeyPath,
    section: &SupabaseSection,
    routes: &RouteTable,
) -> Option<SupabaseConfig> {
    if section.secrets.is_empty() {
        check.error(
            &at.with("secrets"),
            "must be a list of at least one secret; write for example secrets = [{ env = \"SUPABASE_HOOK_SECRET\" }]",
        );
    }
    if section.legacy_hex {
        check.warning(
            &at.with("legacy_hex"),
            "takes a signature without a time, so that a recorded request can be repeated; set it to false once the caller signs as Supabase does",
        );
    }
    let route = route(check, &at.with("route"), &section.route, routes)?;
    let place = check.place(&secrets_path());
    Some(SupabaseConfig { route, legacy_hex: section.legacy_hex, secrets: section.secrets.clone(), place })
}

fn route(check: &mut Check, at: &KeyPath, name: &str, routes: &RouteTable) -> Option<RouteName> {
    let known = routes.get(name).map(|route| route.name.clone());
    let sections = ["providers", "routes"].map(|section| KeyPath::of(&[section]));
    if known.is_none() && !sections.iter().any(|section| check.is_incomplete(section)) {
        check
            .error(at, "names a route that there is not; write the name of a [routes.NAME] or of a provider");
    }
    known
}

//! What the gateway goes by: plain types that the config makes. All of it may change while the gateway runs
//! ([`Gateway::apply`](crate::Gateway::apply)).

use std::collections::BTreeSet;
use std::fmt;

use otpd_core::{ProviderName, Rate, RouteName};
use otpd_providers::{CallbackReader, Secret};

/// What the gateway goes by.
#[derive(Debug, Default)]
pub struct Settings {
    /// All routes, each provider's own included.
    pub routes: BTreeSet<RouteName>,
    /// The keys.
    pub keys: Vec<ApiKey>,
    /// The providers that may call back.
    pub callbacks: Vec<CallbackSource>,
    /// The Supabase hook, where it is on.
    pub supabase: Option<SupabaseHook>,
}

/// A provider that may call back.
pub struct CallbackSource {
    /// Its name, in the address too.
    pub provider: ProviderName,
    /// The part of the address that nobody can guess.
    pub token: Secret,
    /// Reads what it says.
    pub reader: CallbackReader,
}

impl fmt::Debug for CallbackSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackSource").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// The Supabase send-sms hook.
pub struct SupabaseHook {
    /// Its secrets as Supabase shows them; any of them counts.
    pub secrets: Vec<Secret>,
    /// Where its codes go.
    pub route: RouteName,
    /// Which signature it bears.
    pub signature: HookSignature,
}

impl SupabaseHook {
    /// True if nothing can be signed with this secret.
    #[must_use]
    pub fn cannot_use(secret: &Secret, signature: HookSignature) -> bool {
        signature == HookSignature::Standard && crate::webhook::standard_key(secret).is_none()
    }
}

/// How a hook is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookSignature {
    /// As Standard Webhooks says, and Supabase does.
    Standard,
    /// As the Msgai document says: a hexadecimal HMAC of the body, without a time.
    LegacyHex,
}

impl fmt::Debug for SupabaseHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupabaseHook").field("route", &self.route).finish_non_exhaustive()
    }
}

/// An API key. The key itself is not known, only its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// What the config calls it; its counts belong to the name.
    pub name: Box<str>,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// The routes whose jobs it may send and see.
    pub routes: BTreeSet<RouteName>,
    /// How many jobs it may send in which time, at each gateway.
    pub rate: Option<Rate>,
    /// How many jobs it may send in a day (UTC), at each gateway.
    pub daily: Option<u32>,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("name", &self.name)
            .field("routes", &self.routes)
            .finish_non_exhaustive()
    }
}

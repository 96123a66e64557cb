//! From a config to the lanes that run: transports, settings, what they share, and the orders by which
//! running lanes follow another config.

use std::collections::BTreeMap;
use std::sync::Arc;

use otpd_core::ProviderName;
use otpd_gateway::{CallbackSource, Settings};
use otpd_providers::{CallbackKeys, CallbackReader, Kind, Transport};
use otpd_worker::{Board, Clock, LaneSettings, Memory, Orders, RecipientKeys, Shared};

use crate::config::{CallbackSecrets, Config, Environment, Issues, OpenProvider, ProviderConfig};
use crate::failure::Failure;

/// The ways to the providers, by name.
pub(crate) type Transports = BTreeMap<ProviderName, Arc<Transport>>;

/// A lane's settings and transport, for each provider. Secrets are read here.
///
/// # Errors
/// Every secret that is missing and every setting that cannot be used.
pub(crate) fn lanes(
    config: &Config,
    environment: &Environment,
    clock: Clock,
) -> Result<Vec<(LaneSettings, Arc<Transport>)>, Failure> {
    let open = config.open_providers(environment)?;
    let mut lanes = Vec::with_capacity(open.len());
    for (provider, open) in config.providers.iter().zip(open) {
        lanes.push((settings(provider), transport(provider, open, clock)?));
    }
    Ok(lanes)
}

/// The way to one provider.
///
/// # Errors
/// A setting that cannot be used.
pub(crate) fn transport(
    provider: &ProviderConfig,
    open: OpenProvider,
    clock: Clock,
) -> Result<Arc<Transport>, Failure> {
    let clocks = otpd_providers::Clock::new(move || clock.mono(), move || clock.wall());
    let transport = Transport::new(open.adapter, open.http, clocks)
        .map_err(|e| Failure::Failed(format!("providers.{}: {e}", provider.name)))?;
    Ok(Arc::new(transport))
}

fn settings(provider: &ProviderConfig) -> LaneSettings {
    LaneSettings {
        provider: provider.name.clone(),
        ceiling: provider.ceiling.clone(),
        burst: provider.burst,
        max_in_flight: provider.http.max_in_flight,
        on_ambiguous: provider.on_ambiguous,
    }
}

/// What all lanes of a config share.
pub(crate) fn shared(config: &Config, clock: Clock) -> Shared {
    Shared {
        routes: Arc::new(config.routes.clone()),
        retry: config.retry,
        keep_code: config.dead.keep_code,
        recipients: match &config.recipient_hasher {
            Some(hasher) => RecipientKeys::OfTheFleet(hasher.clone()),
            None => RecipientKeys::private(),
        },
        memory: Arc::new(Memory::new(clock, config.recipient_limits.clone())),
        board: Arc::new(Board::new(config.providers.iter().map(|p| p.name.clone()))),
    }
}

/// What running lanes are told to go by this config. A lane without a transport is told nothing.
pub(crate) fn orders(config: &Config, transports: &Transports) -> Vec<Orders<Transport>> {
    let routes = Arc::new(config.routes.clone());
    let order = |provider: &ProviderConfig| {
        Some(Orders {
            settings: settings(provider),
            routes: routes.clone(),
            retry: config.retry,
            keep_code: config.dead.keep_code,
            grace: config.shutdown_grace,
            endpoint: transports.get(&provider.name)?.clone(),
        })
    };
    config.providers.iter().filter_map(order).collect()
}

/// The gateway's own clocks are the worker's.
pub(crate) fn gateway_clock(clock: Clock) -> otpd_gateway::Clock {
    otpd_gateway::Clock::new(move || clock.mono(), move || clock.wall())
}

/// What a gateway goes by. Of the secrets only those of callbacks and of the hook are read.
///
/// # Errors
/// Every secret that is missing or cannot be used.
pub(crate) fn gateway(config: &Config, environment: &Environment) -> Result<Settings, Issues> {
    let mut issues = Issues::default();
    let mut callbacks = Vec::new();
    for provider in &config.providers {
        match provider.callbacks(environment) {
            Ok(secrets) => callbacks.extend(callback(provider, secrets)),
            Err(more) => issues.0.extend(more.0),
        }
    }
    let supabase = match config.gateway.hook(environment) {
        Ok(hook) => hook,
        Err(more) => {
            issues.0.extend(more.0);
            None
        }
    };
    let routes = config.routes.all().into_iter().map(|route| route.name.clone()).collect();
    if issues.0.is_empty() {
        Ok(Settings { routes, keys: config.gateway.keys.clone(), callbacks, supabase })
    } else {
        Err(issues)
    }
}

/// How a provider's callbacks are read, where it may call back.
fn callback(provider: &ProviderConfig, secrets: CallbackSecrets) -> Option<CallbackSource> {
    let signature = match provider.kind {
        Kind::MetaCloud => secrets.app,
        Kind::Msgai => secrets.signature,
        Kind::Verihubs | Kind::OneMsg | Kind::MetaOnPrem | Kind::Betatel => None,
    };
    let keys = CallbackKeys { signature, verify_token: secrets.verify, ..CallbackKeys::default() };
    let reader = CallbackReader::new(provider.kind, &keys);
    Some(CallbackSource { provider: provider.name.clone(), token: secrets.token?, reader })
}

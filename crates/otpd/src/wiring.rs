//! From a config to the lanes that run: transports, settings, what they share, and the orders by which
//! running lanes follow another config.

use std::collections::BTreeMap;
use std::sync::Arc;

use otpd_core::ProviderName;
use otpd_providers::Transport;
use otpd_worker::{Board, Clock, LaneSettings, Memory, Orders, RecipientKeys, Shared};

use crate::config::{Config, Environment, OpenProvider, ProviderConfig};
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

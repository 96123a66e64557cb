//! From a config to the lanes that run: transports, settings, what they share.

use std::sync::{Arc, Mutex};

use otpd_core::Recipients;
use otpd_providers::Transport;
use otpd_worker::{Board, Clock, LaneSettings, Shared};

use crate::config::{Config, Environment};
use crate::failure::Failure;

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
        let clocks = otpd_providers::Clock::new(move || clock.mono(), move || clock.wall());
        let transport = Transport::new(open.adapter, provider.http, clocks)
            .map_err(|e| Failure::Failed(format!("providers.{}: {e}", provider.name)))?;
        let settings = LaneSettings {
            provider: provider.name.clone(),
            ceiling: provider.ceiling.clone(),
            burst: provider.burst,
            max_in_flight: provider.http.max_in_flight,
            on_ambiguous: provider.on_ambiguous,
        };
        lanes.push((settings, Arc::new(transport)));
    }
    Ok(lanes)
}

/// What all lanes of a config share.
pub(crate) fn shared(config: &Config) -> Shared {
    Shared {
        routes: Arc::new(config.routes.clone()),
        retry: config.retry,
        keep_code: config.dead.keep_code,
        recipients: Arc::new(Mutex::new(Recipients::new(config.recipient_limits.clone()))),
        board: Arc::new(Board::new(config.providers.iter().map(|p| p.name.clone()))),
    }
}

//! `otpd gateway`: HTTP in. Also the gateway's part of `otpd serve`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use otpd_gateway::{Gateway, Serving, Settings};
use otpd_queue::Queue;
use otpd_worker::{Clock, Metrics};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Lanes, Shown};
use crate::config::{Config, Loaded, Sources};
use crate::failure::Failure;
use crate::reload::snapshot::{Role, Snapshot};
use crate::reload::{Log, Reloader, Reloads, Start, Told};
use crate::{open, queue_metrics, signals, version, wiring};

/// How long connections to the queue may take to end in order.
const CLOSING: Duration = Duration::from_secs(1);

/// A gateway that runs.
pub(crate) struct Running {
    stop: CancellationToken,
    serving: Serving,
    following: JoinHandle<()>,
}

impl Running {
    /// Listens, and follows the events.
    ///
    /// # Errors
    /// Where the address cannot be listened on.
    pub(crate) async fn start(gateway: &Gateway, config: &Config) -> Result<Self, Failure> {
        let stop = CancellationToken::new();
        let listen = config.gateway_listen;
        let serving = otpd_gateway::serve(listen, gateway, stop.clone()).await;
        let serving = serving
            .map_err(|e| Failure::Failed(format!("gateway.listen = \"{listen}\" cannot be used: {e}")))?;
        tracing::info!(gateway = %serving.at, keys = config.gateway.keys.len(), "the gateway listens");
        if config.gateway.keys.is_empty() {
            tracing::warn!("there is no [gateway.keys.NAME]: nobody can send through /v1/jobs");
        }
        let following = tokio::spawn(gateway.clone().follow());
        Ok(Self { stop, serving, following })
    }

    /// Accepts nothing more and answers what is under way.
    pub(crate) async fn drain(self) {
        self.stop.cancel();
        if !self.serving.ended().await {
            tracing::warn!("some requests took too long and were not answered");
        }
        self.following.abort();
    }
}

/// A gateway of this config on this queue, counted in these metrics.
pub(crate) fn of(queue: &Queue, settings: Settings, clock: Clock, metrics: &Metrics) -> Gateway {
    let gateway = Gateway::new(queue.clone(), settings, wiring::gateway_clock(clock));
    metrics.extend(|registry| gateway.register(registry));
    gateway
}

/// Runs until SIGTERM or SIGINT; a second one ends at once.
///
/// # Errors
/// Where the config's secrets or the ports are not as they must be.
pub async fn run(loaded: Loaded, sources: Sources, log: Log) -> Result<(), Failure> {
    // Before anything else: a SIGHUP that nobody listens to ends the process.
    let hangup = signal(SignalKind::hangup())
        .map_err(|e| Failure::Failed(format!("SIGHUP cannot be listened to: {e}")))?;
    let in_effect = Snapshot::of(loaded, &sources.environment, Role::Gateway)?;
    let config = &in_effect.config.clone();
    let clock = Clock::system();
    let settings = wiring::gateway(config, &sources.environment)?;
    let queue = open::queue(config, open::source())?;
    let metrics = Arc::new(Metrics::new());
    metrics.built_from(version::VERSION, version::REVISION);
    queue_metrics::register(&metrics, &queue);
    let counted = Reloads::register(&metrics);
    let gateway = of(&queue, settings, clock, &metrics);
    let mut asked = std::pin::pin!(signals::asked_to_end());
    let ended = CancellationToken::new();
    let no_lanes: Option<Arc<OnceLock<Lanes>>> = None;
    let shown = Shown { lanes: no_lanes, gateway: Some(gateway.clone()), queue: queue.clone(), metrics };
    let at = admin::listen(config, shown, ended.clone()).await?;
    tracing::info!(version = version::VERSION, revision = version::REVISION, queue = %config.broker.address(), admin = %at,
        "otpd gateway starts; /readyz, /healthz and /metrics are on the admin port");
    let running = Running::start(&gateway, config).await?;
    let told = Told { lanes: None, gateway: Some(gateway), role: Role::Gateway };
    let start = Start { in_effect, transports: wiring::Transports::new() };
    let reloader = Reloader::new(sources, clock, told, queue.clone(), log, counted, start);
    let reloading = tokio::spawn(reloader.run(hangup));

    let signal = (&mut asked).await;
    tracing::info!(signal, "asked to end");
    reloading.abort();
    tokio::select! {
        () = async {
            running.drain().await;
            // Connections that do not answer end with the process.
            let _ = tokio::time::timeout(CLOSING, queue.close()).await;
        } => {}
        _ = signals::asked_to_end() => tracing::warn!("asked twice; what is under way is not answered"),
    }
    ended.cancel();
    tracing::info!("stopped; what was acknowledged is queued");
    Ok(())
}

//! `otpd worker`: open the queue, run the lanes, answer on the admin port, follow the config, drain on
//! SIGTERM.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use otpd_queue::{Difference, Queue, QueueError};
use otpd_worker::{Clock, Metrics, Worker, WorkerError};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Shown};
use crate::config::{Loaded, Sources};
use crate::failure::Failure;
use crate::reload::snapshot::Snapshot;
use crate::reload::{Log, Reloader, Reloads};
use crate::{open, signals, version, wiring};

/// The first and the longest wait for a broker that is away at the start.
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// Runs until SIGTERM or SIGINT; a second one ends at once.
///
/// # Errors
/// Where the config's secrets, the admin port, or the topology are not as they must be.
pub async fn run(loaded: Loaded, sources: Sources, log: Log) -> Result<(), Failure> {
    // Before anything else: a SIGHUP that nobody listens to ends the process.
    let hangup = signal(SignalKind::hangup())
        .map_err(|e| Failure::Failed(format!("SIGHUP cannot be listened to: {e}")))?;
    let in_effect = Snapshot::of(loaded, &sources.environment)?;
    let config = &in_effect.config.clone();
    if config.providers.is_empty() {
        return Err(Failure::Usage(
            "there is nothing to work on: the config names no [providers.<name>]".into(),
        ));
    }
    let clock = Clock::system();
    let lanes = wiring::lanes(config, &sources.environment, clock)?;
    let transports = lanes.iter().map(|(lane, way)| (lane.provider.clone(), way.clone())).collect();
    let queue = open::queue(config, open::source())?;
    let metrics = Arc::new(Metrics::new());
    metrics.built_from(version::VERSION, version::REVISION);
    let counted = Reloads::register(&metrics);
    let mut asked = std::pin::pin!(signals::asked_to_end());

    let (opened, ended) = (Arc::new(OnceLock::new()), CancellationToken::new());
    let shown = Shown { lanes: opened.clone(), metrics: metrics.clone() };
    let at = admin::serve(config.admin_listen, shown, ended.clone()).await.map_err(|e| {
        Failure::Failed(format!("admin.listen = \"{}\" cannot be used: {e}", config.admin_listen))
    })?;
    tracing::info!(version = version::VERSION, revision = version::REVISION, queue = %config.broker.address(), lanes = lanes.len(), admin = %at,
        "otpd worker starts; /readyz, /healthz and /metrics are on the admin port");
    tokio::select! {
        ready = topology(&queue) => ready?,
        _ = &mut asked => return Ok(()),
    }
    let shared = wiring::shared(config);
    let mut worker =
        Worker::start(&queue, lanes, &shared, clock, &metrics, config.shutdown_grace).map_err(failed)?;
    let _ = opened.set(worker.states());
    let reloader = Reloader::new(sources, clock, worker.steering(), log, counted, in_effect, transports);
    let reloading = tokio::spawn(reloader.run(hangup));

    let fault = tokio::select! {
        signal = &mut asked => { tracing::info!(signal, "asked to end"); None }
        fault = worker.fault() => Some(fault),
    };
    reloading.abort();
    tokio::select! {
        () = async { worker.drain().await; queue.close().await } => tracing::info!("stopped; nothing is lost"),
        _ = signals::asked_to_end() => tracing::warn!("asked twice; what is under way comes again to the next worker"),
    }
    ended.cancel();
    fault.map_or(Ok(()), |fault| Err(failed(fault)))
}

fn failed(error: WorkerError) -> Failure {
    Failure::Failed(error.to_string())
}

/// Waits for the broker, says so, and makes sure that everything is there. What is missing is made;
/// what differs is left alone and named.
async fn topology(queue: &Queue) -> Result<(), Failure> {
    let mut wait = WAITS.0;
    loop {
        match made(queue).await {
            Err(QueueError::Away { url, why }) => {
                tracing::warn!(%url, why, again_in = ?wait, "the broker is away; waiting for it");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(WAITS.1);
            }
            done => return Ok(done?),
        }
    }
}

/// Everything is made at every start, also where no part is missing: AMQP cannot be asked for bindings, and
/// a route that is new has nothing else.
async fn made(queue: &Queue) -> Result<(), QueueError> {
    let missing = queue.check_topology().await?;
    if missing.iter().any(|d| matches!(d, Difference::Different { .. })) {
        return Err(QueueError::Topology(missing));
    }
    if !missing.is_empty() {
        tracing::info!(missing = missing.len(), "making what is missing of the topology");
    }
    queue.apply_topology().await
}

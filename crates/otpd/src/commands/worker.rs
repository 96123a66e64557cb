//! `otpd worker`: open the queue, run the lanes, answer on the admin port, follow the config, drain on
//! SIGTERM. `otpd serve` is the same with a gateway in the process.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use otpd_queue::{Queue, QueueError, Standing};
use otpd_worker::{Clock, Metrics, Worker, WorkerError};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Shown};
use crate::commands::gateway::{self, Running};
use crate::config::{Loaded, Sources};
use crate::failure::Failure;
use crate::reload::snapshot::{Role, Snapshot};
use crate::reload::{Log, Reloader, Reloads, Start, Told};
use crate::{memory_metrics, open, queue_metrics, signals, version, wiring};

/// How long connections may take to end in order.
const CLOSING: Duration = Duration::from_secs(1);
/// The first and the longest wait for a broker that is away, or not ready, at the start.
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Runs until SIGTERM or SIGINT; a second one ends at once.
///
/// # Errors
/// Where the config's secrets, the admin port, or the topology are not as they must be.
pub async fn run(loaded: Loaded, sources: Sources, log: Log, role: Role) -> Result<(), Failure> {
    // Before anything else: a SIGHUP that nobody listens to ends the process.
    let hangup = signal(SignalKind::hangup())
        .map_err(|e| Failure::Failed(format!("SIGHUP cannot be listened to: {e}")))?;
    let in_effect = Snapshot::of(loaded, &sources.environment, role)?;
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
    queue_metrics::register(&metrics, &queue);
    let counted = Reloads::register(&metrics);
    let gateway = if role.serves() {
        let settings = wiring::gateway(config, &sources.environment)?;
        Some(gateway::of(&queue, settings, clock, &metrics))
    } else {
        None
    };
    let mut asked = std::pin::pin!(signals::asked_to_end());

    let (opened, ended) = (Arc::new(OnceLock::new()), CancellationToken::new());
    let shown = Shown {
        lanes: Some(opened.clone()),
        gateway: gateway.clone(),
        queue: queue.clone(),
        metrics: metrics.clone(),
    };
    let at = admin::listen(config, shown, ended.clone()).await?;
    let name = if role.serves() { "serve" } else { "worker" };
    tracing::info!(version = version::VERSION, revision = version::REVISION, queue = %config.broker.address(), lanes = lanes.len(), admin = %at,
        "otpd {name} starts; /readyz, /healthz and /metrics are on the admin port");
    tokio::select! {
        ready = topology(&queue) => ready?,
        _ = &mut asked => return Ok(()),
    }
    if config.recipient_hasher.is_none() && !config.recipient_limits.is_empty() {
        tracing::info!(
            "limits.key is not set: each worker counts its own messages to a recipient, and forgets them when it ends"
        );
    }
    let shared = wiring::shared(config, clock);
    memory_metrics::register(&metrics, &shared.memory);
    let mut worker =
        Worker::start(&queue, lanes, &shared, clock, &metrics, config.shutdown_grace).map_err(failed)?;
    let _ = opened.set(worker.states());
    let serving = match &gateway {
        Some(gateway) => Some(Running::start(gateway, config).await?),
        None => None,
    };
    let told = Told { lanes: Some(worker.steering()), gateway, role };
    let start = Start { in_effect, transports };
    let reloader = Reloader::new(sources, clock, told, queue.clone(), log, counted, start);
    let reloading = tokio::spawn(reloader.run(hangup));

    let fault = tokio::select! {
        signal = &mut asked => { tracing::info!(signal, "asked to end"); None }
        fault = worker.fault() => Some(fault),
    };
    reloading.abort();
    let unconfirmed = tokio::select! {
        unconfirmed = async {
            // What comes in last is queued: its worker is the next one.
            if let Some(serving) = serving {
                serving.drain().await;
            }
            let unconfirmed = worker.drain().await;
            // Connections that do not answer end with the process.
            let _ = tokio::time::timeout(CLOSING, queue.close()).await;
            unconfirmed
        } => unconfirmed,
        _ = signals::asked_to_end() => {
            tracing::warn!("asked twice; what is under way comes again to the next worker");
            0
        }
    };
    ended.cancel();
    match fault {
        Some(fault) => Err(failed(fault)),
        None if unconfirmed > 0 => Err(Failure::Failed(format!(
            "stopped after worker.shutdown_grace, while the queue had not confirmed {unconfirmed} results; \
             nothing is lost: their jobs come again to the next worker"
        ))),
        None => {
            tracing::info!("stopped; nothing is lost");
            Ok(())
        }
    }
}

fn failed(error: WorkerError) -> Failure {
    Failure::Failed(error.to_string())
}

/// Waits for the broker, and for what this worker's lanes need there; says once what is missing. Where nothing
/// was ever applied, this worker does it.
async fn topology(queue: &Queue) -> Result<(), Failure> {
    let mut wait = WAITS.0;
    let mut told = String::new();
    loop {
        match standing(queue).await {
            Ok(Standing::Ready(others)) => {
                for other in others {
                    tracing::warn!(
                        "{other}; this worker's lanes do not need it: it goes on, and changes nothing; `otpd topology check` compares"
                    );
                }
                return Ok(());
            }
            // It was empty a moment ago.
            Ok(Standing::Empty) => {}
            Ok(Standing::Behind(differences)) => {
                let words: Vec<String> = differences.iter().map(ToString::to_string).collect();
                if said_anew(&mut told, words.join("; ")) {
                    tracing::error!(
                        "the topology is not as this config needs it: {told}; run `otpd topology apply`; waiting for that"
                    );
                }
            }
            Err(QueueError::Away { url, why }) => {
                tracing::warn!(%url, why, again_in = ?wait, "the broker is away; waiting for it");
            }
            Err(
                refused @ (QueueError::Refused { .. } | QueueError::Topology(_) | QueueError::InUse { .. }),
            ) => {
                if said_anew(&mut told, refused.to_string()) {
                    tracing::error!(
                        "{told}; run `otpd topology apply` as a user who may configure; waiting for that"
                    );
                }
            }
            Err(other) => return Err(other.into()),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(WAITS.1);
    }
}

fn said_anew(told: &mut String, words: String) -> bool {
    let anew = *told != words;
    *told = words;
    anew
}

async fn standing(queue: &Queue) -> Result<Standing, QueueError> {
    let standing = queue.topology_standing().await?;
    if standing != Standing::Empty {
        return Ok(standing);
    }
    let applied = queue.apply_topology_if_empty().await?;
    tracing::info!(
        generation = applied.generation,
        "nothing was applied to this broker before: its exchanges and queues are made"
    );
    queue.topology_standing().await
}

//! When the process is asked to end: SIGTERM (an orchestrator) or SIGINT (Ctrl-C).

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits until the process is asked to end; says by which signal.
pub async fn asked_to_end() -> &'static str {
    tokio::select! {
        () = one(SignalKind::terminate()) => "SIGTERM",
        () = one(SignalKind::interrupt()) => "SIGINT",
    }
}

async fn one(kind: SignalKind) {
    match signal(kind).as_mut().map(Signal::recv) {
        Ok(received) => drop(received.await),
        // Where the signal cannot be caught it still ends the process, by itself.
        Err(_) => std::future::pending().await,
    }
}

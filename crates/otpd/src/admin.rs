//! The admin port: is it alive, is it ready, what does it count. Never reachable from outside by
//! default (127.0.0.1), and nothing here changes anything.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use otpd_core::ProviderName;
use otpd_queue::Queue;
use otpd_worker::{LaneState, Metrics};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The lanes, and where each stands.
pub type Lanes = Vec<(ProviderName, watch::Receiver<LaneState>)>;

/// What the admin port shows.
#[derive(Clone)]
pub struct Shown {
    /// Where each lane stands; empty until broker and topology were found and the lanes opened.
    pub lanes: Arc<OnceLock<Lanes>>,
    /// The queue, which says whether this process knows what the fleet did lately.
    pub queue: Queue,
    /// The counters.
    pub metrics: Arc<Metrics>,
}

/// Serves until `stop`; says where it listens.
///
/// # Errors
/// Where the address cannot be listened on.
pub async fn serve(listen: SocketAddr, shown: Shown, stop: CancellationToken) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await?;
    let at = listener.local_addr()?;
    let router = Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shown);
    tokio::spawn(async move {
        let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::select! {
            served = serving => if let Err(error) = served {
                tracing::error!(%error, "the admin port ended");
            },
            // A scrape that hangs must not hold up the end of the process.
            () = async { stop.cancelled().await; tokio::time::sleep(Duration::from_secs(2)).await } => {}
        }
    });
    Ok(at)
}

/// Alive: this handler ran, so the event loop turns. Neither broker nor providers matter here, or
/// their outage would restart every worker.
async fn alive() -> &'static str {
    "ok\n"
}

/// Ready: every lane consumes, and could be taken over at once: the facts of the last minutes are known. One line
/// per lane.
async fn ready(State(shown): State<Shown>) -> Response {
    let Some(lanes) = shown.lanes.get() else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "waiting for the broker, or for its topology (the log says which)\n",
        )
            .into_response();
    };
    let mut text = String::new();
    let mut all = true;
    for (provider, state) in lanes {
        let state = *state.borrow();
        let (open, word) = match state {
            LaneState::Open => (true, "consuming"),
            LaneState::Opening => (false, "waiting for the queue"),
            LaneState::Lost => (false, "the queue is away"),
            LaneState::Draining => (false, "draining"),
            LaneState::Closed => (false, "closed"),
        };
        all &= open;
        text.push_str(&format!("{provider}: {word}\n"));
    }
    if !shown.queue.has_caught_up() {
        all = false;
        text.push_str("reading the facts of the last minutes\n");
    }
    let status = if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, text).into_response()
}

async fn metrics(State(shown): State<Shown>) -> Response {
    match shown.metrics.encode() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

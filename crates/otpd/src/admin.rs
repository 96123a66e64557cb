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
use otpd_gateway::Gateway;
use otpd_queue::Queue;
use otpd_worker::{LaneState, Metrics};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::failure::Failure;

/// The lanes, and where each stands.
pub type Lanes = Vec<(ProviderName, watch::Receiver<LaneState>)>;

/// What the admin port shows.
#[derive(Clone)]
pub struct Shown {
    /// Where each lane stands, in a process that has lanes; empty until broker and topology were found and the
    /// lanes opened.
    pub lanes: Option<Arc<OnceLock<Lanes>>>,
    /// The gateway, in a process that has one.
    pub gateway: Option<Gateway>,
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

/// The same at the address of the config.
///
/// # Errors
/// Where it cannot be listened on.
pub(crate) async fn listen(
    config: &Config,
    shown: Shown,
    stop: CancellationToken,
) -> Result<SocketAddr, Failure> {
    serve(config.admin_listen, shown, stop).await.map_err(|e| {
        Failure::Failed(format!("admin.listen = \"{}\" cannot be used: {e}", config.admin_listen))
    })
}

/// Alive: this handler ran, so the event loop turns. Neither broker nor providers matter here, or
/// their outage would restart every worker.
async fn alive() -> &'static str {
    "ok\n"
}

/// Ready: every lane consumes, and could be taken over at once: the facts of the last minutes are known; and the
/// gateway reaches the queue and knows the states of jobs. One line each.
async fn ready(State(shown): State<Shown>) -> Response {
    let (lanes, gateway) = (shown.lanes.as_deref(), shown.gateway.as_ref());
    let parts = [lanes.map(|lanes| lanes_ready(lanes, &shown.queue)), gateway.map(gateway_ready)];
    let mut status = StatusCode::OK;
    let mut text = String::new();
    for (is_ready, words) in parts.into_iter().flatten() {
        if !is_ready {
            status = StatusCode::SERVICE_UNAVAILABLE;
        }
        text.push_str(&words);
    }
    (status, text).into_response()
}

fn gateway_ready(gateway: &Gateway) -> (bool, String) {
    match gateway.not_ready() {
        None => (true, "gateway: ready\n".to_owned()),
        Some(why) => (false, format!("gateway: {why}\n")),
    }
}

fn lanes_ready(lanes: &OnceLock<Lanes>, queue: &Queue) -> (bool, String) {
    let Some(lanes) = lanes.get() else {
        return (false, "waiting for the broker, or for its topology (the log says which)\n".to_owned());
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
    if !queue.has_caught_up() {
        all = false;
        text.push_str("reading the facts of the last minutes\n");
    }
    (all, text)
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

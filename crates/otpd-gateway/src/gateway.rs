//! What a gateway consists of, and which call goes where.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use otpd_core::{ProviderName, RouteName};
use otpd_queue::Queue;
use prometheus_client::registry::Registry;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::clock::Clock;
use crate::deliveries::Deliveries;
use crate::feedback::Feedback;
use crate::index::Index;
use crate::keys::{Key, Keys};
use crate::limits::{BODY_WITHIN, REQUESTS};
use crate::metrics::{GatewayMetrics, Sizes};
use crate::problem::Problem;
use crate::recent_ids::RecentIds;
use crate::settings::{CallbackSource, Settings};
use crate::supabase::Hook;
use crate::{callbacks, feedback, follower, jobs, states, supabase};

/// A gateway. Clones are the same gateway.
#[derive(Clone, Debug)]
pub struct Gateway(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Queue,
    clock: Clock,
    live: RwLock<Arc<Live>>,
    recent_ids: RecentIds,
    index: Arc<Index>,
    metrics: GatewayMetrics,
    deliveries: Deliveries,
    feedback: Feedback,
    requests: Semaphore,
}

/// What the settings came to.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) routes: BTreeSet<RouteName>,
    keys: Keys,
    pub(crate) callbacks: HashMap<ProviderName, CallbackSource>,
    pub(crate) supabase: Option<Hook>,
}

impl Gateway {
    /// A gateway on this queue.
    #[must_use]
    pub fn new(queue: Queue, settings: Settings, clock: Clock) -> Self {
        let mut key = [0; 32];
        // Where chance cannot be had, ids are still told apart.
        let _ = SystemRandom::new().fill(&mut key);
        let gateway = Self(Arc::new(Shared {
            queue,
            clock,
            live: RwLock::default(),
            recent_ids: RecentIds::new(&key),
            index: Arc::default(),
            metrics: GatewayMetrics::default(),
            deliveries: Deliveries::default(),
            feedback: Feedback::default(),
            requests: Semaphore::new(REQUESTS),
        }));
        gateway.apply(settings);
        gateway
    }

    /// Goes by these settings from now on. Requests under way go on as they began.
    pub fn apply(&self, settings: Settings) {
        let mut live = self.0.live.write().unwrap_or_else(PoisonError::into_inner);
        let keys = Keys::new(settings.keys, &live.keys, &self.0.clock);
        let callbacks = settings.callbacks.into_iter().map(|source| (source.provider.clone(), source));
        *live = Arc::new(Live {
            routes: settings.routes,
            keys,
            callbacks: callbacks.collect(),
            supabase: settings.supabase.map(Hook::new),
        });
    }

    /// Registers what it counts.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
        registry.register_collector(Box::new(Sizes(Arc::downgrade(&self.0.index))));
    }

    /// Follows the events stream until it is dropped. Without this no state is known.
    pub async fn follow(self) {
        follower::follow(self).await;
    }

    /// Where every recent job stands.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.0.index
    }

    /// Why it is not ready, if it is not.
    #[must_use]
    pub fn not_ready(&self) -> Option<&'static str> {
        if !self.0.queue.is_connected() {
            Some("the queue is away")
        } else if !self.0.index.has_caught_up() {
            Some("reading the events of the last hour")
        } else {
            None
        }
    }

    /// The calls.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/jobs", post(jobs::one))
            .route("/v1/jobs:batch", post(jobs::batch))
            .route("/v1/jobs/{id}", get(states::one))
            .route("/v1/jobs/{id}/events", get(states::events))
            .route("/v1/jobs/{id}/verified", post(feedback::verified))
            .route("/hooks/supabase/send-sms", post(supabase::send_sms))
            .route("/callbacks/{provider}/{token}", get(callbacks::one_by_get).post(callbacks::one))
            .route(
                "/callbacks/{provider}/{token}/{job}",
                get(callbacks::of_job_by_get).post(callbacks::of_job),
            )
            .method_not_allowed_fallback(|| async { Problem::MethodNotAllowed })
            .fallback(|| async { Problem::NotFound })
            .layer(middleware::from_fn_with_state(self.clone(), bounded))
            .with_state(self.clone())
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.0.queue
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn recent_ids(&self) -> &RecentIds {
        &self.0.recent_ids
    }

    pub(crate) fn deliveries(&self) -> &Deliveries {
        &self.0.deliveries
    }

    pub(crate) fn feedback(&self) -> &Feedback {
        &self.0.feedback
    }

    pub(crate) fn metrics(&self) -> &GatewayMetrics {
        &self.0.metrics
    }

    pub(crate) fn live(&self) -> Arc<Live> {
        self.0.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The key that a request bears.
    pub(crate) fn key(&self, headers: &HeaderMap) -> Result<Arc<Key>, Problem> {
        let authorization = headers.get(header::AUTHORIZATION).map(axum::http::HeaderValue::as_bytes);
        self.live().keys.find(authorization).cloned().ok_or(Problem::Unauthorized)
    }

    /// A request's body: JSON, at most `most` bytes, in time.
    pub(crate) async fn json_body(
        &self,
        headers: &HeaderMap,
        body: Body,
        most: usize,
    ) -> Result<Bytes, Problem> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Problem::NotJson);
        }
        read_body(body, most).await
    }
}

/// A body of at most `most` bytes that comes in time.
pub(crate) async fn read_body(body: Body, most: usize) -> Result<Bytes, Problem> {
    match timeout(BODY_WITHIN, to_bytes(body, most)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(Problem::TooLarge(most)),
        Err(_) => Err(Problem::TooSlow),
    }
}

/// Counts every request, and refuses those that are too many at once.
async fn bounded(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let call = call(path);
    let response = match gateway.0.requests.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => Problem::Busy.into_response(),
    };
    gateway.0.metrics.request(call, response.status().as_u16(), began.elapsed());
    response
}

/// The call's name in metrics.
fn call(path: Option<&str>) -> &'static str {
    match path {
        Some("/v1/jobs") => "jobs",
        Some("/v1/jobs:batch") => "batch",
        Some("/v1/jobs/{id}") => "state",
        Some("/v1/jobs/{id}/events") => "events",
        Some("/v1/jobs/{id}/verified") => "verified",
        Some("/hooks/supabase/send-sms") => "supabase",
        Some("/callbacks/{provider}/{token}" | "/callbacks/{provider}/{token}/{job}") => "callback",
        Some(_) | None => "other",
    }
}

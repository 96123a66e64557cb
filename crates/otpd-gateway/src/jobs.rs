//! Jobs in: one, or up to 500. A job is answered with 202 once the queue has confirmed it, and never before.
//!
//! The way of a job: read and checked ([`Submission`]), route known, key allowed to use it, id not used for
//! something else, rate and budget charged, queued and confirmed. What fails earlier has changed nothing. Where the
//! confirm does not come in time nobody knows whether the job is queued: the answer names its id, with which
//! the request may be repeated safely.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use otpd_core::job::MAX_BODY;
use otpd_queue::{QueueError, TraceContext};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::gateway::Gateway;
use crate::keys::Key;
use crate::limits::{BATCH_BODY, BATCH_JOBS};
use crate::openapi::{BatchRequest, JobRequest};
use crate::problem::{Problem, ProblemBody};
use crate::recent_ids::Before;
use crate::submission::{Submission, not_an_object};
use crate::view::{BatchView, OneResult, TakenView};

/// The header that may stand for `id`.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The most bytes of a trace header that are taken.
const MAX_TRACE: usize = 512;

/// Takes a job. Answers once the queue has confirmed it.
///
/// After a 503 nobody knows whether the job is queued: repeat the request with the id that the answer names.
#[utoipa::path(
    post,
    path = "/v1/jobs",
    operation_id = "sendJob",
    tag = "jobs",
    params(("Idempotency-Key" = Option<String>, Header, description = "May stand for `id`.")),
    request_body = JobRequest,
    responses(
        (status = 202, description = "It is queued.", body = TakenView),
        (status = 400, description = "Not a job.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No key of this gateway.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not use this route.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such route.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The id was used for another job.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "More than 64 KiB.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not `application/json`.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The key's rate or daily budget is used up.", body = ProblemBody, content_type = "application/problem+json", headers(("Retry-After" = u32, description = "Seconds."))),
        (status = 503, description = "The queue did not confirm, or too much is under way.", body = ProblemBody, content_type = "application/problem+json", headers(("Retry-After" = u32, description = "Seconds."))),
    ),
    security(("key" = [])),
)]
pub(crate) async fn one(State(gateway): State<Gateway>, headers: HeaderMap, body: Body) -> Response {
    let taken = async {
        let key = gateway.key(&headers)?;
        let body = gateway.json_body(&headers, body, MAX_BODY).await?;
        let named = match headers.get(IDEMPOTENCY_KEY) {
            Some(id) => Some(id.to_str().map_err(|_| Problem::Invalid("`id` must be text".into()))?),
            None => None,
        };
        let submission = Submission::read(&body, named, gateway.clock().wall(), gateway.recent_ids())?;
        let checked = gateway.check(&key, submission)?;
        gateway.take(checked, &trace(&headers)).await
    };
    match taken.await {
        Ok(taken) => {
            let location = format!("/v1/jobs/{}", taken.id);
            (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(taken)).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    #[serde(borrow)]
    jobs: Vec<&'a RawValue>,
}

/// Takes up to 500 jobs, each with its own result.
#[utoipa::path(
    post,
    path = "/v1/jobs:batch",
    operation_id = "sendJobs",
    tag = "jobs",
    request_body = BatchRequest,
    responses(
        (status = 200, description = "What became of each job.", body = BatchView),
        (status = 400, description = "Not a list of 1 to 500 jobs.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No key of this gateway.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "More than 1 MiB.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not `application/json`.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Too much is under way.", body = ProblemBody, content_type = "application/problem+json", headers(("Retry-After" = u32, description = "Seconds."))),
    ),
    security(("key" = [])),
)]
pub(crate) async fn batch(State(gateway): State<Gateway>, headers: HeaderMap, body: Body) -> Response {
    let taken = async {
        let key = gateway.key(&headers)?;
        let body = gateway.json_body(&headers, body, BATCH_BODY).await?;
        let Batch { jobs } = serde_json::from_slice(&body).map_err(|e| not_an_object(&e))?;
        if !(1..=BATCH_JOBS).contains(&jobs.len()) {
            return Err(Problem::Invalid(format!("`jobs` must have 1 to {BATCH_JOBS} jobs")));
        }
        let (now, trace) = (gateway.clock().wall(), trace(&headers));
        // Checked in order, so that of two with the same id the first counts; queued together.
        let checked: Vec<Result<Checked, Problem>> = jobs
            .into_iter()
            .map(|job| Submission::read(job.get().as_bytes(), None, now, gateway.recent_ids()))
            .map(|read| read.and_then(|submission| gateway.check(&key, submission)))
            .collect();
        let take = |checked: Result<Checked, Problem>| async {
            match checked {
                Ok(checked) => gateway.take(checked, &trace).await,
                Err(problem) => Err(problem),
            }
        };
        let results = join_all(checked.into_iter().map(take)).await;
        Ok(BatchView { results: results.into_iter().map(OneResult::from).collect() })
    };
    match taken.await {
        Ok(results) => Json(results).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// A job that may be queued.
pub(crate) struct Checked {
    submission: Submission,
    before: Before,
}

impl Gateway {
    /// Everything that may refuse a job before the queue is asked.
    fn check(&self, key: &Key, submission: Submission) -> Result<Checked, Problem> {
        if !self.live().routes.contains(&submission.route) {
            return Err(Problem::UnknownRoute);
        }
        if !key.may_use(&submission.route) {
            return Err(Problem::RouteNotAllowed);
        }
        self.check_id(submission, || key.charge())
    }

    /// Holds the id against what it was used for. `charge` is asked for a job that is new.
    pub(crate) fn check_id(
        &self,
        submission: Submission,
        charge: impl FnOnce() -> Result<(), Problem>,
    ) -> Result<Checked, Problem> {
        let (ids, id) = (self.recent_ids(), &submission.job.id);
        let before = ids.use_for(id, submission.content, self.clock().mono());
        match before {
            Before::Other => return Err(Problem::IdTaken(id.clone())),
            Before::Queued | Before::Unconfirmed => {}
            Before::Nothing => {
                if let Err(problem) = charge() {
                    ids.not_queued(id);
                    return Err(problem);
                }
            }
        }
        Ok(Checked { submission, before })
    }

    /// Queues a job; returns once that is confirmed. A job that is queued already is not queued again.
    pub(crate) async fn take(&self, checked: Checked, trace: &TraceContext) -> Result<TakenView, Problem> {
        let Checked { submission: Submission { route, job, body, .. }, before } = checked;
        let id = job.id.clone();
        if before != Before::Queued {
            self.enqueue(&route, job, body, trace).await?;
        }
        Ok(TakenView { id: id.to_string(), route: route.to_string(), state: "queued" })
    }

    async fn enqueue(
        &self,
        route: &otpd_core::RouteName,
        job: otpd_core::SendJob,
        body: bytes::Bytes,
        trace: &TraceContext,
    ) -> Result<(), Problem> {
        // In a task of its own: a caller that hangs up while the queue confirms does not undo it, and the
        // memory of ids must learn of it.
        let (gateway, route, trace) = (self.clone(), route.clone(), trace.clone());
        let queued = tokio::spawn(async move {
            let outcome = gateway.queue().enqueue(&route, &job.id, body, &trace).await;
            match &outcome {
                Ok(()) => {
                    gateway.recent_ids().queued(&job.id);
                    gateway.index().queued(&job, &route, gateway.clock().wall(), gateway.clock().mono());
                }
                Err(QueueError::Unroutable { .. }) => gateway.recent_ids().not_queued(&job.id),
                Err(_) => {}
            }
            (job.id, outcome)
        });
        match queued.await {
            Ok((_, Ok(()))) => Ok(()),
            Ok((_, Err(error @ QueueError::Unroutable { .. }))) => {
                tracing::error!(%error, "a route of the config is not on the queue");
                Err(Problem::NotApplied)
            }
            Ok((id, Err(error))) => {
                self.metrics().queue_away(&error);
                Err(Problem::QueueAway(Some(id)))
            }
            Err(_) => Err(Problem::QueueAway(None)),
        }
    }
}

/// The caller's trace, which the job continues.
fn trace(headers: &HeaderMap) -> TraceContext {
    let text = |name| {
        let value = headers.get(name)?.to_str().ok()?;
        (1..=MAX_TRACE).contains(&value.len()).then(|| value.into())
    };
    TraceContext { parent: text("traceparent"), state: text("tracestate") }
}

//! Feedback in: the user typed the code, which only the producer knows. It becomes the fact `otp.job.verified`, once.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use otpd_core::{Fact, FactKind, JobId, JobState};

use crate::gateway::Gateway;
use crate::problem::{Problem, ProblemBody};
use crate::states::visible;
use crate::view::JobView;

/// Says that the user typed the code of this job.
///
/// A body is not read. The first call tells it, later ones change nothing.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/verified",
    operation_id = "verifiedJob",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id.")),
    responses(
        (status = 200, description = "It is on the events stream; the job as it stands.", body = JobView),
        (status = 401, description = "No key of this gateway.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such job is known here, or the key may not see it.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "No provider has accepted it yet.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The queue did not confirm.", body = ProblemBody, content_type = "application/problem+json", headers(("Retry-After" = u32, description = "Seconds."))),
    ),
    security(("key" = [])),
)]
pub(crate) async fn verified(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (id, before) = visible(&gateway, &headers, &id)?;
    if before.state != JobState::Verified.as_str() {
        gateway.tell_verified(&id).await?;
    }
    let (_, view) = visible(&gateway, &headers, id.as_str())?;
    Ok(Json(view).into_response())
}

/// The jobs of which it is being told.
#[derive(Debug, Default)]
pub(crate) struct Feedback(Mutex<HashSet<JobId>>);

/// The turn of one job; ends when it is dropped.
struct Turn<'a>(&'a Feedback, JobId);

impl Feedback {
    fn jobs(&self) -> MutexGuard<'_, HashSet<JobId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, id: &JobId) -> Option<Turn<'_>> {
        self.jobs().insert(id.clone()).then(|| Turn(self, id.clone()))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.jobs().remove(&self.1);
    }
}

impl Gateway {
    async fn tell_verified(&self, id: &JobId) -> Result<(), Problem> {
        // Two calls at once would make two facts.
        let Some(_turn) = self.feedback().begin(id) else { return Err(Problem::Busy) };
        let (provider, found) = self.index().accepted(id).ok_or(Problem::NotSent)?;
        let mut fact = Fact::new(FactKind::Verified, id.clone(), provider, self.clock().wall());
        fact.life = found.life;
        fact.attempt = found.message.as_ref().map_or(0, |message| message.attempt);
        fact.route = found.route;
        fact.message_id = found.message.and_then(|message| message.id);
        fact.to = found.to;
        fact.metadata = found.metadata;
        match self.queue().tell(&fact).await {
            Ok(()) => {
                self.index().fold(&fact, self.clock().mono());
                Ok(())
            }
            Err(error) => {
                self.metrics().queue_away(&error);
                Err(Problem::QueueAway(None))
            }
        }
    }
}

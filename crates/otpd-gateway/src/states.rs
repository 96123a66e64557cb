//! States out: a job's state and timeline once, or as server-sent events until it ends.
//!
//! An event's `id` is the id of the fact that it tells, the same at every gateway: who was interrupted says the
//! last one (`Last-Event-ID`, as every browser does by itself), wherever it connects, and gets what came after it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use otpd_core::{JobId, JobState, RouteName};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::keys::Key;
use crate::limits::{KEEP_ALIVE, WATCH_FOR};
use crate::problem::{Problem, ProblemBody};
use crate::view::{EntryView, EventView, JobView};
use crate::watch::Change;

/// A job's state and what happened to it.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}",
    operation_id = "getJob",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id.")),
    responses(
        (status = 200, description = "State and timeline.", body = JobView),
        (status = 401, description = "No key of this gateway.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such job is known here, or the key may not see it.", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = [])),
)]
pub(crate) async fn one(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (_, view) = visible(&gateway, &headers, &id)?;
    let mut response = Json(view).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What happens to a job, as server-sent events until it ends.
///
/// `data` of each event is a JobEvent; the last one is named `end`, the others `change`.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/events",
    operation_id = "watchJob",
    tag = "jobs",
    params(
        ("id" = String, Path, description = "The job's id."),
        ("Last-Event-ID" = Option<String>, Header, description = "The last event that was read: only what came after it is told."),
    ),
    responses(
        (status = 200, description = "Events.", body = EventView<'static>, content_type = "text/event-stream"),
        (status = 204, description = "The job has ended and everything was told."),
        (status = 401, description = "No key of this gateway.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such job is known here, or the key may not see it.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Too many are watching.", body = ProblemBody, content_type = "application/problem+json", headers(("Retry-After" = u32, description = "Seconds."))),
    ),
    security(("key" = [])),
)]
pub(crate) async fn events(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (id, _) = visible(&gateway, &headers, &id)?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let watchers = gateway.index().watchers();
    let place = watchers.place().ok_or(Problem::TooManyWatchers)?;
    let begun = gateway.index().so_far(&id, |state, entries| Story {
        greets: last.is_none() && entries.is_empty(),
        told: after(entries, last).into(),
        state,
        changes: watchers.watch(&id),
        is_over: false,
        until: Instant::now() + WATCH_FOR,
        _place: place,
    });
    let story = begun.ok_or(Problem::UnknownJob)?;
    if last.is_some() && story.told.is_empty() && story.state.is_end() {
        // To a browser this says: do not connect again.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let mut response = Sse::new(told(story)).keep_alive(keep_alive).into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// The job, if there is one and the key may see it. Who may not is told the same as where there is none.
pub(crate) fn visible(gateway: &Gateway, headers: &HeaderMap, id: &str) -> Result<(JobId, JobView), Problem> {
    let key = gateway.key(headers)?;
    let id = JobId::parse(id).map_err(|_| Problem::UnknownJob)?;
    let (view, route) = gateway.index().view(&id).ok_or(Problem::UnknownJob)?;
    let may_see = |key: &Key, route: Option<&RouteName>| route.is_some_and(|route| key.may_use(route));
    if may_see(&key, route.as_ref()) { Ok((id, view)) } else { Err(Problem::UnknownJob) }
}

/// What came after the event with this id; everything where there is none, or it is not known any more.
fn after(mut entries: Vec<EntryView>, last: Option<&str>) -> Vec<EntryView> {
    match last.and_then(|last| entries.iter().position(|entry| entry.id == last)) {
        Some(place) => entries.split_off(place + 1),
        None => entries,
    }
}

/// What one watcher is told.
struct Story {
    told: VecDeque<EntryView>,
    /// Nothing has happened yet: the state is told first.
    greets: bool,
    state: JobState,
    changes: mpsc::Receiver<Change>,
    is_over: bool,
    until: Instant,
    _place: OwnedSemaphorePermit,
}

fn told(story: Story) -> impl Stream<Item = Result<Event, Infallible>> + Send + 'static {
    futures::stream::unfold(Some(story), |story| async move {
        let mut story = story?;
        let event = story.next().await?;
        let rest = (!story.is_over).then_some(story);
        Some((Ok(event), rest))
    })
}

impl Story {
    /// The next event; `None` where the watcher was too slow, the gateway stops, or it was served long enough.
    async fn next(&mut self) -> Option<Event> {
        if let Some(entry) = self.told.pop_front() {
            self.is_over = self.told.is_empty() && self.state.is_end();
            return event(self.state, self.is_over, Some(&entry));
        }
        if self.state.is_end() || std::mem::take(&mut self.greets) {
            self.is_over = self.state.is_end();
            return event(self.state, self.is_over, None);
        }
        let change = tokio::time::timeout_at(self.until, self.changes.recv()).await.ok()??;
        self.state = change.state;
        self.is_over = self.state.is_end();
        event(change.state, self.is_over, change.entry.as_ref())
    }
}

fn event(state: JobState, is_end: bool, entry: Option<&EntryView>) -> Option<Event> {
    let name = if is_end { "end" } else { "change" };
    let mut event = Event::default().event(name).retry(Duration::from_secs(1));
    if let Some(entry) = entry {
        event = event.id(&entry.id);
    }
    event.json_data(EventView::new(state, entry)).ok()
}

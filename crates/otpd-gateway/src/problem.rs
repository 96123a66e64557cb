//! What a caller is told when its request is not carried out: problem details (RFC 9457). None repeats a value
//! of the request: a value may be a code.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use otpd_core::JobId;
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The body is not what the call takes.
    Invalid(String),
    /// No key, or none that is known.
    Unauthorized,
    /// The key may not use the route.
    RouteNotAllowed,
    /// The config has no such route.
    UnknownRoute,
    /// No such job is known here, or the key may not see it.
    UnknownJob,
    /// No provider has accepted the job yet.
    NotSent,
    /// There is no such address.
    NotFound,
    /// The address takes other methods.
    MethodNotAllowed,
    /// The id was used for another content.
    IdTaken(JobId),
    /// The body is larger than this many bytes.
    TooLarge(usize),
    /// The body is not JSON.
    NotJson,
    /// The body did not come in time.
    TooSlow,
    /// The key's rate is used up.
    RateLimited(Duration),
    /// The key's budget of today is used up.
    BudgetUsedUp(Duration),
    /// Too much is under way.
    Busy,
    /// Too many watch already.
    TooManyWatchers,
    /// The queue did not confirm. The job with this id may be queued or not.
    QueueAway(Option<JobId>),
    /// The queue does not know the route.
    NotApplied,
}

/// A problem as it is written (`application/problem+json`).
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// Always `about:blank`: `code` tells problems apart.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The status in words.
    pub(crate) title: &'static str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// Tells problems apart: one of a closed list.
    pub(crate) code: &'static str,
    /// What happened and what to do.
    pub(crate) detail: String,
    /// The job's id, where the request may be repeated with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
}

/// What a caller waits at least before it asks a queue again that was away.
const SOON: Duration = Duration::from_secs(1);

impl Problem {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::RouteNotAllowed => StatusCode::FORBIDDEN,
            Self::UnknownRoute | Self::UnknownJob | Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::IdTaken(_) | Self::NotSent => StatusCode::CONFLICT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::RateLimited(_) | Self::BudgetUsedUp(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy | Self::TooManyWatchers | Self::QueueAway(_) | Self::NotApplied => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_request",
            Self::Unauthorized => "unauthorized",
            Self::RouteNotAllowed => "route_not_allowed",
            Self::UnknownRoute => "unknown_route",
            Self::UnknownJob => "unknown_job",
            Self::NotSent => "not_sent",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::IdTaken(_) => "id_taken",
            Self::TooLarge(_) => "too_large",
            Self::NotJson => "not_json",
            Self::TooSlow => "too_slow",
            Self::RateLimited(_) => "rate_limited",
            Self::BudgetUsedUp(_) => "budget_used_up",
            Self::Busy => "busy",
            Self::TooManyWatchers => "too_many_watchers",
            Self::QueueAway(_) => "queue_away",
            Self::NotApplied => "not_applied",
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Invalid(detail) => detail.clone(),
            Self::Unauthorized => "send `Authorization: Bearer KEY` with a key of this gateway".into(),
            Self::RouteNotAllowed => "this key may not use this route".into(),
            Self::UnknownRoute => "there is no such route".into(),
            Self::UnknownJob => "no such job is known here".into(),
            Self::NotSent => "no provider has accepted this job yet, so nobody can have its code".into(),
            Self::NotFound => "there is nothing at this address".into(),
            Self::MethodNotAllowed => "this address takes another method".into(),
            Self::IdTaken(_) => "this id was used for another job; use a new id, or repeat the same job".into(),
            Self::TooLarge(most) => format!("the body may have {most} bytes"),
            Self::NotJson => "send the body as `Content-Type: application/json`".into(),
            Self::TooSlow => "the body did not come in time".into(),
            Self::RateLimited(_) => "the rate of this key is used up for now".into(),
            Self::BudgetUsedUp(_) => "the daily budget of this key is used up until midnight UTC".into(),
            Self::Busy => "too many requests are under way; repeat this one".into(),
            Self::TooManyWatchers => "too many are watching; ask for the state instead, or later".into(),
            Self::QueueAway(Some(_)) => {
                "the queue did not confirm the job, which may be queued or not; repeat the request with the same id"
                    .into()
            }
            Self::QueueAway(None) => "the queue did not confirm; repeat the request".into(),
            Self::NotApplied => "the queue does not have this route yet; its operator must apply the topology".into(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited(wait) | Self::BudgetUsedUp(wait) => Some(*wait),
            Self::Busy | Self::TooManyWatchers | Self::QueueAway(_) | Self::NotApplied => Some(SOON),
            Self::Invalid(_)
            | Self::Unauthorized
            | Self::RouteNotAllowed
            | Self::UnknownRoute
            | Self::UnknownJob
            | Self::NotSent
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::IdTaken(_)
            | Self::TooLarge(_)
            | Self::NotJson
            | Self::TooSlow => None,
        }
    }

    /// As it is written.
    pub(crate) fn body(&self) -> ProblemBody {
        let status = self.status();
        let id = match self {
            Self::QueueAway(id) => id.as_ref(),
            Self::IdTaken(id) => Some(id),
            Self::Invalid(_)
            | Self::Unauthorized
            | Self::RouteNotAllowed
            | Self::UnknownRoute
            | Self::UnknownJob
            | Self::NotSent
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::TooLarge(_)
            | Self::NotJson
            | Self::TooSlow
            | Self::RateLimited(_)
            | Self::BudgetUsedUp(_)
            | Self::Busy
            | Self::TooManyWatchers
            | Self::NotApplied => None,
        };
        ProblemBody {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            code: self.code(),
            detail: self.detail(),
            id: id.map(ToString::to_string),
        }
    }
}

/// Whole seconds, at least one: `Retry-After` knows nothing smaller.
fn seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).max(1)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(wait)));
        }
        if self == Self::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

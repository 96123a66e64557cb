//! What callers read: the answers' bodies. Numbers are masked, and there is no code anywhere.

use otpd_core::JobState;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::problem::{Problem, ProblemBody};

/// A job that was taken.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Taken)]
pub(crate) struct TakenView {
    /// The job's id.
    pub(crate) id: String,
    /// Its route.
    pub(crate) route: String,
    /// `queued`.
    pub(crate) state: &'static str,
}

/// What became of the jobs of a batch.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = BatchResults)]
pub(crate) struct BatchView {
    /// One result for each job, in the order of the jobs.
    pub(crate) results: Vec<OneResult>,
}

/// What became of one job of a batch.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = BatchResult)]
pub(crate) enum OneResult {
    /// It is queued.
    Taken {
        /// 202.
        status: u16,
        /// The job's id.
        id: String,
    },
    /// It is not, or nobody knows.
    Refused(ProblemBody),
}

impl From<Result<TakenView, Problem>> for OneResult {
    fn from(result: Result<TakenView, Problem>) -> Self {
        match result {
            Ok(taken) => Self::Taken { status: 202, id: taken.id },
            Err(problem) => Self::Refused(problem.body()),
        }
    }
}

/// A job's state and timeline.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobView {
    /// The job's id.
    pub(crate) id: String,
    /// Where it stands: `queued`, `sending`, `accepted`, `sent`, `delivered`, `read`, `verified`, or ended as
    /// `dead`, `expired`, `superseded`, `failed`.
    pub(crate) state: &'static str,
    /// True if nothing more is awaited.
    pub(crate) is_end: bool,
    /// The route it was published to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) route: Option<String>,
    /// The provider that took it last, or works on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<String>,
    /// The recipient, masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// When this gateway took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queued_at: Option<String>,
    /// The producer's metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::HashMap<String, String>>)]
    pub(crate) metadata: Option<Box<RawValue>>,
    /// What happened, oldest first.
    pub(crate) timeline: Vec<EntryView>,
    /// How many entries were left out in the middle of a long timeline.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) left_out: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Entry)]
pub(crate) struct EntryView {
    /// The event's id, the same wherever it is read.
    pub(crate) id: String,
    /// When.
    pub(crate) at: String,
    /// The event's type, such as `otp.job.accepted`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// At which provider.
    pub(crate) provider: String,
    /// Attempts so far.
    pub(crate) attempt: u32,
    /// True if it is about the extra send of a job that a provider had accepted (`confirm_within`).
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) extra_send: bool,
    /// The class of the provider's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) class: Option<&'static str>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    /// The HTTP status of the provider's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http_status: Option<u16>,
    /// The provider's id of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message_id: Option<String>,
    /// When the next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_attempt_at: Option<String>,
    /// Where the job went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_provider: Option<String>,
    /// Milliseconds in the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queued_ms: Option<u64>,
    /// Milliseconds until the permit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) permit_ms: Option<u64>,
    /// Milliseconds of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http_ms: Option<u64>,
}

/// One server-sent event: a change, or the last word.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = JobEvent)]
pub(crate) struct EventView<'a> {
    /// Where the job stands now.
    pub(crate) state: &'static str,
    /// True if nothing more is awaited: the stream ends with this event.
    pub(crate) is_end: bool,
    /// What happened; absent where only the state is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entry: Option<&'a EntryView>,
}

impl<'a> EventView<'a> {
    pub(crate) fn new(state: JobState, entry: Option<&'a EntryView>) -> Self {
        Self { state: state.as_str(), is_end: state.is_end(), entry }
    }
}

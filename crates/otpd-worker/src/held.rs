//! A job in a lane's hands: parsed, with its delivery and everything that settling it needs.

use std::sync::Arc;

use bytes::Bytes;
use otpd_core::{JobKeys, Life, Mono, Reason, Refusals, Route, SendJob, UnixMs};
use otpd_queue::{Section, Tag, TraceContext};

/// A job in a lane, with all that settling it needs.
pub struct Held {
    /// The delivery to settle.
    pub tag: Tag,
    /// The queue of the lane that it came from.
    pub section: Section,
    /// The job, parsed.
    pub job: SendJob,
    /// Its recipient and purpose, as facts name them.
    pub keys: JobKeys,
    /// The job, as published.
    pub body: Bytes,
    /// Its route.
    pub route: Arc<Route>,
    /// How often it moved.
    pub hops: u32,
    /// Which life of the job this is.
    pub life: Life,
    /// When an operator replayed it.
    pub replayed_at: Option<UnixMs>,
    /// Attempts made so far, over all providers.
    pub attempts: u32,
    /// Attempts so far of which nobody can tell whether they were sent, over all providers.
    pub ambiguous: u32,
    /// How often it went to another provider although one had accepted it.
    pub extra: u32,
    /// When this lane's provider accepted it, while its delivery is awaited.
    pub accepted_at: Option<UnixMs>,
    /// It goes to the next provider, for this reason, unless looking here shows that it was sent.
    pub moves_on: Option<Reason>,
    /// The account refusals it has met here.
    pub refusals: Refusals,
    /// How often it was the probe of an open breaker in vain; the others go first.
    pub probed: u8,
    /// Since when an attempt may have been sent without anybody knowing.
    pub unsure_since: Option<UnixMs>,
    /// From when on its code is of no use.
    pub expires_at: UnixMs,
    /// When it was first taken by broker or gateway.
    pub taken_at: UnixMs,
    /// When this lane read it.
    pub arrived_at: Mono,
    /// Since when it could be sent: its arrival, or the time of its retry.
    pub ready_at: Mono,
    /// Its place in the order of arrival.
    pub place: u64,
    /// The producer's trace.
    pub trace: TraceContext,
    /// Its stay in this lane, as a part of that trace.
    pub span: tracing::Span,
}

/// Shows which job it is, and nothing of its body.
impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let job = &self.job.id;
        f.debug_struct("Held").field("tag", &self.tag).field("job", job).finish_non_exhaustive()
    }
}

impl Held {
    /// Since when it waits for an attempt: a replay begins the wait anew, though not the code's validity.
    pub(crate) fn waits_since(&self) -> UnixMs {
        self.replayed_at.unwrap_or(self.taken_at)
    }
}

//! What a lane needs of a provider: send one job, say what came of it. Behind it is a provider's
//! HTTP transport; in tests and benches, something that answers from memory.

use std::future::Future;

use otpd_core::{Answered, MessageId, SendJob, Stamp, UnixMs};

/// Sends one job. Must mark `stamp` when the request is written, and must end by itself (time-outs
/// are its own); dropping the future gives the attempt up.
pub trait Endpoint: Send + Sync + 'static {
    /// One attempt.
    fn send(&self, job: &SendJob, expires_at: UnixMs, stamp: &Stamp)
    -> impl Future<Output = Answered> + Send;

    /// True if [`Endpoint::find`] can tell anything about this job.
    fn can_find(&self, job: &SendJob) -> bool {
        let _ = job;
        false
    }

    /// Looks whether an attempt since `since`, of which nobody could tell, was sent after all. `None`
    /// where it was not, or the provider cannot be asked.
    fn find(&self, job: &SendJob, since: UnixMs) -> impl Future<Output = Option<MessageId>> + Send {
        let _ = (job, since);
        std::future::ready(None)
    }
}

impl Endpoint for otpd_providers::Transport {
    async fn send(&self, job: &SendJob, expires_at: UnixMs, stamp: &Stamp) -> Answered {
        Self::send(self, job, expires_at, stamp).await
    }

    fn can_find(&self, job: &SendJob) -> bool {
        self.adapter().lookup_request(job).is_some()
    }

    async fn find(&self, job: &SendJob, since: UnixMs) -> Option<MessageId> {
        Self::find(self, job, since).await
    }
}

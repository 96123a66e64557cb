//! Reading facts for whoever asks: following them, and the story of one job.

use std::time::Duration;

use otpd_core::{Fact, JobId};
use tokio::sync::mpsc;

use super::{Embedded, FOLLOWED, facts, file, now};
use crate::error::QueueError;

impl Embedded {
    /// See [`Queue::follow`](crate::Queue::follow).
    ///
    /// # Errors
    /// [`QueueError::File`].
    pub async fn follow(&self, back: Duration) -> Result<mpsc::Receiver<Fact>, QueueError> {
        let since = now().minus(back);
        let after = self.read(move |file| facts::last_before(file, since)).await?;
        let shared = self.shared.clone();
        let file = file::reader(&shared.path).map_err(|e| shared.error(&e))?;
        let (facts, followed) = mpsc::channel(FOLLOWED);
        std::thread::Builder::new()
            .name("otpd-follow".into())
            .spawn(move || facts::follow(&file, after, &facts, &shared.closed))
            .map_err(|e| self.shared.unusable(format!("no thread to follow it: {e}")))?;
        Ok(followed)
    }

    /// See [`Queue::story`](crate::Queue::story).
    ///
    /// # Errors
    /// [`QueueError::File`].
    pub async fn story(&self, job: &JobId, back: Duration) -> Result<Vec<Fact>, QueueError> {
        let (job, since) = (job.clone(), now().minus(back));
        self.read(move |file| facts::story(file, &job, since)).await
    }
}

//! Reading facts for whoever asks: following them, and the story of one job.

use std::time::Duration;

use otpd_core::{Fact, JobId};
use tokio::sync::{mpsc, oneshot};

use super::{Embedded, FOLLOWED, facts, file, now};
use crate::error::QueueError;
use crate::listen::Following;

impl Embedded {
    /// See [`Queue::follow_marked`](crate::Queue::follow_marked).
    ///
    /// # Errors
    /// [`QueueError::File`].
    pub async fn follow_marked(&self, back: Duration) -> Result<Following, QueueError> {
        let since = now().minus(back);
        let place = self.read(move |file| Ok((facts::last_before(file, since)?, facts::last(file)?))).await?;
        let shared = self.shared.clone();
        let file = file::reader(&shared.path).map_err(|e| shared.error(&e))?;
        let (facts, followed) = mpsc::channel(FOLLOWED);
        let (reached, caught_up) = oneshot::channel();
        std::thread::Builder::new()
            .name("otpd-follow".into())
            .spawn(move || facts::follow(&file, place, &facts, reached, &shared.closed))
            .map_err(|e| self.shared.unusable(format!("no thread to follow it: {e}")))?;
        Ok(Following { facts: followed, caught_up })
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

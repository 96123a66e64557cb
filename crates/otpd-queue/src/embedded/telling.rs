//! Facts that no lane tells: written like all others, and heard by the listeners of this process, which are
//! otherwise told only what was written before.

use std::fmt;
use std::sync::{Arc, PoisonError};

use otpd_core::Fact;

use super::commands::{Request, Work};
use super::{Embedded, Shared};
use crate::error::QueueError;
use crate::listen::{News, When};

/// A fact, and whose listeners hear it once it is committed, whether the caller still waits or not.
pub(super) struct Tell {
    pub(super) fact: Fact,
    shared: Arc<Shared>,
}

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tell").field(&self.fact.event_id()).finish()
    }
}

impl Tell {
    /// Tells the listeners. Called once the fact is committed.
    pub(super) fn committed(&self) {
        for listener in self.shared.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            listener.hear(vec![News::Fact(self.fact.clone())], When::Live);
        }
    }
}

impl Embedded {
    /// See [`Queue::tell`](crate::Queue::tell).
    ///
    /// # Errors
    /// [`QueueError::File`]: the fact is not written.
    pub async fn tell(&self, fact: &Fact) -> Result<(), QueueError> {
        let told = Tell { fact: fact.clone(), shared: self.shared.clone() };
        self.ask(told, |request: Request<Tell, ()>| Work::Tell(request)).await
    }
}

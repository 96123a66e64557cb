//! The right to send, as a request sees it that is about to start: the session in which its delivery was
//! handed out must still be the lane's, or another owner may be sending the same job.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use otpd_queue::Alive;

/// The number of the session that the lane holds; 0 while it holds none.
#[derive(Clone, Debug, Default)]
pub struct Lease {
    session: Arc<AtomicU32>,
    alive: Alive,
}

impl Lease {
    /// Of a lane whose queue gives these signs of life.
    #[must_use]
    pub fn of(alive: Alive) -> Self {
        Self { alive, ..Self::default() }
    }

    /// The lane holds this session now.
    pub fn hold(&self, session: u32) {
        self.session.store(session, Ordering::Release);
    }

    /// The lane holds none.
    pub fn lose(&self) {
        self.session.store(0, Ordering::Release);
    }

    /// Whether the lane still holds `session`.
    #[must_use]
    pub fn holds(&self, session: u32) -> bool {
        self.session.load(Ordering::Acquire) == session
    }

    /// True if the broker has shown lately that it knows the lane's consumer.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.alive.is_fresh(Instant::now())
    }
}

//! The right to send, as a request sees it that is about to start: the session in which its delivery was
//! handed out must still be the lane's, or another owner may be sending the same job.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The number of the session that the lane holds; 0 while it holds none.
#[derive(Clone, Debug, Default)]
pub struct Lease(Arc<AtomicU32>);

impl Lease {
    /// The lane holds this session now.
    pub fn hold(&self, session: u32) {
        self.0.store(session, Ordering::Release);
    }

    /// The lane holds none.
    pub fn lose(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// Whether the lane still holds `session`.
    #[must_use]
    pub fn holds(&self, session: u32) -> bool {
        self.0.load(Ordering::Acquire) == session
    }
}

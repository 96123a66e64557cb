//! The right to write one request on one connection.
//!
//! A request that waits for its connection may be taken elsewhere. Whoever takes it back and whoever writes
//! it decide by one flag, which is settled once: so it is written on one connection at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

const PENDING: u8 = 0;
const WRITTEN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// The right to write one request on one connection.
#[derive(Debug)]
pub(crate) struct Right {
    state: AtomicU8,
    /// How many requests of the connection are written and have not ended.
    written: Arc<AtomicUsize>,
}

impl Right {
    pub(crate) const fn new(written: Arc<AtomicUsize>) -> Self {
        Self { state: AtomicU8::new(PENDING), written }
    }

    /// Asks whether the request may be written now; true at most once.
    pub(crate) fn write(&self) -> bool {
        let is_ours = self.settle(WRITTEN);
        if is_ours {
            self.written.fetch_add(1, Ordering::Relaxed);
        }
        is_ours
    }

    /// Takes the right back; false if it was used, or taken back before.
    pub(crate) fn withdraw(&self) -> bool {
        self.settle(WITHDRAWN)
    }

    /// The request has ended: it is not written any more, or counts no longer.
    pub(crate) fn end(&self) {
        if self.state.swap(WITHDRAWN, Ordering::AcqRel) == WRITTEN {
            self.written.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn settle(&self, to: u8) -> bool {
        self.state.compare_exchange(PENDING, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_used_or_taken_back() {
        let written = Arc::new(AtomicUsize::new(0));
        let count = || written.load(Ordering::Relaxed);
        let used = Right::new(written.clone());
        assert!(used.write() && !used.write() && !used.withdraw());
        assert_eq!(count(), 1);
        used.end();
        used.end();
        assert_eq!(count(), 0);
        let back = Right::new(written.clone());
        assert!(back.withdraw() && !back.write());
        let dropped = Right::new(written.clone());
        dropped.end();
        assert!(!dropped.write());
        assert_eq!(count(), 0);
    }
}

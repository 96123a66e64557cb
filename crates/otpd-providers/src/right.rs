//! The right to write one request on one connection.
//!
//! A request that waits for its connection may be taken elsewhere. Whoever takes it back and whoever writes
//! it decide by one flag, which is settled once: so it is written on one connection at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use otpd_core::Mono;
use tokio::sync::{Semaphore, SemaphorePermit};

const PENDING: u8 = 0;
const WRITTEN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// What a connection owes.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    /// How many requests were written and have not ended, and the most that ever were.
    requests: AtomicUsize,
    most: AtomicUsize,
    /// Since when something was owed and nothing was answered; 0: nothing is owed.
    since: AtomicU64,
}

impl Owed {
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// The most that it ever owed at once.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// Whether nothing at all was answered for so long, though something was owed.
    pub(crate) fn is_silent_for(&self, long: Duration, now: Mono) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since != 0 && now.since(Mono(since)) > long
    }

    /// An answer began.
    pub(crate) fn answered(&self, now: Mono) {
        if self.requests() > 0 {
            self.since.store(now.0, Ordering::Relaxed);
        }
    }

    fn written(&self, now: Mono) {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        self.most.fetch_max(before + 1, Ordering::Relaxed);
        if before == 0 {
            self.since.store(now.0, Ordering::Relaxed);
        }
    }

    fn ended(&self) {
        if self.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.since.store(0, Ordering::Relaxed);
        }
    }
}

/// The right to write one request on one connection.
#[derive(Debug)]
pub(crate) struct Right {
    state: AtomicU8,
    owed: Arc<Owed>,
    /// Where others queue until this request is written or is not any more.
    queue: Option<Arc<Semaphore>>,
}

impl Right {
    pub(crate) const fn new(owed: Arc<Owed>) -> Self {
        Self { state: AtomicU8::new(PENDING), owed, queue: None }
    }

    /// The same with a permit of this queue, which it gives back when it is settled.
    pub(crate) fn queued(owed: Arc<Owed>, queue: Arc<Semaphore>, permit: SemaphorePermit<'_>) -> Self {
        permit.forget();
        Self { queue: Some(queue), ..Self::new(owed) }
    }

    /// Asks whether the request may be written now; true at most once.
    pub(crate) fn write(&self, now: Mono) -> bool {
        let is_ours = self.settle(WRITTEN);
        if is_ours {
            self.owed.written(now);
        }
        is_ours
    }

    /// Takes the right back; false if it was used, or taken back before.
    pub(crate) fn withdraw(&self) -> bool {
        self.settle(WITHDRAWN)
    }

    /// The request has ended: it is not written any more, or counts no longer.
    pub(crate) fn end(&self) {
        if !self.settle(WITHDRAWN) && self.state.swap(WITHDRAWN, Ordering::AcqRel) == WRITTEN {
            self.owed.ended();
        }
    }

    fn settle(&self, to: u8) -> bool {
        let is_first = self.state.compare_exchange(PENDING, to, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if let Some(queue) = self.queue.as_ref().filter(|_| is_first) {
            queue.add_permits(1);
        }
        is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_used_or_taken_back() {
        let (owed, now) = (Arc::new(Owed::default()), Mono(1));
        let used = Right::new(owed.clone());
        assert!(used.write(now) && !used.write(now) && !used.withdraw());
        assert_eq!(owed.requests(), 1);
        used.end();
        used.end();
        assert_eq!(owed.requests(), 0);
        let back = Right::new(owed.clone());
        assert!(back.withdraw() && !back.write(now));
        let dropped = Right::new(owed.clone());
        dropped.end();
        assert!(!dropped.write(now));
        assert_eq!(owed.requests(), 0);
    }

    #[test]
    fn the_place_in_the_queue_is_given_back_once() {
        type Step = fn(&Right);
        let write: Step = |right| assert!(right.write(Mono(1)));
        let withdraw: Step = |right| assert!(right.withdraw());
        for steps in [&[write, Right::end][..], &[withdraw, Right::end], &[Right::end, Right::end]] {
            let queue = Arc::new(Semaphore::new(1));
            let right = Right::queued(Arc::default(), queue.clone(), queue.try_acquire().unwrap());
            assert_eq!(queue.available_permits(), 0);
            for step in steps {
                step(&right);
                assert_eq!(queue.available_permits(), 1);
            }
        }
    }

    #[test]
    fn silence_is_counted_while_something_is_owed() {
        let (owed, long) = (Arc::new(Owed::default()), Duration::from_nanos(10));
        let (one, two) = (Right::new(owed.clone()), Right::new(owed.clone()));
        assert!(!owed.is_silent_for(long, Mono(99)), "nothing is owed");
        assert!(one.write(Mono(100)) && two.write(Mono(105)));
        assert!(!owed.is_silent_for(long, Mono(110)) && owed.is_silent_for(long, Mono(111)));
        owed.answered(Mono(112));
        one.end();
        assert!(!owed.is_silent_for(long, Mono(122)) && owed.is_silent_for(long, Mono(123)));
        two.end();
        owed.answered(Mono(130));
        assert!(!owed.is_silent_for(long, Mono(999)));
    }
}

//! Who watches a job. Each watcher has room for [`WATCHER_ROOM`] changes; one that reads more slowly than its job
//! changes is dropped, and may come again: it then goes on after the last event that it has.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use otpd_core::{JobId, JobState};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::limits::{WATCHER_ROOM, WATCHERS};
use crate::view::EntryView;

/// What a watcher is told.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) state: JobState,
    pub(crate) entry: Option<EntryView>,
}

/// All watchers.
pub(crate) struct Watchers {
    watching: Mutex<Watching>,
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct Watching {
    of: HashMap<JobId, Vec<mpsc::Sender<Change>>>,
    is_over: bool,
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers").field("free", &self.places.available_permits()).finish()
    }
}

impl Default for Watchers {
    fn default() -> Self {
        Self { watching: Mutex::default(), places: Arc::new(Semaphore::new(WATCHERS)) }
    }
}

impl Watchers {
    /// A place for one more watcher, if there is one.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// How many watch.
    pub(crate) fn len(&self) -> usize {
        WATCHERS.saturating_sub(self.places.available_permits())
    }

    /// The changes of a job from now on. The receiver ends when the gateway stops, or when it was too slow.
    pub(crate) fn watch(&self, job: &JobId) -> mpsc::Receiver<Change> {
        let (changes, receiver) = mpsc::channel(WATCHER_ROOM);
        let mut watching = self.watching();
        if !watching.is_over {
            watching.of.entry(job.clone()).or_default().push(changes);
        }
        receiver
    }

    /// Tells whoever watches this job.
    pub(crate) fn tell(&self, job: &JobId, change: impl FnOnce() -> Change) {
        let mut watching = self.watching();
        let Some(all) = watching.of.get_mut(job) else { return };
        let change = change();
        all.retain(|watcher| watcher.try_send(change.clone()).is_ok());
        if all.is_empty() {
            watching.of.remove(job);
        }
    }

    /// Forgets watchers that have gone.
    pub(crate) fn sweep(&self) {
        self.watching().of.retain(|_, all| {
            all.retain(|watcher| !watcher.is_closed());
            !all.is_empty()
        });
    }

    /// Ends all of them, and lets none begin.
    pub(crate) fn end(&self) {
        let mut watching = self.watching();
        watching.is_over = true;
        watching.of.clear();
    }

    fn watching(&self) -> MutexGuard<'_, Watching> {
        self.watching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_watcher_is_dropped_and_the_others_are_not() {
        let (watchers, job) = (Watchers::default(), JobId::parse("a").unwrap());
        let (mut quick, slow) = (watchers.watch(&job), watchers.watch(&job));
        for _ in 0..=WATCHER_ROOM {
            watchers.tell(&job, || Change { state: JobState::Sending, entry: None });
            assert!(quick.try_recv().is_ok());
        }
        assert!(slow.is_closed() && !quick.is_closed());
        drop(quick);
        watchers.sweep();
        assert!(watchers.watching().of.is_empty());
        watchers.end();
        assert!(watchers.watch(&job).is_closed());
    }

    #[test]
    fn places_are_bounded() {
        let watchers = Watchers::default();
        let taken: Vec<_> = std::iter::from_fn(|| watchers.place()).collect();
        assert_eq!((taken.len(), watchers.len()), (WATCHERS, WATCHERS));
        drop(taken);
        assert_eq!(watchers.len(), 0);
    }
}

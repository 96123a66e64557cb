//! When one request left: written by whoever sends it, read by the ceiling.
//!
//! A stamp is settled once, by whoever comes first: the request is written, or it never will be. So the
//! right to write can be taken back from outside, at any moment, without a lock: a lane that lost its lane
//! revokes the stamps of its requests, and one that still connects then finds that it may not leave. The
//! latest moment at which it may leave can be set beforehand: whoever takes over counts on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Mono;

const PENDING: u64 = 0;
/// The right to write was revoked, or it came too late.
const REFUSED: u64 = u64::MAX - 1;
const NEVER_LEFT: u64 = u64::MAX;
/// The last number that is a time.
const LAST: u64 = REFUSED - 1;

/// When one request left, written by whoever sends it and read by the ceiling.
#[derive(Clone, Debug, Default)]
pub struct Stamp(Arc<Marks>);

#[derive(Debug)]
struct Marks {
    written: AtomicU64,
    /// When the request arrived at the latest, once its attempt is over; `PENDING` before.
    arrived: AtomicU64,
    /// The last moment at which it may be written.
    write_before: AtomicU64,
    /// The request left before there was anything to judge its answer by.
    unjudged: bool,
}

impl Default for Marks {
    fn default() -> Self {
        let [written, arrived] = [PENDING; 2].map(AtomicU64::new);
        Self { written, arrived, write_before: AtomicU64::new(u64::MAX), unjudged: false }
    }
}

/// What is known of a request's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It may still leave, or its answer is still to come.
    Open,
    /// It never left and never will.
    NeverLeft,
    /// It had arrived at this time at the latest, and its attempt is over.
    Arrived(Mono),
}

impl Stamp {
    /// Of a request that leaves before there is anything to judge its answer by (`unjudged`), or later.
    pub(crate) fn of(unjudged: bool) -> Self {
        Self(Arc::new(Marks { unjudged, ..Marks::default() }))
    }

    /// Asks whether the request may be written to the socket now. The first call decides and dates it:
    /// `false` if the attempt was over, the right to write was revoked, or `at` is too late; then it never
    /// leaves.
    #[must_use]
    pub fn try_write(&self, at: Mono) -> bool {
        let is_late = at.0 > self.0.write_before.load(Ordering::Acquire);
        self.settle(if is_late { REFUSED } else { at.0.clamp(1, LAST) });
        self.is_written()
    }

    /// The request is being written to the socket now, as [`Stamp::try_write`] allowed.
    pub fn written(&self, at: Mono) {
        let _ = self.try_write(at);
    }

    /// The attempt is over; where it was not written it now never will be, and its place is free.
    pub fn over(&self) {
        self.settle(NEVER_LEFT);
    }

    /// Takes the right to write back, because the lane is no longer ours. A request that left stays as it is.
    pub fn revoke(&self) {
        self.settle(REFUSED);
    }

    fn settle(&self, to: u64) {
        let _ = self.0.written.compare_exchange(PENDING, to, Ordering::AcqRel, Ordering::Acquire);
    }

    /// True if the request did not leave because it was revoked or too late, which says nothing of the provider.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.0.written.load(Ordering::Acquire) == REFUSED
    }

    /// Sets the last moment at which the request may be written: what was announced counts until then for
    /// whoever takes over. To be called before the request starts.
    pub fn must_be_written_before(&self, at: Mono) {
        self.0.write_before.store(at.0, Ordering::Release);
    }

    /// True if the request was written, wholly or in part.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.written_at().is_some()
    }

    /// True while the request may still be written.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.written.load(Ordering::Acquire) == PENDING
    }

    /// When the request was written.
    #[must_use]
    pub fn written_at(&self) -> Option<Mono> {
        match self.0.written.load(Ordering::Acquire) {
            PENDING | REFUSED | NEVER_LEFT => None,
            at => Some(Mono(at)),
        }
    }

    /// The last moment at which the request may still be written, if that was set.
    pub(crate) fn write_before(&self) -> Mono {
        Mono(self.0.write_before.load(Ordering::Acquire))
    }

    /// True if the request left before there was anything to judge its answer by.
    pub(crate) fn is_unjudged(&self) -> bool {
        self.0.unjudged
    }

    /// The attempt is over, and the request had arrived at this time at the latest.
    pub(crate) fn arrived(&self, at: Mono) {
        self.0.arrived.store(at.0.clamp(1, LAST), Ordering::Release);
    }

    /// What is known of its way.
    pub(crate) fn way(&self) -> Way {
        match (self.0.written.load(Ordering::Acquire), self.0.arrived.load(Ordering::Acquire)) {
            (NEVER_LEFT | REFUSED, _) => Way::NeverLeft,
            (PENDING, _) | (_, PENDING) => Way::Open,
            (_, arrived) => Way::Arrived(Mono(arrived)),
        }
    }

    /// When its place is free again, as far as is known at `now`.
    pub(crate) fn place(&self, held_for: Duration, usual: Option<Duration>, now: Mono) -> Place {
        match (self.way(), self.written_at()) {
            (Way::NeverLeft, _) => Place::FreeAt(Mono(0)),
            (Way::Arrived(at), _) => Place::FreeAt(at.plus(held_for)),
            (Way::Open, None) => Place::Unknown,
            (Way::Open, Some(written)) => {
                // Not answered yet: fine as long as answers usually take that long.
                let free_at = written.plus(held_for);
                let in_time = !self.0.unjudged && usual.is_some_and(|u| now.since(written) <= u);
                if in_time || now < free_at { Place::FreeAt(free_at) } else { Place::Unknown }
            }
        }
    }
}

/// When a place in a window is free again.
pub(crate) enum Place {
    /// Until its attempt says more.
    Unknown,
    FreeAt(Mono),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_to_come_settles_it() {
        let (now, later) = (Mono(50), Mono(60));
        type Step = fn(&Stamp);
        let revoke: Step = Stamp::revoke;
        let over: Step = Stamp::over;
        let write: Step = |s| s.written(Mono(50));
        let until_40: Step = |s| s.must_be_written_before(Mono(40));
        let until_50: Step = |s| s.must_be_written_before(Mono(50));
        for (steps, may_write, way) in [
            (vec![], true, Way::Open),
            (vec![revoke], false, Way::NeverLeft),
            (vec![over], false, Way::NeverLeft),
            (vec![write, revoke], true, Way::Open),
            (vec![write, until_40], true, Way::Open),
            (vec![until_40], false, Way::NeverLeft),
            (vec![until_50], true, Way::Open),
            (vec![revoke, until_50], false, Way::NeverLeft),
        ] {
            let stamp = Stamp::default();
            for step in &steps {
                step(&stamp);
            }
            assert_eq!((stamp.try_write(now), stamp.way()), (may_write, way), "{} steps", steps.len());
            assert_eq!(stamp.try_write(later), may_write, "a second call changes nothing");
            assert_eq!(stamp.written_at(), may_write.then_some(now));
        }
    }

    #[test]
    fn too_late_frees_the_place() {
        let stamp = Stamp::default();
        stamp.must_be_written_before(Mono(40));
        assert!(matches!(stamp.place(Duration::from_secs(1), None, Mono(41)), Place::Unknown));
        assert!(!stamp.try_write(Mono(41)));
        assert!(stamp.is_refused());
        assert!(matches!(stamp.place(Duration::from_secs(1), None, Mono(41)), Place::FreeAt(Mono(0))));
        let over = Stamp::default();
        over.over();
        assert!(!over.is_refused());
    }
}

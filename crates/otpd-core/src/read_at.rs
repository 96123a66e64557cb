//! When this process read a record of the stream, and what that says of when it was published.
//!
//! What is read as it is published was published at that moment, whatever any wall clock shows. Only of what is
//! read later the wall time is believed, and never taken to be earlier than it may have been.

use std::time::Duration;

use crate::clock::{Mono, UnixMs};

/// How far workers' wall clocks are taken to be apart, where a fact is not read as it is published.
pub(crate) const SKEW: Duration = Duration::from_secs(1);

/// When this process read something, and what that says of when it was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadAt {
    mono: Mono,
    wall: UnixMs,
    is_live: bool,
}

impl ReadAt {
    /// As it was published: the reader had caught up.
    #[must_use]
    pub const fn live(mono: Mono, wall: UnixMs) -> Self {
        Self { mono, wall, is_live: true }
    }

    /// From the past: published at any time before.
    #[must_use]
    pub const fn past(mono: Mono, wall: UnixMs) -> Self {
        Self { mono, wall, is_live: false }
    }

    /// When it was read.
    #[must_use]
    pub const fn mono(self) -> Mono {
        self.mono
    }

    /// True if it was read as it was published.
    #[must_use]
    pub const fn is_live(self) -> bool {
        self.is_live
    }

    /// When it was read, on the wall clock.
    #[must_use]
    pub const fn wall(self) -> UnixMs {
        self.wall
    }

    /// The latest moment at which another worker's clock may have shown `at`, before this was read.
    #[must_use]
    pub fn latest(self, at: UnixMs) -> Mono {
        if self.is_live { self.mono } else { self.mono.minus(self.wall.since(at)).plus(SKEW).min(self.mono) }
    }
}

//! Which life of a job a message belongs to.
//!
//! The id names a job for its producer. A job that has ended may live again under the same id: an operator
//! replays its dead letter, or its producer publishes it anew. Facts of a former life must not settle a
//! later one, so each life has a number of its own: the moment at which the life before it ended. That
//! number needs no coordination: whoever starts the same new life twice gives it the same number, so the
//! second message of it is recognised as a duplicate.

use crate::clock::UnixMs;

/// A life of a job. The default is the first one; later lives compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Life(UnixMs);

impl Life {
    /// The life that begins after the one that ended at `ended_at`.
    #[must_use]
    pub const fn after(ended_at: UnixMs) -> Self {
        Self(ended_at)
    }

    /// Reads what [`Life::number`] wrote; 0 is the first life.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self(UnixMs(number))
    }

    /// The life as a number for headers and events: milliseconds since 1970, or 0 for the first life.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0.0
    }

    /// True for the life that the producer's first message began.
    #[must_use]
    pub const fn is_first(self) -> bool {
        self.0.0 == 0
    }
}

/// Which part of a job's life a message belongs to. A job that a provider accepted may be sent once more, by
/// the next provider, because nobody heard that it arrived: that extra send is a stage of its own, later than the
/// first, so that the acceptance does not settle it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Stage {
    /// The life.
    pub life: Life,
    /// True for the extra send, and whatever follows it.
    pub extra: bool,
}

/// The stage in which a life begins.
impl From<Life> for Stage {
    fn from(life: Life) -> Self {
        Self { life, extra: false }
    }
}

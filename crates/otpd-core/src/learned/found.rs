//! A limit that was found, and what was found out about it since.

use std::time::Duration;

use crate::clock::Mono;
use crate::rate::Rate;

/// A limit that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) count: u32,
    pub(super) per: Duration,
    /// What was refused: one more than fits, as far as is known.
    pub(super) edge: Option<u32>,
    /// The count of which a whole window was accepted last; whether that is the present one.
    pub(super) proved: u32,
    pub(super) is_proved: bool,
    /// It is a step over the edge from a count that was proved.
    pub(super) is_trial: bool,
    /// Single refusals of the proved count, and when the first of them was.
    pub(super) strikes: u32,
    pub(super) struck_at: Mono,
    /// When a step over the edge may be tried, and how many were refused in a row.
    pub(super) try_at: Mono,
    pub(super) failed: u32,
    /// Steps down since a window was proved, and when the first of them was.
    pub(super) lowered: u32,
    pub(super) lowered_at: Mono,
    /// Raises in a row.
    pub(super) raised: u32,
}

impl Found {
    pub(super) fn new(count: u32, per: Duration) -> Self {
        Self {
            count,
            per,
            edge: Some(count.saturating_add(1)),
            proved: 0,
            is_proved: false,
            is_trial: false,
            strikes: 0,
            struck_at: Mono::default(),
            try_at: Mono::default(),
            failed: 0,
            lowered: 0,
            lowered_at: Mono::default(),
            raised: 0,
        }
    }

    pub(super) fn rate(self) -> Option<Rate> {
        Rate::new(self.count, self.per).ok()
    }

    pub(super) fn per_second(self) -> f64 {
        f64::from(self.count) / self.per.as_secs_f64()
    }

    /// True if the next step may be refused.
    pub(super) fn is_at_edge(self) -> bool {
        self.edge.is_some_and(|edge| self.count.saturating_add(1) >= edge)
    }
}

/// The smallest change of a count: a twenty-fifth, and at least one.
pub(super) fn step(count: u32) -> u32 {
    (count / 25).max(1)
}

//! The one place where the worker reads the time. Monotonic time comes from tokio, so that tests
//! can hold it still; wall time from the system, or, in such tests, from the same held clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use otpd_core::{Mono, UnixMs};
use tokio::time::Instant;

/// A day: monotonic times of before this process (a predecessor's sends) must have a place too.
const HEAD_START: Duration = Duration::from_secs(86_400);

/// Both clocks of a process. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    /// Wall time at the origin, where wall time is to follow the held clock.
    held_wall: Option<UnixMs>,
    /// By how many milliseconds a held wall clock has been set forward since; negative: back.
    set_by: Option<&'static AtomicI64>,
}

impl Clock {
    /// The system's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self { origin: Instant::now(), held_wall: None, set_by: None }
    }

    /// Wall time that starts at `wall` and goes with tokio's clock: for tests and simulations.
    #[must_use]
    pub fn held(wall: UnixMs) -> Self {
        Self { origin: Instant::now(), held_wall: Some(wall), set_by: None }
    }

    /// A held clock whose wall time is set forward, or back, by so many milliseconds.
    #[must_use]
    pub fn held_and_set(wall: UnixMs, set_by: &'static AtomicI64) -> Self {
        Self { set_by: Some(set_by), ..Self::held(wall) }
    }

    /// Monotonic now.
    #[must_use]
    pub fn mono(&self) -> Mono {
        Mono::default().plus(HEAD_START + self.origin.elapsed())
    }

    /// Wall-clock now.
    #[must_use]
    pub fn wall(&self) -> UnixMs {
        match self.held_wall {
            Some(start) => {
                let by = self.set_by.map_or(0, |by| by.load(Ordering::Relaxed));
                let shift = Duration::from_millis(by.unsigned_abs());
                let now = start.plus(self.origin.elapsed());
                if by < 0 { now.minus(shift) } else { now.plus(shift) }
            }
            None => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
        }
    }

    /// The instant to sleep until for `at` to have come.
    #[must_use]
    pub fn instant(&self, at: Mono) -> Instant {
        self.origin + at.since(Mono::default()).saturating_sub(HEAD_START)
    }

    /// The monotonic time at which the wall clock will show, or showed, `at`.
    #[must_use]
    pub fn mono_of(&self, at: UnixMs) -> Mono {
        let (mono, wall) = (self.mono(), self.wall());
        if at >= wall {
            mono.plus(at.since(wall))
        } else {
            Mono(mono.0.saturating_sub(otpd_core::clock::nanos(wall.since(at))))
        }
    }

    /// The wall time of a monotonic one.
    #[must_use]
    pub fn wall_of(&self, at: Mono) -> UnixMs {
        let (mono, wall) = (self.mono(), self.wall());
        if at >= mono { wall.plus(at.since(mono)) } else { wall.minus(mono.since(at)) }
    }
}

//! The two clocks of the gateway, given from outside.

use std::fmt;
use std::sync::Arc;

use otpd_core::{Mono, UnixMs};

/// The two clocks. Clones are the same clocks.
#[derive(Clone)]
pub struct Clock {
    mono: Arc<dyn Fn() -> Mono + Send + Sync>,
    wall: Arc<dyn Fn() -> UnixMs + Send + Sync>,
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl Clock {
    /// From a clock that never runs backwards, and one that other processes understand.
    pub fn new(
        mono: impl Fn() -> Mono + Send + Sync + 'static,
        wall: impl Fn() -> UnixMs + Send + Sync + 'static,
    ) -> Self {
        Self { mono: Arc::new(mono), wall: Arc::new(wall) }
    }

    /// Monotonic now.
    pub(crate) fn mono(&self) -> Mono {
        (self.mono)()
    }

    /// Wall-clock now.
    pub(crate) fn wall(&self) -> UnixMs {
        (self.wall)()
    }
}

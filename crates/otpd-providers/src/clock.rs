//! The two clocks of the transport, given from outside.

use std::sync::Arc;

use otpd_core::{Mono, UnixMs};

/// The two clocks, given from outside.
#[derive(Clone)]
pub struct Clock {
    mono: Arc<dyn Fn() -> Mono + Send + Sync>,
    wall: Arc<dyn Fn() -> UnixMs + Send + Sync>,
}

impl Clock {
    /// `mono` must count from the origin that the ceiling counts from.
    pub fn new(
        mono: impl Fn() -> Mono + Send + Sync + 'static,
        wall: impl Fn() -> UnixMs + Send + Sync + 'static,
    ) -> Self {
        Self { mono: Arc::new(mono), wall: Arc::new(wall) }
    }

    pub(crate) fn mono(&self) -> Mono {
        (self.mono)()
    }

    pub(crate) fn wall(&self) -> UnixMs {
        (self.wall)()
    }
}

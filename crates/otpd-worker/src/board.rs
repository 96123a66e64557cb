//! How long a new job would wait in each lane of this process, so that a lane knows whether the next
//! provider has room. Lanes of other processes are not on it: they are taken to have room.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use otpd_core::ProviderName;

/// One wait for each lane, in milliseconds. Each is written by its own lane only.
#[derive(Debug, Default)]
pub struct Board(HashMap<ProviderName, AtomicU64>);

impl Board {
    /// A board of these lanes, none of which has anybody waiting.
    #[must_use]
    pub fn new(lanes: impl IntoIterator<Item = ProviderName>) -> Self {
        Self(lanes.into_iter().map(|lane| (lane, AtomicU64::new(0))).collect())
    }

    /// A lane says how long a new job would wait in it.
    pub fn say(&self, lane: &ProviderName, wait: Duration) {
        if let Some(place) = self.0.get(lane) {
            place.store(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// How long a new job would wait in a lane.
    #[must_use]
    pub fn wait(&self, lane: &ProviderName) -> Duration {
        self.0.get(lane).map_or(Duration::ZERO, |place| Duration::from_millis(place.load(Ordering::Relaxed)))
    }
}

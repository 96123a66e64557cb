//! The clocks of this backend.

use std::time::{SystemTime, UNIX_EPOCH};

use otpd_core::UnixMs;
use tokio::time::Instant;

/// Now. Before 1970 it is 1970.
pub(super) fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Waits until `at`; for ever where there is no such moment.
pub(super) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

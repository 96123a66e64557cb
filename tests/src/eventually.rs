//! Waiting for what must become true.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// Asks until `check` gives something; fails after `within`, naming `what`.
///
/// # Panics
/// Where it did not become true in time.
pub async fn eventually<T, F>(what: &str, within: Duration, mut check: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

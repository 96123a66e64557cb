//! The logs of the code under test, for whoever hunts a failure: `RUST_LOG=debug cargo test ...`.

use std::sync::Once;

use tracing_subscriber::EnvFilter;

/// Writes logs to standard error from now on, if `RUST_LOG` asks for any.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Ok(filter) = EnvFilter::try_from_default_env() {
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
        }
    });
}

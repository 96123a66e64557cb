//! Deferred jobs: they follow the monotonic clock.

use std::sync::atomic::Ordering;

use otpd_core::FactKind;

use crate::bench::{Bench, Setup, accepted, body, transient};
use crate::secs;

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_changes_no_retry() {
    for set_by in [-3_600_000, 60_000] {
        let mut bench =
            Bench::start(Setup::default(), |_, times| if times < 3 { transient() } else { accepted() });
        bench.deliver(&body("a", "+628111111111", ""));
        bench.pass(std::time::Duration::from_millis(100)).await;
        bench.wall_set_by.store(set_by, Ordering::Relaxed);
        bench.pass(secs(5)).await;
        let sent = bench.sent_at();
        println!("wall clock set by {set_by} ms: {} of 3 attempts in 5 s", sent.len());
        assert_eq!(bench.count(FactKind::Accepted), 1);
        let waited = sent[1].since(sent[0]).as_millis();
        assert!((350..=700).contains(&waited), "{waited} ms");
    }
}

//! A code's expiry is looked at again after everything that takes time before its request.

use std::time::Duration;

use otpd_core::{FactKind, Outcome, Reason};

use crate::bench::{Bench, Left, Setup, accepted, body};
use crate::secs;

#[tokio::test(start_paused = true)]
async fn a_code_that_expires_while_its_request_is_announced_is_not_sent() {
    let mut bench = Bench::start(Setup { ceiling: "1/10s", ..Setup::default() }, |_, _| accepted());
    let soon = r#","created_at":"2027-01-15T08:00:00Z","expires_at":"2027-01-15T08:00:02Z""#;
    let tag = bench.deliver(&body("late", "+628111111111", soon));
    // The announcement is confirmed after two and a half seconds.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    bench.deliver(&body("fresh", "+628111111112", ""));
    bench.pass(secs(1)).await;
    assert_eq!(bench.sent(), ["fresh"], "its permit is free");
    assert!(bench.kinds().contains(&FactKind::Expired), "{:?}", bench.kinds());
    assert!(matches!(bench.left[&tag], Left::Acknowledged));
}

#[tokio::test(start_paused = true)]
async fn a_code_that_expires_while_its_former_attempt_is_looked_up_is_not_sent() {
    let setup = Setup { look_up: secs(4), ..Setup::default() };
    let mut bench = Bench::start(setup, |_, _| Outcome::Ambiguous { reason: Reason::Timeout });
    let soon = r#","created_at":"2027-01-15T08:00:00Z","expires_at":"2027-01-15T08:00:03Z""#;
    let tag = bench.deliver(&body("late", "+628111111111", soon));
    bench.pass(secs(8)).await;
    assert_eq!(bench.sent(), ["late"], "once, before it expired");
    assert_eq!(bench.kinds(), [FactKind::Retrying, FactKind::Expired]);
    assert!(matches!(bench.left[&tag], Left::Acknowledged));
}

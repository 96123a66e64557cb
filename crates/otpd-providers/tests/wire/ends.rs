//! Answers that are right and end badly.

use std::time::Duration;

use otpd_core::Class;

use super::{Bench, Wire, faults};

/// No last chunk, no `close_notify`, an end that is held back: what there is of the answer is whole. Before:
/// ambiguous, and the whole time-out where the end was held back.
#[tokio::test]
async fn a_whole_answer_counts_however_it_ends() {
    for wire in Wire::ALL {
        for fault in ["cut", "open_end"] {
            let bench = Bench::start(wire, faults(&format!("msgai:{fault}=100%"))).await;
            for phone in super::phones(3) {
                let sent = bench.send(&phone).await;
                assert_eq!(sent.class(), Class::Accepted, "{wire:?} {fault}: {sent:?}");
                assert!(sent.took < Duration::from_secs(1), "{wire:?} {fault}: {:?}", sent.took);
            }
            assert_eq!(bench.accepted(), 3, "each was sent once");
        }
    }
}

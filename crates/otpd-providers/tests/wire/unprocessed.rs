//! HTTP/2: requests of which the provider says that it did not look at them.

use std::time::Duration;

use otpd_core::{Class, Reason};
use otpd_sim::Control;

use super::{Bench, Sent, Wire, faults, latency, phones};

/// How many were accepted and not looked at; there is nothing else.
fn sides(all: &[Sent]) -> (usize, usize) {
    let mut sides = (0, 0);
    for sent in all {
        match sent.is() {
            (Class::Accepted, None) => sides.0 += 1,
            (Class::Transient, Some(Reason::ServiceUnavailable)) => {
                assert!(!sent.answered.outcome.may_have_been_sent(), "{sent:?}");
                sides.1 += 1;
            }
            _ => panic!("{sent:?}"),
        }
    }
    sides
}

/// Streams above a GOAWAY's last one were not processed; those below it are answered. Before: all above
/// were ambiguous.
#[tokio::test]
async fn what_is_above_a_goaway_was_not_sent() {
    for wire in [Wire::Http2, Wire::Https2] {
        let config = latency(faults("msgai:goaway=to:*010"), "300ms");
        let bench = Bench::start(wire, config).await;
        assert_eq!(bench.send("628123456999").await.class(), Class::Accepted);
        let all = bench.send_all(&phones(20)).await;
        let (accepted, refused) = sides(&all);
        assert_eq!(accepted + refused, 20);
        assert!(refused >= 1, "the one that met GOAWAY was not processed");
        assert_eq!(
            bench.accepted(),
            accepted as u64 + 1,
            "{wire:?}: what was accepted was sent, and no more"
        );
        let words = all.iter().find(|sent| sent.class() == Class::Transient).unwrap().detail();
        assert!(words.contains("GOAWAY") || words.contains("REFUSED_STREAM"), "{words}");
        // The next ones go over another connection.
        bench.mock.control(&Control::faults("msgai:".parse().unwrap()));
        assert_eq!(bench.send("628123456998").await.class(), Class::Accepted);
        assert_eq!(bench.mock.connections(), 2, "{wire:?}");
    }
}

#[tokio::test]
async fn a_refused_stream_was_not_sent() {
    for wire in [Wire::Http2, Wire::Https2] {
        let bench = Bench::start(wire, latency(faults("msgai:refused=50%"), "50ms")).await;
        while bench.send("628123456999").await.class() != Class::Accepted {}
        let all = bench.send_all(&phones(60)).await;
        let (accepted, refused) = sides(&all);
        assert!(refused >= 10 && accepted >= 10, "{accepted} and {refused}");
        assert_eq!(bench.accepted(), accepted as u64 + 1);
        assert_eq!(bench.mock.connections(), 1, "a refused stream says nothing of its connection");
        let words = all.iter().find(|sent| sent.class() == Class::Transient).unwrap().detail();
        assert_eq!(words, "the provider refused the request without looking at it (REFUSED_STREAM)");
    }
}

/// HTTP/1.1 has no such word: a connection that closes without an answer tells nothing.
#[tokio::test]
async fn over_http1_nobody_can_tell() {
    for fault in ["refused", "goaway"] {
        let bench = Bench::start(Wire::Https1, faults(&format!("msgai:{fault}=100%"))).await;
        let sent = bench.send("628123456000").await;
        assert_eq!(sent.is(), (Class::Ambiguous, Some(Reason::Timeout)), "{sent:?}");
        assert!(sent.took < Duration::from_secs(1));
    }
}

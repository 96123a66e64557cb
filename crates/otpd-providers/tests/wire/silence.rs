//! Connections that are there and say nothing.

use std::time::Duration;

use otpd_core::{Class, Reason};
use otpd_providers::HttpLimits;
use otpd_sim::Control;

use super::{Bench, PATIENT, Wire, clock, faults, latency, phones};

const IMPATIENT: HttpLimits = HttpLimits {
    connect_timeout: Duration::from_millis(1000),
    timeout: Duration::from_millis(1500),
    ..PATIENT
};

/// An answer that does not come is enough: what follows goes over another connection. Before: everything went
/// to the silent one until its pings had failed, for up to 16 s.
#[tokio::test]
async fn a_silent_connection_is_left_when_an_answer_is_overdue() {
    for wire in Wire::ALL {
        let bench = Bench::with(wire, faults("msgai:silence=to:*007"), IMPATIENT, clock()).await;
        assert_eq!(bench.send("628123456999").await.class(), Class::Accepted);
        let silent = bench.send("628123456007").await;
        assert_eq!(silent.is(), (Class::Ambiguous, Some(Reason::Timeout)), "{wire:?}");
        for phone in phones(5) {
            let next = bench.send(&phone).await;
            assert_eq!(next.class(), Class::Accepted, "{wire:?} {next:?}");
            assert!(next.took < Duration::from_millis(500), "{wire:?} {:?}", next.took);
        }
        assert_eq!((bench.mock.connections(), bench.accepted()), (2, 6), "{wire:?}");
    }
}

/// With a long time-out the pings are what finds it out, and they do so soon.
#[tokio::test]
async fn a_silent_http2_connection_is_found_out_by_its_pings() {
    let limits = HttpLimits { timeout: Duration::from_secs(60), ..PATIENT };
    let bench = Bench::with(Wire::Https2, faults("msgai:silence=to:*007"), limits, clock()).await;
    assert_eq!(bench.send("628123456999").await.class(), Class::Accepted);
    let silent = bench.send("628123456007").await;
    assert_eq!(silent.is(), (Class::Ambiguous, Some(Reason::Timeout)), "{silent:?}");
    assert!(silent.took < Duration::from_secs(8), "{:?}", silent.took);
    assert_eq!(bench.send("628123456000").await.class(), Class::Accepted);
}

/// One answer that is late does not cost the connection of the others.
#[tokio::test]
async fn one_late_answer_leaves_the_connection() {
    for wire in [Wire::Http2, Wire::Https2] {
        let bench = Bench::with(wire, faults("msgai:late(20s)=to:*007"), IMPATIENT, clock()).await;
        assert_eq!(bench.send("628123456999").await.class(), Class::Accepted);
        let late = {
            let transport = bench.transport.clone();
            tokio::spawn(async move { super::send(&transport, "628123456007").await })
        };
        while !late.is_finished() {
            assert_eq!(bench.send("628123456000").await.class(), Class::Accepted);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let late = late.await.unwrap();
        assert_eq!(late.is(), (Class::Ambiguous, Some(Reason::Timeout)), "{late:?}");
        bench.mock.control(&Control::faults("msgai:".parse().unwrap()));
        assert_eq!(bench.send("628123456001").await.class(), Class::Accepted);
        assert_eq!(bench.mock.connections(), 1, "{wire:?}");
    }
}

/// A lane that goes on sending loses to a silent connection what it sends within a second. Before: all that
/// it sent until the pings had failed, 250 requests at 50 a second.
#[tokio::test]
async fn a_silent_http2_connection_gets_no_more_requests() {
    for wire in [Wire::Http2, Wire::Https2] {
        let bench = Bench::start(wire, latency(faults("msgai:silence=to:*000"), "50ms")).await;
        assert_eq!(bench.send("628123456999").await.class(), Class::Accepted);
        let mut sends = Vec::new();
        for phone in phones(150) {
            let transport = bench.transport.clone();
            sends.push(tokio::spawn(async move { super::send(&transport, &phone).await }));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut all = Vec::new();
        for send in sends {
            all.push(send.await.unwrap());
        }
        let lost: Vec<usize> = all
            .iter()
            .enumerate()
            .filter(|(_, sent)| sent.class() != Class::Accepted)
            .map(|(i, _)| i)
            .collect();
        assert!(lost.iter().all(|i| *i < 75), "{wire:?}: {lost:?}");
        let late = all.iter().filter(|sent| sent.class() == Class::Accepted).map(|sent| sent.took).max();
        assert!(late < Some(Duration::from_millis(700)), "{wire:?}: {late:?}");
    }
}

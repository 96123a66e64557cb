//! HTTP/2 allows so many open requests on a connection, and a lane may need more.

use std::time::{Duration, Instant};

use otpd_core::Class;
use otpd_sim::{Kind, MockConfig};

use super::{Bench, Wire, latency, of_class, phones};

/// The server allows ten open requests on a connection, and answers after a second. Before: 40 requests
/// took four seconds.
#[tokio::test]
async fn a_lane_is_not_capped_by_the_streams_of_one_connection() {
    for wire in [Wire::Http2, Wire::Https2] {
        let bench =
            Bench::start(wire, latency(MockConfig { streams: 10, ..MockConfig::default() }, "1s")).await;
        assert_eq!(bench.send("628123456999").await.class(), Class::Accepted);
        for round in 0..2 {
            let since = Instant::now();
            let all = bench.send_all(&phones(40)).await;
            let took = since.elapsed();
            assert_eq!(of_class(&all, Class::Accepted), 40, "{wire:?}");
            assert!(took < Duration::from_millis(2500), "{wire:?} {round}: {took:?}");
        }
        assert!((4..=16).contains(&bench.mock.connections()), "{}", bench.mock.connections());
        assert_eq!(bench.accepted(), 81, "none twice");
    }
}

/// More than all connections together take: the rest waits its turn, and nothing goes to and fro, which the
/// server would take for an attack.
#[tokio::test]
async fn what_finds_no_room_waits_for_it() {
    for wire in [Wire::Http2, Wire::Https2] {
        let bench =
            Bench::start(wire, latency(MockConfig { streams: 2, ..MockConfig::default() }, "300ms")).await;
        assert_eq!(bench.send("628123456999").await.class(), Class::Accepted);
        let all = bench.send_all(&phones(100)).await;
        let others = || all.iter().filter(|sent| sent.class() != Class::Accepted);
        assert_eq!(others().count(), 0, "{wire:?} {:?}", others().next());
        assert!(bench.mock.connections() <= 16, "{}", bench.mock.connections());
        assert_eq!(bench.accepted(), 101, "none twice");
    }
}

/// A request that waits for a stream is not written, so its stamp is that of the moment it leaves.
#[tokio::test]
async fn a_stamp_is_the_time_of_the_socket() {
    for wire in Wire::ALL {
        let config = latency(MockConfig { streams: 3, ..MockConfig::default() }, "400ms");
        let bench = Bench::start(wire, config).await;
        assert_eq!(bench.send("628123456999").await.class(), Class::Accepted);
        let all = bench.send_all(&phones(12)).await;
        let mut written: Vec<u64> =
            all.iter().map(|sent| sent.stamp.written_at().unwrap().0 / 1000).collect();
        written.sort_unstable();
        let account = &bench.mock.stats().of(Kind::Msgai).next().unwrap().account.clone();
        let arrived = bench.mock.arrivals(Kind::Msgai, account);
        let arrived = &arrived[1..];
        assert_eq!(arrived.len(), 12, "{wire:?}");
        // The two clocks began at different times; none can arrive before it was written.
        let apart: Vec<i128> =
            written.iter().zip(arrived).map(|(w, a)| i128::from(*a) - i128::from(*w)).collect();
        let (least, most) = (apart.iter().min().unwrap(), apart.iter().max().unwrap());
        assert!(most - least < 100_000, "{wire:?}: up to {} us between stamp and arrival", most - least);
    }
}

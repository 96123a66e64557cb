//! A node that takes connections and says nothing. Alone in its binary, because it counts the threads
//! and sockets of the process.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test, which says what it counted"
)]

use std::time::{Duration, Instant};

use otpd_queue::QueueError;
use otpd_tests::eventually;
use otpd_tests::hung::{Cost, HungNode};
use otpd_tests::rabbit::{plan, rabbit};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn costs_five_seconds_and_neither_thread_nor_socket() {
    let node = HungNode::start();
    let before = Cost::now();
    for url in [node.amqp(), node.amqps()] {
        // A queue of its own: an attempt within the pause after the last one is answered from memory.
        let queue = rabbit(&url, &plan("otp.", &[]));
        let began = Instant::now();
        let Err(QueueError::Away { why, .. }) = queue.check_topology().await else { panic!("an answer?") };
        assert!(why.contains("no AMQP handshake within 5 s"), "{why}");
        assert!((4..30).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        // Given up by the caller in the middle of the attempt.
        for _ in 0..20 {
            let queue = rabbit(&url, &plan("otp.", &[]));
            let abandoned = tokio::time::timeout(Duration::from_millis(100), queue.check_topology()).await;
            assert!(abandoned.is_err(), "{abandoned:?}");
        }
        println!("21 attempts: before {before:?}, after {:?}", Cost::now());
        eventually("threads and sockets are as before", Duration::from_secs(20), || async {
            (Cost::now() == before).then_some(())
        })
        .await;
    }
}

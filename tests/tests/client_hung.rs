//! The Rust producer's crate and a node that takes connections and says nothing, as a stopped process
//! does. Alone in its binary, because it counts the threads and sockets of the process.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test, which says what it counted"
)]

use std::time::Duration;

use otpd_client::{Client, ClientConfig, ConnectError};
use otpd_tests::eventually;
use otpd_tests::hung::{Cost, HungNode};

const ATTEMPTS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_attempts_leave_no_thread_and_no_socket() {
    let node = HungNode::start();
    for url in [node.amqp(), node.amqps()] {
        let before = Cost::now();
        for _ in 0..ATTEMPTS {
            let config =
                ClientConfig { patience: Duration::from_millis(200), ..ClientConfig::from(url.as_str()) };
            let error = Client::connect(config).await.unwrap_err();
            assert!(matches!(error, ConnectError::Away { .. }), "{error}");
        }
        // Given up by the caller, long before the client's own patience ends.
        for _ in 0..ATTEMPTS {
            let abandoned =
                tokio::time::timeout(Duration::from_millis(100), Client::connect(url.as_str())).await;
            assert!(abandoned.is_err(), "an answer?");
        }
        println!("{} attempts: before {before:?}, after {:?}", 2 * ATTEMPTS, Cost::now());
        eventually("threads and sockets are as before", Duration::from_secs(20), || async {
            (Cost::now() == before).then_some(())
        })
        .await;
    }
}

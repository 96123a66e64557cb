//! A node that takes connections and says nothing. Alone in its binary, because it counts threads.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use otpd_queue::QueueError;
use otpd_tests::eventually;
use otpd_tests::rabbit::{plan, rabbit};

fn io_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "lapin-io-loop").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn costs_five_seconds_and_no_thread() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://guest:guest@{}/%2f", listener.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    let queue = rabbit(&url, &plan("otp.", &[]));
    for _ in 0..2 {
        // An attempt within the pause after the last one is answered from memory.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let began = Instant::now();
        let Err(QueueError::Away { why, .. }) = queue.check_topology().await else { panic!("an answer?") };
        assert!(why.contains("no AMQP handshake within 5 s"), "{why}");
        assert!((4..8).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }
    eventually("every thread has ended", Duration::from_secs(10), || async {
        (io_threads() == 0).then_some(())
    })
    .await;
    silent.abort();
}

#![allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing)]
use otpd_tests::{Broker, Proxy};
use std::time::{Duration, Instant};
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scratch() {
    otpd_tests::logs::init();
    let broker = Broker::shared();
    let proxy = std::sync::Arc::new(Proxy::start(broker.address()).await);
    let p2 = proxy.clone();
    let t = tokio::spawn(async move {
        loop {
            p2.reset_all();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(15) {
        let r = tokio::time::timeout(
            Duration::from_secs(3),
            lapin::Connection::connect(&proxy.url(), Default::default()),
        )
        .await;
        let c = match r {
            Err(_) => {
                println!("connect hung");
                continue;
            }
            Ok(Err(_)) => continue,
            Ok(Ok(c)) => std::sync::Arc::new(c),
        };
        let mut ts = vec![];
        for i in 0..25 {
            let c = c.clone();
            ts.push(tokio::spawn(async move {
                let s = || Duration::from_secs(3);
                let r = tokio::time::timeout(s(), c.create_channel()).await;
                let ch = match r {
                    Err(_) => {
                        println!("{i} channel hung {:?}", c.status());
                        return;
                    }
                    Ok(Err(_)) => return,
                    Ok(Ok(ch)) => ch,
                };
                match tokio::time::timeout(s(), ch.confirm_select(Default::default())).await {
                    Err(_) => {
                        println!("{i} confirm_select hung {:?} {:?}", c.status(), ch.status());
                        return;
                    }
                    Ok(Err(_)) => return,
                    _ => {}
                }
                loop {
                    let p = match tokio::time::timeout(
                        s(),
                        ch.basic_publish("".into(), "x".into(), Default::default(), b"x", Default::default()),
                    )
                    .await
                    {
                        Err(_) => {
                            println!("{i} publish hung {:?} {:?}", c.status(), ch.status());
                            return;
                        }
                        Ok(Err(_)) => return,
                        Ok(Ok(p)) => p,
                    };
                    match tokio::time::timeout(s(), p).await {
                        Err(_) => {
                            println!("{i} confirm hung {:?} {:?}", c.status(), ch.status());
                            return;
                        }
                        Ok(Err(_)) => return,
                        _ => {}
                    }
                }
            }));
        }
        for t in ts {
            let _ = t.await;
        }
    }
    t.abort();
}

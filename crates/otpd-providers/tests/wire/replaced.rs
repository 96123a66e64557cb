//! Connections that come to their end while others are made, and what a server may change meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use otpd_core::{Class, Mono};
use otpd_providers::{Authorities, Clock, HttpOptions, Lookup};
use otpd_sim::{Control, Mock, MockConfig};
use tokio::net::{TcpListener, TcpStream};

use super::{PATIENT, Wire, clock, faults, latency, of_class, options, phones, transport};

/// A way to `to` on which connecting takes so long: a provider on another continent.
async fn far_away(to: SocketAddr, connecting: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                tokio::time::sleep(connecting).await;
                let mut far = TcpStream::connect(to).await.unwrap();
                far.set_nodelay(true).unwrap();
                near.set_nodelay(true).unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    addr
}

/// A connection is ended (GOAWAY, as many servers do after so many requests) and owes answers for a second,
/// and the one after it takes half a second to be made: nobody says that connections take few requests.
#[tokio::test]
async fn a_connection_that_is_replaced_slowly_is_not_taken_for_a_full_one() {
    let config = latency(MockConfig { tls: Wire::Https2.tls(), ..faults("msgai:goaway=to:*050") }, "1s");
    let mock = Mock::start(config, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = far_away(mock.addr(), Duration::from_millis(500)).await;
    let options = HttpOptions { version: Wire::Https2.version(), ..options(PATIENT, &mock) };
    let transport = Arc::new(transport(&format!("https://{addr}"), options, clock()));
    assert_eq!(super::send(&transport, "628123456999").await.class(), Class::Accepted);
    let spawn = |phone: &str| {
        let (transport, phone) = (transport.clone(), phone.to_owned());
        tokio::spawn(async move { super::send(&transport, &phone).await })
    };
    let mut sends = Vec::new();
    for phone in phones(150) {
        sends.push(spawn(&phone));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for send in sends {
        send.await.unwrap();
    }
    mock.control(&Control::faults("msgai:".parse().unwrap()));
    let since = Instant::now();
    let sends: Vec<_> = phones(50).iter().map(|phone| spawn(phone)).collect();
    let mut all = Vec::new();
    for send in sends {
        all.push(send.await.unwrap());
    }
    let took = since.elapsed();
    println!("50 requests at once, answered after 1 s each, after one GOAWAY: {took:?}");
    assert_eq!(of_class(&all, Class::Accepted), 50);
    assert!(took < Duration::from_millis(2200), "{took:?}");
}

/// What speaks HTTP/2 is replaced by what knows of no ALPN, so that the handshake refuses nothing.
#[tokio::test]
async fn a_server_that_speaks_http2_no_more_is_spoken_to_otherwise() {
    let start = |streams: u32, addr: SocketAddr| {
        Mock::start(MockConfig { tls: Wire::Https2.tls(), streams, ..MockConfig::default() }, addr)
    };
    let old = start(100, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = old.addr().port();
    let new = start(0, SocketAddr::from(([127, 0, 0, 3], port))).await.unwrap();
    let both = format!("{}{}", old.authority().unwrap(), new.authority().unwrap());
    let has_moved = Arc::new(AtomicBool::new(false));
    let find = {
        let (has_moved, old, new) = (has_moved.clone(), old.addr(), new.addr());
        move |_: &str| Ok(vec![if has_moved.load(Ordering::SeqCst) { new } else { old }])
    };
    let options = HttpOptions {
        lookup: Lookup::Table(Arc::new(find)),
        authorities: Authorities::from_pem(both.as_bytes()).unwrap(),
        ..options(PATIENT, &old)
    };
    let (later, real) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mono = {
        let later = later.clone();
        move || Mono(later.load(Ordering::SeqCst)).plus(Duration::from_secs(1) + real.elapsed())
    };
    let clock = Clock::new(mono, super::common::now);
    let transport = transport(&format!("https://localhost:{port}"), options, clock);
    assert_eq!(super::send(&transport, "628123456999").await.class(), Class::Accepted);
    // The next line is made for HTTP/2, which is known by now.
    later.store(301_000_000_000, Ordering::SeqCst);
    assert_eq!(super::send(&transport, "628123456998").await.class(), Class::Accepted);
    has_moved.store(true, Ordering::SeqCst);
    old.stop().await;
    let mut became = Vec::new();
    for phone in phones(20) {
        became.push(super::send(&transport, &phone).await.class());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let accepted = became.iter().filter(|class| **class == Class::Accepted).count();
    println!("20 requests after HTTP/2 was gone: {became:?}");
    assert!(accepted >= 18, "{accepted} accepted");
    assert_eq!(new.stats().accepted(), accepted as u64);
}

//! Names, and the addresses behind them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use otpd_core::{Class, Mono, Reason};
use otpd_providers::{Clock, HttpLimits, HttpOptions, Lookup};
use otpd_sim::{Mock, MockConfig};
use tokio::net::{TcpSocket, TcpStream};

use super::{PATIENT, clock, options, send, transport};

/// An address at which connecting ends in nothing: it listens, and its queue is full.
pub(crate) struct Dead {
    _listener: tokio::net::TcpListener,
    _queue: Vec<TcpStream>,
}

impl Dead {
    pub(crate) async fn at(addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(addr).unwrap();
        let listener = socket.listen(1).unwrap();
        let mut queue = Vec::new();
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(addr)).await
        {
            queue.push(stream);
        }
        Self { _listener: listener, _queue: queue }
    }
}

fn named(mock: &Mock, find: impl Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> HttpOptions {
    HttpOptions { lookup: Lookup::Table(Arc::new(move |_| find())), ..options(PATIENT, mock) }
}

async fn mock_at(addr: Ipv4Addr, port: u16) -> Mock {
    Mock::start(MockConfig::default(), SocketAddr::from((addr, port))).await.unwrap()
}

/// One of two addresses takes nobody. It costs its share of the time-out once, and nothing after that.
#[tokio::test]
async fn a_dead_address_costs_its_share_once() {
    let mock = mock_at(Ipv4Addr::LOCALHOST, 0).await;
    let port = mock.addr().port();
    let dead = SocketAddr::from(([127, 0, 0, 2], port));
    let _dead = Dead::at(dead).await;
    let both = vec![dead, mock.addr()];
    let options = named(&mock, move || Ok(both.clone()));
    let transport = transport(&format!("http://provider.example:{port}"), options, clock());
    let first = send(&transport, "628123456000").await;
    assert_eq!(first.class(), Class::Accepted, "{first:?}");
    assert!(first.took < PATIENT.connect_timeout, "{:?}", first.took);
    assert!(first.took > Duration::from_millis(500), "the dead address was tried: {:?}", first.took);
    // Two at once need another connection.
    let (one, two) = tokio::join!(send(&transport, "628123456001"), send(&transport, "628123456002"));
    for sent in [one, two] {
        assert_eq!(sent.class(), Class::Accepted, "{sent:?}");
        assert!(sent.took < Duration::from_millis(500), "{:?}", sent.took);
    }
    assert_eq!(mock.connections(), 2);
}

/// All of them are dead: it ends in time, and nothing left.
#[tokio::test]
async fn a_dead_provider_is_given_up_in_time() {
    let mock = mock_at(Ipv4Addr::LOCALHOST, 0).await;
    let port = mock.addr().port();
    let dead = SocketAddr::from(([127, 0, 0, 2], port));
    let _dead = Dead::at(dead).await;
    let limits = HttpLimits { connect_timeout: Duration::from_millis(600), ..PATIENT };
    let options = HttpOptions { limits, ..named(&mock, move || Ok(vec![dead])) };
    let transport = transport(&format!("http://provider.example:{port}"), options, clock());
    let sent = send(&transport, "628123456000").await;
    assert_eq!(sent.is(), (Class::Transient, Some(Reason::ConnectFailed)));
    assert_eq!(sent.detail(), "could not connect in time");
    assert!(sent.took < Duration::from_secs(2) && !sent.stamp.is_written());
}

/// A name that moves is followed within five minutes, though the connection to its old address lives.
#[tokio::test]
async fn a_name_that_moves_is_followed() {
    let old = mock_at(Ipv4Addr::LOCALHOST, 0).await;
    let port = old.addr().port();
    let new = mock_at(Ipv4Addr::new(127, 0, 0, 3), port).await;
    let has_moved = Arc::new(AtomicBool::new(false));
    let find = {
        let (has_moved, old, new) = (has_moved.clone(), old.addr(), new.addr());
        move || Ok(vec![if has_moved.load(Ordering::SeqCst) { new } else { old }])
    };
    let (later, real) = (Arc::new(AtomicU64::new(0)), std::time::Instant::now());
    let mono = {
        let later = later.clone();
        move || {
            Mono(
                u64::try_from(real.elapsed().as_nanos()).unwrap()
                    + later.load(Ordering::SeqCst) * 1_000_000_000,
            )
        }
    };
    let moving = Clock::new(mono, super::common::now);
    let transport = transport(&format!("http://provider.example:{port}"), named(&old, find), moving);
    assert_eq!(send(&transport, "628123456000").await.class(), Class::Accepted);
    has_moved.store(true, Ordering::SeqCst);
    assert_eq!(send(&transport, "628123456001").await.class(), Class::Accepted);
    assert_eq!((old.stats().accepted(), new.stats().accepted()), (2, 0));
    later.store(301, Ordering::SeqCst);
    assert_eq!(send(&transport, "628123456002").await.class(), Class::Accepted);
    assert_eq!((old.stats().accepted(), new.stats().accepted()), (2, 1));
    // The new address closes: the next connection goes where the name says.
    has_moved.store(false, Ordering::SeqCst);
    new.stop().await;
    let mut sent = send(&transport, "628123456003").await;
    while sent.class() != Class::Accepted {
        assert!(!sent.answered.outcome.may_have_been_sent(), "{sent:?}");
        sent = send(&transport, "628123456003").await;
    }
    assert_eq!(old.stats().accepted(), 3);
}

/// Where names cannot be looked up, the last addresses hold.
#[tokio::test]
async fn an_outage_of_the_resolver_is_none_of_the_provider() {
    let mock = mock_at(Ipv4Addr::LOCALHOST, 0).await;
    let port = mock.addr().port();
    let answer: Arc<Mutex<io::Result<Vec<SocketAddr>>>> =
        Arc::new(Mutex::new(Err(io::ErrorKind::NotFound.into())));
    let find = {
        let answer = answer.clone();
        move || match &*answer.lock().unwrap() {
            Ok(found) => Ok(found.clone()),
            Err(error) => Err(error.kind().into()),
        }
    };
    let transport = transport(&format!("http://provider.example:{port}"), named(&mock, find), clock());
    let sent = send(&transport, "628123456000").await;
    assert_eq!(sent.is(), (Class::Transient, Some(Reason::ConnectFailed)));
    assert_eq!(
        sent.detail(),
        "could not connect: provider.example has no address; check base_url and this machine's DNS"
    );
    *answer.lock().unwrap() = Ok(vec![mock.addr()]);
    assert_eq!(send(&transport, "628123456000").await.class(), Class::Accepted);
    *answer.lock().unwrap() = Err(io::ErrorKind::TimedOut.into());
    let (one, two) = tokio::join!(send(&transport, "628123456001"), send(&transport, "628123456002"));
    assert_eq!((one.class(), two.class()), (Class::Accepted, Class::Accepted));
    assert_eq!(mock.connections(), 2, "one of them needed a new connection");
}

/// One of two addresses takes connections and never speaks TLS: connecting fails, and the other one is tried next.
#[tokio::test]
async fn an_address_that_never_speaks_tls_is_not_tried_for_ever() {
    let config = MockConfig { tls: Some(otpd_sim::Certificate::Valid), ..MockConfig::default() };
    let mock = Mock::start(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let port = mock.addr().port();
    let mute = SocketAddr::from(([127, 0, 0, 2], port));
    let _mute = tokio::net::TcpListener::bind(mute).await.unwrap();
    let limits = HttpLimits { connect_timeout: Duration::from_millis(300), ..PATIENT };
    for both in [vec![mute, mock.addr()], vec![mock.addr(), mute]] {
        let options = HttpOptions { limits, ..named(&mock, move || Ok(both.clone())) };
        let transport = transport(&format!("https://localhost:{port}"), options, clock());
        let mut became = Vec::new();
        for _ in 0..6 {
            became.push(send(&transport, "628123456000").await.class());
        }
        println!("6 requests in a row, one of two addresses without TLS: {became:?}");
        let accepted = became.iter().filter(|class| **class == Class::Accepted).count();
        assert!(accepted >= 5, "{became:?}");
    }
}

//! HTTP/2 connections that are alive and take nothing: their requests wait unwritten.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use otpd_core::{Class, Reason};
use otpd_providers::{HttpLimits, HttpOptions, HttpVersion};
use tokio::net::{TcpListener, TcpStream};

use super::{PATIENT, clock, send, transport};

/// What the first connection lacks.
#[derive(Clone, Copy, Debug)]
enum Lacks {
    /// It allows no stream.
    Streams,
    /// Its streams may send nothing.
    Window,
}

/// A server of Msgai's; its first connection lacks something, and takes nothing once it has said so.
async fn server(lacks: Lacks) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, accepted) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = accepted.clone();
    tokio::spawn(async move {
        let mut is_first = true;
        while let Ok((tcp, _)) = listener.accept().await {
            let lacks = is_first.then_some(lacks);
            is_first = false;
            tokio::spawn(serve(tcp, lacks, count.clone()));
        }
    });
    (addr, accepted)
}

async fn serve(tcp: TcpStream, lacks: Option<Lacks>, accepted: Arc<AtomicUsize>) {
    let mut builder = h2::server::Builder::new();
    match lacks {
        Some(Lacks::Streams) => builder.max_concurrent_streams(0),
        Some(Lacks::Window) => builder.initial_window_size(0),
        None => &mut builder,
    };
    let mut connection = builder.handshake::<_, Bytes>(tcp).await.unwrap();
    while let Some(Ok((mut request, mut respond))) = connection.accept().await {
        let accepted = accepted.clone();
        tokio::spawn(async move {
            while let Some(data) = request.body_mut().data().await {
                if data.is_err() {
                    return;
                }
            }
            accepted.fetch_add(1, Ordering::SeqCst);
            if let Ok(mut body) = respond.send_response(http::Response::new(()), false) {
                let _ = body.send_data(Bytes::from_static(br#"{"result":true,"id":"m"}"#), true);
            }
        });
    }
}

/// The connection answers pings, so it lives; its requests are overdue, so others go elsewhere.
#[tokio::test]
async fn a_connection_that_takes_nothing_is_left() {
    for lacks in [Lacks::Streams, Lacks::Window] {
        let (addr, accepted) = server(lacks).await;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let limits = HttpLimits {
            connect_timeout: Duration::from_millis(500),
            timeout: Duration::from_millis(1000),
            ..PATIENT
        };
        let options = HttpOptions { limits, version: HttpVersion::Http2, ..HttpOptions::default() };
        let transport = transport(&format!("http://{addr}"), options, clock());
        // It may leave before the server has said what it lacks.
        send(&transport, "628123456999").await;
        let overdue = send(&transport, "628123456000").await;
        assert_eq!(overdue.is(), (Class::Transient, Some(Reason::ConnectFailed)), "{lacks:?} {overdue:?}");
        println!("{lacks:?}: {:?}, {}", overdue.took, overdue.detail());
        let mut became = Vec::new();
        for phone in ["628123456001", "628123456002", "628123456003"] {
            let sent = send(&transport, phone).await;
            became.push((sent.class(), sent.took));
        }
        println!("{lacks:?}: three after one that was overdue: {became:?}");
        assert!(became.iter().all(|(class, _)| *class == Class::Accepted), "{lacks:?} {became:?}");
        assert!(accepted.load(Ordering::SeqCst) >= 3);
    }
}

/// Nobody can be connected to, and HTTP/2 has one connection for all: nobody says that it is full.
#[tokio::test]
async fn a_provider_that_cannot_be_connected_to_is_not_said_to_be_full() {
    let addr = SocketAddr::from(([127, 0, 0, 4], 9_443));
    let _dead = super::addresses::Dead::at(addr).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let limits = HttpLimits {
        connect_timeout: Duration::from_millis(500),
        timeout: Duration::from_millis(1000),
        ..PATIENT
    };
    let options = HttpOptions { limits, version: HttpVersion::Http2, ..HttpOptions::default() };
    let transport = Arc::new(transport(&format!("http://{addr}"), options, clock()));
    let sends: Vec<_> = super::phones(20)
        .into_iter()
        .map(|phone| {
            let transport = transport.clone();
            tokio::spawn(async move { send(&transport, &phone).await })
        })
        .collect();
    let mut full = 0;
    for sent in sends {
        let sent = sent.await.unwrap();
        assert_eq!(sent.is(), (Class::Transient, Some(Reason::ConnectFailed)), "{sent:?}");
        full += usize::from(sent.detail().contains("as many open requests"));
    }
    println!("20 requests, nobody to connect to: {full} say that every connection is full");
    assert_eq!(full, 0);
}

//! What receives callbacks: writes every request down, and answers as told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use http::{HeaderMap, Method, StatusCode, Uri};
use otpd_sim::mock::{CallTo, Callbacks};
use otpd_sim::{Control, Kind};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::PATIENCE;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: Method,
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

struct Inner {
    received: Mutex<Vec<Received>>,
    count: watch::Sender<usize>,
    status: AtomicU16,
    /// Answers wait while this is true.
    is_held: watch::Sender<bool>,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

pub(crate) struct Receiver {
    inner: Arc<Inner>,
    addr: SocketAddr,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let inner = Arc::new(Inner {
            received: Mutex::default(),
            count: watch::Sender::new(0),
            status: AtomicU16::new(200),
            is_held: watch::Sender::new(false),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = Router::new().fallback(receive).with_state(inner.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { inner, addr }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// A kind that calls back here.
    pub(crate) fn control(&self, kind: Kind, delay: &str, shares: &str) -> Control {
        let callbacks = Callbacks {
            url: Some(CallTo::Address(self.url("/cb/t").parse().unwrap())),
            delay: Some(delay.parse().unwrap()),
            shares: Some(shares.parse().unwrap()),
            secret: Some("s3cret".into()),
        };
        Control { callbacks: Some(callbacks), ..Control::of(kind) }
    }

    /// Answers with this status from now on.
    pub(crate) fn answer(&self, status: u16) {
        self.inner.status.store(status, Ordering::SeqCst);
    }

    /// Answers nothing until it is let go.
    pub(crate) fn hold(&self, is_held: bool) {
        self.inner.is_held.send_replace(is_held);
    }

    /// The most requests that were open at once.
    pub(crate) fn most_open(&self) -> usize {
        self.inner.most_open.load(Ordering::SeqCst)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.inner.received.lock().unwrap().clone()
    }

    /// Waits until this many requests came, and gives all that did.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Received> {
        let mut counts = self.inner.count.subscribe();
        let came = tokio::time::timeout(PATIENCE, counts.wait_for(|came| *came >= count)).await;
        assert!(came.is_ok(), "only {} of {count} came", self.received().len());
        self.received()
    }
}

async fn receive(
    State(inner): State<Arc<Inner>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let open = inner.open.fetch_add(1, Ordering::SeqCst) + 1;
    inner.most_open.fetch_max(open, Ordering::SeqCst);
    let status = inner.status.load(Ordering::SeqCst);
    inner.received.lock().unwrap().push(Received {
        method,
        path: uri.to_string(),
        headers,
        body: body.to_vec(),
    });
    inner.count.send_modify(|count| *count += 1);
    let _ = inner.is_held.subscribe().wait_for(|is_held| !*is_held).await;
    inner.open.fetch_sub(1, Ordering::SeqCst);
    StatusCode::from_u16(status).unwrap()
}

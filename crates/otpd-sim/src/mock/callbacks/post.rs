//! One callback over HTTP/1.1: connections are kept and used again, as many as there are requests under way.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::Request;
use http::header::HOST;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::report::Posted;
use super::settings::Address;

/// How long an answer may take: what Msgai documents.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most connections that are kept while nothing is under way on them.
const MAX_IDLE: usize = 64;
/// The most of an answer that is read, so that its connection can be used again.
const MAX_ANSWER: usize = 64 * 1024;

/// How a callback ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Answered with 2xx.
    Taken,
    /// Answered otherwise.
    Refused,
    /// Not answered.
    Unanswered,
}

/// Connections that nothing is under way on.
#[derive(Default)]
pub(crate) struct Lines {
    idle: Mutex<Vec<(Box<str>, SendRequest<Body>)>>,
}

impl Lines {
    /// Sends a callback and waits for its answer.
    pub(crate) async fn send(&self, address: &Address, posted: Posted) -> Ended {
        match timeout(PATIENCE, self.answer(address, posted)).await {
            Ok(Some(status)) if (200..300).contains(&status) => Ended::Taken,
            Ok(Some(_)) => Ended::Refused,
            Ok(None) | Err(_) => Ended::Unanswered,
        }
    }

    /// The status of the answer.
    async fn answer(&self, address: &Address, posted: Posted) -> Option<u16> {
        let mut line = match self.take(&address.authority) {
            Some(line) => line,
            None => connect(&address.authority).await?,
        };
        // A connection that was closed meanwhile refuses the request untouched; a new one takes it.
        if line.ready().await.is_err() {
            line = connect(&address.authority).await?;
        }
        let response = line.send_request(request(address, posted)?).await.ok()?;
        let status = response.status().as_u16();
        if to_bytes(Body::new(response.into_body()), MAX_ANSWER).await.is_ok() {
            self.keep(&address.authority, line);
        }
        Some(status)
    }

    fn take(&self, authority: &str) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, line)| !line.is_closed());
        let at = idle.iter().rposition(|(to, _)| **to == *authority)?;
        Some(idle.swap_remove(at).1)
    }

    fn keep(&self, authority: &str, line: SendRequest<Body>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        idle.push((authority.into(), line));
    }
}

/// A new connection, which lives as long as who sends on it.
async fn connect(authority: &str) -> Option<SendRequest<Body>> {
    let tcp = TcpStream::connect(authority).await.ok()?;
    let _ = tcp.set_nodelay(true);
    let (line, connection) = handshake(TokioIo::new(tcp)).await.ok()?;
    tokio::spawn(connection);
    Some(line)
}

fn request(address: &Address, posted: Posted) -> Option<Request<Body>> {
    let target = match posted.query.as_str() {
        "" => address.path.to_string(),
        query => format!("{}?{query}", address.path),
    };
    let mut request = Request::builder().method(posted.method).uri(target).header(HOST, &*address.authority);
    for (name, value) in posted.headers {
        request = request.header(name, value);
    }
    request.body(Body::from(posted.body)).ok()
}
